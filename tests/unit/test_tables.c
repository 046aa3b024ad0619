#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_table.h"
#include "worker/worker_table_read.h"

static const char *const pool[] = {"pool"};
static const struct worker_table_row rows[] = {
    {.tensor = "x",
     .op_type = "Input",
     .source = "calibrated",
     .dtype = WORKER_TABLE_U8,
     .scale = 0.5f,
     .zero_point = 128,
     .lo = -64,
     .hi = 63.5,
     .min = -60,
     .max = 61,
     .mean = 0.25,
     .std = 2,
     .count = 1000,
     .clipped_share = 0.125},
    {.tensor = "relu",
     .op_type = "Conv",
     .dtype = WORKER_TABLE_U8,
     .scale = 0.25f,
     .lo = 0,
     .hi = 63.75,
     .min = 0,
     .max = 70,
     .mean = NAN,
     .std = NAN,
     .count = 2000,
     .clipped_share = NAN,
     .shared = pool,
     .n_shared = 1},
    {.tensor = "s",
     .op_type = "Gemm",
     .dtype = WORKER_TABLE_S8,
     .scale = 0.125f,
     .lo = NAN,
     .hi = NAN,
     .min = NAN,
     .max = NAN,
     .mean = NAN,
     .std = NAN,
     .count = -1,
     .clipped_share = NAN},
};
static const float w1[] = {0.5f, 0.25f, 0.125f, 0.0625f}, w2[] = {0.5f, 0.25f, 0.125f, 0.25f},
                   w3[] = {0.5f};
static const struct worker_table_layer layers[] = {
    {"conv", "Conv", "x", "conv.w", w1, 4, 4, 1},
    {"dw", "Conv", "pool", "dw.w", w2, 4, 4, 2},
    {"fc", "Gemm", "s", "fc.w", w3, 1, 3, 1},
};
static const struct worker_table table = {rows, QD_COUNT_OF(rows), layers, QD_COUNT_OF(layers)};

static struct qd_arena arena;
static struct qd_error err;

