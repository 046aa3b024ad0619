/* TensorProto → qc_tensor → TensorProto, and the limits of the scanner. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/onnx/onnx_scan.h"
#include "quantcore/onnx/onnx_tensor.h"

static struct qd_arena arena;
static struct qd_error err;
static struct qc_tensor *got;

static void setup(void)
{
    qd_arena_init(&arena, (size_t)16 << 20);
    memset(&err, 0, sizeof(err));
    got = NULL;
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

static Onnx__TensorProto make(int32_t type, int64_t *dims, size_t rank)
{
    Onnx__TensorProto t = ONNX__TENSOR_PROTO__INIT;
    t.name = (char *)"t";
    t.has_data_type = 1;
    t.data_type = type;
    t.dims = dims;
    t.n_dims = rank;
    return t;
}

static enum qd_code read_back(const Onnx__TensorProto *t)
{
    size_t size = onnx__tensor_proto__get_packed_size(t);
    uint8_t *data = malloc(size);
    onnx__tensor_proto__pack(t, data);
    enum qd_code code = qc_onnx_read_tensor((struct qd_bytes){data, size}, &arena, &got, &err);
    free(data);
    return code;
}

static void expect(const Onnx__TensorProto *t, enum qd_code code, const char *part)
{
    ck_assert_msg(read_back(t) == code, "%s: %s", qd_code_name(err.code), err.message);
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s' lacks '%s'", err.message, part);
}

START_TEST(read__typed_fields__values)
{
    static const struct {
        int32_t type;
        enum qc_dtype dtype;
        int32_t in[2];
    } cases[] = {
        {2, QC_U8, {0, 255}},       {3, QC_S8, {-128, 127}},  {4, QC_U16, {0, 65535}},
        {5, QC_S16, {-32768, 1}},   {6, QC_S32, {INT32_MIN, 7}}, {9, QC_BOOL, {0, 1}},
    };
    int64_t dims[1] = {2};
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        Onnx__TensorProto t = make(cases[i].type, dims, 1);
        int32_t in[2] = {cases[i].in[0], cases[i].in[1]};
        t.int32_data = in;
        t.n_int32_data = 2;
        ck_assert_msg(read_back(&t) == QD_OK, "%s", err.message);
        ck_assert_int_eq(got->dtype, cases[i].dtype);
        ck_assert_int_eq(qc_tensor_s64(got, 0), in[0]);
        ck_assert_int_eq(qc_tensor_s64(got, 1), in[1]);
    }
    float f[2] = {1.5f, -2};
    Onnx__TensorProto t = make(1, dims, 1);
    t.float_data = f;
    t.n_float_data = 2;
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_double_eq(qc_tensor_f64(got, 1), -2);
    double d[2] = {0.1, 3};
    t = make(11, dims, 1);
    t.double_data = d;
    t.n_double_data = 2;
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_double_eq(qc_tensor_f64(got, 0), 0.1);
    int64_t l[2] = {INT64_MIN, 3};
    t = make(7, dims, 1);
    t.int64_data = l;
    t.n_int64_data = 2;
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_int_eq(qc_tensor_s64(got, 0), INT64_MIN);
    uint64_t u[2] = {UINT32_MAX, 3};
    t = make(12, dims, 1);
    t.uint64_data = u;
    t.n_uint64_data = 2;
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_int_eq(got->dtype, QC_U32);
    ck_assert_int_eq(qc_tensor_s64(got, 0), UINT32_MAX);
}
END_TEST

/* INT4 and UINT4: two in a byte, the first in its low half. */
START_TEST(read__halves_of_bytes__values)
{
    static const uint8_t bytes[3] = {0xf8, 0x70, 0xaf};
    static const int as_s4[5] = {-8, -1, 0, 7, -1}, as_u4[5] = {8, 15, 0, 7, 15};
    int64_t dims[1] = {5};
    for (int type = 21; type <= 22; type++) {
        for (int raw = 0; raw < 2; raw++) {
            Onnx__TensorProto t = make(type, dims, 1);
            int32_t ints[3] = {bytes[0], bytes[1], bytes[2]};
            uint8_t copy[3] = {bytes[0], bytes[1], bytes[2]};
            if (raw == 1) {
                t.has_raw_data = 1;
                t.raw_data = (ProtobufCBinaryData){3, copy};
            } else {
                t.int32_data = ints;
                t.n_int32_data = 3;
            }
            ck_assert_msg(read_back(&t) == QD_OK, "%s", err.message);
            ck_assert_int_eq(got->dtype, type == 22 ? QC_S4 : QC_U4);
            for (size_t i = 0; i < 5; i++) {
                int want = type == 22 ? as_s4[i] : as_u4[i];
                ck_assert_int_eq(qc_tensor_s64(got, i), want);
                ck_assert_double_eq(qc_tensor_f64(got, i), want);
            }
            t.raw_data.len -= (size_t)raw;
            t.n_int32_data -= 1 - (size_t)raw;
            expect(&t, QD_INVALID, raw ? "its dims want 3 bytes of data, raw_data has 2"
                                       : "its dims want 3 elements, the data has 2");
        }
    }
    int32_t wide[3] = {0, 256, 0}, negative[3] = {0, 0, -1};
    Onnx__TensorProto t = make(22, dims, 1);
    t.int32_data = wide;
    t.n_int32_data = 3;
    expect(&t, QD_INVALID, "element 1 is 256, two INT4 in a byte are 0 to 255");
    t.int32_data = negative;
    expect(&t, QD_INVALID, "element 2 is -1");
    dims[0] = 0;
    t.n_int32_data = 0;
    ck_assert_int_eq(read_back(&t), QD_OK);
}
END_TEST

