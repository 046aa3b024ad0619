#include "worker/worker_table_read_json.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "worker/worker_table_names.h"
#include "worker/worker_table_read_aimet.h"

#define MAX_CHANNELS (1 << 24)

/* Where a member stands, for messages: "tensors/3". */
struct place {
    const char *list;
    size_t index;
};

static enum qd_code bad_member(struct place at, const char *key, const char *wanted,
                               struct qd_error *err)
{
    return qd_fail(err, QD_INVALID, "%s/%zu/%s is not %s", at.list, at.index, key, wanted);
}

/* ret stays when the member is absent or null and may be. */
static enum qd_code get_text(const json_t *row, struct place at, const char *key, bool required,
                             struct qd_arena *arena, const char **ret, struct qd_error *err)
{
    const json_t *value = json_object_get(row, key);
    if (!required && (value == NULL || json_is_null(value))) {
        return QD_OK;
    }
    if (!json_is_string(value)) {
        return bad_member(at, key, "a string", err);
    }
    size_t length = json_string_length(value);
    enum qd_code code = worker_table_check_name(length, key, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "%s/%zu", at.list, at.index);
    }
    return qd_arena_string(arena, json_string_value(value), length, ret, err);
}

static enum qd_code get_real(const json_t *row, struct place at, const char *key, double *ret,
                             struct qd_error *err)
{
    const json_t *value = json_object_get(row, key);
    *ret = NAN;
    if (value == NULL || json_is_null(value)) {
        return QD_OK;
    }
    if (!json_is_number(value)) {
        return bad_member(at, key, "a number or null", err);
    }
    *ret = json_number_value(value);
    return QD_OK;
}

/* An integer from lo to hi; fallback when absent or null. */
static enum qd_code get_int(const json_t *row, struct place at, const char *key, json_int_t lo,
                            json_int_t hi, const json_int_t *fallback, json_int_t *ret,
                            struct qd_error *err)
{
    const json_t *value = json_object_get(row, key);
    if (fallback != NULL && (value == NULL || json_is_null(value))) {
        *ret = *fallback;
        return QD_OK;
    }
    if (!json_is_integer(value)) {
        return bad_member(at, key, "an integer", err);
    }
    *ret = json_integer_value(value);
    if (*ret < lo || *ret > hi) {
        return qd_fail(err, QD_INVALID, "%s/%zu/%s is %lld, allowed: %lld to %lld", at.list,
                       at.index, key, (long long)*ret, (long long)lo, (long long)hi);
    }
    return QD_OK;
}

static enum qd_code get_scale(const json_t *value, struct place at, const char *key, float *ret,
                              struct qd_error *err)
{
    if (!json_is_number(value)) {
        return bad_member(at, key, "a number", err);
    }
    if (!worker_table_scale(json_number_value(value), ret)) {
        return qd_fail(err, QD_INVALID, "%s/%zu/%s is %g, allowed: %g to %g", at.list, at.index,
                       key, json_number_value(value), (double)FLT_MIN, (double)FLT_MAX);
    }
    return QD_OK;
}

static enum qd_code get_list(const json_t *row, struct place at, const char *key,
                             const json_t **ret, struct qd_error *err)
{
    *ret = json_object_get(row, key);
    if (*ret != NULL && !json_is_null(*ret) && !json_is_array(*ret)) {
        return bad_member(at, key, "a list", err);
    }
    return QD_OK;
}

/* --- activations ------------------------------------------------------------------------------
 */

static enum qd_code read_shared(const json_t *row, struct place at, struct qd_arena *arena,
                                struct worker_table_row *r, struct qd_error *err)
{
    const json_t *list = NULL;
    const char **names = NULL;
    QD_TRY(get_list(row, at, "shared", &list, err));
    size_t n = json_array_size(list);
    if (n == 0) {
        return QD_OK;
    }
    QD_TRY(qd_arena_array(arena, n, sizeof(*names), &names, err));
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_string(value)) {
            return bad_member(at, "shared", "a list of strings", err);
        }
        size_t length = json_string_length(value);
        enum qd_code code = worker_table_check_name(length, "shared tensor", err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "%s/%zu", at.list, at.index);
        }
        QD_TRY(qd_arena_string(arena, json_string_value(value), length, &names[i], err));
    }
    r->shared = names;
    r->n_shared = n;
    return QD_OK;
}

