/* The durable state of quantd: one SQLite database and one folder of blobs in a data folder.
 *
 * One connection, used by one thread (the event loop's); only store_blob.h may be called from
 * several. What a function returns as strings or arrays lives in the caller's arena. Absent
 * texts are NULL, absent numbers of type double NaN, absent times 0. Times are milliseconds
 * since the Unix epoch. A change is durable when its function has returned QD_OK. */
#ifndef STORE_H
#define STORE_H

#include "quantcore/base/qd_arena.h"

#define STORE_SCHEMA_VERSION 2
#define STORE_MAX_FAILURES 3 /* attempts of a job that may end internal or lost */
#define STORE_LIST_MAX 1000  /* rows of one page */
#define STORE_EVENTS_MAX 100000 /* about 30 MB; a job makes some ten */

struct store;
struct store_blobs;

enum store_state {
    STORE_QUEUED = 0,
    STORE_RUNNING,
    STORE_CANCELING,
    STORE_SUCCEEDED,
    STORE_FAILED,
    STORE_CANCELED,
    STORE_STATE_COUNT
};

struct store_input {
    const char *role; /* model | model.data | calibration | validation */
    const char *blob; /* sha256, 64 hex digits */
    uint64_t size;
    const char *name; /* of the uploaded file; never a path */
};

struct store_job {
    const char *id, *name;
    enum store_state state;
    const char *phase; /* "" before the first */
    int64_t done, total;
    const char *unit;
    int attempt;  /* fencing token, 0 before the first claim */
    int failures; /* attempts that ended internal or lost */
    int64_t rev;
    int priority; /* larger first */
    const char *tags;   /* JSON array */
    const char *config; /* JSON object */
    const char *model_sha256;
    int64_t created_ms, started_ms, finished_ms, updated_ms, run_after_ms;
    const char *idempotency_key, *request_hash;
    const char *error_code, *error_class, *error_message, *error_subject;
    const char *instance;
    int64_t version; /* of its name when succeeded, else 0 */
    const char *summary; /* JSON object */
    const char *derived_from; /* id of the job whose statistics this one uses, or NULL */
};

struct store_settings {
    const char *data_dir;    /* created when absent (its parent must exist) */
    uint64_t min_free_bytes; /* new blobs are refused below; 0: no floor */
    int64_t (*now_ms)(void); /* NULL: the wall clock; tests put their own */
    int64_t events_max;      /* the newest events, which are kept; 0: STORE_EVENTS_MAX */
};

/* Lock the folder, open or create the database, migrate it, open the blobs. QD_CONFLICT when
 * another process holds the folder, QD_UNSUPPORTED when a newer quantd wrote it or the file is
 * some other database. */
QD_MUST_CHECK enum qd_code store_open(const struct store_settings *settings, struct store **ret,
                                      struct qd_error *err);
void store_close(struct store *store);

struct store_blobs *store_blobs_of(struct store *store);
const char *store_data_dir(const struct store *store);
/* Random name of this opening of the store; running jobs carry it. */
const char *store_instance(const struct store *store);
int64_t store_now_ms(const struct store *store);

/* Copy of the database into a new file (VACUUM INTO); QD_CONFLICT if the file exists. */
QD_MUST_CHECK enum qd_code store_backup(struct store *store, const char *path,
                                        struct qd_error *err);

struct store_gc_result {
    uint64_t removed, removed_bytes, kept, kept_bytes;
};
/* Remove blobs that no row names and that are older than the grace. */
QD_MUST_CHECK enum qd_code store_gc(struct store *store, int64_t grace_ms,
                                    struct store_gc_result *ret, struct qd_error *err);

/* The same for one blob: what a deleted job named need not wait for the next store_gc. */
QD_MUST_CHECK enum qd_code store_remove_unused(struct store *store, const char *sha256,
                                               int64_t grace_ms, struct qd_error *err);

struct store_blob_mark;
/* Remove a blob that was made (store_blob_mark_of) for something that did not come to be,
 * unless a row names it or somebody else committed the same content. */
QD_MUST_CHECK enum qd_code store_discard(struct store *store, const char *sha256,
                                         const struct store_blob_mark *mark,
                                         struct qd_error *err);

/* Tests: the n-th following SQL step (1 = next) fails as if the disk were full; 0 turns it off. */
void store_fail_after(struct store *store, int n);

/* The tables; each of these can also be included alone. */
#include "store/store_blob.h"
#include "store/store_calibration.h"
#include "store/store_events.h"
#include "store/store_jobs.h"
#include "store/store_models.h"
#include "store/store_queue.h"

#endif
