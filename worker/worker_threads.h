/* Threads for quantcore on libuv's: one thread works on one sample, the caller's among them. */
#ifndef WORKER_THREADS_H
#define WORKER_THREADS_H

#include "quantcore/quantcore.h"

#define WORKER_THREADS_MAX 256

struct worker_threads; /* heap object */

/* n threads in all, 1..WORKER_THREADS_MAX (n - 1 are started). */
QD_MUST_CHECK enum qd_code worker_threads_new(int n, struct worker_threads **ret,
                                              struct qd_error *err);
/* Ends and joins the threads; takes NULL. */
void worker_threads_free(struct worker_threads *threads);
/* The callback for struct qc_job; borrows threads. */
struct qc_threads worker_threads_callback(struct worker_threads *threads);

#endif