START_TEST(export__halves_of_bytes__odd_and_even_counts_come_back)
{
    for (int64_t n = 0; n < 20; n++) {
        for (int type = 21; type <= 22; type++) {
            struct qc_shape shape = {.rank = 1, .dim = {n}};
            struct qc_tensor *t = NULL;
            Onnx__TensorProto *p = NULL;
            ck_assert_int_eq(qc_tensor_new(&arena, type == 22 ? QC_S4 : QC_U4, &shape, &t, &err),
                             QD_OK);
            for (int64_t i = 0; i < n; i++) {
                ((int8_t *)t->data)[i] = (int8_t)((i * 7 + 3) % 16 - (type == 22 ? 8 : 0));
            }
            ck_assert_int_eq(qc_onnx_tensor_export(t, "t", &arena, &p, &err), QD_OK);
            ck_assert_int_eq(p->data_type, type);
            ck_assert_uint_eq(p->raw_data.len, (size_t)(n + 1) / 2);
            ck_assert(n % 2 == 0 || p->raw_data.data[n / 2] >> 4 == 0);
            ck_assert_msg(read_back(p) == QD_OK, "%s", err.message);
            ck_assert_mem_eq(got->data, t->data, (size_t)n);
        }
    }
}
END_TEST

START_TEST(read__raw_data__values_f16_bits_and_bools)
{
    int64_t dims[2] = {1, 2};
    uint8_t f16[4] = {0x00, 0x3c, 0x00, 0xc0};
    Onnx__TensorProto t = make(10, dims, 2);
    t.has_raw_data = 1;
    t.raw_data = (ProtobufCBinaryData){4, f16};
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_int_eq(got->dtype, QC_F16);
    ck_assert_int_eq(got->shape.rank, 2);
    ck_assert_mem_eq(got->data, f16, 4);
    uint8_t bools[2] = {7, 0};
    t = make(9, dims, 2);
    t.has_raw_data = 1;
    t.raw_data = (ProtobufCBinaryData){2, bools};
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_int_eq(((uint8_t *)got->data)[0], 1);
    ck_assert_int_eq(((uint8_t *)got->data)[1], 0);
}
END_TEST

START_TEST(read__scalar_and_empty__ok)
{
    int64_t dims[2] = {0, INT64_MAX};
    float f[1] = {4};
    Onnx__TensorProto t = make(1, NULL, 0);
    t.float_data = f;
    t.n_float_data = 1;
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_int_eq(got->shape.rank, 0);
    t = make(1, dims, 1);
    ck_assert_int_eq(read_back(&t), QD_OK);
    ck_assert_uint_eq(qc_shape_elements(&got->shape), 0);
}
END_TEST

START_TEST(read__size_mismatch__invalid_with_both_sizes)
{
    int64_t dims[1] = {3};
    uint8_t raw[16] = {0};
    Onnx__TensorProto t = make(1, dims, 1);
    t.has_raw_data = 1;
    t.raw_data = (ProtobufCBinaryData){11, raw};
    expect(&t, QD_INVALID, "want 12 bytes of data, raw_data has 11");
    t.raw_data.len = 16;
    expect(&t, QD_INVALID, "raw_data has 16");
    t.raw_data.len = 0;
    expect(&t, QD_INVALID, "raw_data has 0");
    float f[2] = {0};
    t = make(1, dims, 1);
    t.float_data = f;
    t.n_float_data = 2;
    expect(&t, QD_INVALID, "want 3 elements, the data has 2");
    int32_t i[3] = {0};
    t = make(1, dims, 1);
    t.int32_data = i;
    t.n_int32_data = 3;
    expect(&t, QD_INVALID, "not of its type FLOAT");
}
END_TEST

