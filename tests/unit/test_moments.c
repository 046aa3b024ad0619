#include <math.h>

#include "quantcore/calib/moments.h"
#include "quantcore/exec/exec.h"
#include "tests/unit/test_graph_build.h"

/* x [1,4,7,6] -> conv (2 groups, 3x2, stride 2x1, dilation 1x2, uneven pads) and dw; flat -> gemm */
enum { CH = 4, HH = 7, WW = 6, SAMPLES = 5 };

static float value(int sample, int i)
{
    uint32_t h = (uint32_t)(sample * 7919 + i) * 2654435761u;
    float x = (float)(h >> 8) / 8388608.0f - 1.0f;
    return x < -0.4f ? 0 : x;
}

static void build(struct tg *t)
{
    tg_init(t);
    int x = tg_input(t, "x", 4, -1, CH, HH, WW);
    int y = tg_node(t, "conv", QC_OP_CONV, 2, x, tg_floats(t, "w", 0.1f, 0.01f, 4, 6, 2, 3, 2));
    tg_attr_int(t, "group", 2);
    tg_attr_ints(t, "strides", 2, 2, 1);
    tg_attr_ints(t, "dilations", 2, 1, 2);
    tg_attr_ints(t, "pads", 4, 1, 2, 0, 1);
    int z = tg_node(t, "flat", QC_OP_FLATTEN, 1, x);
    tg_output(t, tg_node(t, "gemm", QC_OP_GEMM, 2, z,
                         tg_floats(t, "v", 0.1f, 0.01f, 2, CH * HH * WW, 3)));
    tg_output(t, y);
    tg_bind(t);
}

static void observe(void *ctx, int value_index, const struct qc_view *view)
{
    void **both = ctx;
    qc_moments_add(both[0], *(int *)both[1], value_index, view);
}

static void run(struct tg *t, int n_threads, int first, int n, struct qc_moment **ret, int *ret_n)
{
    bool wanted[8] = {true, true, true, true, true, true, true, true};
    struct qc_moments *m = NULL;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    struct qc_kernels kernels;
    float x[CH * HH * WW];
    const void *inputs[1] = {x};
    int thread = 0;
    void *both[2];
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    const struct qc_exec_options options = {.kernels = &kernels};
    ck_assert_int_eq(qc_exec_build(t->g, &options, &t->arena, &exec, &t->err), QD_OK);
    ck_assert_int_eq(qc_exec_state_new(exec, &state, &t->err), QD_OK);
    ck_assert_int_eq(qc_moments_new(t->g, wanted, n_threads, &t->arena, &m, &t->err), QD_OK);
    both[0] = m;
    both[1] = &thread;
    for (int s = 0; s < n; s++) {
        for (int i = 0; i < CH * HH * WW; i++) {
            x[i] = value(first + s, i);
        }
        thread = s % n_threads;
        ck_assert_int_eq(qc_exec_run(exec, state, inputs, observe, both, &t->err), QD_OK);
    }
    qc_exec_state_free(state);
    qc_moments_end(m, ret, ret_n);
}

static double entry(const struct qc_moment *m, int group, int i, int j)
{
    size_t at = (size_t)group * qc_moment_entries(m->n_columns) + qc_moment_entries(i) + (size_t)j;
    return ldexp((double)m->lower[at], -48);
}

/* Element k of the column of output (oh, ow). */
static double column(int sample, int group, int oh, int ow, int k)
{
    int c = group * 2 + k / 6, h = oh * 2 + k / 2 % 3 - 1, w = ow + k % 2 * 2 - 2;
    return h < 0 || w < 0 || h >= HH || w >= WW ? 0
                                                : (double)value(sample, (c * HH + h) * WW + w);
}

START_TEST(moments__conv_with_groups_pads_strides_dilation__sum_of_products)
{
    struct tg t;
    struct qc_moment *m = NULL;
    int n = 0;
    build(&t);
    run(&t, 2, 0, SAMPLES, &m, &n);
    ck_assert_int_eq(n, 2);
    ck_assert_str_eq(m[0].node, "conv");
    ck_assert_int_eq(m[0].n_groups, 2);
    ck_assert_int_eq(m[0].n_columns, 12);
    int oh = (HH + 1 - 3) / 2 + 1, ow = WW + 3 - 3 + 1;
    ck_assert_uint_eq(m[0].n_positions, (uint64_t)(SAMPLES * oh * ow));
    for (int g = 0; g < 2; g++) {
        for (int i = 0; i < 12; i++) {
            for (int j = 0; j <= i; j++) {
                double want = 0;
                for (int s = 0; s < SAMPLES; s++) {
                    for (int p = 0; p < oh * ow; p++) {
                        want += column(s, g, p / ow, p % ow, i) * column(s, g, p / ow, p % ow, j);
                    }
                }
                ck_assert_double_eq_tol(entry(&m[0], g, i, j), want, 1e-9);
            }
        }
    }
    tg_done(&t);
}
END_TEST

