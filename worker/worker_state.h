/* The stages of one attempt as a table: what is not in it is a bug. */
#ifndef WORKER_STATE_H
#define WORKER_STATE_H

#include "quantcore/base/qd_base.h"

enum worker_stage {
    WORKER_IDLE = 0,  /* the slot is free */
    WORKER_STARTING,  /* claimed; scratch folder, inputs, spawn */
    WORKER_RUNNING,   /* the child works */
    WORKER_STOPPING,  /* told to end: SIGTERM, SIGKILL after a grace */
    WORKER_ENDED,     /* exited; the rest of its frames is read */
    WORKER_INGESTING, /* its files become blobs */
    WORKER_SETTLING,  /* the outcome is written, again and again if the disk is full */
    WORKER_STAGE_COUNT
};
const char *worker_stage_name(enum worker_stage stage);
bool worker_stage_allows(enum worker_stage from, enum worker_stage to);
/* *stage = to; asserts that the table allows it. */
void worker_stage_move(enum worker_stage *stage, enum worker_stage to);

#endif
