#include <check.h>
#include <string.h>

#include "quantcore/base/qd_arena.h"

START_TEST(alloc__many_sizes__aligned_zeroed_distinct)
{
    struct qd_arena a;
    qd_arena_init(&a, 0);
    uint8_t *last = NULL;
    for (size_t size = 0; size < 600000; size = size * 2 + 1) {
        uint8_t *p = NULL;
        ck_assert_int_eq(qd_arena_alloc(&a, size, &p, NULL), QD_OK);
        ck_assert_uint_eq((uintptr_t)p % QD_ARENA_ALIGN, 0);
        size_t n_set = 0; /* one assertion a byte takes seconds on a busy machine */
        for (size_t i = 0; i < size + QD_ARENA_TAIL; i++) {
            n_set += p[i] != 0;
        }
        ck_assert_uint_eq(n_set, 0);
        memset(p, 0xff, size);
        ck_assert_ptr_ne(p, last);
        last = p;
    }
    qd_arena_done(&a);
}
END_TEST

START_TEST(alloc__over_limit__limit_exceeded_with_numbers)
{
    struct qd_arena a;
    struct qd_error err;
    void *p = NULL;
    qd_arena_init(&a, 100000);
    ck_assert_int_eq(qd_arena_alloc(&a, 50000, &p, &err), QD_OK);
    ck_assert_int_eq(qd_arena_alloc(&a, 60000, &p, &err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "100000"));
    ck_assert_int_eq(qd_arena_array(&a, SIZE_MAX / 2, 8, &p, &err), QD_LIMIT_EXCEEDED);
    qd_arena_done(&a);
}
END_TEST

static int cleanup_order;
static void cleanup(void *arg)
{
    cleanup_order = cleanup_order * 10 + *(int *)arg;
}

START_TEST(done__with_cleanups__run_in_reverse)
{
    struct qd_arena a;
    int one = 1, two = 2;
    cleanup_order = 0;
    qd_arena_init(&a, 0);
    ck_assert_int_eq(qd_arena_defer(&a, cleanup, &one, NULL), QD_OK);
    ck_assert_int_eq(qd_arena_defer(&a, cleanup, &two, NULL), QD_OK);
    qd_arena_done(&a);
    ck_assert_int_eq(cleanup_order, 21);
    qd_arena_done(&a);
}
END_TEST

START_TEST(init_inside__alloc_and_done__counted_in_the_parent_while_it_lasts)
{
    struct qd_arena outer, inner;
    struct qd_error err;
    void *p = NULL;
    qd_arena_init(&outer, 1000000);
    ck_assert_int_eq(qd_arena_alloc(&outer, 100000, &p, &err), QD_OK);
    size_t before = outer.used;
    qd_arena_init_inside(&inner, &outer);
    ck_assert_int_eq(qd_arena_alloc(&inner, 600000, &p, &err), QD_OK);
    memset(p, 1, 600000);
    ck_assert_uint_eq(outer.used, before + inner.used);
    ck_assert_int_eq(qd_arena_alloc(&inner, 600000, &p, &err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "1000000"));
    size_t most = outer.used;
    qd_arena_done(&inner);
    ck_assert_uint_eq(outer.used, before);
    ck_assert_uint_eq(outer.peak, most);
    qd_arena_done(&inner);
    ck_assert_uint_eq(outer.used, before);
    ck_assert_int_eq(qd_arena_alloc(&outer, 600000, &p, &err), QD_OK);
    qd_arena_done(&outer);
}
END_TEST

START_TEST(init_inside__failure_injected_outside__fails_inside)
{
    struct qd_arena outer, inner;
    struct qd_error err;
    void *p = NULL;
    qd_arena_init(&outer, 0);
    outer.fail_after = 1;
    qd_arena_init_inside(&inner, &outer);
    ck_assert_int_eq(qd_arena_alloc(&inner, 10, &p, &err), QD_OK);
    ck_assert_int_eq(qd_arena_alloc(&inner, 10, &p, &err), QD_NO_MEMORY);
    qd_arena_done(&inner);
    qd_arena_done(&outer);
}
END_TEST

START_TEST(wrap__twice__outermost_first_and_subject_kept)
{
    struct qd_error err;
    enum qd_code code = qd_fail_on(&err, QD_UNSUPPORTED, "conv1", "dilations [%d,%d] not supported", 2, 2);
    code = qd_wrap(&err, code, "import node '%s'", "co\nnv1");
    code = qd_wrap(&err, code, "job %d", 7);
    ck_assert_int_eq(code, QD_UNSUPPORTED);
    ck_assert_str_eq(err.message, "job 7: import node 'co?nv1': dilations [2,2] not supported");
    ck_assert_str_eq(err.subject, "conv1");
    ck_assert_int_eq(qd_code_from_name(qd_code_name(QD_TIMED_OUT)), QD_TIMED_OUT);
}
END_TEST

Suite *test_arena_suite(void)
{
    Suite *s = suite_create("arena");
    TCase *tc = tcase_create("arena");
    tcase_add_test(tc, alloc__many_sizes__aligned_zeroed_distinct);
    tcase_add_test(tc, alloc__over_limit__limit_exceeded_with_numbers);
    tcase_add_test(tc, done__with_cleanups__run_in_reverse);
    tcase_add_test(tc, init_inside__alloc_and_done__counted_in_the_parent_while_it_lasts);
    tcase_add_test(tc, init_inside__failure_injected_outside__fails_inside);
    tcase_add_test(tc, wrap__twice__outermost_first_and_subject_kept);
    suite_add_tcase(s, tc);
    return s;
}
