/* Layouts, conversions, borders and offsets. */
#include "quantcore/exec/exec_plan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct plan {
    struct qc_exec *exec;
    const struct qc_graph *g;
    struct qd_arena *arena;
    bool *wants_nhwc; /* [n_values] an NHWC operator reads it, maybe behind others */
    int (*border)[4]; /* [n_values] */
    struct part *part; /* [n_values] */
};

/* A value that is written where a Concat along the channels wants it. */
struct part {
    int whole;       /* the Concat's output, -1 */
    int64_t channel; /* where it begins there */
};

static const struct qc_exec_row *row_of(const struct qc_node *n)
{
    return n->op >= 0 && n->op < QC_OP_COUNT ? &qc_exec_rows[n->op] : NULL;
}

static bool is_data(const struct qc_graph *g, int value)
{
    return value >= 0 && g->values[value].constant == NULL;
}

static bool is_executed(const struct qc_node *n)
{
    return !n->shape_only && n->n_outputs > 0;
}

/* ---- what the consumers want ---- */

static void want_inputs(struct plan *p, const struct qc_node *n)
{
    const struct qc_exec_row *row = row_of(n);
    if (row == NULL || !is_executed(n) || n->n_inputs == 0) {
        return;
    }
    bool any = false;
    for (int i = 0; i < n->n_outputs && row->layout == QC_WANT_ANY; i++) {
        any = any || (n->outputs[i] >= 0 && p->wants_nhwc[n->outputs[i]]);
    }
    for (int i = 0; i < n->n_inputs; i++) {
        bool wanted = any || (i == 0 && row->layout == QC_WANT_NHWC);
        if (wanted && is_data(p->g, n->inputs[i]) && p->g->values[n->inputs[i]].shape.rank == 4) {
            p->wants_nhwc[n->inputs[i]] = true;
        }
    }
    if (row->border != NULL && n->inputs[0] >= 0 && p->g->values[n->inputs[0]].shape.rank == 4) {
        int pad[4] = {0}, *all = p->border[n->inputs[0]];
        row->border(p->g, n, pad);
        for (int i = 0; i < 4; i++) {
            all[i] = pad[i] > all[i] ? pad[i] : all[i];
        }
    }
}

/* ---- parts of a Concat ---- */

static int count_uses(const struct qc_graph *g, int value)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            n += g->nodes[i].inputs[k] == value;
        }
    }
    return n;
}

/* Whether the value is made in NHWC, for this use alone. */
static bool can_be_part(const struct plan *p, int value, const bool *keep)
{
    const struct qc_value *v = &p->g->values[value];
    if (v->producer < 0 || v->shape.rank != 4 || (keep != NULL && keep[value]) ||
        qc_graph_is_output(p->g, value) || count_uses(p->g, value) != 1) {
        return false;
    }
    const struct qc_node *n = &p->g->nodes[v->producer];
    return is_executed(n) && n->n_outputs == 1 && row_of(n) != NULL &&
           row_of(n)->layout == QC_WANT_NHWC && p->g->values[n->inputs[0]].shape.rank == 4;
}

/* What a convolution makes for a Concat along the channels, it writes there: nothing is copied. */
static void find_parts(struct plan *p, const bool *keep)
{
    for (int i = 0; i < p->g->n_nodes; i++) {
        const struct qc_node *n = &p->g->nodes[i];
        bool units = n->op == QC_OP_Q_CONCAT;
        if ((n->op != QC_OP_CONCAT && !units) || !is_executed(n) ||
            qc_node_int(n, "axis", 0) != 1 || p->g->values[n->outputs[0]].shape.rank != 4) {
            continue;
        }
        int64_t channel = 0;
        for (int k = units ? 2 : 0; k < n->n_inputs; k += units ? 3 : 1) {
            int value = n->inputs[k];
            if (value < 0 || !p->g->values[value].shape_known) {
                break; /* the step will refuse it */
            }
            if (p->g->values[value].constant == NULL && can_be_part(p, value, keep)) {
                p->part[value] = (struct part){n->outputs[0], channel};
            }
            channel += p->g->values[value].shape.dim[1];
        }
    }
}