START_TEST(read__dims_overflow_or_negative__invalid)
{
    int64_t big[3] = {INT64_MAX, 4, 4}, wide[2] = {INT64_C(1) << 31, INT64_C(1) << 31};
    int64_t huge[1] = {INT64_MAX}, negative[2] = {2, -1};
    Onnx__TensorProto t = make(1, big, 3);
    expect(&t, QD_INVALID, "overflows");
    t = make(1, huge, 1);
    expect(&t, QD_INVALID, "overflows");
    t = make(1, wide, 2); /* 2^62 elements: fits, their bytes do not */
    expect(&t, QD_INVALID, "overflows");
    t = make(2, wide, 2); /* 2^62 bytes that are not there */
    expect(&t, QD_INVALID, "want 4611686018427387904");
    t = make(1, negative, 2);
    expect(&t, QD_INVALID, "dim 1 is -1");
}
END_TEST

START_TEST(read__too_many_dims__limit_exceeded)
{
    int64_t dims[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    Onnx__TensorProto t = make(1, dims, 9);
    expect(&t, QD_LIMIT_EXCEEDED, "more than 8 dims");
}
END_TEST

START_TEST(read__out_of_range__invalid_with_value)
{
    int64_t dims[1] = {1};
    int32_t v[1] = {256};
    Onnx__TensorProto t = make(2, dims, 1);
    t.int32_data = v;
    t.n_int32_data = 1;
    expect(&t, QD_INVALID, "element 0 is 256, out of range of UINT8");
    v[0] = -129;
    t.data_type = 3;
    expect(&t, QD_INVALID, "-129");
}
END_TEST

START_TEST(read__external_segment_types__unsupported)
{
    int64_t dims[1] = {1};
    Onnx__StringStringEntryProto e = ONNX__STRING_STRING_ENTRY_PROTO__INIT, *es[1] = {&e};
    Onnx__TensorProto__Segment segment = ONNX__TENSOR_PROTO__SEGMENT__INIT;
    Onnx__TensorProto t = make(1, dims, 1);
    e.key = (char *)"location";
    e.value = (char *)"../../etc/weights.bin";
    t.has_data_location = 1;
    t.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    t.external_data = es;
    t.n_external_data = 1;
    expect(&t, QD_UNSUPPORTED, "external data");
    t = make(1, dims, 1);
    t.segment = &segment;
    expect(&t, QD_UNSUPPORTED, "segments");
    t = make(8, dims, 1);
    expect(&t, QD_UNSUPPORTED, "STRING");
    t = make(16, dims, 1);
    expect(&t, QD_UNSUPPORTED, "BFLOAT16");
    t = make(1234, dims, 1);
    expect(&t, QD_INVALID, "1234");
}
END_TEST

START_TEST(export__round_trip__same_tensor)
{
    struct qc_shape shape = {2, {2, 3}};
    struct qc_tensor *t;
    Onnx__TensorProto *p;
    for (int dtype = QC_F32; dtype < QC_STRING; dtype++) {
        ck_assert_int_eq(qc_tensor_new(&arena, (enum qc_dtype)dtype, &shape, &t, &err), QD_OK);
        size_t size = 6 * qc_dtype_size(t->dtype);
        memset(t->data, 1, size);
        ck_assert_int_eq(qc_onnx_tensor_export(t, "t", &arena, &p, &err), QD_OK);
        ck_assert_int_eq(read_back(p), QD_OK);
        ck_assert_int_eq(got->dtype, t->dtype);
        ck_assert(qc_shape_equal(&got->shape, &shape));
        ck_assert_mem_eq(got->data, t->data, size);
    }
}
END_TEST

/* --- scanner --------------------------------------------------------------------------------- */

static enum qd_code scan(const void *data, size_t size)
{
    return qc_onnx_scan((struct qd_bytes){data, size}, &err);
}

/* ModelProto.graph, then `levels` times GraphProto.node → attribute → g, built from inside. */
static size_t nest(uint8_t *buf, size_t capacity, int levels)
{
    static const uint8_t tags[3] = {0x32, 0x2a, 0x0a}; /* g, attribute, node */
    size_t at = capacity;
    for (int i = 0; i <= levels; i++) {
        for (int k = 0; k < 3 && (i < levels || k == 0); k++) {
            uint8_t length[10];
            size_t n = 0, size = capacity - at;
            do {
                length[n++] = (uint8_t)(size & 0x7f) | (size > 0x7f ? 0x80 : 0);
                size >>= 7;
            } while (size > 0);
            at -= n;
            memcpy(buf + at, length, n);
            buf[--at] = i == levels ? 0x3a : tags[k];
        }
    }
    return at;
}

START_TEST(scan__nested_10000_deep__limit_exceeded)
{
    size_t capacity = 1 << 20;
    uint8_t *buf = malloc(capacity);
    size_t at = nest(buf, capacity, 10000);
    ck_assert_int_eq(scan(buf + at, capacity - at), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "64 levels"));
    at = nest(buf, capacity, 20); /* 62 messages */
    ck_assert_msg(scan(buf + at, capacity - at) == QD_OK, "%s", err.message);
    at = nest(buf, capacity, 21); /* 65 messages */
    ck_assert_int_eq(scan(buf + at, capacity - at), QD_LIMIT_EXCEEDED);
    free(buf);
}
END_TEST

