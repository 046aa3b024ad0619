#include "quantcore/verify/verify.h"

#include <string.h>

#include "quantcore/exec/exec_nd.h"

/* What one sample leaves behind until its batch is merged. */
struct verify_slot {
    struct qc_metric *local, *cumulative; /* a layer each */
    struct qc_metric *output;             /* an output each */
    uint8_t *agree1, *agree5, *right_f32, *right_int8;
    double *entropy;
    int32_t label; /* < 0: none */
};

struct verify_thread {
    struct qc_exec_state *f32, *cumulative, *local;
    float **expected, **actual; /* dense outputs */
    struct qd_error err;
    enum qd_code code;
};

struct qc_verify {
    struct qc_verify_options o;
    int n_layers, n_outputs;
    struct qc_verify_layer *layers;
    struct qc_verify_output *outputs;
    struct verify_slot *slots;
    struct verify_thread *threads;
};

/* ---- which values stand for which tensors --------------------------------------------------- */

static const char *tensor_name(struct qd_arena *arena, const char *name, struct qd_error *err)
{
    static const char suffix[] = "_float";
    size_t n = strlen(name), s = sizeof(suffix) - 1;
    const char *ret = name;
    if (n > s && strcmp(name + n - s, suffix) == 0 &&
        qd_arena_string(arena, name, n - s, &ret, err) != QD_OK) {
        return NULL;
    }
    return ret;
}

enum qd_code qc_verify_find_codes(const struct qc_graph *g, struct qc_verify_codes *ret,
                                  struct qd_error *err)
{
    struct qc_verify_codes codes = {0, NULL};
    QD_TRY(qd_arena_array(g->arena, (size_t)g->n_nodes, sizeof(*codes.code), &codes.code, err));
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        const struct qc_tensor *scale = qc_node_constant(g, n, 1);
        const struct qc_tensor *zp = qc_node_constant(g, n, 2);
        if (n->op != QC_OP_QUANTIZE_LINEAR || scale == NULL || scale->dtype != QC_F32 ||
            zp == NULL || (zp->dtype != QC_U8 && zp->dtype != QC_S8) ||
            qc_shape_elements(&scale->shape) != 1) {
            continue;
        }
        struct qc_verify_code *c = &codes.code[codes.n++];
        c->tensor = tensor_name(g->arena, g->values[n->inputs[0]].name, err);
        if (c->tensor == NULL) {
            return QD_NO_MEMORY;
        }
        c->value = n->outputs[0];
        c->params.scale = *(const float *)scale->data;
        /* int_plan turns s8 codes into u8 codes. */
        c->params.zero_point = (int32_t)qc_tensor_s64(zp, 0) + (zp->dtype == QC_S8 ? 128 : 0);
    }
    *ret = codes;
    return QD_OK;
}

static bool is_produced(const struct qc_graph *g, int value)
{
    return value >= 0 && g->values[value].constant == NULL && g->values[value].producer >= 0;
}

/* The artifact's counterpart of an f32 value, if it has one that can be looked at. */
static bool match_value(const struct qc_verify_options *o, int value, struct qc_verify_layer *ret)
{
    const char *name = o->f32_graph->values[value].name;
    for (int i = 0; i < o->codes->n; i++) {
        const struct qc_verify_code *c = &o->codes->code[i];
        if (strcmp(c->tensor, name) == 0 && is_produced(o->int_graph, c->value)) {
            ret->int_value = c->value;
            ret->is_u8 = true;
            ret->params = c->params;
            return true;
        }
    }
    ret->int_value = qc_graph_find_value(o->int_graph, name);
    return is_produced(o->int_graph, ret->int_value) &&
           o->int_graph->values[ret->int_value].dtype == QC_F32;
}

static void find_layers(struct qc_verify *v)
{
    const struct qc_graph *g = v->o.f32_graph;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (n->shape_only || n->n_outputs == 0 || n->outputs[0] < 0) {
            continue;
        }
        int value = n->outputs[0];
        struct qc_verify_layer layer = {.f32_node = i, .f32_value = value};
        if (g->values[value].dtype == QC_F32 && g->values[value].constant == NULL &&
            match_value(&v->o, value, &layer) &&
            qc_shape_equal(&g->values[value].shape,
                           &v->o.int_graph->values[layer.int_value].shape)) {
            v->layers[v->n_layers++] = layer;
        }
    }
}

