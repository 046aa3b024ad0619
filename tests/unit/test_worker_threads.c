#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/worker_threads.h"

#define MAX_ITEMS 1000

static struct {
    int n_threads;
    atomic_int visits[MAX_ITEMS], inside[WORKER_THREADS_MAX], wrong, seen[WORKER_THREADS_MAX];
} state;

static void visit(void *arg, int index, int thread)
{
    if (arg != &state || index < 0 || index >= MAX_ITEMS || thread < 0 ||
        thread >= state.n_threads) {
        state.wrong++;
        return;
    }
    /* No two calls at once may have the same number. */
    state.wrong += atomic_fetch_add(&state.inside[thread], 1) != 0;
    state.visits[index]++;
    state.seen[thread] = 1;
    atomic_fetch_sub(&state.inside[thread], 1);
}

static void run_rounds(int n_threads, int n_items, int rounds)
{
    struct worker_threads *threads = NULL;
    struct qd_error err;
    ck_assert_msg(worker_threads_new(n_threads, &threads, &err) == QD_OK, "%s", err.message);
    struct qc_threads t = worker_threads_callback(threads);
    ck_assert_int_eq(t.n_threads, n_threads);
    memset(&state, 0, sizeof(state));
    state.n_threads = n_threads;
    for (int r = 1; r <= rounds; r++) {
        t.parallel_for(t.ctx, n_items, visit, &state);
        /* All of a round is done when it returns. */
        for (int i = 0; i < MAX_ITEMS; i++) {
            ck_assert_int_eq(state.visits[i], i < n_items ? r : 0);
        }
    }
    ck_assert_int_eq(state.wrong, 0);
    worker_threads_free(threads);
}

static const struct {
    int threads, items, rounds;
} rounds[] = {{1, 10, 3}, {1, 0, 2},   {2, 1, 200},   {2, 1000, 20}, {3, 2, 300},
              {4, 0, 50}, {4, 7, 300}, {16, 100, 50}, {64, 3, 5}};

START_TEST(parallel_for__each_size__every_index_once_a_round)
{
    run_rounds(rounds[_i].threads, rounds[_i].items, rounds[_i].rounds);
}
END_TEST

/* Two calls wait for each other: one thread alone would never end. */
static atomic_int met;

static void meet(void *arg, int index, int thread)
{
    const struct timespec nap = {0, 1000000};
    (void)arg;
    (void)index;
    (void)thread;
    met++;
    for (int i = 0; i < 10000 && met < 2; i++) {
        nanosleep(&nap, NULL);
    }
}

START_TEST(parallel_for__two_threads__run_at_once)
{
    struct worker_threads *threads = NULL;
    struct qd_error err;
    ck_assert_int_eq(worker_threads_new(2, &threads, &err), QD_OK);
    struct qc_threads t = worker_threads_callback(threads);
    met = 0;
    t.parallel_for(t.ctx, 2, meet, NULL);
    ck_assert_int_eq(met, 2);
    worker_threads_free(threads);
}
END_TEST

static const int bad[] = {0, -1, WORKER_THREADS_MAX + 1};

START_TEST(worker_threads_new__count_out_of_range__names_the_limit)
{
    struct worker_threads *threads = NULL;
    struct qd_error err = {.code = QD_OK};
    ck_assert_int_eq(worker_threads_new(bad[_i], &threads, &err), QD_INVALID);
    ck_assert_str_eq(err.subject, "threads");
    ck_assert_ptr_nonnull(strstr(err.message, "1 to 256"));
    ck_assert_ptr_null(threads);
}
END_TEST

START_TEST(worker_threads_free__null_or_unused__no_crash)
{
    struct worker_threads *threads = NULL;
    struct qd_error err;
    worker_threads_free(NULL);
    ck_assert_int_eq(worker_threads_new(WORKER_THREADS_MAX, &threads, &err), QD_OK);
    worker_threads_free(threads);
}
END_TEST

Suite *test_worker_threads_suite(void)
{
    Suite *s = suite_create("worker_threads");
    TCase *t = tcase_create("worker_threads");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, parallel_for__each_size__every_index_once_a_round, 0,
                        (int)QD_COUNT_OF(rounds));
    tcase_add_test(t, parallel_for__two_threads__run_at_once);
    tcase_add_loop_test(t, worker_threads_new__count_out_of_range__names_the_limit, 0,
                        (int)QD_COUNT_OF(bad));
    tcase_add_test(t, worker_threads_free__null_or_unused__no_crash);
    suite_add_tcase(s, t);
    return s;
}