START_TEST(scan__broken_wire__invalid)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *part;
    } cases[] = {
        {"", 0, "empty"},
        {"\x08", 1, "varint"},
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12, "varint"},
        {"\x00\x01", 2, "tag"},
        {"\x80\x80\x80\x80\x80\x01", 6, "tag"},
        {"\x0b", 1, "wrong wire type"},        /* group on ir_version */
        {"\x0a\x00", 2, "wrong wire type"},    /* length on an integer */
        {"\x12\x05" "abc", 5, "wants 5 bytes, 3 are left"},
        {"\x12\xff\xff\xff\xff\xff\x01", 7, "length"},
        {"\x12\x03" "a\0b", 5, "UTF-8"},
        {"\x12\x02\xc0\x80", 4, "UTF-8"},
        {"\x12\x03\xed\xa0\x80", 5, "UTF-8"},
        {"\x12\x01\xff", 3, "UTF-8"},
        {"\x3a\x00\x3a\x00", 4, "stands twice"},
        {"\xfd\x06\x00", 3, "truncated number"}, /* field 111, 32 bits */
        {"\xfb\x06", 2, "unknown wire type"},    /* field 111, a group */
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        enum qd_code code = scan(cases[i].bytes, cases[i].size);
        ck_assert_msg(code == QD_INVALID, "case %zu: %s", i, qd_code_name(code));
        ck_assert_msg(strstr(err.message, cases[i].part) != NULL, "case %zu: '%s' lacks '%s'", i,
                      err.message, cases[i].part);
    }
    ck_assert_int_eq(scan("\x12\x04\xf0\x9f\x98\x80", 6), QD_OK);
}
END_TEST

START_TEST(scan__too_many_nodes__limit_exceeded)
{
    size_t size = 2 * ((size_t)QC_ONNX_MAX_NODES + 1);
    uint8_t *buf = calloc(size + 5, 1);
    buf[0] = 0x3a;
    for (int i = 0; i < 4; i++) {
        buf[1 + i] = (uint8_t)(size >> (7 * i) & 0x7f) | (i < 3 ? 0x80 : 0);
    }
    for (size_t i = 0; i < size; i += 2) {
        buf[5 + i] = 0x0a;
    }
    ck_assert_int_eq(scan(buf, size + 5), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "200000 nodes"));
    free(buf);
}
END_TEST

START_TEST(read__golden_test_data__f32_image)
{
    static const char path[] =
        "../shared/data/golden/resnet8_cifar10/test_data_set_0/input_0.pb";
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        printf("onnx_tensor: %s is absent, its case is not run\n", path);
        return;
    }
    static uint8_t data[1 << 20];
    size_t n = fread(data, 1, sizeof(data), f);
    fclose(f);
    ck_assert_msg(qc_onnx_read_tensor((struct qd_bytes){data, n}, &arena, &got, &err) == QD_OK,
                  "%s", err.message);
    ck_assert_int_eq(got->dtype, QC_F32);
    ck_assert_int_eq(got->shape.rank, 4);
}
END_TEST

Suite *test_onnx_tensor_suite(void)
{
    Suite *s = suite_create("onnx_tensor");
    TCase *t = tcase_create("tensor");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, read__typed_fields__values);
    tcase_add_test(t, read__halves_of_bytes__values);
    tcase_add_test(t, export__halves_of_bytes__odd_and_even_counts_come_back);
    tcase_add_test(t, read__raw_data__values_f16_bits_and_bools);
    tcase_add_test(t, read__scalar_and_empty__ok);
    tcase_add_test(t, read__size_mismatch__invalid_with_both_sizes);
    tcase_add_test(t, read__dims_overflow_or_negative__invalid);
    tcase_add_test(t, read__too_many_dims__limit_exceeded);
    tcase_add_test(t, read__out_of_range__invalid_with_value);
    tcase_add_test(t, read__external_segment_types__unsupported);
    tcase_add_test(t, export__round_trip__same_tensor);
    tcase_add_test(t, read__golden_test_data__f32_image);
    tcase_add_test(t, scan__nested_10000_deep__limit_exceeded);
    tcase_add_test(t, scan__broken_wire__invalid);
    tcase_add_test(t, scan__too_many_nodes__limit_exceeded);
    suite_add_tcase(s, t);
    return s;
}
