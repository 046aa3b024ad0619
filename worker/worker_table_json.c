#include "worker/worker_table_json.h"

#include <math.h>

/* NAN and infinities have no JSON form: null says "not measured". */
static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *worker_table_row_json(const struct worker_table_row *r)
{
    json_t *row = json_pack(
        "{s:s?, s:s?, s:s, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "tensor",
        r->tensor, "op_type", r->op_type, "dtype", worker_table_dtype_name(r->dtype), "scale",
        number((double)r->scale), "zero_point", (int)r->zero_point, "lo", number(r->lo), "hi",
        number(r->hi), "min", number(r->min), "max", number(r->max), "mean", number(r->mean),
        "std", number(r->std), "count", r->count >= 0 ? json_integer(r->count) : json_null(),
        "clipped_share", number(r->clipped_share));
    if (row != NULL && r->source != NULL) {
        json_object_set_new(row, "source", json_string(r->source));
    }
    return row;
}

static enum qd_code not_written(const char *name, struct qd_error *err)
{
    json_t *text = json_string(name != NULL ? name : "");
    bool utf8 = text != NULL;
    json_decref(text);
    return utf8 ? qd_fail(err, QD_NO_MEMORY, "no memory for a table")
                : qd_fail_on(err, QD_INVALID, name, "name '%.300s' is not UTF-8", name);
}

/* --- quantd's own -----------------------------------------------------------------------------
 */