static void setup(void)
{
    qd_arena_init(&arena, 1u << 28);
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

/* In the arena, so that no test has to free it. */
static const char *write_text(const struct worker_table *t, enum worker_table_format format)
{
    char *text = NULL;
    size_t size = 0;
    const char *copy = NULL;
    enum qd_code code = worker_table_write(t, format, &text, &size, &err);
    ck_assert_msg(code == QD_OK, "%s", err.message);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_int_eq(qd_arena_string(&arena, text, size, &copy, &err), QD_OK);
    free(text);
    return copy;
}

static enum qd_code read_text(const char *text, struct worker_table *ret)
{
    return worker_table_read((struct qd_bytes){(const uint8_t *)text, strlen(text)}, "t", &arena,
                             ret, &err);
}

/* --- golden texts -----------------------------------------------------------------------------
 */

START_TEST(write__ncnn__golden_text)
{
    ck_assert_str_eq(write_text(&table, WORKER_TABLE_NCNN), "conv_param_0 2 4 8 16\n"
                                                            "dw_param_0 2 4\n"
                                                            "fc_param_0 2 2 2\n"
                                                            "conv 2\n"
                                                            "dw 1.99215686\n"
                                                            "fc 8\n");
}
END_TEST

START_TEST(write__tensorrt__golden_text)
{
    ck_assert_str_eq(write_text(&table, WORKER_TABLE_TENSORRT), "TRT-8501-EntropyCalibration2\n"
                                                                "x: 3f000000\n"
                                                                "relu: 3f008102\n"
                                                                "pool: 3f008102\n"
                                                                "s: 3e000000\n");
}
END_TEST

START_TEST(write__csv__golden_text)
{
    ck_assert_str_eq(
        write_text(&table, WORKER_TABLE_CSV),
        "tensor,op_type,dtype,scale,zero_point,lo,hi,min,max,mean,std,count,clipped_share\r\n"
        "\"x\",\"Input\",\"u8\",0.5,128,-64,63.5,-60,61,0.25,2,1000,0.125\r\n"
        "\"relu\",\"Conv\",\"u8\",0.25,0,0,63.75,0,70,,,2000,\r\n"
        "\"s\",\"Gemm\",\"s8\",0.125,0,,,,,,,,\r\n");
}
END_TEST

/* The JSON forms are compared as values: white space is jansson's affair. */
static void assert_json(enum worker_table_format format, const char *expected)
{
    json_error_t broken;
    json_t *is = json_loads(write_text(&table, format), JSON_REJECT_DUPLICATES, &broken);
    ck_assert_msg(is != NULL, "%s", broken.text);
    json_t *should = json_loads(expected, JSON_REJECT_DUPLICATES, &broken);
    ck_assert_msg(should != NULL, "line %d: %s", broken.line, broken.text);
    char *text = json_dumps(is, JSON_SORT_KEYS | JSON_INDENT(1));
    char *wanted = json_dumps(should, JSON_SORT_KEYS | JSON_INDENT(1));
    ck_assert_str_eq(text, wanted);
    free(text);
    free(wanted);
    json_decref(is);
    json_decref(should);
}

START_TEST(write__ort__structure_of_tensors_data)
{
#define F32(x)        "{\"data\":" x ",\"dtype\":\"float32\",\"CLS\":\"numpy.array\"}"
#define ENTRY(lo, hi) "{\"lowest\":" F32(lo) ",\"highest\":" F32(hi) ",\"CLS\":\"TensorData\"}"
    assert_json(
        WORKER_TABLE_ORT,
        "{\"CLS\":\"TensorsData\",\"data\":{\"x\":" ENTRY("-64.0", "63.5") ",\"relu\":" ENTRY(
            "0.0",
            "63.75") ",\"pool\":" ENTRY("0.0",
                                        "63.75") ",\"s\":" ENTRY("-16.0",
                                                                 "15.875") "},"
                                                                           "\"calibration_"
                                                                           "method\":{\"CLS\":"
                                                                           "\"CalibrationMethod\""
                                                                           ","
                                                                           "\"value\":"
                                                                           "\"CalibrationMethod."
                                                                           "MinMax\"}}");
#undef ENTRY
#undef F32
}
END_TEST

#define ENCODING(symmetric, max, min, offset, scale)                                             \
    "{\"bitwidth\":8,\"dtype\":\"int\",\"is_symmetric\":\"" symmetric "\",\"max\":" max          \
    ",\"min\":" min ",\"offset\":" offset ",\"scale\":" scale "}"

START_TEST(write__aimet__encodings_0_6_1)
{
    assert_json(
        WORKER_TABLE_AIMET,
        "{\"version\":\"0.6.1\",\"activation_encodings\":{"
        "\"x\":[" ENCODING(
            "False", "63.5", "-64.0", "-128",
            "0.5") "],"
                   "\"relu\":[" ENCODING(
                       "False", "63.75", "0.0", "0",
                       "0.25") "],"
                               "\"pool\":[" ENCODING(
                                   "False", "63.75", "0.0", "0",
                                   "0.25") "],"
                                           "\"s\":[" ENCODING(
                                               "True", "15.875", "-16.0", "-128",
                                               "0.125") "]},"
                                                        "\"param_encodings\":{\"conv.w\":"
                                                        "[" ENCODING("True", "63.5", "-64.0", "-128", "0.5") "," ENCODING("True", "31.75", "-32.0", "-128", "0.25") "," ENCODING(
                                                            "True", "15.875", "-16.0", "-128",
                                                            "0.125") "," ENCODING("True",
                                                                                  "7.9375",
                                                                                  "-8.0", "-128",
                                                                                  "0.0625") "],"
                                                                                            "\"dw"
                                                                                            ".w\""
                                                                                            ":"
                                                                                            "[" ENCODING("True", "63.5", "-64.0", "-128", "0.5") "," ENCODING(
                                                                                                "True",
                                                                                                "31.75",
                                                                                                "-32.0",
                                                                                                "-128",
                                                                                                "0.25") "," ENCODING("True",
                                                                                                                     "15.875",
                                                                                                                     "-16.0",
                                                                                                                     "-128",
                                                                                                                     "0.125") "," ENCODING("True",
                                                                                                                                           "31.75",
                                                                                                                                           "-32.0",
                                                                                                                                           "-128",
                                                                                                                                           "0.25") "],"
                                                                                                                                                   "\"fc.w\":[" ENCODING(
                                                                                                                                                       "True",
                                                                                                                                                       "63.5",
                                                                                                                                                       "-64.0",
                                                                                                                                                       "-128",
                                                                                                                                                       "0.5") "]}}");
}
END_TEST

START_TEST(write__json__golden_values)
{
    assert_json(
        WORKER_TABLE_JSON,
        "{\"format\":\"quantd-calibration-1\",\"tensors\":["
        "{\"tensor\":\"x\",\"op_type\":\"Input\",\"dtype\":\"u8\",\"scale\":0.5,"
        "\"zero_point\":128,\"lo\":-64.0,\"hi\":63.5,\"min\":-60.0,\"max\":61.0,\"mean\":0.25,"
        "\"std\":2.0,\"count\":1000,\"clipped_share\":0.125,\"source\":\"calibrated\"},"
        "{\"tensor\":\"relu\",\"op_type\":\"Conv\",\"dtype\":\"u8\",\"scale\":0.25,"
        "\"zero_point\":0,\"lo\":0.0,\"hi\":63.75,\"min\":0.0,\"max\":70.0,\"mean\":null,"
        "\"std\":null,\"count\":2000,\"clipped_share\":null,\"shared\":[\"pool\"]},"
        "{\"tensor\":\"s\",\"op_type\":\"Gemm\",\"dtype\":\"s8\",\"scale\":0.125,"
        "\"zero_point\":0,\"lo\":null,\"hi\":null,\"min\":null,\"max\":null,\"mean\":null,"
        "\"std\":null,\"count\":null,\"clipped_share\":null}],\"layers\":["
        "{\"node\":\"conv\",\"op_type\":\"Conv\",\"input\":\"x\",\"weights\":\"conv.w\","
        "\"channels\":4,\"groups\":1,\"scales\":[0.5,0.25,0.125,0.0625]},"
        "{\"node\":\"dw\",\"op_type\":\"Conv\",\"input\":\"pool\",\"weights\":\"dw.w\","
        "\"channels\":4,\"groups\":2,\"scales\":[0.5,0.25,0.125,0.25]},"
        "{\"node\":\"fc\",\"op_type\":\"Gemm\",\"input\":\"s\",\"weights\":\"fc.w\","
        "\"channels\":3,\"groups\":1,\"scales\":[0.5]}]}");
}
END_TEST

/* --- names and tables that a format cannot hold -----------------------------------------------
 */

static char long_name[400];

static const struct {
    enum worker_table_format format;
    const char *name, *says; /* says NULL: it is written */
} hostile[] = {
    {WORKER_TABLE_NCNN, "a b", "white space"},
    {WORKER_TABLE_NCNN, "a\nb", "control"},
    {WORKER_TABLE_NCNN, "a\tb", "control"},
    {WORKER_TABLE_NCNN, "", "empty"},
    {WORKER_TABLE_NCNN, "a_param_0", "'_param_'"},
    {WORKER_TABLE_NCNN, long_name, "247"},
    {WORKER_TABLE_NCNN, "a:b/\xc3\xa4", NULL},
    {WORKER_TABLE_TENSORRT, "a\nb: 3f800000", "control"},
    {WORKER_TABLE_TENSORRT, "a: b", "': '"},
    {WORKER_TABLE_TENSORRT, "", "empty"},
    {WORKER_TABLE_TENSORRT, "a b:c", NULL},
    {WORKER_TABLE_JSON, "a\"\n\\", NULL},
    {WORKER_TABLE_ORT, "a\"\n\\", NULL},
    {WORKER_TABLE_AIMET, "a\"\n\\", NULL},
    {WORKER_TABLE_JSON, "a\xff", "UTF-8"},
    {WORKER_TABLE_ORT, "a\xff", "UTF-8"},
    {WORKER_TABLE_AIMET, "a\xff", "UTF-8"},
    {WORKER_TABLE_CSV, "a\"\n,", NULL},
};

START_TEST(write__hostile_name__escaped_or_refused)
{
    memset(long_name, 'n', 248);
    const char *name = hostile[_i].name;
    char *text = NULL;
    size_t size = 0;
    struct worker_table_row row = rows[0];
    struct worker_table_layer layer = layers[0];
    row.tensor = layer.input = layer.node = layer.weights = name;
    struct worker_table t = {&row, 1, &layer, 1};
    enum qd_code code = worker_table_write(&t, hostile[_i].format, &text, &size, &err);
    if (hostile[_i].says != NULL) {
        ck_assert_int_eq(code, QD_INVALID);
        ck_assert_ptr_null(text);
        ck_assert_msg(strstr(err.message, hostile[_i].says) != NULL, "%s", err.message);
        return;
    }
    ck_assert_msg(code == QD_OK, "%s", err.message);
    if (hostile[_i].format != WORKER_TABLE_CSV && hostile[_i].format != WORKER_TABLE_ORT &&
        hostile[_i].format != WORKER_TABLE_AIMET) {
        struct worker_table back;
        code = read_text(text, &back);
        ck_assert_msg(code == QD_OK, "%s", err.message);
        ck_assert_uint_eq(back.n_rows, 1);
        ck_assert_str_eq(back.rows[0].tensor != NULL ? back.rows[0].tensor : back.rows[0].layer,
                         name);
    }
    free(text);
}
END_TEST

START_TEST(write__csv_name_of_a_formula__apostrophe_in_front)
{
    static const char starts[] = "=+-@";
    for (size_t i = 0; starts[i] != '\0'; i++) {
        char name[] = {starts[i], '1', '"', '\0'};
        struct worker_table_row row = rows[0];
        row.tensor = name;
        struct worker_table t = {&row, 1, NULL, 0};
        const char *line = strchr(write_text(&t, WORKER_TABLE_CSV), '\n') + 1;
        const char wanted[] = {'"', '\'', starts[i], '1', '"', '"', '"', ',', '\0'};
        ck_assert_msg(strncmp(line, wanted, strlen(wanted)) == 0, "%s", line);
    }
}
END_TEST

START_TEST(write__ncnn_without_weights_or_input__refused)
{
    char *text = NULL;
    size_t size = 0;
    struct worker_table no_weights = {rows, 3, NULL, 0}, no_input = {rows + 1, 2, layers, 3};
    ck_assert_int_eq(worker_table_write(&no_weights, WORKER_TABLE_NCNN, &text, &size, &err),
                     QD_INVALID);
    ck_assert_int_eq(worker_table_write(&no_input, WORKER_TABLE_NCNN, &text, &size, &err),
                     QD_INVALID);
    ck_assert_str_eq(err.subject, "conv");
    ck_assert_ptr_nonnull(strstr(err.message, "'x'"));
}
END_TEST

START_TEST(format_from_name__all_and_unknown)
{
    enum worker_table_format format;
    for (int i = 0; i < WORKER_TABLE_FORMAT_COUNT; i++) {
        const struct worker_table_form *form = worker_table_form((enum worker_table_format)i);
        ck_assert_int_eq(worker_table_format_from_name(form->name, &format, &err), QD_OK);
        ck_assert_int_eq(format, i);
    }
    ck_assert_int_eq(worker_table_format_from_name("xml", &format, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "'xml', allowed: json, csv, ncnn"));
}
END_TEST

START_TEST(from_report__weights_and_shared_tensors__kept)
{
    struct qc_calibration_row c = {.tensor = "x",
                                   .op_type = "Input",
                                   .dtype = "s8",
                                   .scale = 2,
                                   .zero_point = -3,
                                   .count = 5,
                                   .shared = pool,
                                   .n_shared = 1};
    struct qc_layer_row l[] = {{.node = "relu", .op_type = "Relu"},
                               {.node = "conv",
                                .op_type = "Conv",
                                .input = "pool",
                                .weights = "w",
                                .weight_scales = w1,
                                .n_weight_scales = 4,
                                .weight_bits = 8, .n_channels = 4,
                                .n_groups = 2}};
    struct qc_report report = {
        .calibration = &c, .n_calibration_rows = 1, .layers = l, .n_layers = 2};
    struct worker_table t;
    ck_assert_int_eq(worker_table_from_report(&report, &arena, &t, &err), QD_OK);
    ck_assert_uint_eq(t.n_rows, 1);
    ck_assert_int_eq(t.rows[0].dtype, WORKER_TABLE_S8);
    ck_assert_int_eq(t.rows[0].zero_point, -3);
    ck_assert_uint_eq(t.n_layers, 1);
    /* [-125, 130] steps of 2: amax 260 */
    ck_assert_str_eq(write_text(&t, WORKER_TABLE_NCNN), "conv_param_0 2 8\nconv 0.488461538\n");
    c.dtype = "s4";
    ck_assert_int_eq(worker_table_from_report(&report, &arena, &t, &err), QD_INTERNAL);
}
END_TEST

START_TEST(write__range_beyond_f32__refused_where_numbers_are_needed)
{
    struct worker_table_row row = {.tensor = "t", .scale = 3e38f};
    struct worker_table t = {&row, 1, NULL, 0};
    char *text = NULL;
    size_t size = 0;
    ck_assert_int_eq(worker_table_write(&t, WORKER_TABLE_ORT, &text, &size, &err), QD_INVALID);
    ck_assert_int_eq(worker_table_write(&t, WORKER_TABLE_AIMET, &text, &size, &err), QD_INVALID);
    ck_assert_int_eq(worker_table_write(&t, WORKER_TABLE_TENSORRT, &text, &size, &err),
                     QD_INVALID);
    ck_assert_str_eq(err.subject, "t");
}
END_TEST

START_TEST(scales__shared_tensors__rows_of_their_own)
{
    struct qc_table_row *scales = NULL;
    size_t n = 0;
    ck_assert_int_eq(worker_table_scales(&table, &arena, &scales, &n, &err), QD_OK);
    ck_assert_uint_eq(n, 4);
    ck_assert_str_eq(scales[0].tensor, "x");
    ck_assert_int_eq(scales[0].zero_point, 128);
    ck_assert(!scales[0].is_s8 && scales[0].scale == 0.5f);
    ck_assert_str_eq(scales[2].tensor, "pool");
    ck_assert(scales[2].scale == 0.25f);
    ck_assert(scales[3].is_s8);
}
END_TEST

/* --- round trips ------------------------------------------------------------------------------
 */

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_real(double a, double b)
{
    return isnan(a) || isnan(b) ? isnan(a) && isnan(b) : a == b;
}

static void assert_same_row(const struct worker_table_row *a, const struct worker_table_row *b)
{
    ck_assert(same_text(a->tensor, b->tensor) && same_text(a->op_type, b->op_type) &&
              same_text(a->layer, b->layer) && same_text(a->source, b->source));
    ck_assert_int_eq(a->dtype, b->dtype);
    ck_assert(a->scale == b->scale);
    ck_assert_int_eq(a->zero_point, b->zero_point);
    ck_assert(same_real(a->lo, b->lo) && same_real(a->hi, b->hi) && same_real(a->min, b->min) &&
              same_real(a->max, b->max) && same_real(a->mean, b->mean) &&
              same_real(a->std, b->std) && same_real(a->clipped_share, b->clipped_share));
    ck_assert_int_eq(a->count, b->count);
    ck_assert_uint_eq(a->n_shared, b->n_shared);
    for (size_t i = 0; i < a->n_shared; i++) {
        ck_assert_str_eq(a->shared[i], b->shared[i]);
    }
}

START_TEST(read__own_json__every_field_as_written)
{
    struct worker_table back;
    enum qd_code code = read_text(write_text(&table, WORKER_TABLE_JSON), &back);
    ck_assert_msg(code == QD_OK, "%s", err.message);
    ck_assert_uint_eq(back.n_rows, table.n_rows);
    ck_assert_uint_eq(back.n_layers, table.n_layers);
    for (size_t i = 0; i < table.n_rows; i++) {
        assert_same_row(&back.rows[i], &table.rows[i]);
    }
    for (size_t i = 0; i < table.n_layers; i++) {
        const struct worker_table_layer *a = &back.layers[i], *b = &table.layers[i];
        ck_assert(same_text(a->node, b->node) && same_text(a->op_type, b->op_type) &&
                  same_text(a->input, b->input) && same_text(a->weights, b->weights));
        ck_assert_uint_eq(a->n_scale, b->n_scale);
        ck_assert_uint_eq(a->n_channels, b->n_channels);
        ck_assert_uint_eq(a->n_groups, b->n_groups);
        ck_assert_mem_eq(a->scale, b->scale, b->n_scale * sizeof(float));
    }
    ck_assert_str_eq(write_text(&back, WORKER_TABLE_NCNN), write_text(&table, WORKER_TABLE_NCNN));
}
END_TEST

/* What was symmetric already comes back bit for bit, whatever the scale. */
START_TEST(read__symmetric_scales__bits_survive_each_format)
{
    static const enum worker_table_format formats[] = {WORKER_TABLE_JSON, WORKER_TABLE_NCNN,
                                                       WORKER_TABLE_TENSORRT};
    uint32_t state = 1;
    for (int i = 0; i < 2000; i++) {
        state = state * 1664525u + 1013904223u;
        uint32_t bits = 0x20000000u + (state >> 2); /* 1e-19 to 3e7 */
        float scale;
        memcpy(&scale, &bits, sizeof(scale));
        struct worker_table_row row = {.tensor = "t", .dtype = WORKER_TABLE_S8, .scale = scale};
        struct worker_table_layer layer = {"n", "Conv", "t", "w", &scale, 1, 1, 1};
        struct worker_table t = {&row, 1, &layer, 1}, back;
        enum worker_table_format format = formats[i % 3];
        enum qd_code code = read_text(write_text(&t, format), &back);
        ck_assert_msg(code == QD_OK, "%s", err.message);
        ck_assert_int_eq(back.rows[0].dtype, WORKER_TABLE_S8);
        ck_assert_int_eq(back.rows[0].zero_point, 0);
        ck_assert_msg(back.rows[0].scale == scale, "format %d: %a became %a", (int)format,
                      (double)scale, (double)back.rows[0].scale);
        if (format != WORKER_TABLE_TENSORRT) {
            ck_assert(back.layers[0].scale[0] == scale);
        }
    }
}
END_TEST

START_TEST(read__ncnn__layers_rows_and_the_same_scales_again)
{
    struct worker_table back;
    const char *text = write_text(&table, WORKER_TABLE_NCNN);
    ck_assert_int_eq(read_text(text, &back), QD_OK);
    ck_assert_uint_eq(back.n_rows, 3);
    ck_assert_ptr_null(back.rows[1].tensor);
    ck_assert_str_eq(back.rows[1].layer, "dw");
    ck_assert(back.rows[2].scale == 0.125f);
    ck_assert_uint_eq(back.layers[1].n_scale, 2);
    ck_assert(back.layers[1].scale[1] == 0.25f);
    struct worker_table again; /* nine digits of a multiplier name one f32 scale */
    ck_assert_int_eq(read_text(write_text(&back, WORKER_TABLE_NCNN), &again), QD_OK);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(again.rows[i].scale == back.rows[i].scale);
        ck_assert_mem_eq(again.layers[i].scale, back.layers[i].scale,
                         back.layers[i].n_scale * sizeof(float));
    }
}
END_TEST

