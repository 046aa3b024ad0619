/* Starts a child process with its inputs as descriptors: what jobs and checks of submissions
 * share. Inside worker/ only. */
#ifndef WORKER_SPAWN_H
#define WORKER_SPAWN_H

#include "worker/worker.h"

struct worker_spawn {
    uv_loop_t *loop;
    struct store_blobs *blobs;
    const struct worker_settings *settings; /* exe, args, threads, memory_limit */
    const char *type;                       /* of the first frame: "job", "check" */
    const char *job, *name;                 /* id, model's name */
    int attempt;
    const char *config;                     /* JSON object */
    const struct store_input *inputs;
    size_t n_inputs;
    const char *scratch;                    /* made here: the child's working folder */
    const char *log;                        /* path of the file that takes what it prints */
    uv_exit_cb on_exit;
    uv_process_t *process;                  /* its data is the caller's */
    uv_pipe_t *control;                     /* uv_pipe_init was called */
};

/* *ret_frame (free it) is to be written to control. *ret_handle, set in any case: the process
 * handle was initialised and must be closed, also after a failure. Texts for argv live in the
 * arena. */
QD_MUST_CHECK enum qd_code worker_spawn(const struct worker_spawn *spawn, struct qd_arena *arena,
                                        uint8_t **ret_frame, size_t *ret_size, bool *ret_handle,
                                        struct qd_error *err);

#endif
