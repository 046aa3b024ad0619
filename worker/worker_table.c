#include "worker/worker_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_table_json.h"

#define NCNN_NAME_MAX 247 /* ncnn2int8: char key[256] for "NAME_param_0" */

static const struct worker_table_form forms[WORKER_TABLE_FORMAT_COUNT] = {
    [WORKER_TABLE_JSON] = {"json", "calibration.json", "application/json"},
    [WORKER_TABLE_CSV] = {"csv", "calibration.csv", "text/csv; charset=utf-8"},
    [WORKER_TABLE_NCNN] = {"ncnn", "calibration.ncnn.table", "text/plain; charset=utf-8"},
    [WORKER_TABLE_TENSORRT] = {"tensorrt", "calibration.tensorrt.cache",
                               "text/plain; charset=utf-8"},
    [WORKER_TABLE_ORT] = {"ort", "calibration.ort.json", "application/json"},
    [WORKER_TABLE_AIMET] = {"aimet", "calibration.aimet.json", "application/json"},
};

const struct worker_table_form *worker_table_form(enum worker_table_format format)
{
    return &forms[format];
}

enum qd_code worker_table_format_from_name(const char *name, enum worker_table_format *ret,
                                           struct qd_error *err)
{
    for (size_t i = 0; i < WORKER_TABLE_FORMAT_COUNT; i++) {
        if (strcmp(name, forms[i].name) == 0) {
            *ret = (enum worker_table_format)i;
            return QD_OK;
        }
    }
    return qd_fail_on(err, QD_INVALID, "format",
                      "format of a calibration table is '%.64s', allowed: json, csv, ncnn, "
                      "tensorrt, ort, aimet",
                      name);
}

const char *worker_table_dtype_name(enum worker_table_dtype dtype)
{
    return dtype == WORKER_TABLE_S8 ? "s8" : "u8";
}

bool worker_table_dtype_from_name(const char *name, enum worker_table_dtype *ret)
{
    bool s8 = strcmp(name, "s8") == 0;
    if (!s8 && strcmp(name, "u8") != 0) {
        return false;
    }
    *ret = s8 ? WORKER_TABLE_S8 : WORKER_TABLE_U8;
    return true;
}

int worker_table_qmin(enum worker_table_dtype dtype)
{
    return dtype == WORKER_TABLE_S8 ? -128 : 0;
}

int worker_table_qmax(enum worker_table_dtype dtype)
{
    return dtype == WORKER_TABLE_S8 ? 127 : 255;
}

/* A zero point in the middle is a symmetric pair already, and keeps its step: both tools clamp
 * to -128 .. 127 or -127 .. 127, so that at most the lowest code is lost. Counting that code would
 * make the scale grow with each conversion. */
double worker_table_amax(const struct worker_table_row *row)
{
    int below = row->zero_point - worker_table_qmin(row->dtype);
    int above = worker_table_qmax(row->dtype) - row->zero_point;
    if (below == 128) {
        return 127 * (double)row->scale;
    }
    return (below > above ? below : above) * (double)row->scale;
}

static enum qd_code row_from_report(const struct qc_calibration_row *r,
                                    struct worker_table_row *row, struct qd_error *err)
{
    *row = (struct worker_table_row){.tensor = r->tensor,
                                     .op_type = r->op_type,
                                     .source = r->source,
                                     .scale = r->scale,
                                     .zero_point = r->zero_point,
                                     .lo = r->lo,
                                     .hi = r->hi,
                                     .min = r->min,
                                     .max = r->max,
                                     .mean = r->mean,
                                     .std = r->std,
                                     .count = r->count,
                                     .clipped_share = r->clipped_share,
                                     .shared = r->shared,
                                     .n_shared = (size_t)r->n_shared};
    if (!worker_table_dtype_from_name(r->dtype, &row->dtype)) {
        return qd_fail_on(err, QD_INTERNAL, r->tensor, "tensor '%s' has dtype '%s', not u8 or s8",
                          r->tensor, r->dtype);
    }
    return QD_OK;
}

