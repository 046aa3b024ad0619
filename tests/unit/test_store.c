#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <unistd.h>

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
    return clock_ms;
}

static void open_store(void)
{
    struct store_settings s = {.data_dir = dir, .now_ms = fake_now};
    OK(store_open(&s, &store, &err));
}

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/qd-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    clock_ms = 1700000000000;
    qd_arena_init(&arena, 0);
    open_store();
}

static void teardown(void)
{
    char command[128];
    store_close(store);
    qd_arena_done(&arena);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static const struct store_input inputs[] = {
    {.role = "model", .blob = SHA_A, .size = 7, .name = "m.onnx"},
    {.role = "calibration",
     .blob = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
     .size = 9,
     .name = "c.npy"},
};

static struct store_job make(const char *name, int priority, const char *key, const char *hash)
{
    struct store_job_new n = {.name = name, .config = "{}", .priority = priority,
                              .idempotency_key = key, .request_hash = hash,
                              .inputs = inputs, .n_inputs = 2};
    struct store_job j = {0};
    bool existing;
    OK(store_job_create(store, &n, &arena, &j, &existing, &err));
    return j;
}

static struct store_job get(const char *id)
{
    struct store_job j = {0};
    OK(store_job_get(store, id, &arena, &j, &err));
    return j;
}

static struct store_job claim(void)
{
    struct store_job j = {0};
    bool found = false;
    int64_t next;
    OK(store_job_claim(store, &arena, &j, &found, &next, &err));
    if (!found) {
        j.id = NULL;
    }
    return j;
}

START_TEST(create__then_get__same_job_with_inputs_and_event)
{
    struct store_job a = make("net", 3, NULL, NULL);
    struct store_input *in;
    struct store_event *ev;
    size_t n;
    ck_assert_uint_eq(strlen(a.id), STORE_ID_LENGTH);
    ck_assert_int_eq(strncmp(a.id, "j_", 2), 0);
    struct store_job b = get(a.id);
    ck_assert_str_eq(b.name, "net");
    ck_assert_int_eq(b.state, STORE_QUEUED);
    ck_assert_int_eq(b.priority, 3);
    ck_assert_int_eq(b.rev, 1);
    ck_assert_str_eq(b.model_sha256, SHA_A);
    ck_assert_ptr_null(b.error_code);
    OK(store_job_inputs(store, a.id, &arena, &in, &n, &err));
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(in[1].name, "c.npy");
    ck_assert_uint_eq(in[1].size, 9);
    OK(store_events(store, a.id, 0, 10, &arena, &ev, &n, &err));
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(ev[0].type, "job.queued");
    ck_assert_int_eq(store_job_get(store, "j_none", &arena, &b, &err), QD_NOT_FOUND);
}
END_TEST

START_TEST(create__bad_requests__refused_with_value_and_limit)
{
    struct store_job j;
    bool existing;
    struct store_job_new n = {.name = "", .config = "{}", .inputs = inputs, .n_inputs = 2};
    ck_assert_int_eq(store_job_create(store, &n, &arena, &j, &existing, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "200"));
    n.name = "x";
    n.n_inputs = 0;
    ck_assert_int_eq(store_job_create(store, &n, &arena, &j, &existing, &err), QD_INVALID);
    n.n_inputs = 2;
    n.config = "{not json";
    ck_assert_int_eq(store_job_create(store, &n, &arena, &j, &existing, &err), QD_INVALID);
    struct store_job_page page;
    struct store_job_filter f = {.limit = 10};
    OK(store_job_list(store, &f, &arena, &page, &err));
    ck_assert_uint_eq(page.n, 0);
}
END_TEST

START_TEST(create__idempotency__same_job_conflict_and_expiry)
{
    struct store_job a = make("net", 0, "key", "h1");
    struct store_job b = make("net", 0, "key", "h1");
    ck_assert_str_eq(a.id, b.id);
    struct store_job_new n = {.name = "net", .config = "{}", .idempotency_key = "key",
                              .request_hash = "h2", .inputs = inputs, .n_inputs = 2};
    bool existing;
    ck_assert_int_eq(store_job_create(store, &n, &arena, &b, &existing, &err), QD_CONFLICT);
    clock_ms += STORE_KEY_LIFETIME_MS + 1;
    OK(store_job_create(store, &n, &arena, &b, &existing, &err));
    ck_assert(!existing);
    ck_assert_str_ne(a.id, b.id);
}
END_TEST

START_TEST(claim__priorities_and_delay__order_kept)
{
    struct store_job low = make("low", 0, NULL, NULL), low2 = make("low2", 0, NULL, NULL);
    struct store_job high = make("high", 5, NULL, NULL);
    int64_t position;
    ck_assert_int_lt(strcmp(low.id, low2.id), 0); /* same millisecond */
    OK(store_job_queue_position(store, low2.id, &position, &err));
    ck_assert_int_eq(position, 3);
    struct store_job c = claim();
    ck_assert_str_eq(c.id, high.id);
    ck_assert_int_eq(c.attempt, 1);
    ck_assert_int_eq(c.state, STORE_RUNNING);
    ck_assert_str_eq(c.instance, store_instance(store));
    ck_assert_str_eq(claim().id, low.id);
    ck_assert_str_eq(claim().id, low2.id);
    struct store_failure f = {"internal", "internal", "crashed", NULL};
    OK(store_job_requeue(store, low.id, 1, 5000, &f, &err));
    bool found = true;
    int64_t next = 0;
    OK(store_job_claim(store, &arena, &c, &found, &next, &err));
    ck_assert(!found);
    ck_assert_int_eq(next, clock_ms + 5000);
    ck_assert_str_eq(get(low.id).error_message, "crashed");
    clock_ms += 5000;
    c = claim();
    ck_assert_str_eq(c.id, low.id);
    ck_assert_int_eq(c.attempt, 2);
    ck_assert_int_eq(c.failures, 1);
    ck_assert_ptr_null(c.error_message);
}
END_TEST

static const struct store_artifact artifact = {"model.qdq.onnx", SHA_A, "application/onnx", 77};
static struct store_calibration row = {.tensor = "t", .op = "Conv", .dtype = "s8", .scale = 0.1,
                                       .zero_point = -3, .lo = -1, .hi = 2, .min = -1.5,
                                       .max = 2.5, .count = 1000, .saturated = NAN};
static const struct store_layer layer = {.node = "conv", .op = "Conv", .precision = "s8",
                                         .local_sqnr_db = INFINITY, .cosine = 0.5};
static struct store_result result = {.artifacts = &artifact, .n_artifacts = 1,
                                     .calibration = &row, .n_calibration = 1, .layers = &layer,
                                     .n_layers = 1, .summary = "{\"a\":1}", .passed = true};

START_TEST(publish__running__everything_there_once)
{
    struct store_job j = make("net", 0, NULL, NULL);
    struct store_calibration *rows;
    struct store_layer *layers;
    struct store_artifact a;
    struct store_version v;
    int64_t version;
    size_t n;
    claim();
    OK(store_job_phase(store, j.id, 1, "pass1", &err));
    OK(store_job_progress(store, j.id, 1, 3, 10, "samples", &err));
    ck_assert_int_eq(get(j.id).done, 3);
    ck_assert_int_eq(store_job_publish(store, j.id, 2, &result, &version, &err), QD_CONFLICT);
    OK(store_job_publish(store, j.id, 1, &result, &version, &err));
    ck_assert_int_eq(version, 1);
    ck_assert_int_eq(get(j.id).state, STORE_SUCCEEDED);
    ck_assert_int_eq(get(j.id).version, 1);
    OK(store_artifact_get(store, j.id, "model.qdq.onnx", &arena, &a, &err));
    ck_assert_uint_eq(a.size, 77);
    OK(store_calibration_list(store, j.id, &arena, &rows, &n, &err));
    ck_assert_uint_eq(n, 1);
    ck_assert(rows[0].scale == 0.1 && rows[0].zero_point == -3 && isnan(rows[0].saturated));
    OK(store_layers(store, j.id, &arena, &layers, &n, &err));
    ck_assert(n == 1 && isinf(layers[0].local_sqnr_db) && layers[0].cosine == 0.5);
    ck_assert_int_eq(store_job_publish(store, j.id, 1, &result, &version, &err), QD_CONFLICT);
    ck_assert_int_eq(store_job_progress(store, j.id, 1, 4, 10, "samples", &err), QD_CONFLICT);
    OK(store_model_version(store, "net", 0, &arena, &v, &err));
    ck_assert_str_eq(v.job, j.id);
    make("net", 0, NULL, NULL);
    struct store_job k = claim();
    result.passed = false;
    OK(store_job_publish(store, k.id, 1, &result, &version, &err));
    result.passed = true;
    ck_assert_int_eq(version, 2);
    OK(store_model_version(store, "net", 0, &arena, &v, &err));
    ck_assert_int_eq(v.version, 1);
}
END_TEST

/* Whatever step fails, nothing of the result is visible; without a fault it then succeeds. */
START_TEST(publish__fault_at_every_step__all_or_nothing)
{
    struct store_job j = make("net", 0, NULL, NULL);
    struct store_artifact *a;
    int64_t version, last, last2;
    size_t n;
    int faults = 0;
    claim();
    OK(store_events_last(store, &last, &err));
    for (;; faults++) {
        store_fail_after(store, faults + 1);
        enum qd_code code = store_job_publish(store, j.id, 1, &result, &version, &err);
        store_fail_after(store, 0);
        if (code == QD_OK) {
            break;
        }
        ck_assert_int_eq(code, QD_NO_SPACE);
        ck_assert_int_eq(get(j.id).state, STORE_RUNNING);
        OK(store_artifacts(store, j.id, &arena, &a, &n, &err));
        ck_assert_uint_eq(n, 0);
        OK(store_events_last(store, &last2, &err));
        ck_assert_int_eq(last, last2);
    }
    ck_assert_int_ge(faults, 9);
    ck_assert_int_eq(version, 1);
}
END_TEST

START_TEST(cancel__every_state__as_the_table_says)
{
    enum store_state s;
    int64_t version;
    struct store_job a = make("a", 0, NULL, NULL);
    OK(store_job_cancel(store, a.id, &s, &err));
    ck_assert_int_eq(s, STORE_CANCELED);
    OK(store_job_cancel(store, a.id, &s, &err));
    ck_assert_int_eq(s, STORE_CANCELED);
    struct store_job b = make("b", 0, NULL, NULL);
    claim();
    OK(store_job_cancel(store, b.id, &s, &err));
    ck_assert_int_eq(s, STORE_CANCELING);
    ck_assert_int_eq(store_job_publish(store, b.id, 1, &result, &version, &err), QD_CONFLICT);
    ck_assert_int_eq(store_job_delete(store, b.id, &err), QD_CONFLICT);
    OK(store_job_canceled(store, b.id, 1, &err));
    ck_assert_int_eq(get(b.id).state, STORE_CANCELED);
    OK(store_job_retry(store, b.id, &err));
    claim();
    struct store_failure f = {"invalid", "user", "bad model", "conv1"};
    ck_assert_int_eq(store_job_fail(store, b.id, 1, &f, &err), QD_CONFLICT);
    OK(store_job_fail(store, b.id, 2, &f, &err));
    ck_assert_str_eq(get(b.id).error_subject, "conv1");
    ck_assert_int_eq(store_job_cancel(store, b.id, &s, &err), QD_CONFLICT);
    OK(store_job_delete(store, b.id, &err));
    ck_assert_int_eq(store_job_get(store, b.id, &arena, &b, &err), QD_NOT_FOUND);
}
END_TEST

START_TEST(recover__former_instance__requeued_then_lost)
{
    struct store_job j = make("a", 0, NULL, NULL), k = make("b", -1, NULL, NULL);
    struct store_recovered r;
    enum store_state s;
    claim();
    claim();
    OK(store_job_cancel(store, k.id, &s, &err));
    OK(store_recover(store, &r, &err));
    ck_assert_int_eq(r.requeued + r.canceled + r.lost, 0); /* its own jobs stay */
    for (int i = 0; i < STORE_MAX_FAILURES; i++) {
        store_close(store);
        open_store();
        OK(store_recover(store, &r, &err));
        ck_assert_int_eq(r.canceled, i == 0);
        ck_assert_int_eq(r.requeued, i < STORE_MAX_FAILURES - 1);
        ck_assert_int_eq(r.lost, i == STORE_MAX_FAILURES - 1);
        claim();
    }
    ck_assert_int_eq(get(j.id).state, STORE_FAILED);
    ck_assert_str_eq(get(j.id).error_class, "lost");
    ck_assert_int_eq(get(k.id).state, STORE_CANCELED);
}
END_TEST

START_TEST(list__pages_and_filters__each_job_once)
{
    char ids[7][32];
    for (int i = 0; i < 7; i++) {
        clock_ms++;
        snprintf(ids[i], 32, "%s", make(i % 2 ? "odd" : "even", 0, NULL, NULL).id);
    }
    struct store_job_filter f = {.limit = 3};
    struct store_job_page p;
    int seen = 0;
    do {
        OK(store_job_list(store, &f, &arena, &p, &err));
        for (size_t i = 0; i < p.n; i++) {
            ck_assert_str_eq(p.jobs[i].id, ids[6 - seen++]);
        }
        f.cursor = p.jobs[p.n - 1].id;
    } while (p.has_more);
    ck_assert_int_eq(seen, 7);
    f = (struct store_job_filter){.limit = 10, .name = "odd", .ascending = true};
    OK(store_job_list(store, &f, &arena, &p, &err));
    ck_assert_uint_eq(p.n, 3);
    ck_assert_str_eq(p.jobs[0].id, ids[1]);
    claim();
    f = (struct store_job_filter){.limit = 10, .states = 1u << STORE_RUNNING};
    OK(store_job_list(store, &f, &arena, &p, &err));
    ck_assert_uint_eq(p.n, 1);
    f.limit = 0;
    ck_assert_int_eq(store_job_list(store, &f, &arena, &p, &err), QD_INVALID);
}
END_TEST

START_TEST(open__folder_in_use__conflict)
{
    struct store_settings s = {.data_dir = dir};
    struct store *second = NULL;
    ck_assert_int_eq(store_open(&s, &second, &err), QD_CONFLICT);
    ck_assert_ptr_null(second);
}
END_TEST

START_TEST(open__newer_schema__refused)
{
    char path[128];
    FILE *f;
    store_close(store);
    store = NULL;
    /* user_version is a big-endian u32 at byte 60 of the file; closing emptied the WAL. */
    snprintf(path, sizeof(path), "%s/quantd.db", dir);
    f = fopen(path, "r+");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, 60, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite("\0\0\0\x63", 1, 4, f), 4);
    fclose(f);
    struct store_settings s = {.data_dir = dir};
    ck_assert_int_eq(store_open(&s, &store, &err), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.message, "99"));
}
END_TEST

Suite *test_store_suite(void)
{
    Suite *s = suite_create("store");
    TCase *t = tcase_create("store");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, create__then_get__same_job_with_inputs_and_event);
    tcase_add_test(t, create__bad_requests__refused_with_value_and_limit);
    tcase_add_test(t, create__idempotency__same_job_conflict_and_expiry);
    tcase_add_test(t, claim__priorities_and_delay__order_kept);
    tcase_add_test(t, publish__running__everything_there_once);
    tcase_add_test(t, publish__fault_at_every_step__all_or_nothing);
    tcase_add_test(t, cancel__every_state__as_the_table_says);
    tcase_add_test(t, recover__former_instance__requeued_then_lost);
    tcase_add_test(t, list__pages_and_filters__each_job_once);
    tcase_add_test(t, open__folder_in_use__conflict);
    tcase_add_test(t, open__newer_schema__refused);
    suite_add_tcase(s, t);
    return s;
}
