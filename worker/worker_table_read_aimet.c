#include "worker/worker_table_read_aimet.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "worker/worker_table_names.h"

static enum qd_code unsupported(const char *name, const char *what, struct qd_error *err)
{
    return qd_fail_on(err, QD_UNSUPPORTED, name, "encoding of tensor '%.200s' %s", name, what);
}

/* Written by Python's str() in the versions before 1.0.0, or as JSON's own. */
static bool is_true(const json_t *value)
{
    const char *text = json_string_value(value);
    return json_is_true(value) ||
           (text != NULL && (strcmp(text, "True") == 0 || strcmp(text, "true") == 0));
}

static enum qd_code read_encoding(const char *name, const json_t *e, struct worker_table_row *row,
                                  struct qd_error *err)
{
    const json_t *scale = json_object_get(e, "scale"), *offset = json_object_get(e, "offset");
    const json_t *bits = json_object_get(e, "bitwidth");
    const char *dtype = json_string_value(json_object_get(e, "dtype"));
    if (dtype != NULL && strcmp(dtype, "int") != 0) {
        return unsupported(name, "is not of integers", err);
    }
    if (!json_is_integer(bits) || !json_is_number(scale) || !json_is_integer(offset)) {
        return qd_fail_on(err, QD_INVALID, name,
                          "encoding of tensor '%.200s' lacks an integer bitwidth, a scale or an "
                          "integer offset",
                          name);
    }
    if (json_integer_value(bits) != 8) {
        return qd_fail_on(err, QD_UNSUPPORTED, name,
                          "encoding of tensor '%.200s' has %lld bits, supported: 8", name,
                          (long long)json_integer_value(bits));
    }
    if (!worker_table_scale(json_number_value(scale), &row->scale)) {
        return qd_fail_on(err, QD_INVALID, name, "scale %g of tensor '%.200s', allowed: %g to %g",
                          json_number_value(scale), name, (double)FLT_MIN, (double)FLT_MAX);
    }
    json_int_t at = json_integer_value(offset);
    if (at < -255 || at > 0) {
        return qd_fail_on(err, QD_INVALID, name,
                          "offset %lld of tensor '%.200s', allowed: -255 "
                          "to 0",
                          (long long)at, name);
    }
    bool symmetric = at == -128 && is_true(json_object_get(e, "is_symmetric"));
    row->dtype = symmetric ? WORKER_TABLE_S8 : WORKER_TABLE_U8;
    row->zero_point = symmetric ? 0 : (int32_t)-at;
    return QD_OK;
}

static enum qd_code read_tensor(const char *name, const json_t *list, struct qd_arena *arena,
                                struct worker_table_row *row, struct qd_error *err)
{
    *row = (struct worker_table_row){.lo = NAN,
                                     .hi = NAN,
                                     .min = NAN,
                                     .max = NAN,
                                     .mean = NAN,
                                     .std = NAN,
                                     .count = -1,
                                     .clipped_share = NAN};
    QD_TRY(worker_table_check_name(strlen(name), "tensor", err));
    QD_TRY(qd_arena_string(arena, name, strlen(name), &row->tensor, err));
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return qd_fail_on(err, QD_INVALID, name, "encoding of tensor '%.200s' is not a list",
                          name);
    }
    if (json_array_size(list) != 1) {
        return unsupported(name, "has one a channel", err);
    }
    return read_encoding(name, json_array_get(list, 0), row, err);
}

enum qd_code worker_table_read_aimet(const json_t *root, struct qd_arena *arena,
                                     struct worker_table *ret, struct qd_error *err)
{
    json_t *tensors = json_object_get(root, "activation_encodings"), *list;
    struct worker_table_row *rows = NULL;
    const char *name;
    size_t n = 0;
    if (json_is_array(tensors)) {
        return qd_fail(err, QD_UNSUPPORTED,
                       "encodings as a list (version 1.0.0), supported: 0.6.1");
    }
    if (!json_is_object(tensors)) {
        return qd_fail(err, QD_INVALID, "'activation_encodings' is not an object");
    }
    if (json_object_size(tensors) > WORKER_TABLE_MAX_ROWS) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%zu encodings, allowed: %d",
                       json_object_size(tensors), WORKER_TABLE_MAX_ROWS);
    }
    QD_TRY(qd_arena_array(arena, json_object_size(tensors), sizeof(*rows), &rows, err));
    json_object_foreach(tensors, name, list)
    {
        QD_TRY(read_tensor(name, list, arena, &rows[n++], err));
    }
    *ret = (struct worker_table){rows, n, NULL, 0};
    return QD_OK;
}
