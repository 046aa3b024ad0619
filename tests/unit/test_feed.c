#include <check.h>

#include "quantcore/qc_feed.h"

START_TEST(held_back__a_fifth__spread_and_counted)
{
    int held = 0;
    for (int64_t i = 0; i < 100; i++) {
        held += qc_feed_is_held_back(i, 0.2);
        ck_assert_int_eq(held, qc_feed_count(i + 1, 0.2, QC_FEED_HELD_BACK));
        ck_assert_int_eq(i + 1 - held, qc_feed_count(i + 1, 0.2, QC_FEED_KEPT));
    }
    ck_assert_int_eq(held, 20);
    ck_assert(qc_feed_is_held_back(4, 0.2) && !qc_feed_is_held_back(5, 0.2));
    ck_assert(!qc_feed_is_held_back(99, 0));
}
END_TEST

Suite *test_feed_suite(void)
{
    Suite *s = suite_create("feed");
    TCase *tc = tcase_create("feed");
    tcase_add_test(tc, held_back__a_fifth__spread_and_counted);
    suite_add_tcase(s, tc);
    return s;
}
