/* A job's process that misbehaves as its job's configuration says: the test binary itself, started
 * again with "fake-child". */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/worker_progress.h"
#include "worker/worker_sandbox.h"

static struct worker_channel channel;
static char scratch[4096];

static void send_json(const char *text)
{
    struct qd_error err;
    json_t *frame = json_loads(text, 0, NULL);
    if (worker_channel_send(&channel, frame, &err) != QD_OK) {
        _exit(90);
    }
    json_decref(frame);
}

static void write_scratch(const char *name, const char *text)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s", scratch, name);
    FILE *f = fopen(path, "w");
    if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0) {
        _exit(91);
    }
}

#define RESULT(file)                                                                          \
    "{\"type\":\"result\",\"passed\":true,\"summary\":{\"x\":1},\"artifacts\":[{\"name\":"     \
    "\"model.onnx\",\"file\":\"" file "\",\"content_type\":\"application/onnx\"}],"           \
    "\"layers\":[{\"node\":\"c\",\"op_type\":\"Conv\",\"precision\":\"s8\",\"cosine\":0.5}]}"

static void child_result(void)
{
    char byte[8] = {0};
    if (read(WORKER_FIRST_INPUT_FD, byte, 5) != 5) {
        _exit(92);
    }
    worker_channel_phase(&channel, "pass1", NULL) == QD_OK ? (void)0 : _exit(93);
    worker_channel_progress(&channel, 2, 4, "samples", NULL) == QD_OK ? (void)0 : _exit(93);
    write_scratch("out.bin", byte);
    send_json("{\"type\":\"rows\",\"calibration\":[{\"tensor\":\"t\",\"op_type\":\"Conv\","
              "\"dtype\":\"s8\",\"scale\":0.5,\"zero_point\":1,\"count\":9,\"lo\":null,"
              "\"mean\":0.25}]}");
    send_json(RESULT("out.bin"));
}

static void child_raw(const char *header, size_t size)
{
    if (write(WORKER_CHILD_FD, header, size) < 0) {
        _exit(94);
    }
    pause();
}

static void child_sandbox(void)
{
    char text[256], path[64];
    struct worker_sandbox s = {.scratch = scratch, .memory_limit = 0, .file_limit = 1 << 20};
    struct worker_sandbox_level level;
    struct qd_error err;
    worker_channel_done(&channel);
    worker_channel_init(&channel, WORKER_CHILD_FD, 0, &err) == QD_OK ? (void)0 : _exit(98);
    snprintf(path, sizeof(path), "/tmp/qd-escape-%d", (int)getpid());
    if (worker_sandbox_enter(&s, &level, &err) != QD_OK) {
        _exit(95);
    }
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) {
        unlink(path);
    }
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    write_scratch("allowed", "x");
    snprintf(text, sizeof(text),
             "{\"type\":\"result\",\"passed\":true,\"summary\":{\"landlock\":%d,\"seccomp\":%d,"
             "\"escaped\":%d,\"socket\":%d,\"core\":%d,\"signal\":%d},\"artifacts\":[]}",
             level.landlock, level.seccomp, fd >= 0, socket(AF_INET, SOCK_STREAM, 0) >= 0,
             core.rlim_max != 0, kill(getppid(), 0) == 0);
    send_json(text);
}

static void child_error(void)
{
    struct qd_error err;
    qd_fail_on(&err, QD_UNSUPPORTED, "conv1", "gr\xc3\xb6\xc3\x9f" "e [2,2] \xe5\x9b\xff");
    worker_channel_error(&channel, &err, NULL) == QD_OK ? (void)0 : _exit(93);
    _exit(1);
}

static void child_crash(void)
{
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void child_oom(void)
{
    raise(SIGKILL);
}

static void stay(void)
{
    for (;;) {
        pause();
    }
}

static void child_hang(void)
{
    signal(SIGTERM, SIG_IGN);
    stay();
}

static void child_silent(void)
{
    worker_channel_done(&channel);
    stay();
}

static void child_garbage(void)
{
    child_raw("\x05\0\0\0{{{{{", 9);
}

static void child_oversize(void)
{
    child_raw("\xff\xff\xff\x7f", 4);
}

static void child_escape(void)
{
    send_json(RESULT("../../quantd.db"));
}

static void child_symlink(void)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/link", scratch);
    symlink("/etc/passwd", path) == 0 ? (void)0 : _exit(97);
    send_json(RESULT("link"));
}

static void child_flood(void)
{
    for (;;) {
        send_json("{\"type\":\"phase\",\"phase\":\"pass1\"}");
    }
}

static void child_linger(void)
{
    write_scratch("out.bin", "x");
    send_json(RESULT("out.bin"));
    stay();
}

static void child_nonzero(void)
{
    write_scratch("out.bin", "x");
    send_json(RESULT("out.bin"));
    _exit(3);
}

static const struct {
    const char *mode; /* what the job's configuration asks for */
    void (*run)(void);
} modes[] = {
    {"result", child_result},     {"error", child_error},       {"crash", child_crash},
    {"oom", child_oom},           {"hang", child_hang},         {"silent", child_silent},
    {"garbage", child_garbage},   {"oversize", child_oversize}, {"escape", child_escape},
    {"symlink", child_symlink},   {"flood", child_flood},       {"linger", child_linger},
    {"nonzero", child_nonzero},   {"sandbox", child_sandbox},
};

static void fake_child_main(void)
{
    struct qd_error err;
    json_t *job = NULL;
    if (worker_channel_init(&channel, WORKER_CHILD_FD, 1, &err) != QD_OK ||
        worker_channel_read(&channel, &job, &err) != QD_OK) {
        _exit(96);
    }
    snprintf(scratch, sizeof(scratch), "%s", json_string_value(json_object_get(job, "scratch")));
    const char *mode =
        json_string_value(json_object_get(json_object_get(job, "config"), "mode"));
    for (size_t i = 0; i < QD_COUNT_OF(modes); i++) {
        if (strcmp(mode, modes[i].mode) == 0) {
            modes[i].run();
        }
    }
    _exit(0);
}

__attribute__((constructor)) static void fake_child(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "fake-child") == 0) {
        fake_child_main();
    }
}
