/* Weights whose pairs are known, in every layout. */
#include <check.h>
#include <string.h>

#include "quantcore/quant/saturating_pairs.h"

static int8_t codes[64];
static struct qc_tensor tensor = {.dtype = QC_S8, .data = codes};
static struct qc_quantized_weights weights = {.q = &tensor, .source = &tensor};

static int64_t pairs(int op, int rank, const int64_t *dims, const struct qc_attr *attr)
{
    struct qc_node node = {.op = op, .n_attrs = attr != NULL ? 1 : 0, .attrs = attr};
    tensor.shape = (struct qc_shape){.rank = rank};
    memcpy(tensor.shape.dim, dims, (size_t)rank * sizeof(*dims));
    return qc_saturating_pairs(&node, &weights);
}

static void setup(void)
{
    memset(codes, 0, sizeof(codes));
    tensor.dtype = QC_S8;
}

START_TEST(saturating_pairs__sums__only_beyond_128_with_one_sign)
{
    static const struct {
        int8_t first, second;
        int64_t found;
    } rows[] = {{64, 64, 0},  {65, 64, 1},    {127, 2, 1},    {127, 1, 0}, {-64, -64, 0},
                {-64, -65, 1}, {-128, -1, 1}, {127, -127, 0}, {-128, 0, 0}};
    codes[0] = rows[_i].first;
    codes[1] = rows[_i].second;
    ck_assert_int_eq(pairs(QC_OP_MATMUL, 2, (int64_t[]){2, 1}, NULL), rows[_i].found);
}
END_TEST

START_TEST(saturating_pairs__conv__channels_of_a_tap_are_neighbours)
{
    /* [1, 2, 1, 2]: channel 0 has the taps 100, 0; channel 1 has 0, 100. */
    codes[0] = codes[3] = 100;
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){1, 2, 1, 2}, NULL), 0);
    codes[2] = 29; /* channel 1, tap 0 */
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){1, 2, 1, 2}, NULL), 1);
    /* Three channels and two taps: channel 2 of tap 0 meets channel 0 of tap 1. */
    memset(codes, 0, sizeof(codes));
    codes[4] = codes[1] = 100;
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){1, 3, 1, 2}, NULL), 1);
    memset(codes, 100, sizeof(codes));
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){2, 3, 3, 3}, NULL), 26); /* 27 weights: 13 */
    struct qc_attr group = {.name = "group", .type = QC_ATTR_INT, .i = 4};
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){4, 1, 3, 3}, NULL), 16); /* of a grey image */
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){4, 1, 3, 3}, &group), 0); /* depthwise */
}
END_TEST

START_TEST(saturating_pairs__gemm_and_matmul__along_the_inputs)
{
    struct qc_attr transposed = {.name = "transB", .type = QC_ATTR_INT, .i = 1};
    /* [2, 3]: two inputs of three outputs, or three inputs of two. */
    codes[0] = codes[3] = 100;
    ck_assert_int_eq(pairs(QC_OP_GEMM, 2, (int64_t[]){2, 3}, NULL), 1);
    ck_assert_int_eq(pairs(QC_OP_GEMM, 2, (int64_t[]){2, 3}, &transposed), 0);
    codes[1] = 100;
    ck_assert_int_eq(pairs(QC_OP_GEMM, 2, (int64_t[]){2, 3}, &transposed), 1);
    memset(codes, 100, sizeof(codes));
    ck_assert_int_eq(pairs(QC_OP_MATMUL, 3, (int64_t[]){3, 4, 5}, NULL), 30);
    ck_assert_int_eq(pairs(QC_OP_MATMUL, 1, (int64_t[]){4}, NULL), 2);
}
END_TEST

START_TEST(saturating_pairs__u8_codes_or_none__none)
{
    memset(codes, 100, sizeof(codes));
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){0, 2, 1, 1}, NULL), 0);
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){2, 0, 1, 1}, NULL), 0);
    ck_assert_int_eq(pairs(QC_OP_MATMUL, 2, (int64_t[]){0, 3}, NULL), 0);
    ck_assert_int_eq(pairs(QC_OP_CONV_TRANSPOSE, 4, (int64_t[]){2, 2, 3, 3}, NULL), 0);
    tensor.dtype = QC_U8; /* an imported network's own: runtimes shift them to s8 */
    ck_assert_int_eq(pairs(QC_OP_CONV, 4, (int64_t[]){2, 2, 1, 1}, NULL), 0);
}
END_TEST

Suite *test_saturating_pairs_suite(void);
Suite *test_saturating_pairs_suite(void)
{
    Suite *s = suite_create("saturating_pairs");
    TCase *t = tcase_create("saturating_pairs");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_loop_test(t, saturating_pairs__sums__only_beyond_128_with_one_sign, 0, 9);
    tcase_add_test(t, saturating_pairs__conv__channels_of_a_tap_are_neighbours);
    tcase_add_test(t, saturating_pairs__gemm_and_matmul__along_the_inputs);
    tcase_add_test(t, saturating_pairs__u8_codes_or_none__none);
    suite_add_tcase(s, t);
    return s;
}
