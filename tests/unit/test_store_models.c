#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_models.h"
#include "store/store.h"

static char dir[64];
static struct store *store;
static struct qd_arena arena;
static struct qd_error err;
static int64_t clock_ms;
#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OK(expr) ck_assert_msg((expr) == QD_OK, "%s: %s", #expr, err.message)

static int64_t fake_now(void)
{
    return clock_ms++;
}

static void setup(void)
{
    struct store_settings s = {.data_dir = dir, .now_ms = fake_now};
    snprintf(dir, sizeof(dir), "/tmp/qd-models-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    clock_ms = 1700000000000;
    qd_arena_init(&arena, 0);
    OK(store_open(&s, &store, &err));
}

static void teardown(void)
{
    char command[128];
    store_close(store);
    qd_arena_done(&arena);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static struct store_job run(const char *name)
{
    const struct store_input input = {.role = "model", .blob = SHA_A, .size = 7, .name = "m"};
    struct store_job_new n = {.name = name, .config = "{}", .inputs = &input, .n_inputs = 1};
    struct store_job job;
    bool existing, found;
    int64_t next;
    OK(store_job_create(store, &n, &arena, &job, &existing, &err));
    OK(store_job_claim(store, &arena, &job, &found, &next, &err));
    ck_assert(found);
    return job;
}

/* A succeeded job of this name: its id. */
static const char *publish(const char *name, bool passed)
{
    struct store_job job = run(name);
    struct store_result result = {.summary = "{}", .passed = passed};
    int64_t version;
    OK(store_job_publish(store, job.id, 1, &result, &version, &err));
    return job.id;
}

START_TEST(models__pages__by_name_with_newest_and_latest)
{
    struct store_model *rows;
    size_t n;
    bool more;
    OK(store_models(store, NULL, 10, &arena, &rows, &n, &more, &err));
    ck_assert(n == 0 && !more);
    publish("b", true);
    publish("b", true);
    publish("b", false);
    publish("a", false);
    publish("c", true);
    OK(store_models(store, NULL, 2, &arena, &rows, &n, &more, &err));
    ck_assert(n == 2 && more);
    ck_assert_str_eq(rows[0].name, "a");
    ck_assert(rows[0].newest == 1 && rows[0].latest == 0 && rows[0].n_versions == 1);
    ck_assert_str_eq(rows[1].name, "b");
    ck_assert(rows[1].newest == 3 && rows[1].latest == 2 && rows[1].n_versions == 3);
    OK(store_models(store, "b", 2, &arena, &rows, &n, &more, &err));
    ck_assert(n == 1 && !more);
    ck_assert_str_eq(rows[0].name, "c");
    ck_assert_int_eq(store_models(store, NULL, 0, &arena, &rows, &n, &more, &err), QD_INVALID);
    ck_assert_int_eq(store_models(store, NULL, STORE_LIST_MAX + 1, &arena, &rows, &n, &more, &err),
                     QD_INVALID);
}
END_TEST

START_TEST(model_get__deleted_versions__numbers_stay)
{
    struct store_model model;
    struct store_version version;
    publish("net", true);
    const char *second = publish("net", true);
    OK(store_job_delete(store, second, &err));
    OK(store_model_get(store, "net", &arena, &model, &err));
    ck_assert(model.newest == 1 && model.latest == 1 && model.n_versions == 1);
    const char *third = publish("net", true);
    OK(store_model_version(store, "net", 0, &arena, &version, &err));
    ck_assert_int_eq(version.version, 3);
    ck_assert_str_eq(version.job, third);
    ck_assert_int_eq(store_model_version(store, "net", 2, &arena, &version, &err), QD_NOT_FOUND);
    ck_assert_int_eq(store_model_get(store, "none", &arena, &model, &err), QD_NOT_FOUND);
}
END_TEST

START_TEST(model_versions__pages__newest_first)
{
    struct store_version *rows;
    size_t n;
    bool more;
    for (int i = 0; i < 5; i++) {
        publish("net", i % 2 == 0);
        publish("other", true);
    }
    OK(store_model_versions(store, "net", 0, 3, &arena, &rows, &n, &more, &err));
    ck_assert(n == 3 && more && rows[0].version == 5 && rows[2].version == 3);
    ck_assert(rows[0].passed && !rows[1].passed);
    OK(store_model_versions(store, "net", 3, 3, &arena, &rows, &n, &more, &err));
    ck_assert(n == 2 && !more && rows[0].version == 2 && rows[1].version == 1);
    ck_assert_str_eq(rows[0].model, "net");
}
END_TEST

START_TEST(events_progress__running_and_counting__listed)
{
    struct store_progress *rows;
    size_t n;
    struct store_job job = run("net");
    OK(store_events_progress(store, NULL, &arena, &rows, &n, &err));
    ck_assert_uint_eq(n, 0);
    OK(store_job_phase(store, job.id, 1, "pass1", &err));
    OK(store_job_progress(store, job.id, 1, 3, 10, "samples", &err));
    OK(store_events_progress(store, job.id, &arena, &rows, &n, &err));
    ck_assert_uint_eq(n, 1);
    ck_assert(rows[0].done == 3 && rows[0].total == 10 && rows[0].attempt == 1);
    ck_assert_str_eq(rows[0].phase, "pass1");
    ck_assert_str_eq(rows[0].unit, "samples");
    OK(store_events_progress(store, "j_other", &arena, &rows, &n, &err));
    ck_assert_uint_eq(n, 0);
    struct store_result result = {.summary = "{}", .passed = true};
    int64_t version;
    OK(store_job_publish(store, job.id, 1, &result, &version, &err));
    OK(store_events_progress(store, NULL, &arena, &rows, &n, &err));
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(api_version_parse__texts__number_or_refused)
{
    static const char *const bad[] = {"", "0", "-1", "+1", "1x", " 1", "1.0",
                                      "9999999999999999999", "latest"};
    int64_t version = -1;
    OK(api_version_parse("7", &version, &err));
    ck_assert_int_eq(version, 7);
    OK(api_version_parse("999999999999999999", &version, &err));
    ck_assert_int_eq(version, 999999999999999999);
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        ck_assert_int_eq(api_version_parse(bad[i], &version, &err), QD_INVALID);
    }
}
END_TEST

Suite *test_store_models_suite(void)
{
    Suite *suite = suite_create("test_store_models");
    TCase *c = tcase_create("models");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, models__pages__by_name_with_newest_and_latest);
    tcase_add_test(c, model_get__deleted_versions__numbers_stay);
    tcase_add_test(c, model_versions__pages__newest_first);
    tcase_add_test(c, events_progress__running_and_counting__listed);
    tcase_add_test(c, api_version_parse__texts__number_or_refused);
    suite_add_tcase(suite, c);
    return suite;
}