/* The sample as two images of half the channels: both count. */
START_TEST(moments__conv_of_several_images__all_of_them)
{
    struct tg t;
    struct qc_moment *m = NULL;
    int n = 0;
    tg_init(&t);
    int x = tg_input(&t, "x", 4, -1, CH, HH, WW);
    int y = tg_node(&t, "images", QC_OP_RESHAPE, 2, x, tg_ints(&t, "s", 4, 2, CH / 2, HH, WW));
    tg_output(&t, tg_node(&t, "conv", QC_OP_CONV, 2, y,
                          tg_floats(&t, "w", 0.1f, 0.01f, 4, 3, CH / 2, 1, 1)));
    tg_bind(&t);
    run(&t, 1, 0, SAMPLES, &m, &n);
    ck_assert_int_eq(n, 1);
    ck_assert_int_eq(m[0].n_columns, CH / 2);
    ck_assert_uint_eq(m[0].n_positions, SAMPLES * 2 * HH * WW);
    for (int i = 0; i < CH / 2; i++) {
        for (int j = 0; j <= i; j++) {
            double want = 0;
            for (int k = 0; k < SAMPLES * 2 * HH * WW; k++) {
                int s = k / (2 * HH * WW), image = k / (HH * WW) % 2, at = k % (HH * WW);
                want += (double)value(s, (image * CH / 2 + i) * HH * WW + at) *
                        (double)value(s, (image * CH / 2 + j) * HH * WW + at);
            }
            ck_assert_double_eq_tol(entry(&m[0], 0, i, j), want, 1e-9);
        }
    }
    tg_done(&t);
}
END_TEST

START_TEST(moments__gemm__sum_of_products)
{
    struct tg t;
    struct qc_moment *m = NULL;
    int n = 0;
    build(&t);
    run(&t, 1, 0, SAMPLES, &m, &n);
    ck_assert_str_eq(m[1].node, "gemm");
    ck_assert_int_eq(m[1].n_columns, CH * HH * WW);
    ck_assert_uint_eq(m[1].n_positions, SAMPLES);
    for (int i = 0; i < CH * HH * WW; i += 11) {
        for (int j = 0; j <= i; j += 7) {
            double want = 0;
            for (int s = 0; s < SAMPLES; s++) {
                want += (double)value(s, i) * (double)value(s, j);
            }
            ck_assert_double_eq_tol(entry(&m[1], 0, i, j), want, 1e-9);
        }
    }
    tg_done(&t);
}
END_TEST

START_TEST(moments__threads_and_parts__same_bits)
{
    struct tg t;
    struct qc_moment *all = NULL, *a = NULL, *b = NULL;
    int n = 0;
    build(&t);
    run(&t, 1, 0, SAMPLES, &all, &n);
    run(&t, 2, 2, SAMPLES - 2, &b, &n);
    run(&t, 3, 0, 2, &a, &n);
    for (int i = 0; i < n; i++) {
        qc_moment_merge(&b[i], &a[i]);
        size_t bytes = (size_t)b[i].n_groups * qc_moment_entries(b[i].n_columns) * sizeof(qd_int128);
        ck_assert(memcmp(all[i].lower, b[i].lower, bytes) == 0);
        ck_assert_uint_eq(all[i].n_positions, b[i].n_positions);
        ck_assert(!b[i].overflow);
    }
    tg_done(&t);
}
END_TEST

START_TEST(moments_bytes__what_new_takes)
{
    struct tg t;
    struct qc_moments *m = NULL;
    bool wanted[8] = {true, false, true, true, true, true, true, true};
    build(&t);
    size_t estimate = qc_moments_bytes(t.g, wanted, 3), before = t.arena.used;
    ck_assert_int_eq(qc_moments_new(t.g, wanted, 3, &t.arena, &m, &t.err), QD_OK);
    ck_assert_uint_le(estimate, t.arena.used - before);
    ck_assert_uint_le(t.arena.used - before, estimate + 65536);
    struct qd_arena small;
    qd_arena_init(&small, estimate / 2);
    ck_assert_int_eq(qc_moments_new(t.g, wanted, 3, &small, &m, &t.err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(t.err.message, "columns"));
    qd_arena_done(&small);
    tg_done(&t);
}
END_TEST

Suite *test_moments_suite(void);
Suite *test_moments_suite(void)
{
    Suite *s = suite_create("moments");
    TCase *c = tcase_create("moments");
    tcase_add_test(c, moments__conv_with_groups_pads_strides_dilation__sum_of_products);
    tcase_add_test(c, moments__conv_of_several_images__all_of_them);
    tcase_add_test(c, moments__gemm__sum_of_products);
    tcase_add_test(c, moments__threads_and_parts__same_bits);
    tcase_add_test(c, moments_bytes__what_new_takes);
    suite_add_tcase(s, c);
    return s;
}