START_TEST(read__aimet__same_values_as_u8_or_symmetric_s8)
{
    struct worker_table back;
    enum qd_code code = read_text(write_text(&table, WORKER_TABLE_AIMET), &back);
    ck_assert_msg(code == QD_OK, "%s", err.message);
    ck_assert_uint_eq(back.n_rows, 4); /* the shared tensor too */
    for (size_t i = 0; i < 4; i++) {
        const struct worker_table_row *is = &back.rows[i], *was = &rows[i > 1 ? i - 1 : i];
        ck_assert_str_eq(is->tensor, i == 2 ? "pool" : was->tensor);
        ck_assert_int_eq(is->dtype, was->dtype);
        ck_assert_int_eq(is->zero_point, was->zero_point);
        ck_assert(is->scale == was->scale);
    }
    /* An asymmetric s8 pair comes back as the u8 pair of the same values. */
    struct worker_table_row s8 = {
        .tensor = "t", .dtype = WORKER_TABLE_S8, .scale = 0.5f, .zero_point = -3};
    struct worker_table one = {&s8, 1, NULL, 0};
    ck_assert_int_eq(read_text(write_text(&one, WORKER_TABLE_AIMET), &back), QD_OK);
    ck_assert_int_eq(back.rows[0].dtype, WORKER_TABLE_U8);
    ck_assert_int_eq(back.rows[0].zero_point, 125);
}
END_TEST