enum qd_code worker_table_from_report(const struct qc_report *report, struct qd_arena *arena,
                                      struct worker_table *ret, struct qd_error *err)
{
    struct worker_table_row *rows = NULL;
    struct worker_table_layer *layers = NULL;
    size_t n_layers = 0;
    QD_TRY(qd_arena_array(arena, (size_t)report->n_calibration_rows, sizeof(*rows), &rows, err));
    QD_TRY(qd_arena_array(arena, (size_t)report->n_layers, sizeof(*layers), &layers, err));
    for (int i = 0; i < report->n_calibration_rows; i++) {
        QD_TRY(row_from_report(&report->calibration[i], &rows[i], err));
    }
    for (int i = 0; i < report->n_layers; i++) {
        const struct qc_layer_row *l = &report->layers[i];
        /* No format has zero points, blocks, or other codes than s8. */
        if (l->n_weight_scales > 0 && l->weight_zero_points == NULL && l->weight_bits == 8 &&
            l->block_size == 0) {
            layers[n_layers++] =
                (struct worker_table_layer){.node = l->node,
                                            .op_type = l->op_type,
                                            .input = l->input,
                                            .weights = l->weights,
                                            .scale = l->weight_scales,
                                            .n_scale = (size_t)l->n_weight_scales,
                                            .n_channels = (size_t)l->n_channels,
                                            .n_groups = (size_t)l->n_groups};
        }
    }
    *ret = (struct worker_table){rows, (size_t)report->n_calibration_rows, layers, n_layers};
    return QD_OK;
}

enum qd_code worker_table_scales(const struct worker_table *table, struct qd_arena *arena,
                                 struct qc_table_row **ret, size_t *ret_n, struct qd_error *err)
{
    struct qc_table_row *rows = NULL;
    size_t n = table->n_rows, at = 0;
    for (size_t i = 0; i < table->n_rows; i++) {
        n += table->rows[i].n_shared;
    }
    QD_TRY(qd_arena_array(arena, n, sizeof(*rows), &rows, err));
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct worker_table_row *r = &table->rows[i];
        struct qc_table_row row = {.tensor = r->tensor,
                                   .layer = r->layer,
                                   .scale = r->scale,
                                   .zero_point = r->zero_point,
                                   .is_s8 = r->dtype == WORKER_TABLE_S8};
        rows[at++] = row;
        for (size_t k = 0; k < r->n_shared; k++) {
            row.tensor = r->shared[k];
            rows[at++] = row;
        }
    }
    *ret = rows;
    *ret_n = at;
    return QD_OK;
}

/* --- csv --------------------------------------------------------------------------------------
 */

static void put_csv_text(FILE *out, const char *text)
{
    (void)fputc('"', out);
    if (text[0] != '\0' && strchr("=+-@", text[0]) != NULL) {
        (void)fputc('\'', out);
    }
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            (void)fputc('"', out);
        }
        (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

/* With the digits that read back to the same value; empty when it was not measured. */
static void put_csv_real(FILE *out, double value, int digits)
{
    if (isfinite(value)) {
        (void)fprintf(out, ",%.*g", digits, value);
    } else {
        (void)fputc(',', out);
    }
}

static void put_csv(FILE *out, const struct worker_table *table)
{
    (void)fputs("tensor,op_type,dtype,scale,zero_point,lo,hi,min,max,mean,std,count,"
                "clipped_share\r\n",
                out);
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct worker_table_row *r = &table->rows[i];
        put_csv_text(out, r->tensor != NULL ? r->tensor : r->layer);
        (void)fputc(',', out);
        put_csv_text(out, r->op_type != NULL ? r->op_type : "");
        (void)fprintf(out, ",\"%s\"", worker_table_dtype_name(r->dtype));
        put_csv_real(out, (double)r->scale, 9);
        (void)fprintf(out, ",%d", (int)r->zero_point);
        const double reals[] = {r->lo, r->hi, r->min, r->max, r->mean, r->std};
        for (size_t k = 0; k < QD_COUNT_OF(reals); k++) {
            put_csv_real(out, reals[k], 17);
        }
        (void)(r->count >= 0 ? fprintf(out, ",%lld", (long long)r->count) : fputc(',', out));
        put_csv_real(out, r->clipped_share, 9);
        (void)fputs("\r\n", out);
    }
}