/* ---- slots ---- */

#define MAX_SLOT_BYTES   ((size_t)1 << 40)
#define MAX_BUFFER_BYTES ((size_t)1 << 32) /* of one thread */

static bool padded_size_fits(const struct qc_view *v, const int pad[4])
{
    size_t size = 256; /* an element with the pixel stride's rounding */
    for (int i = 0; i < v->shape.rank; i++) {
        size_t border = v->shape.rank == 4 && i >= 2 ? (size_t)pad[i - 2] + (size_t)pad[i] : 0;
        if (!qd_mul_size(size, (size_t)v->shape.dim[i] + border, &size) ||
            size > MAX_SLOT_BYTES) {
            return false;
        }
    }
    return true;
}

static enum qd_code add_slot(struct plan *p, int value, enum qc_layout layout, int first,
                             int *ret, struct qd_error *err);

/* The slot of a part: a view into the whole, which lives from its first part on. */
static enum qd_code add_part(struct plan *p, int value, int first, int *ret, struct qd_error *err)
{
    struct qc_exec *e = p->exec;
    const struct part *part = &p->part[value];
    int whole = e->slot_of[QC_NHWC][part->whole];
    if (whole < 0) {
        QD_TRY(add_slot(p, part->whole, QC_NHWC, first, &whole, err));
    }
    struct qc_slot *s = &e->slots[e->n_slots];
    *s = (struct qc_slot){.value = value, .first = first, .last = first, .whole = whole};
    s->view = e->slots[whole].view;
    s->view.shape = p->g->values[value].shape;
    s->view.owns_pixels = false;
    s->lead = e->slots[whole].lead + (size_t)part->channel * qc_dtype_size(s->view.dtype);
    *ret = e->n_slots++;
    e->slot_of[QC_NHWC][value] = *ret;
    e->home[value] = *ret;
    e->step_of[value] = first;
    return QD_OK;
}

static enum qd_code add_slot(struct plan *p, int value, enum qc_layout layout, int first,
                             int *ret, struct qd_error *err)
{
    if (layout == QC_NHWC && p->part[value].whole >= 0 && p->exec->home[value] < 0) {
        return add_part(p, value, first, ret, err);
    }
    struct qc_exec *e = p->exec;
    const struct qc_value *v = &p->g->values[value];
    struct qc_slot *s = &e->slots[e->n_slots];
    if (!v->shape_known || qc_dtype_size(v->dtype) == 0) {
        return qd_fail_on(err, QD_UNSUPPORTED, v->name, "value '%s' has no known shape or type",
                          v->name);
    }
    *s = (struct qc_slot){.value = value, .first = first, .last = first, .whole = -1};
    s->view = (struct qc_view){.dtype = v->dtype, .layout = layout, .shape = v->shape};
    memcpy(s->border, p->border[value], sizeof(s->border));
    for (int i = 0; i < 4; i++) {
        if (s->border[i] < 0) {
            return qd_fail_on(err, QD_UNSUPPORTED, v->name,
                              "value '%s': negative pads are not "
                              "implemented",
                              v->name);
        }
    }
    if (!padded_size_fits(&s->view, s->border)) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, v->name,
                          "value '%s' needs more than %zu bytes with its border", v->name,
                          MAX_SLOT_BYTES);
    }
    if (layout == QC_NHWC) {
        const int *b = s->border;
        qc_view_nhwc_strides(&s->view, b, &s->lead, &s->size);
        s->bordered = b[0] > 0 || b[1] > 0 || b[2] > 0 || b[3] > 0;
        s->zero = qc_dtype_size(v->dtype) == 1 ? qc_exec_zero_point(p->g, value) : 0;
    } else {
        s->size = qc_shape_elements(&v->shape) * qc_dtype_size(v->dtype);
    }
    s->size = qd_align_up(s->size + QD_ARENA_TAIL, QD_ARENA_ALIGN);
    *ret = e->n_slots++;
    e->slot_of[layout][value] = *ret;
    if (e->home[value] < 0) {
        e->home[value] = *ret;
        e->step_of[value] = first;
    }
    return QD_OK;
}

