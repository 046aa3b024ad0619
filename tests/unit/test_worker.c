/* The pool with a fake child: the test binary itself, started again with "fake-child"
 * (tests/lib/fake_child.c). */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/worker.h"
#include "worker/worker_check.h"
#include "worker/worker_state.h"

/* --- the parent ----------------------------------------------------------------------------- */

static char dir[64];
static struct store *store;
static struct worker_pool *pool;
static uv_loop_t loop;
static struct qd_arena arena;
static struct qd_error err;
static uv_timer_t deadline;
static char job_id[32], wait_state[16];
static int n_changes, n_logs;
#define OK(expr) ck_assert_msg((expr) == QD_OK, "%s: %s", #expr, err.message)

static void on_change(void *arg, const char *job)
{
    (void)arg;
    (void)job;
    n_changes++;
    uv_stop(&loop);
}

static void on_log(void *arg, const char *job, const char *message)
{
    (void)arg;
    (void)job;
    (void)message;
    n_logs++;
}

static void too_late(uv_timer_t *timer)
{
    (void)timer;
    ck_abort_msg("job %s did not become %s in 30 s", job_id, wait_state);
}

static struct worker_settings settings(void)
{
    static const char *const args[] = {"fake-child", NULL};
    return (struct worker_settings){.n_workers = 2, .args = args, .on_change = on_change,
                                    .retry_delay_ms = 1, .kill_grace_ms = 200};
}

static void start(const struct worker_settings *s)
{
    OK(worker_pool_new(&loop, store, s, &pool, &err));
}

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/qd-worker-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    struct store_settings s = {.data_dir = dir};
    OK(store_open(&s, &store, &err));
    signal(SIGPIPE, SIG_IGN);
    qd_arena_init(&arena, 0);
    uv_loop_init(&loop);
    uv_timer_init(&loop, &deadline);
    uv_timer_start(&deadline, too_late, 30000, 0);
}

static void on_idle(void *arg)
{
    *(bool *)arg = true;
}

static void stop(void)
{
    bool idle = false;
    worker_pool_drain(pool, true, on_idle, &idle);
    while (!idle) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    worker_pool_free(pool);
}