/* --- ncnn -------------------------------------------------------------------------------------
 */

struct named_row {
    const char *name;
    const struct worker_table_row *row;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named_row *)a)->name, ((const struct named_row *)b)->name);
}

/* Every tensor with its row, sorted by name; malloc'ed. */
static struct named_row *index_rows(const struct worker_table *table, size_t *ret_n)
{
    size_t n = table->n_rows;
    for (size_t i = 0; i < table->n_rows; i++) {
        n += table->rows[i].n_shared;
    }
    struct named_row *names = calloc(n + 1, sizeof(*names));
    *ret_n = 0;
    for (size_t i = 0; names != NULL && i < table->n_rows; i++) {
        const struct worker_table_row *r = &table->rows[i];
        if (r->tensor != NULL) {
            names[(*ret_n)++] = (struct named_row){r->tensor, r};
        }
        for (size_t k = 0; k < r->n_shared; k++) {
            names[(*ret_n)++] = (struct named_row){r->shared[k], r};
        }
    }
    if (names != NULL) {
        qsort(names, *ret_n, sizeof(*names), by_name);
    }
    return names;
}

static bool has_control(const char *name, bool space_too)
{
    for (; *name != '\0'; name++) {
        unsigned char c = (unsigned char)*name;
        if (c < 0x20 || c == 0x7f || (space_too && c == ' ')) {
            return true;
        }
    }
    return false;
}

static enum qd_code check_ncnn_name(const char *name, struct qd_error *err)
{
    const char *why = strlen(name) > NCNN_NAME_MAX ? "has more than 247 bytes"
                      : has_control(name, true)    ? "holds white space or control characters"
                      : name[0] == '\0'            ? "is empty"
                      : strstr(name, "_param_")    ? "holds '_param_'"
                                                   : NULL;
    return why == NULL
               ? QD_OK
               : qd_fail_on(err, QD_INVALID, name,
                            "an ncnn table cannot hold layer '%.300s': its name %s", name, why);
}

/* ConvolutionDepthWise has one multiplier a group, thus of its largest scale; the others one an
 * output channel, also when all have the same. */
static void put_ncnn_weights(FILE *out, const struct worker_table_layer *l)
{
    size_t n = l->n_groups > 1 ? l->n_groups : l->n_channels;
    size_t each = l->n_channels / n;
    (void)fprintf(out, "%s_param_0", l->node);
    for (size_t i = 0; i < n; i++) {
        float scale = l->scale[0];
        for (size_t k = 0; l->n_scale > 1 && k < each; k++) {
            float s = l->scale[i * each + k];
            scale = k == 0 || s > scale ? s : scale;
        }
        (void)fprintf(out, " %.9g", 1 / (double)scale);
    }
    (void)fputc('\n', out);
}

/* The multiplier of a layer's input: by the layer's own row in a table from ncnn, else by the
 * tensor that it reads. */
static enum qd_code ncnn_input(const struct worker_table *table, const struct named_row *names,
                               size_t n, const struct worker_table_layer *l, double *ret,
                               struct qd_error *err)
{
    const struct worker_table_row *row = NULL;
    if (l->input != NULL) {
        struct named_row key = {.name = l->input};
        const struct named_row *found = bsearch(&key, names, n, sizeof(*names), by_name);
        row = found != NULL ? found->row : NULL;
    }
    for (size_t i = 0; l->input == NULL && row == NULL && i < table->n_rows; i++) {
        const char *layer = table->rows[i].layer;
        row = layer != NULL && strcmp(layer, l->node) == 0 ? &table->rows[i] : NULL;
    }
    if (row == NULL) {
        return qd_fail_on(err, QD_INVALID, l->node,
                          "layer '%.200s' reads '%.200s', which the table does not hold", l->node,
                          l->input != NULL ? l->input : "?");
    }
    *ret = 127 / worker_table_amax(row);
    return QD_OK;
}