static void find_outputs(struct qc_verify *v)
{
    for (int i = 0; i < v->n_outputs; i++) {
        const struct qc_value *y = &v->o.f32_graph->values[v->o.f32_graph->outputs[i].value];
        v->outputs[i].output = i;
        v->outputs[i].is_classifier =
            y->shape.rank == 2 && y->shape.dim[0] == 1 && y->shape.dim[1] >= 2;
    }
}

/* ---- construction --------------------------------------------------------------------------- */

static void free_states(void *arg)
{
    struct verify_thread *t = arg;
    qc_exec_state_free(t->f32);
    qc_exec_state_free(t->cumulative);
    qc_exec_state_free(t->local);
}

static enum qd_code new_thread(struct qc_verify *v, struct verify_thread *t,
                               struct qd_arena *arena, struct qd_error *err)
{
    const struct qc_graph *g = v->o.f32_graph;
    QD_TRY(qd_arena_defer(arena, free_states, t, err));
    QD_TRY(qc_exec_state_new(v->o.f32_exec, &t->f32, err));
    QD_TRY(qc_exec_state_new(v->o.int_exec, &t->cumulative, err));
    QD_TRY(qc_exec_state_new(v->o.int_exec, &t->local, err));
    size_t n = (size_t)v->n_outputs;
    QD_TRY(qd_arena_array(arena, n, sizeof(float *), &t->expected, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(float *), &t->actual, err));
    for (int i = 0; i < v->n_outputs; i++) {
        size_t size = qc_shape_elements(&g->values[g->outputs[i].value].shape);
        QD_TRY(qd_arena_array(arena, size, sizeof(float), &t->expected[i], err));
        QD_TRY(qd_arena_array(arena, size, sizeof(float), &t->actual[i], err));
    }
    return QD_OK;
}

static enum qd_code new_slot(const struct qc_verify *v, struct verify_slot *s,
                             struct qd_arena *arena, struct qd_error *err)
{
    size_t layers = (size_t)v->n_layers, outputs = (size_t)v->n_outputs;
    QD_TRY(qd_arena_array(arena, layers, sizeof(*s->local), &s->local, err));
    QD_TRY(qd_arena_array(arena, layers, sizeof(*s->cumulative), &s->cumulative, err));
    QD_TRY(qd_arena_array(arena, outputs, sizeof(*s->output), &s->output, err));
    QD_TRY(qd_arena_array(arena, outputs, sizeof(double), &s->entropy, err));
    QD_TRY(qd_arena_array(arena, outputs, 1, &s->agree1, err));
    QD_TRY(qd_arena_array(arena, outputs, 1, &s->agree5, err));
    QD_TRY(qd_arena_array(arena, outputs, 1, &s->right_f32, err));
    return qd_arena_array(arena, outputs, 1, &s->right_int8, err);
}

static enum qd_code check_outputs(const struct qc_verify_options *o, struct qd_error *err)
{
    const struct qc_graph *a = o->f32_graph, *b = o->int_graph;
    if (a->n_outputs != b->n_outputs || a->n_inputs != b->n_inputs) {
        return qd_fail(err, QD_INTERNAL, "the artifact has %d inputs and %d outputs, not %d and %d",
                       b->n_inputs, b->n_outputs, a->n_inputs, a->n_outputs);
    }
    for (int i = 0; i < a->n_outputs; i++) {
        const struct qc_value *x = &a->values[a->outputs[i].value];
        const struct qc_value *y = &b->values[b->outputs[i].value];
        if (x->dtype != QC_F32 || y->dtype != QC_F32 || !qc_shape_equal(&x->shape, &y->shape)) {
            return qd_fail_on(err, QD_UNSUPPORTED, x->name,
                              "output '%s' cannot be verified: it is not f32 in both networks",
                              x->name);
        }
    }
    return QD_OK;
}