START_TEST(read__rows_of_the_service__like_the_file)
{
    struct worker_table back;
    ck_assert_int_eq(read_text("{\"data\":[{\"tensor\":\"x\",\"op\":\"Conv\",\"dtype\":\"u8\","
                               "\"scale\":0.25,\"zero_point\":7,\"saturated\":null}]}",
                               &back),
                     QD_OK);
    ck_assert_str_eq(back.rows[0].tensor, "x");
    ck_assert_int_eq(back.rows[0].zero_point, 7);
    ck_assert_int_eq(read_text("{\"data\":[{\"tensor\":1}]}", &back), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "data/0/tensor"));
}
END_TEST

/* A cache as TensorRT writes it: 0x3c010a14 is 0.0078759... = 1.00024 / 127. */
START_TEST(read__tensorrt_cache__scales_and_names)
{
    struct worker_table back;
    ck_assert_int_eq(read_text("TRT-100100-EntropyCalibration2\r\ndata: 3c010a14\r\n"
                               "(Unnamed Layer* 3) [Convolution]_output: 3F800000\n\n"
                               "a: b: 40000000",
                               &back),
                     QD_OK);
    ck_assert_uint_eq(back.n_rows, 3);
    ck_assert_str_eq(back.rows[0].tensor, "data");
    ck_assert(back.rows[0].scale == 0x1.021428p-7f);
    ck_assert_str_eq(back.rows[1].tensor, "(Unnamed Layer* 3) [Convolution]_output");
    ck_assert(back.rows[1].scale == 1.0f);
    ck_assert_str_eq(back.rows[2].tensor, "a: b");
    ck_assert(back.rows[2].scale == 2.0f);
    ck_assert_int_eq(back.rows[2].dtype, WORKER_TABLE_S8);
}
END_TEST