static enum qd_code put_ncnn(FILE *out, const struct worker_table *table, struct qd_error *err)
{
    size_t n = 0;
    enum qd_code code = QD_OK;
    if (table->n_rows > 0 && table->n_layers == 0) {
        return qd_fail(err, QD_INVALID,
                       "an ncnn table needs the scales of weights, and this "
                       "table holds none");
    }
    struct named_row *names = index_rows(table, &n);
    if (names == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a table of %zu rows", table->n_rows);
    }
    for (size_t i = 0; i < table->n_layers && code == QD_OK; i++) {
        code = check_ncnn_name(table->layers[i].node, err);
        if (code == QD_OK) {
            put_ncnn_weights(out, &table->layers[i]);
        }
    }
    for (size_t i = 0; i < table->n_layers && code == QD_OK; i++) {
        double multiplier = 0;
        code = ncnn_input(table, names, n, &table->layers[i], &multiplier, err);
        (void)fprintf(out, "%s %.9g\n", table->layers[i].node, multiplier);
    }
    free(names);
    return code;
}

/* --- TensorRT ---------------------------------------------------------------------------------
 */

static enum qd_code put_tensorrt_line(FILE *out, const char *name, float scale,
                                      struct qd_error *err)
{
    uint32_t bits;
    if (name == NULL || name[0] == '\0' || has_control(name, false) || strstr(name, ": ")) {
        return qd_fail_on(err, QD_INVALID, name != NULL ? name : "",
                          "a TensorRT cache cannot hold tensor '%.300s': its name %s",
                          name != NULL ? name : "",
                          name == NULL || name[0] == '\0' ? "is empty"
                          : has_control(name, false)      ? "holds control characters"
                                                          : "holds ': '");
    }
    memcpy(&bits, &scale, sizeof(bits));
    (void)fprintf(out, "%s: %08x\n", name, (unsigned)bits);
    return QD_OK;
}

static enum qd_code put_tensorrt(FILE *out, const struct worker_table *table,
                                 struct qd_error *err)
{
    (void)fputs("TRT-8501-EntropyCalibration2\n", out);
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct worker_table_row *r = &table->rows[i];
        float scale = (float)(worker_table_amax(r) / 127);
        if (!isfinite(scale)) {
            return qd_fail_on(err, QD_INVALID, r->tensor,
                              "scale %g of tensor '%.200s' has no symmetric form in f32",
                              (double)r->scale, r->tensor);
        }
        QD_TRY(put_tensorrt_line(out, r->tensor, scale, err));
        for (size_t k = 0; k < r->n_shared; k++) {
            QD_TRY(put_tensorrt_line(out, r->shared[k], scale, err));
        }
    }
    return QD_OK;
}

/* --- all --------------------------------------------------------------------------------------
 */

static enum qd_code put_table(FILE *out, const struct worker_table *table,
                              enum worker_table_format format, struct qd_error *err)
{
    switch (format) {
    case WORKER_TABLE_CSV:
        put_csv(out, table);
        return QD_OK;
    case WORKER_TABLE_NCNN:
        return put_ncnn(out, table, err);
    case WORKER_TABLE_TENSORRT:
        return put_tensorrt(out, table, err);
    case WORKER_TABLE_JSON:
    case WORKER_TABLE_ORT:
    case WORKER_TABLE_AIMET:
        return worker_table_put_json(out, table, format, err);
    case WORKER_TABLE_FORMAT_COUNT:
        break;
    }
    return qd_fail(err, QD_INTERNAL, "format %d of a table", (int)format);
}

enum qd_code worker_table_write(const struct worker_table *table, enum worker_table_format format,
                                char **ret_text, size_t *ret_size, struct qd_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a table of %zu rows", table->n_rows);
    }
    enum qd_code code = put_table(out, table, format, err);
    bool written = ferror(out) == 0;
    written = fclose(out) == 0 && written;
    if (code == QD_OK && !written) {
        code = qd_fail(err, QD_NO_MEMORY, "no memory for a table of %zu rows", table->n_rows);
    }
    if (code != QD_OK) {
        free(text);
        return code;
    }
    *ret_text = text;
    *ret_size = size;
    return QD_OK;
}
