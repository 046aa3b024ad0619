#include "quantcore/exec/exec.h"

#include <stdlib.h>
#include <string.h>

#include "quantcore/exec/exec_plan.h"

struct qc_exec_state {
    char *buffer, *scratch;
    struct qc_view *views; /* [n_slots] with data */
    struct qc_view *args;  /* [n_args] views of the steps' inputs and outputs */
    int next;              /* the step that comes next */
};

enum qd_code qc_exec_build(const struct qc_graph *g, const struct qc_exec_options *options,
                           struct qd_arena *arena, struct qc_exec **ret, struct qd_error *err)
{
    struct qc_exec *e;
    QD_TRY(qd_arena_alloc(arena, sizeof(*e), &e, err));
    e->graph = g;
    e->kernels = *options->kernels;
    e->n_values = g->n_values;
    QD_TRY(qc_exec_plan(e, options, arena, err));
    *ret = e;
    return QD_OK;
}

size_t qc_exec_buffer_size(const struct qc_exec *exec)
{
    return exec->buffer_size + exec->scratch_size;
}

/* ---- state ---- */

/* Zeroed, so that a run does not depend on what the memory held before. */
static void *new_buffer(size_t size)
{
    size = qd_align_up(size + QD_ARENA_TAIL, QD_ARENA_ALIGN);
    void *p = aligned_alloc(QD_ARENA_ALIGN, size);
    if (p != NULL) {
        memset(p, 0, size);
    }
    return p;
}

static void bind_views(const struct qc_exec *e, struct qc_exec_state *s)
{
    for (int i = 0; i < e->n_slots; i++) {
        const struct qc_slot *slot = &e->slots[i];
        s->views[i] = slot->view;
        if (slot->size > 0 || slot->whole >= 0) {
            s->views[i].data = s->buffer + slot->offset + slot->lead;
        }
    }
    for (int i = 0; i < e->n_steps; i++) {
        const struct qc_step *step = &e->steps[i];
        struct qc_view *arg = s->args + e->first_arg[i];
        for (int k = 0; k < step->n_inputs + step->n_outputs; k++) {
            int slot = k < step->n_inputs ? step->inputs[k] : step->outputs[k - step->n_inputs];
            if (slot >= 0) {
                arg[k] = s->views[slot];
            }
        }
    }
}

enum qd_code qc_exec_state_new(const struct qc_exec *exec, struct qc_exec_state **ret,
                               struct qd_error *err)
{
    struct qc_exec_state *s = calloc(1, sizeof(*s));
    if (s != NULL) {
        s->buffer = new_buffer(exec->buffer_size);
        s->scratch = new_buffer(exec->scratch_size);
        s->views = calloc((size_t)exec->n_slots + 1, sizeof(*s->views));
        s->args = calloc((size_t)exec->n_args + 1, sizeof(*s->args));
    }
    if (s == NULL || s->buffer == NULL || s->scratch == NULL || s->views == NULL ||
        s->args == NULL) {
        qc_exec_state_free(s);
        return qd_fail(err, QD_NO_MEMORY, "no memory for a run's buffer of %zu bytes",
                       qc_exec_buffer_size(exec));
    }
    bind_views(exec, s);
    *ret = s;
    return QD_OK;
}

void qc_exec_state_free(struct qc_exec_state *state)
{
    if (state != NULL) {
        free(state->buffer);
        free(state->scratch);
        free(state->views);
        free(state->args);
        free(state);
    }
}

/* ---- running ---- */

static void fill_border(const struct qc_exec *e, const struct qc_exec_state *s, int slot)
{
    if (slot >= 0 && e->slots[slot].bordered) {
        qc_view_fill_border(&s->views[slot], e->slots[slot].border, e->slots[slot].zero);
    }
}

static void run_step(const struct qc_exec *e, struct qc_exec_state *s)
{
    const struct qc_step *step = &e->steps[s->next];
    const struct qc_view *args = s->args + e->first_arg[s->next];
    step->run(step, args, args + step->n_inputs, s->scratch);
    for (int i = 0; i < step->n_outputs; i++) {
        fill_border(e, s, step->outputs[i]);
    }
    s->next++;
}

/* The steps that read it are the first ones. */
static void borrow(const struct qc_exec *e, struct qc_exec_state *s, int slot, const void *data)
{
    s->views[slot].data = (void *)(uintptr_t)data; /* nothing writes there */
    for (int i = 0; i <= e->slots[slot].last && i < e->n_steps; i++) {
        for (int k = 0; k < e->steps[i].n_inputs; k++) {
            if (e->steps[i].inputs[k] == slot) {
                s->args[e->first_arg[i] + k].data = s->views[slot].data;
            }
        }
    }
}

enum qd_code qc_exec_begin(const struct qc_exec *exec, struct qc_exec_state *state,
                           const void *const *inputs, struct qd_error *err)
{
    const struct qc_graph *g = exec->graph;
    for (int i = 0; i < g->n_inputs; i++) {
        int slot = exec->home[g->inputs[i].value];
        if (inputs[i] == NULL) {
            return qd_fail(err, QD_INVALID, "input %d of %d is missing", i, g->n_inputs);
        }
        if (exec->slots[slot].borrowed) {
            borrow(exec, state, slot, inputs[i]);
            continue;
        }
        qc_view_from_dense(&state->views[slot], inputs[i]);
        fill_border(exec, state, slot);
    }
    state->next = 0;
    return QD_OK;
}

enum qd_code qc_exec_run(const struct qc_exec *exec, struct qc_exec_state *state,
                         const void *const *inputs, qc_observe_fn *observe, void *observe_ctx,
                         struct qd_error *err)
{
    const struct qc_graph *g = exec->graph;
    QD_TRY(qc_exec_begin(exec, state, inputs, err));
    for (int i = 0; observe != NULL && i < g->n_inputs; i++) {
        int value = g->inputs[i].value;
        observe(observe_ctx, value, &state->views[exec->home[value]]);
    }
    while (state->next < exec->n_steps) {
        const struct qc_step *step = &exec->steps[state->next];
        run_step(exec, state);
        for (int i = 0; observe != NULL && step->node >= 0 && i < step->n_outputs; i++) {
            int slot = step->outputs[i];
            if (slot >= 0) {
                observe(observe_ctx, exec->slots[slot].value, &state->views[slot]);
            }
        }
    }
    return QD_OK;
}

enum qd_code qc_exec_advance(const struct qc_exec *exec, struct qc_exec_state *state, int value,
                             struct qd_error *err)
{
    if (value < 0 || value >= exec->n_values ||
        (exec->home[value] < 0 && exec->graph->values[value].constant == NULL)) {
        return qd_fail(err, QD_INVALID, "value %d is not produced by this program", value);
    }
    while (state->next <= exec->step_of[value]) {
        run_step(exec, state);
    }
    return QD_OK;
}

bool qc_exec_view(const struct qc_exec *exec, const struct qc_exec_state *state, int value,
                  struct qc_view *ret)
{
    if (value < 0 || value >= exec->n_values || exec->home[value] < 0) {
        return false;
    }
    *ret = state->views[exec->home[value]];
    return true;
}

void qc_exec_output(const struct qc_exec *exec, const struct qc_exec_state *state, int output,
                    void *out)
{
    int value = exec->graph->outputs[output].value;
    const struct qc_tensor *constant = exec->graph->values[value].constant;
    if (exec->home[value] >= 0) {
        qc_view_to_dense(&state->views[exec->home[value]], out);
    } else {
        memcpy(out, constant->data,
               qc_shape_elements(&constant->shape) * qc_dtype_size(constant->dtype));
    }
}
