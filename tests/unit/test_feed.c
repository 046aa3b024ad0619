#include <check.h>

#include "quantcore/qc_feed.h"

/* 49 * (1 / 49) is less than 1 in binary, 98, 103, 107 … times theirs, too. */
START_TEST(least_share__any_number_of_samples__one_is_held_back)
{
    for (int64_t n = 2; n <= 5000; n++) {
        double share = qc_feed_least_share(n);
        ck_assert_int_eq(qc_feed_count(n, share, QC_FEED_HELD_BACK), 1);
        ck_assert(qc_feed_is_held_back(n - 1, share) && !qc_feed_is_held_back(n - 2, share));
    }
}
END_TEST

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
    tcase_add_test(tc, least_share__any_number_of_samples__one_is_held_back);
    suite_add_tcase(s, tc);
    return s;
}