Suite *test_tables_suite(void)
{
    Suite *s = suite_create("tables");
    TCase *t = tcase_create("write");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, write__ncnn__golden_text);
    tcase_add_test(t, write__tensorrt__golden_text);
    tcase_add_test(t, write__csv__golden_text);
    tcase_add_test(t, write__json__golden_values);
    tcase_add_test(t, write__ort__structure_of_tensors_data);
    tcase_add_test(t, write__aimet__encodings_0_6_1);
    tcase_add_loop_test(t, write__hostile_name__escaped_or_refused, 0, QD_COUNT_OF(hostile));
    tcase_add_test(t, write__csv_name_of_a_formula__apostrophe_in_front);
    tcase_add_test(t, write__ncnn_without_weights_or_input__refused);
    tcase_add_test(t, format_from_name__all_and_unknown);
    tcase_add_test(t, write__range_beyond_f32__refused_where_numbers_are_needed);
    tcase_add_test(t, scales__shared_tensors__rows_of_their_own);
    tcase_add_test(t, from_report__weights_and_shared_tensors__kept);
    suite_add_tcase(s, t);
    t = tcase_create("read");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, read__own_json__every_field_as_written);
    tcase_add_test(t, read__symmetric_scales__bits_survive_each_format);
    tcase_add_test(t, read__ncnn__layers_rows_and_the_same_scales_again);
    tcase_add_test(t, read__aimet__same_values_as_u8_or_symmetric_s8);
    tcase_add_test(t, read__rows_of_the_service__like_the_file);
    tcase_add_test(t, read__tensorrt_cache__scales_and_names);
    suite_add_tcase(s, t);
    return s;
}