static enum qd_code add_step(struct plan *p, int n_inputs, int n_outputs, struct qc_step **ret,
                             struct qd_error *err)
{
    struct qc_exec *e = p->exec;
    struct qc_step *s = &e->steps[e->n_steps];
    *s = (struct qc_step){
        .node = -1, .n_inputs = n_inputs, .n_outputs = n_outputs, .kernels = &e->kernels};
    QD_TRY(qd_arena_array(p->arena, (size_t)n_inputs, sizeof(int), &s->inputs, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n_outputs, sizeof(int), &s->outputs, err));
    *ret = s;
    return QD_OK;
}

static void close_step(struct plan *p)
{
    struct qc_exec *e = p->exec;
    const struct qc_step *s = &e->steps[e->n_steps];
    e->first_arg[e->n_steps] = e->n_args;
    e->n_args += s->n_inputs + s->n_outputs;
    e->scratch_size = s->scratch_size > e->scratch_size ? s->scratch_size : e->scratch_size;
    e->n_steps++;
}

static void convert_run(const struct qc_step *step, const struct qc_view *in,
                        const struct qc_view *out, void *scratch)
{
    (void)step;
    (void)scratch;
    qc_view_copy(&in[0], &out[0]);
}

static int constant_slot(struct plan *p, int value)
{
    struct qc_exec *e = p->exec;
    const struct qc_tensor *t = p->g->values[value].constant;
    struct qc_slot *s = &e->slots[e->n_slots];
    *s = (struct qc_slot){.value = value, .first = -1, .last = -1, .whole = -1};
    s->view = (struct qc_view){
        .data = t->data, .dtype = t->dtype, .layout = QC_PLAIN, .shape = t->shape};
    e->slot_of[QC_PLAIN][value] = e->n_slots;
    return e->n_slots++;
}

/* The slot of a value in a layout; a conversion step is inserted when it is needed. */
static enum qd_code slot_in_layout(struct plan *p, int value, enum qc_layout layout, int *ret,
                                   struct qd_error *err)
{
    struct qc_exec *e = p->exec;
    struct qc_step *step;
    if (e->slot_of[layout][value] >= 0) {
        *ret = e->slot_of[layout][value];
        return QD_OK;
    }
    if (p->g->values[value].constant != NULL) {
        *ret = constant_slot(p, value);
        return QD_OK;
    }
    int from = e->home[value];
    if (from < 0) {
        return qd_fail_on(err, QD_INVALID, p->g->values[value].name,
                          "value '%s' is used and never produced", p->g->values[value].name);
    }
    QD_TRY(add_step(p, 1, 1, &step, err));
    QD_TRY(add_slot(p, value, layout, e->n_steps, ret, err));
    e->slots[from].last = e->n_steps;
    step->inputs[0] = from;
    step->outputs[0] = *ret;
    step->run = convert_run;
    close_step(p);
    return QD_OK;
}

/* ---- nodes ---- */

static enum qc_layout node_layout(const struct plan *p, const struct qc_node *n)
{
    const struct qc_exec_row *row = row_of(n);
    bool nhwc = false;
    if (n->n_inputs == 0 || row->layout == QC_WANT_PLAIN || n->outputs[0] < 0 ||
        p->g->values[n->outputs[0]].shape.rank != 4) {
        return QC_PLAIN;
    }
    if (row->layout == QC_WANT_NHWC) {
        return p->g->values[n->inputs[0]].shape.rank == 4 ? QC_NHWC : QC_PLAIN;
    }
    for (int i = 0; i < n->n_inputs; i++) {
        if (!is_data(p->g, n->inputs[i])) {
            continue;
        }
        if (p->g->values[n->inputs[i]].shape.rank != 4) {
            return QC_PLAIN;
        }
        nhwc = nhwc || p->exec->slot_of[QC_NHWC][n->inputs[i]] >= 0;
    }
    return nhwc ? QC_NHWC : QC_PLAIN;
}

