/* How many events are kept, jobs that derive from others, and a database of before them. */
#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/base/qd_embedded.h"
#include "store/store.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OK(expr) ck_assert_msg((expr) == QD_OK, "%s: %s", #expr, err.message)

static char dir[64];
static struct store *store;
static struct qd_arena arena;
static struct qd_error err;

static void open_store(int64_t events_max)
{
    struct store_settings s = {.data_dir = dir, .events_max = events_max};
    OK(store_open(&s, &store, &err));
}

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/qd-events-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    qd_arena_init(&arena, 0);
    store = NULL;
}

static void teardown(void)
{
    char command[128];
    store_close(store);
    qd_arena_done(&arena);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static enum qd_code create(const char *derived_from, struct store_job *ret)
{
    const struct store_input model = {.role = "model", .blob = SHA_A, .size = 7, .name = "m.onnx"};
    struct store_job_new n = {.name = "net",
                              .config = "{}",
                              .inputs = &model,
                              .n_inputs = 1,
                              .derived_from = derived_from};
    bool existing;
    return store_job_create(store, &n, &arena, ret, &existing, &err);
}

/* "id:type id:type " of events. */
static const char *events_text(const char *job, int64_t after)
{
    static char text[4096];
    struct store_event *events;
    size_t n, at = 0;
    text[0] = '\0';
    OK(store_events(store, job, after, STORE_LIST_MAX, &arena, &events, &n, &err));
    for (size_t i = 0; i < n; i++) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%d:%s ", (int)events[i].id,
                               events[i].type);
    }
    return text;
}

START_TEST(store_job_create__derived_from__kept_beyond_its_origin)
{
    struct store_job a, b, c;
    struct store_job_page page;
    struct store_job_filter filter = {.limit = 10};
    enum store_state state;
    open_store(0);
    OK(create(NULL, &a));
    ck_assert_ptr_null(a.derived_from);
    OK(create(a.id, &b));
    ck_assert_str_eq(b.derived_from, a.id);
    OK(store_job_cancel(store, a.id, &state, &err));
    OK(store_job_delete(store, a.id, &err));
    OK(store_job_list(store, &filter, &arena, &page, &err));
    ck_assert_uint_eq(page.n, 1);
    ck_assert_str_eq(page.jobs[0].derived_from, a.id);
    ck_assert_int_ne(create("j_short", &c), QD_OK);
}
END_TEST

START_TEST(store_job_delete__events__only_the_last_stays)
{
    struct store_job a, b;
    enum store_state state;
    int64_t last = 0;
    open_store(0);
    OK(create(NULL, &a));
    OK(create(NULL, &b));
    OK(store_job_cancel(store, a.id, &state, &err));
    ck_assert_str_eq(events_text(NULL, 0), "1:job.queued 2:job.queued 3:job.canceled ");
    OK(store_job_delete(store, a.id, &err));
    ck_assert_str_eq(events_text(NULL, 0), "2:job.queued 4:job.deleted ");
    ck_assert_str_eq(events_text(a.id, 0), "4:job.deleted ");
    OK(store_events_last(store, &last, &err));
    ck_assert_int_eq(last, 4);
}
END_TEST

START_TEST(store_job_delete__fault_at_every_step__all_or_nothing)
{
    struct store_job a;
    enum store_state state;
    open_store(0);
    OK(create(NULL, &a));
    OK(store_job_cancel(store, a.id, &state, &err));
    int faults = 0;
    for (;; faults++) {
        store_fail_after(store, faults + 1);
        enum qd_code code = store_job_delete(store, a.id, &err);
        store_fail_after(store, 0);
        if (code == QD_OK) {
            break;
        }
        ck_assert_int_lt(faults, 20);
        ck_assert_str_eq(events_text(NULL, 0), "1:job.queued 2:job.canceled ");
        OK(store_job_get(store, a.id, &arena, &a, &err));
    }
    ck_assert_int_ge(faults, 4);
    ck_assert_int_eq(store_job_get(store, a.id, &arena, &a, &err), QD_NOT_FOUND);
}
END_TEST

START_TEST(store_event_add__beyond_the_limit__oldest_go)
{
    struct store_job a;
    open_store(3);
    for (int i = 0; i < 5; i++) {
        OK(create(NULL, &a));
    }
    ck_assert_str_eq(events_text(NULL, 0), "3:job.queued 4:job.queued 5:job.queued ");
    ck_assert_str_eq(events_text(NULL, 1), events_text(NULL, 0)); /* from the oldest kept */
    ck_assert_str_eq(events_text(NULL, 4), "5:job.queued ");
    store_close(store);
    store = NULL;
    open_store(2); /* a smaller limit: kept with the next event */
    OK(create(NULL, &a));
    ck_assert_str_eq(events_text(NULL, 0), "5:job.queued 6:job.queued ");
}
END_TEST