enum qd_code qc_verify_new(const struct qc_verify_options *options, struct qd_arena *arena,
                           struct qc_verify **ret, struct qd_error *err)
{
    struct qc_verify *v = NULL;
    QD_TRY(check_outputs(options, err));
    QD_TRY(qd_arena_alloc(arena, sizeof(*v), &v, err));
    v->o = *options;
    v->n_outputs = options->f32_graph->n_outputs;
    QD_TRY(qd_arena_array(arena, (size_t)options->f32_graph->n_nodes, sizeof(*v->layers),
                          &v->layers, err));
    QD_TRY(qd_arena_array(arena, (size_t)v->n_outputs, sizeof(*v->outputs), &v->outputs, err));
    find_layers(v);
    find_outputs(v);
    QD_TRY(qd_arena_array(arena, (size_t)options->n_slots, sizeof(*v->slots), &v->slots, err));
    for (int i = 0; i < options->n_slots; i++) {
        QD_TRY(new_slot(v, &v->slots[i], arena, err));
    }
    QD_TRY(qd_arena_array(arena, (size_t)options->n_threads, sizeof(*v->threads), &v->threads,
                          err));
    for (int i = 0; i < options->n_threads; i++) {
        QD_TRY(new_thread(v, &v->threads[i], arena, err));
    }
    v->o.codes = NULL; /* borrowed for the construction alone */
    *ret = v;
    return QD_OK;
}

/* Overwrite a value of the local run with the f32 one, quantized when it is a u8 value. */
struct overwrite_walk {
    const struct qc_kernels *kernels;
    const float *x;
    void *y;
    const struct qc_qparams *params; /* NULL: y is f32 */
    int64_t n;                       /* elements of a row */
};

static void overwrite_rows(const struct qc_nd *rows, const int64_t *off, void *ctx)
{
    const struct overwrite_walk *w = ctx;
    int last = rows->rank - 1;
    size_t n = (size_t)w->n;
    for (int64_t r = 0; r < rows->dim[last]; r++) {
        const float *x = w->x + off[0] + r * rows->stride[0][last];
        int64_t to = off[1] + r * rows->stride[1][last];
        if (w->params != NULL) {
            w->kernels->quantize_u8(x, w->params->scale, w->params->zero_point,
                                    (uint8_t *)w->y + to, n);
        } else {
            memcpy((float *)w->y + to, x, n * sizeof(*x));
        }
    }
}

static void overwrite_with(const struct qc_kernels *kernels, const struct qc_view *x,
                           const struct qc_view *y, const struct qc_qparams *params)
{
    struct qc_nd rows;
    const struct qc_view *views[2] = {x, y};
    struct overwrite_walk walk = {kernels, x->data, y->data, params, 0};
    qc_nd_init(&rows, &x->shape, 2, views);
    walk.n = qc_nd_take_row(&rows);
    qc_nd_walk(&rows, overwrite_rows, &walk);
}

/* ---- one sample ------------------------------------------------------------------------------ */

static enum qd_code compare_layer(struct qc_verify *v, struct verify_thread *t,
                                  struct verify_slot *s, int i)
{
    const struct qc_verify_layer *layer = &v->layers[i];
    struct qc_view x, y, z;
    QD_TRY(qc_exec_advance(v->o.f32_exec, t->f32, layer->f32_value, &t->err));
    QD_TRY(qc_exec_advance(v->o.int_exec, t->cumulative, layer->int_value, &t->err));
    QD_TRY(qc_exec_advance(v->o.int_exec, t->local, layer->int_value, &t->err));
    if (!qc_exec_view(v->o.f32_exec, t->f32, layer->f32_value, &x) ||
        !qc_exec_view(v->o.int_exec, t->cumulative, layer->int_value, &y) ||
        !qc_exec_view(v->o.int_exec, t->local, layer->int_value, &z)) {
        return QD_OK; /* not stored by one of the programs */
    }
    qc_metric_add(&s->cumulative[i], v->o.kernels, &x, &y, &layer->params);
    qc_metric_add(&s->local[i], v->o.kernels, &x, &z, &layer->params);
    /* What follows shall see this layer as if it had made no error of its own. */
    overwrite_with(v->o.kernels, &x, &z, layer->is_u8 ? &layer->params : NULL);
    return QD_OK;
}