/* Quantizing few planes makes pixels of them at once. */
static bool makes_pixels(const struct plan *p, const struct qc_node *n)
{
    int y = n->outputs[0];
    return n->op == QC_OP_QUANTIZE_LINEAR && y >= 0 && p->wants_nhwc[y] &&
           p->g->values[y].shape.rank == 4 && p->g->values[y].shape.dim[1] <= 4;
}

static enum qd_code node_inputs(struct plan *p, const struct qc_node *n, enum qc_layout layout,
                                int *slots, struct qd_error *err)
{
    const struct qc_exec_row *row = row_of(n);
    for (int i = 0; i < n->n_inputs; i++) {
        int value = n->inputs[i];
        bool follows = is_data(p->g, value) && (i == 0 || row->layout == QC_WANT_ANY);
        slots[i] = -1;
        if (value >= 0) {
            QD_TRY(slot_in_layout(p, value, follows ? layout : QC_PLAIN, &slots[i], err));
        }
    }
    return QD_OK;
}

static enum qd_code prepare_step(struct plan *p, const struct qc_node *n, struct qc_step *step,
                                 struct qd_error *err)
{
    struct qc_view *views;
    size_t count = (size_t)(step->n_inputs + step->n_outputs);
    QD_TRY(qd_arena_array(p->arena, count, sizeof(struct qc_view), &views, err));
    for (int i = 0; i < step->n_inputs; i++) {
        if (step->inputs[i] >= 0) {
            views[i] = p->exec->slots[step->inputs[i]].view;
        }
    }
    for (int i = 0; i < step->n_outputs; i++) {
        if (step->outputs[i] >= 0) {
            views[step->n_inputs + i] = p->exec->slots[step->outputs[i]].view;
        }
    }
    struct qc_prepare prepare = {.graph = p->g,
                                 .node = n,
                                 .kernels = &p->exec->kernels,
                                 .arena = p->arena,
                                 .in = views,
                                 .out = views + step->n_inputs};
    return row_of(n)->prepare(&prepare, step, err);
}

static enum qd_code plan_node(struct plan *p, int index, struct qd_error *err)
{
    struct qc_exec *e = p->exec;
    const struct qc_node *n = &p->g->nodes[index];
    struct qc_step *step;
    int *inputs;
    if (row_of(n) == NULL || row_of(n)->prepare == NULL) {
        return qd_fail_on(err, QD_UNSUPPORTED, n->name, "%s '%s': not executable", n->op_type,
                          n->name);
    }
    enum qc_layout layout = node_layout(p, n);
    QD_TRY(qd_arena_array(p->arena, (size_t)n->n_inputs, sizeof(int), &inputs, err));
    QD_TRY(node_inputs(p, n, layout, inputs, err));
    QD_TRY(add_step(p, n->n_inputs, n->n_outputs, &step, err));
    step->node = index;
    layout = makes_pixels(p, n) ? QC_NHWC : layout; /* of the output */
    for (int i = 0; i < n->n_inputs; i++) {
        step->inputs[i] = inputs[i];
        if (inputs[i] >= 0) {
            e->slots[inputs[i]].last = e->n_steps;
        }
    }
    for (int i = 0; i < n->n_outputs; i++) {
        int value = n->outputs[i];
        step->outputs[i] = -1;
        if (value >= 0 && e->home[value] >= 0) { /* the parts of a Concat have made it */
            step->outputs[i] = e->home[value];
            e->step_of[value] = e->n_steps;
            e->slots[e->home[value]].last = e->n_steps;
        } else if (value >= 0) {
            bool four = p->g->values[value].shape.rank == 4;
            QD_TRY(
                add_slot(p, value, four ? layout : QC_PLAIN, e->n_steps, &step->outputs[i], err));
        }
    }
    QD_TRY(prepare_step(p, n, step, err));
    close_step(p);
    return QD_OK;
}