static json_t *shared_json(const struct worker_table_row *r)
{
    json_t *names = json_array();
    for (size_t i = 0; i < r->n_shared; i++) {
        if (json_array_append_new(names, json_string(r->shared[i])) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

static enum qd_code add_row(json_t *rows, const struct worker_table_row *r, struct qd_error *err)
{
    json_t *row = worker_table_row_json(r);
    json_t *shared = r->n_shared > 0 ? shared_json(r) : json_null();
    bool ok = row != NULL && shared != NULL;
    if (ok && r->n_shared > 0) {
        ok = json_object_set(row, "shared", shared) == 0;
    }
    if (ok && r->layer != NULL) {
        ok = json_object_set_new(row, "layer", json_string(r->layer)) == 0;
    }
    ok = ok && json_array_append(rows, row) == 0;
    json_decref(row);
    json_decref(shared);
    return ok ? QD_OK : not_written(r->tensor, err);
}

static enum qd_code add_layer(json_t *layers, const struct worker_table_layer *l,
                              struct qd_error *err)
{
    json_t *scales = json_array();
    for (size_t i = 0; i < l->n_scale; i++) {
        if (json_array_append_new(scales, number((double)l->scale[i])) != 0) {
            json_decref(scales);
            return not_written(NULL, err);
        }
    }
    json_t *row =
        json_pack("{s:s, s:s?, s:s?, s:s?, s:I, s:I, s:o}", "node", l->node, "op_type",
                  l->op_type, "input", l->input, "weights", l->weights, "channels",
                  (json_int_t)l->n_channels, "groups", (json_int_t)l->n_groups, "scales", scales);
    return json_array_append_new(layers, row) == 0 ? QD_OK : not_written(l->node, err);
}

static enum qd_code own_json(const struct worker_table *table, json_t *root, struct qd_error *err)
{
    json_t *rows = json_array(), *layers = json_array();
    json_object_set_new(root, "format", json_string("quantd-calibration-1"));
    json_object_set_new(root, "tensors", rows);
    json_object_set_new(root, "layers", layers);
    for (size_t i = 0; i < table->n_rows; i++) {
        QD_TRY(add_row(rows, &table->rows[i], err));
    }
    for (size_t i = 0; i < table->n_layers; i++) {
        QD_TRY(add_layer(layers, &table->layers[i], err));
    }
    return QD_OK;
}

/* --- one entry a tensor -----------------------------------------------------------------------
 */

static double low_end(const struct worker_table_row *r)
{
    return (worker_table_qmin(r->dtype) - r->zero_point) * (double)r->scale;
}

static double high_end(const struct worker_table_row *r)
{
    return (worker_table_qmax(r->dtype) - r->zero_point) * (double)r->scale;
}

/* What numpy's encoder makes of a 0-d array; the class's constructor insists on f32. */
static json_t *numpy_f32(double x)
{
    return json_pack("{s:o, s:s, s:s}", "data", number((double)(float)x), "dtype", "float32",
                     "CLS", "numpy.array");
}

static json_t *ort_entry(const struct worker_table_row *r)
{
    return json_pack("{s:o, s:o, s:s}", "lowest", numpy_f32(low_end(r)), "highest",
                     numpy_f32(high_end(r)), "CLS", "TensorData");
}

/* AIMET counts codes from 0: code = round(x / scale) - offset, so offset = qmin - zero_point. */
static json_t *aimet_encoding(double scale, int zero_point, int qmin, bool symmetric)
{
    int offset = qmin - zero_point;
    return json_pack("{s:i, s:s, s:s, s:o, s:o, s:i, s:o}", "bitwidth", 8, "dtype", "int",
                     "is_symmetric", symmetric ? "True" : "False", "max",
                     number(scale * (offset + 255)), "min", number(scale * offset), "offset",
                     offset, "scale", number(scale));
}

static json_t *aimet_entry(const struct worker_table_row *r)
{
    bool symmetric = r->dtype == WORKER_TABLE_S8 && r->zero_point == 0;
    json_t *list = json_array();
    json_array_append_new(list, aimet_encoding((double)r->scale, r->zero_point,
                                               worker_table_qmin(r->dtype), symmetric));
    return list;
}

/* Readers of both insist on numbers. */
static enum qd_code check_range(const struct worker_table_row *r, struct qd_error *err)
{
    return isfinite((float)low_end(r)) && isfinite((float)high_end(r))
               ? QD_OK
               : qd_fail_on(err, QD_INVALID, r->tensor,
                            "range [%g, %g] of tensor '%.200s' does not fit f32", low_end(r),
                            high_end(r), r->tensor);
}

static enum qd_code add_tensors(const struct worker_table *table, json_t *to,
                                json_t *(*entry)(const struct worker_table_row *),
                                struct qd_error *err)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct worker_table_row *r = &table->rows[i];
        if (r->tensor == NULL) {
            return qd_fail_on(err, QD_INVALID, r->layer,
                              "layer '%.200s' of an ncnn table names no tensor", r->layer);
        }
        QD_TRY(check_range(r, err));
        if (json_object_set_new(to, r->tensor, entry(r)) != 0) {
            return not_written(r->tensor, err);
        }
        for (size_t k = 0; k < r->n_shared; k++) {
            if (json_object_set_new(to, r->shared[k], entry(r)) != 0) {
                return not_written(r->shared[k], err);
            }
        }
    }
    return QD_OK;
}

static enum qd_code ort_json(const struct worker_table *table, json_t *root, struct qd_error *err)
{
    json_t *data = json_object();
    json_object_set_new(root, "CLS", json_string("TensorsData"));
    json_object_set_new(root, "data", data);
    json_object_set_new(
        root, "calibration_method",
        json_pack("{s:s, s:s}", "CLS", "CalibrationMethod", "value", "CalibrationMethod.MinMax"));
    return add_tensors(table, data, ort_entry, err);
}

static enum qd_code aimet_json(const struct worker_table *table, json_t *root,
                               struct qd_error *err)
{
    json_t *activations = json_object(), *params = json_object();
    json_object_set_new(root, "version", json_string("0.6.1"));
    json_object_set_new(root, "activation_encodings", activations);
    json_object_set_new(root, "param_encodings", params);
    QD_TRY(add_tensors(table, activations, aimet_entry, err));
    for (size_t i = 0; i < table->n_layers; i++) {
        const struct worker_table_layer *l = &table->layers[i];
        json_t *list = json_array();
        for (size_t k = 0; k < l->n_scale; k++) {
            json_array_append_new(list, aimet_encoding((double)l->scale[k], 0, -128, true));
        }
        const char *name = l->weights != NULL ? l->weights : l->node;
        if (json_object_set_new(params, name, list) != 0) {
            return not_written(name, err);
        }
    }
    return QD_OK;
}

enum qd_code worker_table_put_json(FILE *out, const struct worker_table *table,
                                   enum worker_table_format format, struct qd_error *err)
{
    json_t *root = json_object();
    enum qd_code code = format == WORKER_TABLE_ORT     ? ort_json(table, root, err)
                        : format == WORKER_TABLE_AIMET ? aimet_json(table, root, err)
                                                       : own_json(table, root, err);
    if (code == QD_OK && json_dumpf(root, out, JSON_INDENT(1)) != 0) {
        code = qd_fail(err, QD_NO_MEMORY, "no memory for a table of %zu rows", table->n_rows);
    }
    json_decref(root);
    (void)fputc('\n', out);
    return code;
}
