/* The outcome of a child becomes the state of its job. Inside worker/ only. */
#ifndef WORKER_SETTLE_H
#define WORKER_SETTLE_H

#include "worker/worker_process.h"

/* Stage settling: write the outcome, free the slot. When the store cannot write, the slot stays
 * and worker_process_tick calls again. */
void worker_settle(struct worker_process *process);
/* Class of an error that a child reported: user | resource | internal. */
const char *worker_error_class(enum qd_code code);

#endif