/* ---- offsets ---- */

static int by_size(const void *a, const void *b)
{
    const struct qc_slot *x = *(const struct qc_slot *const *)a;
    const struct qc_slot *y = *(const struct qc_slot *const *)b;
    if (x->size != y->size) {
        return x->size < y->size ? 1 : -1;
    }
    return x < y ? -1 : 1;
}

/* Place `s` in the smallest gap between the placed slots that live at the same time; `placed` is
 * sorted by offset. */
static size_t best_gap(const struct qc_slot *s, struct qc_slot *const *placed, int n)
{
    size_t end = 0, best = SIZE_MAX, best_size = SIZE_MAX;
    for (int i = 0; i < n; i++) {
        const struct qc_slot *o = placed[i];
        if (o->last < s->first || s->last < o->first) {
            continue;
        }
        if (o->offset >= end && o->offset - end >= s->size && o->offset - end < best_size) {
            best = end;
            best_size = o->offset - end;
        }
        end = o->offset + o->size > end ? o->offset + o->size : end;
    }
    return best != SIZE_MAX ? best : end;
}

static enum qd_code assign_offsets(struct plan *p, struct qd_error *err)
{
    struct qc_exec *e = p->exec;
    struct qc_slot **order, **placed;
    int n = 0, n_placed = 0;
    QD_TRY(qd_arena_array(p->arena, (size_t)e->n_slots, sizeof(*order), &order, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)e->n_slots, sizeof(*placed), &placed, err));
    for (int i = 0; i < e->n_slots; i++) {
        if (e->slots[i].size > 0) {
            order[n++] = &e->slots[i];
        }
    }
    if (n > 0) {
        qsort(order, (size_t)n, sizeof(*order), by_size);
    }
    for (int i = 0; i < n; i++) {
        struct qc_slot *s = order[i];
        s->offset = best_gap(s, placed, n_placed);
        int at = n_placed++;
        for (; at > 0 && placed[at - 1]->offset > s->offset; at--) {
            placed[at] = placed[at - 1];
        }
        placed[at] = s;
        size_t end = s->offset + s->size;
        e->buffer_size = end > e->buffer_size ? end : e->buffer_size;
    }
    for (int i = 0; i < e->n_slots; i++) {
        if (e->slots[i].whole >= 0) {
            e->slots[i].offset = e->slots[e->slots[i].whole].offset;
        }
    }
    return QD_OK;
}

/* ---- all of it ---- */

/* A graph input that is only quantized stays as it comes: its bytes are a quarter to rearrange, and
 * in NHWC its padding would lie there as f32 and as u8. */
static bool is_only_quantized(const struct plan *p, int value)
{
    bool quantized = !qc_graph_is_output(p->g, value);
    for (int i = 0; quantized && i < p->g->n_nodes; i++) {
        const struct qc_node *n = &p->g->nodes[i];
        for (int k = 0; is_executed(n) && k < n->n_inputs; k++) {
            quantized = quantized && (n->inputs[k] != value || n->op == QC_OP_QUANTIZE_LINEAR);
        }
    }
    return quantized;
}

static enum qd_code plan_input(struct plan *p, int value, const struct qc_exec_options *options,
                               struct qd_error *err)
{
    int slot;
    bool plain = is_only_quantized(p, value);
    enum qc_layout layout = p->wants_nhwc[value] && !plain ? QC_NHWC : QC_PLAIN;
    QD_TRY(add_slot(p, value, layout, -1, &slot, err));
    if (plain && options->borrow_inputs && (options->keep == NULL || !options->keep[value])) {
        p->exec->slots[slot].borrowed = true;
        p->exec->slots[slot].size = 0;
    }
    return QD_OK;
}

