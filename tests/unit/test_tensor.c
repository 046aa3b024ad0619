#include <check.h>
#include <math.h>
#include <string.h>

#include "quantcore/graph/tensor.h"

static struct qc_shape shape_of(int rank, int64_t a, int64_t b, int64_t c)
{
    return (struct qc_shape){.rank = rank, .dim = {a, b, c}};
}

START_TEST(shape_elements__ranks__product)
{
    struct qc_shape s = shape_of(3, 2, 3, 4), scalar = shape_of(0, 0, 0, 0);
    ck_assert_uint_eq(qc_shape_elements(&s), 24);
    ck_assert_uint_eq(qc_shape_elements(&scalar), 1);
    size_t n = 77;
    ck_assert(qc_shape_elements_checked(&s, 4, &n));
    ck_assert_uint_eq(n, 24);
    s.dim[1] = 0;
    ck_assert(qc_shape_elements_checked(&s, 4, &n));
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(shape_elements_checked__hostile__false_and_untouched)
{
    size_t n = 77;
    const struct qc_shape bad[] = {
        shape_of(1, -1, 0, 0),
        shape_of(3, INT64_MAX, INT64_MAX, 2),
        shape_of(2, (int64_t)1 << 32, (int64_t)1 << 32, 0),
        shape_of(3, (int64_t)1 << 62, (int64_t)1 << 62, 0),
        shape_of(1, (int64_t)1 << 39, 0, 0),
        {.rank = QC_MAX_RANK + 1},
        {.rank = -1},
    };
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        ck_assert_msg(!qc_shape_elements_checked(&bad[i], 4, &n), "case %zu", i);
    }
    ck_assert_uint_eq(n, 77);
}
END_TEST

START_TEST(shape_broadcast__pairs__as_numpy)
{
    struct qc_shape a = shape_of(3, 2, 1, 4), b = shape_of(2, 3, 1, 0), out;
    ck_assert(qc_shape_broadcast(&a, &b, &out));
    struct qc_shape want = shape_of(3, 2, 3, 4);
    ck_assert(qc_shape_equal(&out, &want));
    b = shape_of(1, 5, 0, 0);
    ck_assert(!qc_shape_broadcast(&a, &b, &out));
    a = shape_of(1, 1, 0, 0);
    b = shape_of(1, 0, 0, 0);
    ck_assert(qc_shape_broadcast(&a, &b, &out));
    ck_assert_int_eq(out.dim[0], 0);
    ck_assert(!qc_shape_equal(&out, &want));
}
END_TEST

START_TEST(shape_format__small_buffer__truncated_not_overrun)
{
    char buf[8];
    struct qc_shape s = shape_of(3, 1, 224, 224), scalar = shape_of(0, 0, 0, 0);
    char big[64];
    ck_assert_str_eq(qc_shape_format(&s, big, sizeof big), "[1,224,224]");
    ck_assert_str_eq(qc_shape_format(&scalar, big, sizeof big), "[]");
    memset(buf, 'x', sizeof buf);
    qc_shape_format(&s, buf, 6);
    ck_assert_str_eq(buf, "[1,22");
    ck_assert_int_eq(buf[6], 'x');
}
END_TEST

START_TEST(tensor_new__too_large__limit_named)
{
    struct qd_arena arena;
    qd_arena_init(&arena, 1 << 20);
    struct qd_error err;
    struct qc_tensor *t = NULL;
    struct qc_shape s = shape_of(2, INT64_MAX, 8, 0);
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &s, &t, &err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "9223372036854775807"));
    ck_assert_int_eq(qc_tensor_new(&arena, QC_STRING, &s, &t, &err), QD_UNSUPPORTED);
    s = shape_of(2, 1024, 1024, 0);
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &s, &t, &err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_null(t);
    s = shape_of(2, 3, 5, 0);
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &s, &t, &err), QD_OK);
    ck_assert_uint_eq((uintptr_t)t->data % QD_ARENA_ALIGN, 0);
    for (int i = 0; i < 15; i++) {
        ck_assert(((float *)t->data)[i] == 0.0f);
    }
    qd_arena_done(&arena);
}
END_TEST

START_TEST(tensor_f64__every_dtype__value)
{
    static const float f32[] = {-1.5f, 3e9f, NAN};
    static const double f64[] = {1e300};
    static const uint16_t f16[] = {0x3c00, 0xc000, 0x0001, 0x7c00, 0x7bff, 0x7e00, 0x8000};
    static const uint8_t u8[] = {255};
    static const int8_t s8[] = {-128};
    static const uint64_t u64[] = {UINT64_MAX};
    static const int64_t s64[] = {INT64_MIN};
#define T(type, array)                                                                           \
    {                                                                                            \
        .dtype = type, .shape = {.rank = 1, .dim = {QD_COUNT_OF(array)}}, .data = (void *)array  \
    }
    const struct qc_tensor tf = T(QC_F32, f32), td = T(QC_F64, f64), th = T(QC_F16, f16),
                           tb = T(QC_BOOL, u8), tu = T(QC_U8, u8), ts = T(QC_S8, s8),
                           tu64 = T(QC_U64, u64), ts64 = T(QC_S64, s64);
#undef T
    ck_assert(qc_tensor_f64(&tf, 0) == -1.5 && qc_tensor_s64(&tf, 0) == -1);
    ck_assert(qc_tensor_s64(&tf, 1) == 3000000000 && qc_tensor_s64(&tf, 2) == 0);
    ck_assert(qc_tensor_f64(&td, 0) == 1e300 && qc_tensor_s64(&td, 0) == INT64_MAX);
    ck_assert(qc_tensor_f64(&th, 0) == 1.0 && qc_tensor_f64(&th, 1) == -2.0);
    ck_assert(qc_tensor_f64(&th, 2) == 0x1p-24 && isinf(qc_tensor_f64(&th, 3)));
    ck_assert(qc_tensor_f64(&th, 4) == 65504.0 && isnan(qc_tensor_f64(&th, 5)));
    ck_assert(signbit(qc_tensor_f64(&th, 6)));
    ck_assert(qc_tensor_s64(&tb, 0) == 1 && qc_tensor_s64(&tu, 0) == 255);
    ck_assert(qc_tensor_f64(&ts, 0) == -128.0);
    ck_assert(qc_tensor_s64(&tu64, 0) == INT64_MAX && qc_tensor_f64(&tu64, 0) == 0x1p64);
    ck_assert(qc_tensor_s64(&ts64, 0) == INT64_MIN && qc_tensor_f64(&ts64, 0) == -0x1p63);
    ck_assert_uint_eq(qc_dtype_size(QC_F16), 2);
    ck_assert_uint_eq(qc_dtype_size(QC_STRING), 0);
    ck_assert_str_eq(qc_dtype_name(QC_S64), "s64");
}
END_TEST

Suite *test_tensor_suite(void);
Suite *test_tensor_suite(void)
{
    Suite *s = suite_create("tensor");
    TCase *t = tcase_create("tensor");
    tcase_add_test(t, shape_elements__ranks__product);
    tcase_add_test(t, shape_elements_checked__hostile__false_and_untouched);
    tcase_add_test(t, shape_broadcast__pairs__as_numpy);
    tcase_add_test(t, shape_format__small_buffer__truncated_not_overrun);
    tcase_add_test(t, tensor_new__too_large__limit_named);
    tcase_add_test(t, tensor_f64__every_dtype__value);
    suite_add_tcase(s, t);
    return s;
}