static void compare_output(const struct qc_verify *v, struct verify_thread *t,
                           struct verify_slot *s, int i, int32_t label)
{
    const struct qc_graph *g = v->o.f32_graph;
    size_t n = qc_shape_elements(&g->values[g->outputs[i].value].shape);
    const float *x = t->expected[i], *y = t->actual[i];
    qc_exec_output(v->o.f32_exec, t->f32, i, t->expected[i]);
    qc_exec_output(v->o.int_exec, t->cumulative, i, t->actual[i]);
    qc_metric_add_dense(&s->output[i], x, y, n);
    s->label = label;
    if (v->outputs[i].is_classifier) {
        size_t best = qc_top1(y, n), expected = qc_top1(x, n);
        s->entropy[i] = qc_entropy_share(x, n);
        s->agree1[i] = best == expected;
        s->agree5[i] = qc_in_topk(x, n, best, 5);
        s->right_f32[i] = label >= 0 && expected == (size_t)label;
        s->right_int8[i] = label >= 0 && best == (size_t)label;
    }
}

static enum qd_code run_sample(struct qc_verify *v, struct verify_thread *t,
                               struct verify_slot *s, const void *const *inputs, int32_t label)
{
    QD_TRY(qc_exec_begin(v->o.f32_exec, t->f32, inputs, &t->err));
    QD_TRY(qc_exec_begin(v->o.int_exec, t->cumulative, inputs, &t->err));
    QD_TRY(qc_exec_begin(v->o.int_exec, t->local, inputs, &t->err));
    for (int i = 0; i < v->n_layers; i++) {
        QD_TRY(compare_layer(v, t, s, i));
    }
    for (int i = 0; i < v->n_outputs; i++) {
        QD_TRY(qc_exec_advance(v->o.f32_exec, t->f32, v->o.f32_graph->outputs[i].value, &t->err));
        QD_TRY(qc_exec_advance(v->o.int_exec, t->cumulative, v->o.int_graph->outputs[i].value,
                               &t->err));
        compare_output(v, t, s, i, label);
    }
    return QD_OK;
}

void qc_verify_sample(struct qc_verify *v, int thread, int slot, const void *const *inputs,
                      int32_t label)
{
    struct verify_thread *t = &v->threads[thread];
    enum qd_code code = run_sample(v, t, &v->slots[slot], inputs, label);
    t->code = t->code != QD_OK ? t->code : code;
}

/* ---- merging --------------------------------------------------------------------------------- */

static void merge_slot(struct qc_verify *v, struct verify_slot *s)
{
    for (int i = 0; i < v->n_layers; i++) {
        qc_metric_merge(&v->layers[i].local, &s->local[i]);
        qc_metric_merge(&v->layers[i].cumulative, &s->cumulative[i]);
        s->local[i] = s->cumulative[i] = (struct qc_metric){0};
    }
    for (int i = 0; i < v->n_outputs; i++) {
        struct qc_verify_output *o = &v->outputs[i];
        qc_metric_merge(&o->metric, &s->output[i]);
        s->output[i] = (struct qc_metric){0};
        o->n++;
        o->entropy += s->entropy[i];
        o->agree1 += s->agree1[i];
        o->agree5 += s->agree5[i];
        if (o->is_classifier && s->label >= 0) {
            const struct qc_graph *g = v->o.f32_graph;
            o->n_labelled++;
            o->n_beyond += s->label >= g->values[g->outputs[i].value].shape.dim[1];
            o->largest_label = s->label > o->largest_label ? s->label : o->largest_label;
        }
        o->right_f32 += s->right_f32[i];
        o->right_int8 += s->right_int8[i];
    }
}

enum qd_code qc_verify_end_batch(struct qc_verify *v, int n_used, struct qd_error *err)
{
    for (int i = 0; i < v->o.n_threads; i++) {
        if (v->threads[i].code != QD_OK) {
            if (err != NULL) {
                *err = v->threads[i].err;
            }
            return v->threads[i].code;
        }
    }
    for (int i = 0; i < n_used; i++) {
        merge_slot(v, &v->slots[i]);
    }
    return QD_OK;
}

const struct qc_verify_layer *qc_verify_layers(const struct qc_verify *v, int *ret_n)
{
    *ret_n = v->n_layers;
    return v->layers;
}

const struct qc_verify_output *qc_verify_outputs(const struct qc_verify *v, int *ret_n)
{
    *ret_n = v->n_outputs;
    return v->outputs;
}
