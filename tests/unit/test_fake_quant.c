#include <check.h>
#include <math.h>

#include "quantcore/calib/fake_quant.h"

enum { C = 3, H = 2, W = 5, STRIDE = 16, STORED = (H + 2) * (W + 2) * STRIDE };

static struct qc_view nhwc(float *store)
{
    struct qc_view v = {.dtype = QC_F32, .layout = QC_NHWC, .shape = {4, {1, C, H, W}},
                        .pixel_stride = STRIDE, .row_stride = (W + 2) * STRIDE,
                        .image_stride = STORED};
    for (int i = 0; i < STORED; i++) {
        store[i] = 1e9f; /* a border that is read or written shows */
    }
    v.data = store + v.row_stride + STRIDE;
    return v;
}

static float *at(const struct qc_view *v, int i)
{
    return (float *)v->data + i / (W * C) * v->row_stride + i / C % W * STRIDE + i % C;
}

START_TEST(fake_quant__both_layouts_and_schemes__as_the_formula_and_the_interior_alone)
{
    float store[STORED], plain[C * H * W];
    struct qc_kernels kernels;
    struct qc_scheme scheme = {.symmetric = (_i & 1) != 0, .is_s8 = (_i & 2) != 0};
    struct qc_view view = nhwc(store);
    struct qc_view row = {.data = plain, .dtype = QC_F32, .shape = {2, {1, C * H * W}}};
    struct qc_qparams pair;
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    for (int i = 0; i < C * H * W; i++) {
        plain[i] = *at(&view, i) = sinf((float)i * 1.7f) * 3 + 0.5f;
    }
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < C * H * W; i++) {
        lo = fmin(lo, (double)plain[i]);
        hi = fmax(hi, (double)plain[i]);
    }
    qc_qparams_choose(scheme, lo, hi, &pair);
    qc_fake_quant_view(&kernels, scheme, &view);
    int changed = 0;
    for (int i = 0; i < C * H * W; i++) {
        int32_t q = qc_quantize_value(plain[i], pair.scale, pair.zero_point, qc_code_min(&pair),
                                      qc_code_max(&pair));
        float want = (float)(q - pair.zero_point) * pair.scale;
        ck_assert_float_eq(*at(&view, i), want);
        changed += want != plain[i];
    }
    ck_assert_int_gt(changed, C * H * W / 2);
    int outside = 0;
    for (int i = 0; i < STORED; i++) {
        outside += store[i] == 1e9f;
    }
    ck_assert_int_eq(outside, STORED - C * H * W);
    qc_fake_quant_view(&kernels, scheme, &row);
    for (int i = 0; i < C * H * W; i++) {
        ck_assert_float_eq(plain[i], *at(&view, i));
    }
}
END_TEST

START_TEST(fake_quant__nan__left_alone)
{
    float x[3] = {0.3f, NAN, 2};
    struct qc_kernels kernels;
    struct qc_view view = {.data = x, .dtype = QC_F32, .shape = {1, {3}}};
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    qc_fake_quant_view(&kernels, (struct qc_scheme){.is_s8 = false}, &view);
    ck_assert_float_eq(x[0], 0.3f);
    ck_assert(isnan(x[1]));
}
END_TEST

Suite *test_fake_quant_suite(void);
Suite *test_fake_quant_suite(void)
{
    Suite *s = suite_create("fake_quant");
    TCase *t = tcase_create("fake_quant");
    tcase_add_loop_test(
        t, fake_quant__both_layouts_and_schemes__as_the_formula_and_the_interior_alone, 0, 4);
    tcase_add_test(t, fake_quant__nan__left_alone);
    suite_add_tcase(s, t);
    return s;
}
