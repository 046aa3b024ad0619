#include "worker/worker_state.h"

#include <assert.h>

#define TO(stage) (1u << (stage))

static const struct {
    const char *name;
    unsigned next;
} stages[WORKER_STAGE_COUNT] = {
    [WORKER_IDLE] = {"idle", TO(WORKER_STARTING)},
    [WORKER_STARTING] = {"starting", TO(WORKER_RUNNING) | TO(WORKER_SETTLING)},
    [WORKER_RUNNING] = {"running", TO(WORKER_STOPPING) | TO(WORKER_ENDED)},
    [WORKER_STOPPING] = {"stopping", TO(WORKER_ENDED)},
    [WORKER_ENDED] = {"ended", TO(WORKER_INGESTING) | TO(WORKER_SETTLING)},
    [WORKER_INGESTING] = {"ingesting", TO(WORKER_SETTLING)},
    [WORKER_SETTLING] = {"settling", TO(WORKER_IDLE)},
};

const char *worker_stage_name(enum worker_stage stage)
{
    return (unsigned)stage < WORKER_STAGE_COUNT ? stages[stage].name : "unknown";
}

bool worker_stage_allows(enum worker_stage from, enum worker_stage to)
{
    return (unsigned)from < WORKER_STAGE_COUNT && (stages[from].next & TO(to)) != 0;
}

void worker_stage_move(enum worker_stage *stage, enum worker_stage to)
{
    assert(worker_stage_allows(*stage, to));
    *stage = to;
}