static enum qd_code plan_arrays(struct plan *p, struct qd_error *err)
{
    struct qc_exec *e = p->exec;
    size_t values = (size_t)p->g->n_values, steps = values + (size_t)p->g->n_nodes;
    QD_TRY(qd_arena_array(p->arena, values, sizeof(bool), &p->wants_nhwc, err));
    QD_TRY(qd_arena_array(p->arena, values, sizeof(*p->border), &p->border, err));
    QD_TRY(qd_arena_array(p->arena, values, sizeof(*p->part), &p->part, err));
    memset(p->part, 0xff, values * sizeof(*p->part)); /* -1 */
    size_t slots = 2 * values + (size_t)p->g->n_inputs; /* home and conversion of every value */
    QD_TRY(qd_arena_array(p->arena, slots, sizeof(struct qc_slot), &e->slots, err));
    QD_TRY(qd_arena_array(p->arena, steps, sizeof(struct qc_step), &e->steps, err));
    QD_TRY(qd_arena_array(p->arena, steps, sizeof(int), &e->first_arg, err));
    int **maps[] = {&e->slot_of[QC_PLAIN], &e->slot_of[QC_NHWC], &e->home, &e->step_of};
    for (size_t i = 0; i < QD_COUNT_OF(maps); i++) {
        QD_TRY(qd_arena_array(p->arena, values, sizeof(int), maps[i], err));
        memset(*maps[i], 0xff, values * sizeof(int)); /* -1 */
    }
    return QD_OK;
}

static void keep_alive(struct plan *p, const bool *keep)
{
    struct qc_exec *e = p->exec;
    for (int v = 0; v < e->n_values; v++) {
        if (e->home[v] >= 0 && keep != NULL && keep[v]) {
            e->slots[e->home[v]].last = INT_MAX;
        }
    }
    for (int i = 0; i < p->g->n_outputs; i++) {
        int home = e->home[p->g->outputs[i].value];
        if (home >= 0) {
            e->slots[home].last = INT_MAX;
        }
    }
}

enum qd_code qc_exec_plan(struct qc_exec *exec, const struct qc_exec_options *options,
                          struct qd_arena *arena, struct qd_error *err)
{
    const bool *keep = options->keep;
    const struct qc_graph *g = exec->graph;
    struct plan p = {.exec = exec, .g = g, .arena = arena};
    QD_TRY(plan_arrays(&p, err));
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        want_inputs(&p, &g->nodes[i]);
    }
    find_parts(&p, keep);
    for (int i = 0; i < g->n_inputs; i++) {
        QD_TRY(plan_input(&p, g->inputs[i].value, options, err));
    }
    for (int i = 0; i < g->n_nodes; i++) {
        if (is_executed(&g->nodes[i])) {
            QD_TRY(plan_node(&p, i, err));
        }
    }
    for (int i = 0; i < g->n_outputs; i++) {
        int v = g->outputs[i].value;
        if (exec->home[v] < 0 && g->values[v].constant == NULL) {
            return qd_fail_on(err, QD_INVALID, g->values[v].name, "output '%s' is never produced",
                              g->values[v].name);
        }
    }
    keep_alive(&p, keep);
    QD_TRY(assign_offsets(&p, err));
    if (exec->buffer_size > MAX_BUFFER_BYTES || exec->scratch_size > MAX_BUFFER_BYTES) {
        return qd_fail(err, QD_LIMIT_EXCEEDED,
                       "a run needs %zu bytes of values and %zu of scratch, more than %zu",
                       exec->buffer_size, exec->scratch_size, MAX_BUFFER_BYTES);
    }
    return QD_OK;
}