/* ---- a database of schema 1 ------------------------------------------------------------------ */

static const char *embedded(const char *prefix)
{
    for (const struct qd_embedded *f = qd_embedded_files; f->path != NULL; f++) {
        if (strncmp(f->path, prefix, strlen(prefix)) == 0) {
            return (const char *)f->data;
        }
    }
    ck_abort_msg("%s is not in the binary", prefix);
    return NULL;
}

#define OLD_JOB  "j_01hf7yat00aaaaaaaaaaaaaaaa"
#define GONE_JOB "j_01hf7yat00bbbbbbbbbbbbbbbb"

static void make_schema_1(void)
{
    char path[128], *message = NULL;
    sqlite3 *db = NULL;
    snprintf(path, sizeof(path), "%s/quantd.db", dir);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    const char *steps[] = {
        embedded("store/migrations/001_"),
        "PRAGMA application_id=0x71746431; PRAGMA user_version=1",
        "INSERT INTO jobs(id,name,state,config,model_sha256,created_ms,updated_ms,version,summary)"
        " VALUES('" OLD_JOB "','net','succeeded','{\"mode\":\"static\"}','" SHA_A
        "',1,2,1,'{\"gate_passed\":true}')",
        "INSERT INTO job_inputs VALUES('" OLD_JOB "',0,'model','" SHA_A "',7,'m.onnx')",
        "INSERT INTO artifacts VALUES('" OLD_JOB "','statistics.qds','" SHA_A
        "',7,'application/octet-stream',2)",
        "INSERT INTO models VALUES('net',1); INSERT INTO versions VALUES('net',1,'" OLD_JOB
        "',1,2)",
        "INSERT INTO events(job_id,type,data,time_ms) VALUES"
        "('" OLD_JOB "','job.queued','{}',1),('" GONE_JOB "','job.queued','{}',1),"
        "('" OLD_JOB "','job.succeeded','{}',2),('" GONE_JOB "','job.canceled','{}',2),"
        "('" GONE_JOB "','job.deleted','{}',3)",
    };
    for (size_t i = 0; i < QD_COUNT_OF(steps); i++) {
        int rc = sqlite3_exec(db, steps[i], NULL, NULL, &message);
        ck_assert_msg(rc == SQLITE_OK, "step %zu: %s", i, message);
    }
    sqlite3_close(db);
}

START_TEST(store_open__schema_1__migrated_with_what_it_holds)
{
    struct store_job a, b;
    struct store_artifact artifact;
    struct store_version version;
    make_schema_1();
    for (int round = 0; round < 2; round++) { /* the second finds schema 2 */
        open_store(0);
        OK(store_job_get(store, OLD_JOB, &arena, &a, &err));
        ck_assert_int_eq(a.state, STORE_SUCCEEDED);
        ck_assert_str_eq(a.summary, "{\"gate_passed\":true}");
        ck_assert_ptr_null(a.derived_from);
        OK(store_artifact_get(store, OLD_JOB, "statistics.qds", &arena, &artifact, &err));
        OK(store_model_version(store, "net", 0, &arena, &version, &err));
        ck_assert_str_eq(version.job, OLD_JOB);
        ck_assert_str_eq(events_text(NULL, 0), "1:job.queued 3:job.succeeded 5:job.deleted ");
        store_close(store);
        store = NULL;
    }
    open_store(0);
    OK(create(OLD_JOB, &b));
    ck_assert_str_eq(b.derived_from, OLD_JOB);
    ck_assert_str_eq(events_text(b.id, 0), "6:job.queued "); /* ids go on */
}
END_TEST

Suite *test_store_events_suite(void)
{
    Suite *s = suite_create("store_events");
    TCase *t = tcase_create("store_events");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, store_job_create__derived_from__kept_beyond_its_origin);
    tcase_add_test(t, store_job_delete__events__only_the_last_stays);
    tcase_add_test(t, store_job_delete__fault_at_every_step__all_or_nothing);
    tcase_add_test(t, store_event_add__beyond_the_limit__oldest_go);
    tcase_add_test(t, store_open__schema_1__migrated_with_what_it_holds);
    suite_add_tcase(s, t);
    return s;
}
