/* One slot of the pool: a child, from claim to settled. Inside worker/ only. */
#ifndef WORKER_PROCESS_H
#define WORKER_PROCESS_H

#include "worker/worker.h"
#include "worker/worker_progress.h"
#include "worker/worker_result.h"
#include "worker/worker_state.h"

enum worker_reason { /* why the parent ended it */
    WORKER_REASON_NONE = 0,
    WORKER_REASON_CANCEL,
    WORKER_REASON_DRAIN,
    WORKER_REASON_DEADLINE,
    WORKER_REASON_SILENT,
    WORKER_REASON_PROTOCOL,
    WORKER_REASON_FENCED, /* the store says that the attempt is over */
    WORKER_REASON_COUNT
};

struct worker_check;

struct worker_process {
    struct worker_pool *pool;
    unsigned slot;
    enum worker_stage stage;
    enum worker_reason reason;
    struct qd_arena arena; /* of the job */
    struct store_job job;
    char scratch[4096];

    uv_process_t process;
    uv_pipe_t control;
    uint8_t *first_frame;
    uv_write_t write;
    struct worker_decoder decoder;
    char read_buffer[65536];
    uint64_t received;
    bool exited, control_closed, process_closed;
    int64_t exit_status;
    int signal;

    uint64_t started_ms, heard_ms, stopped_ms, exited_ms, progress_ms, final_ms; /* uv_now */
    unsigned n_writes; /* to the store, that no clock throttles */
    unsigned n_unwritten; /* tries to write the outcome */
    int64_t peak_bytes;

    bool has_error; /* an error frame, or what the parent found */
    struct qd_error error;
    const char *error_class; /* NULL: from the code */
    struct worker_result result;
    uv_work_t work;
    struct store_result rows;
    enum qd_code ingest_code;
};

struct worker_pool {
    uv_loop_t *loop;
    struct store *store;
    struct worker_settings settings;
    uv_timer_t tick;
    struct worker_process *slots;
    struct worker_check *checks; /* that run */
    uint64_t n_checked;
    bool paused, draining, closing;
    uint64_t drain_ms; /* uv_now */
    int64_t next_due_ms; /* wall clock; 0: nothing waits */
    void (*on_idle)(void *arg);
    void *idle_arg;
};

/* The slot's job was claimed: start its child. A failure to start settles it. */
void worker_process_start(struct worker_process *process);
/* End the child for a reason (the first one counts). */
void worker_process_stop(struct worker_process *process, enum worker_reason reason);
/* Deadlines, heartbeats, SIGKILL after the grace, a second try to settle. */
void worker_process_tick(struct worker_process *process);

void worker_log(struct worker_pool *pool, const char *job, const char *format, ...)
    QD_PRINTF(3, 4);
/* Remove a folder of the parent's making, without following links. */
void worker_remove_tree(const char *path);

#endif