static void teardown(void)
{
    char command[128];
    stop();
    uv_close((uv_handle_t *)&deadline, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    snprintf(command, sizeof(command), "test -z \"$(ls %s/scratch)\"", dir);
    ck_assert_msg(system(command) == 0, "scratch folders are left");
    store_close(store);
    qd_arena_done(&arena);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static void submit(const char *mode)
{
    char config[64], sha[STORE_SHA256_SIZE];
    struct store_blob_writer *w;
    uint64_t size;
    bool existing;
    struct store_job j;
    OK(store_blob_writer_new(store_blobs_of(store), 0, 100, &w, &err));
    OK(store_blob_write(w, "hello", 5, &err));
    OK(store_blob_commit(w, NULL, sha, &size, &err));
    store_blob_writer_free(w);
    snprintf(config, sizeof(config), "{\"mode\":\"%s\"}", mode);
    struct store_input in = {.role = "model", .blob = sha, .size = 5, .name = "m.onnx"};
    struct store_job_new n = {.name = "net", .config = config, .inputs = &in, .n_inputs = 1};
    OK(store_job_create(store, &n, &arena, &j, &existing, &err));
    snprintf(job_id, sizeof(job_id), "%s", j.id);
    worker_pool_kick(pool);
}

static struct store_job wait_for(enum store_state state)
{
    struct store_job j = {0};
    snprintf(wait_state, sizeof(wait_state), "%s", store_state_name(state));
    OK(store_job_get(store, job_id, &arena, &j, &err));
    while (j.state != state) {
        ck_assert_msg(!store_state_is_final(j.state), "%s: %s", store_state_name(j.state),
                      j.error_message != NULL ? j.error_message : "");
        uv_run(&loop, UV_RUN_DEFAULT);
        OK(store_job_get(store, job_id, &arena, &j, &err));
    }
    return j;
}

static struct store_job run_to(const char *mode, enum store_state state)
{
    struct worker_settings s = settings();
    start(&s);
    submit(mode);
    return wait_for(state);
}

START_TEST(run__result__published_with_rows_and_blob)
{
    struct store_artifact a;
    struct store_calibration *c;
    struct store_layer *l;
    size_t n;
    char byte[8] = {0};
    int fd;
    uint64_t size;
    struct store_job j = run_to("result", STORE_SUCCEEDED);
    ck_assert_int_eq(j.version, 1);
    ck_assert_str_eq(j.summary, "{\"x\":1}");
    ck_assert_str_eq(j.phase, "pass1");
    ck_assert_int_eq(j.total, 4);
    OK(store_artifact_get(store, job_id, "model.onnx", &arena, &a, &err));
    OK(store_blob_open(store_blobs_of(store), a.blob, &fd, &size, &err));
    ck_assert_int_eq(read(fd, byte, 8), 5);
    ck_assert_str_eq(byte, "hello");
    close(fd);
    OK(store_calibration_list(store, job_id, &arena, &c, &n, &err));
    ck_assert(n == 1 && c[0].scale == 0.5 && c[0].lo != c[0].lo);
    ck_assert_str_eq(c[0].extra, "{\"mean\":0.25}");
    OK(store_layers(store, job_id, &arena, &l, &n, &err));
    ck_assert(n == 1 && l[0].cosine == 0.5 && l[0].extra == NULL);
}
END_TEST

START_TEST(run__error_frame__failed_as_user_without_retry)
{
    struct store_job j = run_to("error", STORE_FAILED);
    ck_assert_str_eq(j.error_code, "unsupported");
    ck_assert_str_eq(j.error_class, "user");
    ck_assert_str_eq(j.error_subject, "conv1");
    ck_assert_ptr_nonnull(strstr(j.error_message, "gr\xc3\xb6\xc3\x9f" "e [2,2] ???"));
    ck_assert_int_eq(j.attempt, 1);
}
END_TEST

/* mode, class, part of the message, attempts */
static const struct {
    const char *mode, *error_class, *message;
    int attempts;
} ends[] = {
    {"crash", "internal", "SIGSEGV", 3},
    {"oom", "resource", "SIGKILL", 1},
    {"garbage", "internal", "not JSON", 3},
    {"oversize", "internal", "2147483647", 3},
    {"nothing", "internal", "exited with 0 and without a result", 3},
    {"nonzero", "internal", "exited with 3", 3},
    {"escape", "internal", "not plain", 3},
    {"symlink", "internal", "link", 3},
    {"flood", "internal", "more than 200 ", 3},
    {"linger", "internal", "did not exit", 3},
};

START_TEST(run__bad_end__failed_with_class_and_sentence)
{
    struct store_job j = run_to(ends[_i].mode, STORE_FAILED);
    struct store_artifact *a;
    size_t n;
    ck_assert_str_eq(j.error_class, ends[_i].error_class);
    ck_assert_msg(strstr(j.error_message, ends[_i].message) != NULL, "%s", j.error_message);
    ck_assert_int_eq(j.attempt, ends[_i].attempts);
    OK(store_artifacts(store, job_id, &arena, &a, &n, &err));
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(run__no_such_program__failed_and_nothing_left)
{
    struct worker_settings s = settings();
    s.exe = "/nonexistent/quantd";
    start(&s);
    submit("result");
    struct store_job j = wait_for(STORE_FAILED);
    ck_assert_str_eq(j.error_class, "internal");
    ck_assert_ptr_nonnull(strstr(j.error_message, "/nonexistent/quantd"));
}
END_TEST

START_TEST(run__program_that_reads_nothing__failed)
{
    struct worker_settings s = settings();
    s.exe = "/bin/true";
    start(&s);
    submit("result");
    ck_assert_ptr_nonnull(strstr(wait_for(STORE_FAILED).error_message, "without a result"));
}
END_TEST

START_TEST(run__past_deadline__failed_as_resource)
{
    struct worker_settings s = settings();
    s.deadline_s = 1;
    start(&s);
    submit("hang");
    struct store_job j = wait_for(STORE_FAILED);
    ck_assert_str_eq(j.error_class, "resource");
    ck_assert_str_eq(j.error_code, "timed_out");
    ck_assert_ptr_nonnull(strstr(j.error_message, "deadline of 1 s"));
}
END_TEST

START_TEST(run__no_heartbeat__lost_after_three)
{
    struct worker_settings s = settings();
    s.heartbeat_timeout_s = 1;
    start(&s);
    submit("silent");
    struct store_job j = wait_for(STORE_FAILED);
    ck_assert_str_eq(j.error_class, "lost");
    ck_assert_int_eq(j.attempt, STORE_MAX_FAILURES);
}
END_TEST

START_TEST(run__heartbeats_only__not_lost)
{
    struct worker_settings s = settings();
    s.heartbeat_timeout_s = 2;
    s.deadline_s = 4;
    start(&s);
    submit("hang");
    ck_assert_str_eq(wait_for(STORE_FAILED).error_code, "timed_out");
}
END_TEST

START_TEST(cancel__child_that_ignores_sigterm__canceled)
{
    enum store_state state;
    run_to("hang", STORE_RUNNING);
    OK(store_job_cancel(store, job_id, &state, &err));
    ck_assert_int_eq(state, STORE_CANCELING);
    worker_pool_cancel(pool, job_id);
    ck_assert_int_eq(wait_for(STORE_CANCELED).attempt, 1);
}
END_TEST

START_TEST(drain__running_job__queued_without_failure)
{
    struct worker_settings s = settings();
    struct store_job j;
    run_to("hang", STORE_RUNNING);
    stop();
    OK(store_job_get(store, job_id, &arena, &j, &err));
    ck_assert_int_eq(j.state, STORE_QUEUED);
    ck_assert_int_eq(j.failures, 0);
    start(&s);
}
END_TEST

/* As on a full disk: no write of the store succeeds. */
START_TEST(drain__outcome_cannot_be_written__left_to_the_next_start)
{
    struct worker_settings s = settings();
    struct store_recovered recovered;
    struct store_job j;
    struct rlimit old, none;
    s.on_log = on_log;
    start(&s);
    submit("hang");
    wait_for(STORE_RUNNING);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = (struct rlimit){.rlim_cur = 1, .rlim_max = old.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    n_logs = 0;
    stop(); /* does end */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_int_ge(n_logs, 1);
    ck_assert_int_le(n_logs, 20); /* not a line for every try */
    OK(store_job_get(store, job_id, &arena, &j, &err));
    ck_assert_int_eq(j.state, STORE_RUNNING);
    store_close(store);
    OK(store_open(&(struct store_settings){.data_dir = dir}, &store, &err));
    OK(store_recover(store, &recovered, &err));
    OK(store_job_get(store, job_id, &arena, &j, &err));
    ck_assert_int_eq(j.state, STORE_QUEUED);
    start(&s);
}
END_TEST

START_TEST(sandbox__child__no_network_no_core)
{
    json_t *level = json_loads(run_to("sandbox", STORE_SUCCEEDED).summary, 0, NULL);
    ck_assert_ptr_nonnull(level);
    ck_assert_int_eq(json_integer_value(json_object_get(level, "core")), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(level, "socket")),
                     !json_integer_value(json_object_get(level, "seccomp")));
    ck_assert_int_eq(json_integer_value(json_object_get(level, "signal")),
                     !json_integer_value(json_object_get(level, "seccomp")));
    ck_assert_int_eq(json_integer_value(json_object_get(level, "escaped")),
                     !json_integer_value(json_object_get(level, "landlock")));
    printf("sandbox reached: landlock %d, seccomp %d\n",
           (int)json_integer_value(json_object_get(level, "landlock")),
           (int)json_integer_value(json_object_get(level, "seccomp")));
    json_decref(level);
}
END_TEST

/* --- checks --------------------------------------------------------------------------------- */

static struct worker_check *start_check(const char *mode)
{
    struct worker_settings s = settings();
    struct worker_check *check = NULL;
    struct store_blob_writer *w;
    char config[64], sha[STORE_SHA256_SIZE];
    uint64_t size;
    s.check_deadline_s = strcmp(mode, "hang") == 0 ? 1 : 0; /* a sanitizer is slow */
    start(&s);
    OK(store_blob_writer_new(store_blobs_of(store), 0, 100, &w, &err));
    OK(store_blob_write(w, "hello", 5, &err));
    OK(store_blob_commit(w, NULL, sha, &size, &err));
    store_blob_writer_free(w);
    snprintf(config, sizeof(config), "{\"mode\":\"%s\"}", mode);
    struct store_input in = {.role = "model", .blob = sha, .size = 5, .name = "m.onnx"};
    ck_assert(worker_check_may_start(pool));
    OK(worker_check_new(pool, "net", config, &in, 1, &check, &err));
    ck_assert(!worker_check_is_done(check));
    snprintf(wait_state, sizeof(wait_state), "checked");
    return check;
}

static const struct {
    const char *mode, *message;
    enum qd_code code;
} checks[] = {
    {"result", "", QD_OK},
    {"error", "gr\xc3\xb6\xc3\x9f" "e", QD_UNSUPPORTED},
    {"crash", "signal 11 (SIGSEGV)", QD_INTERNAL},
    {"oom", "signal 9 (SIGKILL)", QD_INTERNAL},
    {"garbage", "protocol", QD_INTERNAL},
    {"oversize", "protocol", QD_INTERNAL},
    {"nothing", "without a result", QD_INTERNAL},
    {"hang", "longer than 1 s", QD_TIMED_OUT},
    {"flood", "protocol", QD_INTERNAL},
};

START_TEST(check__each_end__code_and_sentence)
{
    const json_t *summary = NULL;
    struct worker_check *check = start_check(checks[_i].mode);
    while (!worker_check_is_done(check)) {
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    err.message[0] = '\0';
    ck_assert_int_eq(worker_check_result(check, &summary, &err), checks[_i].code);
    ck_assert_msg(strstr(err.message, checks[_i].message) != NULL, "%s", err.message);
    ck_assert_int_eq(summary != NULL, checks[_i].code == QD_OK);
    worker_check_free(check);
}
END_TEST

START_TEST(check__freed_or_drained_while_it_runs__ends)
{
    const json_t *summary = NULL;
    struct worker_check *check = start_check("hang");
    if (_i == 0) {
        worker_check_free(check); /* the fixture sees to it that nothing is left */
        return;
    }
    worker_pool_drain(pool, true, NULL, NULL);
    ck_assert(!worker_check_may_start(pool));
    while (!worker_check_is_done(check)) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(worker_check_result(check, &summary, &err), QD_CANCELED);
    worker_check_free(check);
}
END_TEST

START_TEST(sweep__log_of_no_job__removed)
{
    char command[256];
    run_to("result", STORE_SUCCEEDED);
    snprintf(command, sizeof(command), "touch %s/logs/j_none-1.log %s/logs/other", dir, dir);
    ck_assert_int_eq(system(command), 0);
    worker_pool_sweep(pool);
    snprintf(command, sizeof(command),
             "cd %s/logs && test ! -e j_none-1.log && test -e other && test -e %s-1.log", dir,
             job_id);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(stage_allows__all_pairs__table)
{
    int allowed = 0;
    for (unsigned a = 0; a < WORKER_STAGE_COUNT; a++) {
        for (unsigned b = 0; b < WORKER_STAGE_COUNT; b++) {
            allowed += worker_stage_allows((enum worker_stage)a, (enum worker_stage)b);
        }
        ck_assert(!worker_stage_allows((enum worker_stage)a, (enum worker_stage)a));
    }
    ck_assert_int_eq(allowed, 10);
    ck_assert(!worker_stage_allows(WORKER_RUNNING, WORKER_SETTLING));
    ck_assert(worker_stage_allows(WORKER_SETTLING, WORKER_IDLE));
}
END_TEST

Suite *test_worker_suite(void)
{
    Suite *s = suite_create("worker");
    TCase *t = tcase_create("pool"), *plain = tcase_create("state");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_tags(t, "starts_itself"); /* what qemu's user emulation cannot */
    tcase_add_test(t, run__result__published_with_rows_and_blob);
    tcase_add_test(t, run__error_frame__failed_as_user_without_retry);
    tcase_add_loop_test(t, run__bad_end__failed_with_class_and_sentence, 0,
                        (int)QD_COUNT_OF(ends));
    tcase_add_test(t, run__no_such_program__failed_and_nothing_left);
    tcase_add_test(t, run__program_that_reads_nothing__failed);
    tcase_add_test(t, run__past_deadline__failed_as_resource);
    tcase_add_test(t, run__no_heartbeat__lost_after_three);
    tcase_add_test(t, run__heartbeats_only__not_lost);
    tcase_add_test(t, cancel__child_that_ignores_sigterm__canceled);
    tcase_add_test(t, drain__running_job__queued_without_failure);
    tcase_add_test(t, drain__outcome_cannot_be_written__left_to_the_next_start);
    tcase_add_test(t, sandbox__child__no_network_no_core);
    tcase_add_loop_test(t, check__each_end__code_and_sentence, 0, (int)QD_COUNT_OF(checks));
    tcase_add_loop_test(t, check__freed_or_drained_while_it_runs__ends, 0, 2);
    tcase_add_test(t, sweep__log_of_no_job__removed);
    tcase_add_test(plain, stage_allows__all_pairs__table);
    suite_add_tcase(s, t);
    suite_add_tcase(s, plain);
    return s;
}