/* A row of a table that came from ncnn has "layer" and a tensor of null. */
static enum qd_code read_row(const json_t *row, struct place at, struct qd_arena *arena,
                             struct worker_table_row *r, struct qd_error *err)
{
    static const json_int_t unknown = -1;
    const char *dtype = NULL;
    json_int_t zero_point = 0, count = 0;
    QD_TRY(get_text(row, at, "layer", false, arena, &r->layer, err));
    QD_TRY(get_text(row, at, "tensor", r->layer == NULL, arena, &r->tensor, err));
    QD_TRY(get_text(row, at, "op_type", false, arena, &r->op_type, err));
    QD_TRY(get_text(row, at, "source", false, arena, &r->source, err));
    QD_TRY(get_text(row, at, "dtype", true, arena, &dtype, err));
    if (!worker_table_dtype_from_name(dtype, &r->dtype)) {
        return qd_fail(err, QD_INVALID, "%s/%zu/dtype is '%.40s', allowed: u8, s8", at.list,
                       at.index, dtype);
    }
    QD_TRY(get_scale(json_object_get(row, "scale"), at, "scale", &r->scale, err));
    QD_TRY(get_int(row, at, "zero_point", worker_table_qmin(r->dtype),
                   worker_table_qmax(r->dtype), NULL, &zero_point, err));
    QD_TRY(get_int(row, at, "count", -1, INT64_MAX, &unknown, &count, err));
    QD_TRY(get_real(row, at, "lo", &r->lo, err));
    QD_TRY(get_real(row, at, "hi", &r->hi, err));
    QD_TRY(get_real(row, at, "min", &r->min, err));
    QD_TRY(get_real(row, at, "max", &r->max, err));
    QD_TRY(get_real(row, at, "mean", &r->mean, err));
    QD_TRY(get_real(row, at, "std", &r->std, err));
    QD_TRY(get_real(row, at, "clipped_share", &r->clipped_share, err));
    r->zero_point = (int32_t)zero_point;
    r->count = count;
    return read_shared(row, at, arena, r, err);
}

static enum qd_code check_rows(const struct worker_table_row *rows, size_t n_rows,
                               struct qd_arena *arena, struct qd_error *err)
{
    struct worker_table_name *tensors = NULL, *layers = NULL;
    size_t n = n_rows, n_tensors = 0, n_layers = 0;
    for (size_t i = 0; i < n_rows; i++) {
        n += rows[i].n_shared;
    }
    if (n > WORKER_TABLE_MAX_ROWS) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%zu tensors, allowed: %d", n,
                       WORKER_TABLE_MAX_ROWS);
    }
    QD_TRY(qd_arena_array(arena, n, sizeof(*tensors), &tensors, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*layers), &layers, err));
    for (size_t i = 0; i < n_rows; i++) {
        if (rows[i].tensor != NULL) {
            tensors[n_tensors++].name = rows[i].tensor;
        }
        if (rows[i].layer != NULL) {
            layers[n_layers++].name = rows[i].layer;
        }
        for (size_t k = 0; k < rows[i].n_shared; k++) {
            tensors[n_tensors++].name = rows[i].shared[k];
        }
    }
    QD_TRY(worker_table_check_unique(tensors, n_tensors, "tensor", err));
    return worker_table_check_unique(layers, n_layers, "layer", err);
}

/* --- weights ----------------------------------------------------------------------------------
 */

static enum qd_code read_layer(const json_t *row, struct place at, struct qd_arena *arena,
                               struct worker_table_layer *l, struct qd_error *err)
{
    static const json_int_t one = 1;
    const json_t *list = NULL;
    json_int_t channels = 0, groups = 0;
    float *scale = NULL;
    QD_TRY(get_text(row, at, "node", true, arena, &l->node, err));
    QD_TRY(get_text(row, at, "op_type", false, arena, &l->op_type, err));
    QD_TRY(get_text(row, at, "input", false, arena, &l->input, err));
    QD_TRY(get_text(row, at, "weights", false, arena, &l->weights, err));
    QD_TRY(get_int(row, at, "channels", 1, MAX_CHANNELS, NULL, &channels, err));
    QD_TRY(get_int(row, at, "groups", 1, channels, &one, &groups, err));
    QD_TRY(get_list(row, at, "scales", &list, err));
    size_t n = json_array_size(list);
    if ((n != 1 && n != (size_t)channels) || channels % groups != 0) {
        return qd_fail(err, QD_INVALID,
                       "%s/%zu: %zu scales for %lld channels in %lld groups, allowed: 1 or one a "
                       "channel, groups of one size",
                       at.list, at.index, n, (long long)channels, (long long)groups);
    }
    QD_TRY(qd_arena_array(arena, n, sizeof(*scale), &scale, err));
    for (size_t i = 0; i < n; i++) {
        QD_TRY(get_scale(json_array_get(list, i), at, "scales", &scale[i], err));
    }
    l->scale = scale;
    l->n_scale = n;
    l->n_channels = (size_t)channels;
    l->n_groups = (size_t)groups;
    return QD_OK;
}

