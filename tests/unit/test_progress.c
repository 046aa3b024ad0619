#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/worker_progress.h"

static struct qd_error err;
static int n_frames;
static char last_type[64];

static enum qd_code on_frame(void *arg, const char *type, json_t *frame, struct qd_error *e)
{
    (void)arg;
    (void)frame;
    n_frames++;
    strncpy(last_type, type, sizeof(last_type) - 1);
    return strcmp(type, "refuse") == 0 ? qd_fail(e, QD_CONFLICT, "refused") : QD_OK;
}

static size_t encode(const char *text, uint8_t **ret)
{
    size_t size = 0;
    json_t *j = json_loads(text, 0, NULL);
    ck_assert_int_eq(worker_frame_encode(j, ret, &size, &err), QD_OK);
    json_decref(j);
    return size;
}

static enum qd_code feed_raw(const char *payload, size_t length)
{
    struct worker_decoder d;
    uint8_t header[4] = {(uint8_t)length, (uint8_t)(length >> 8), (uint8_t)(length >> 16),
                         (uint8_t)(length >> 24)};
    worker_decoder_init(&d);
    enum qd_code code = worker_decoder_feed(&d, header, 4, on_frame, NULL, &err);
    if (code == QD_OK) {
        code = worker_decoder_feed(&d, payload, strlen(payload), on_frame, NULL, &err);
    }
    if (code != QD_OK) { /* refuses everything from now on */
        ck_assert_int_eq(worker_decoder_feed(&d, "", 1, on_frame, NULL, NULL), QD_INVALID);
    }
    worker_decoder_done(&d);
    return code;
}

START_TEST(decoder_feed__any_split__same_frames)
{
    uint8_t *a, *b, all[256];
    size_t na = encode("{\"type\":\"heartbeat\"}", &a);
    size_t nb = encode("{\"type\":\"phase\",\"phase\":\"\\u00e9\"}", &b);
    memcpy(all, a, na);
    memcpy(all + na, b, nb);
    for (size_t step = 1; step <= na + nb; step++) {
        struct worker_decoder d;
        worker_decoder_init(&d);
        n_frames = 0;
        for (size_t at = 0; at < na + nb; at += step) {
            size_t n = na + nb - at < step ? na + nb - at : step;
            ck_assert_int_eq(worker_decoder_feed(&d, all + at, n, on_frame, NULL, &err), QD_OK);
        }
        ck_assert_int_eq(n_frames, 2);
        ck_assert_str_eq(last_type, "phase");
        worker_decoder_done(&d);
    }
    free(a);
    free(b);
}
END_TEST

START_TEST(decoder_feed__hostile__refused)
{
    char deep[64];
    memset(deep, '[', 40);
    deep[40] = '\0';
    ck_assert_int_eq(feed_raw("", 0), QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(feed_raw("", WORKER_FRAME_MAX + 1), QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(feed_raw(deep, 40), QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(feed_raw("[]", 2), QD_INVALID);
    ck_assert_int_eq(feed_raw("{}", 2), QD_INVALID);
    ck_assert_int_eq(feed_raw("{\"type\":7}", 10), QD_INVALID);
    ck_assert_int_eq(feed_raw("{\"type\":\"\xff\"}", 12), QD_INVALID);
    ck_assert_int_eq(feed_raw("{\"type\":\"refuse\"}", 17), QD_CONFLICT);
    n_frames = 0;
    ck_assert_int_eq(feed_raw("{\"type\":\"[[[[[[[[[[[[[[[[[[[[[[\"}", 33), QD_OK);
    ck_assert_int_eq(n_frames, 1);
}
END_TEST

static void *send_many(void *arg)
{
    struct qd_error e;
    for (int i = 0; i < 500; i++) {
        if (worker_channel_progress(arg, i, 500, "samples", &e) != QD_OK) {
            return (void *)1;
        }
    }
    return NULL;
}

START_TEST(channel_send__several_threads__frames_do_not_mix)
{
    struct worker_channel out, in;
    pthread_t threads[4];
    int fds[2], n = 0;
    int64_t sum = 0;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(worker_channel_init(&out, fds[0], 1, &err), QD_OK);
    ck_assert_int_eq(worker_channel_init(&in, fds[1], 0, &err), QD_OK);
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, send_many, &out);
    }
    bool beat = false;
    while (n < 2000 || !beat) { /* the heartbeat comes after a second */
        json_t *frame = NULL;
        ck_assert_msg(worker_channel_read(&in, &frame, &err) == QD_OK, "%s", err.message);
        if (strcmp(json_string_value(json_object_get(frame, "type")), "heartbeat") == 0) {
            beat = true;
        } else {
            sum += json_integer_value(json_object_get(frame, "done"));
            n++;
        }
        json_decref(frame);
    }
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_int_eq(sum, 4 * 499 * 500 / 2);
    worker_channel_done(&out);
    close(fds[0]);
    json_t *none = NULL;
    ck_assert_int_eq(worker_channel_read(&in, &none, &err), QD_NOT_FOUND);
    worker_channel_done(&in);
    close(fds[1]);
}
END_TEST

Suite *test_progress_suite(void)
{
    Suite *s = suite_create("progress");
    TCase *t = tcase_create("frames");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, decoder_feed__any_split__same_frames);
    tcase_add_test(t, decoder_feed__hostile__refused);
    tcase_add_test(t, channel_send__several_threads__frames_do_not_mix);
    suite_add_tcase(s, t);
    return s;
}