static enum qd_code check_layers(const struct worker_table_layer *layers, size_t n,
                                 struct qd_arena *arena, struct qd_error *err)
{
    struct worker_table_name *names = NULL;
    QD_TRY(qd_arena_array(arena, n, sizeof(*names), &names, err));
    for (size_t i = 0; i < n; i++) {
        names[i].name = layers[i].node;
    }
    return worker_table_check_unique(names, n, "layer", err);
}

/* --- the whole --------------------------------------------------------------------------------
 */

/* A list of objects below the root, absent for an empty one. */
static enum qd_code top_list(const json_t *root, const char *key, const json_t **ret,
                             struct qd_error *err)
{
    *ret = json_object_get(root, key);
    if (*ret != NULL && !json_is_array(*ret)) {
        return qd_fail(err, QD_INVALID, "'%s' is not a list", key);
    }
    if (json_array_size(*ret) > WORKER_TABLE_MAX_ROWS) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%zu %s, allowed: %d", json_array_size(*ret), key,
                       WORKER_TABLE_MAX_ROWS);
    }
    return QD_OK;
}

static enum qd_code read_root(const json_t *root, struct qd_arena *arena,
                              struct worker_table *ret, struct qd_error *err)
{
    struct worker_table_row *rows = NULL;
    struct worker_table_layer *layers = NULL;
    const json_t *row_list, *layer_list;
    const json_t *format = json_object_get(root, "format");
    const char *name = json_string_value(format);
    if (format != NULL && (name == NULL || strcmp(name, "quantd-calibration-1") != 0)) {
        return qd_fail(err, QD_INVALID, "'format' is '%.60s', allowed: quantd-calibration-1",
                       name != NULL ? name : "not a string");
    }
    /* "data": the answer of GET /v1/jobs/{id}/calibration, whose rows are the same. */
    const char *rows_key = json_object_get(root, "tensors") == NULL ? "data" : "tensors";
    QD_TRY(top_list(root, rows_key, &row_list, err));
    QD_TRY(top_list(root, "layers", &layer_list, err));
    size_t n_rows = json_array_size(row_list), n_layers = json_array_size(layer_list);
    QD_TRY(qd_arena_array(arena, n_rows, sizeof(*rows), &rows, err));
    QD_TRY(qd_arena_array(arena, n_layers, sizeof(*layers), &layers, err));
    for (size_t i = 0; i < n_rows; i++) {
        struct place at = {rows_key, i};
        QD_TRY(read_row(json_array_get(row_list, i), at, arena, &rows[i], err));
    }
    for (size_t i = 0; i < n_layers; i++) {
        struct place at = {"layers", i};
        QD_TRY(read_layer(json_array_get(layer_list, i), at, arena, &layers[i], err));
    }
    QD_TRY(check_rows(rows, n_rows, arena, err));
    QD_TRY(check_layers(layers, n_layers, arena, err));
    *ret = (struct worker_table){rows, n_rows, layers, n_layers};
    return QD_OK;
}

enum qd_code worker_table_read_json(struct qd_bytes text, struct qd_arena *arena,
                                    struct worker_table *ret, struct qd_error *err)
{
    json_error_t broken;
    json_t *root =
        json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, &broken);
    if (root == NULL) {
        return qd_fail(err, QD_INVALID, "line %d, column %d: %s", broken.line, broken.column,
                       broken.text);
    }
    enum qd_code code = json_object_get(root, "activation_encodings") != NULL
                            ? worker_table_read_aimet(root, arena, ret, err)
                            : read_root(root, arena, ret, err);
    json_decref(root);
    return code;
}
