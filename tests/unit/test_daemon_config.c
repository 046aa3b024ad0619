#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon_config.h"
#include "daemon/daemon_log.h"

Suite *test_daemon_config_suite(void);

static const char *const empty[] = {NULL};

static enum qd_code read_text(struct daemon_config *config, const char *text,
                              struct qd_error *err)
{
    FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    ck_assert_ptr_nonnull(file);
    enum qd_code code = daemon_config_read(config, file, "q.conf", err);
    fclose(file);
    return code;
}

START_TEST(daemon_config_default__every_row__accepted_and_documented)
{
    struct daemon_config config;
    daemon_config_default(&config);
    ck_assert_str_eq(config.listen, "127.0.0.1:8080");
    ck_assert_uint_eq(config.body_max, 2ull << 30);
    for (size_t i = 0; i < daemon_n_settings; i++) {
        ck_assert_str_ne(daemon_settings[i].help, "");
    }
}
END_TEST

START_TEST(daemon_config_set__bounds__kept)
{
    struct daemon_config config;
    struct qd_error err;
    daemon_config_default(&config);
    ck_assert_int_eq(daemon_config_set(&config, "idle_timeout", "3600", "t", &err), QD_OK);
    ck_assert_uint_eq(config.idle_timeout, 3600);
    static const char *const bad[] = {"0", "3601", "", "-1", " 5", "5s", "1K", "99999999999999999999"};
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        ck_assert_int_eq(daemon_config_set(&config, "idle_timeout", bad[i], "t", &err),
                         QD_INVALID);
        ck_assert_ptr_nonnull(strstr(err.message, "idle_timeout"));
        ck_assert_ptr_nonnull(strstr(err.message, "3600"));
    }
    ck_assert_uint_eq(config.idle_timeout, 3600);
    ck_assert_int_eq(daemon_config_set(&config, "body_max", "3M", "t", &err), QD_OK);
    ck_assert_uint_eq(config.body_max, 3u << 20);
    ck_assert_int_eq(daemon_config_set(&config, "body_max", "3MM", "t", &err), QD_INVALID);
    ck_assert_int_eq(daemon_config_set(&config, "body_max", "99999999999999G", "t", &err),
                     QD_INVALID);
    ck_assert_int_eq(daemon_config_set(&config, "log_level", "warn", "t", &err), QD_OK);
    ck_assert_int_eq(daemon_config_set(&config, "log_level", "war", "t", &err), QD_INVALID);
    ck_assert_int_eq(daemon_config_set(&config, "colour", "blue", "t", &err), QD_NOT_FOUND);
    char text[DAEMON_TEXT_MAX + 1];
    memset(text, 'x', sizeof(text));
    text[DAEMON_TEXT_MAX] = '\0';
    ck_assert_int_eq(daemon_config_set(&config, "data", text, "t", &err), QD_INVALID);
    text[DAEMON_TEXT_MAX - 1] = '\0';
    ck_assert_int_eq(daemon_config_set(&config, "data", text, "t", &err), QD_OK);
}
END_TEST

START_TEST(daemon_config_read__lines__set_or_named)
{
    struct daemon_config config;
    struct qd_error err;
    daemon_config_default(&config);
    ck_assert_int_eq(read_text(&config, "# c\n\n  listen = 127.0.0.1:9 \r\ndata=/x y", &err),
                     QD_OK);
    ck_assert_str_eq(config.listen, "127.0.0.1:9");
    ck_assert_str_eq(config.data, "/x y");
    ck_assert_int_eq(read_text(&config, "\ncolour = blue\n", &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "q.conf:2"));
    ck_assert_ptr_nonnull(strstr(err.message, "colour"));
    ck_assert_int_eq(read_text(&config, "listen\n", &err), QD_INVALID);
    char text[3000];
    memset(text, ' ', sizeof(text));
    text[2999] = '\0';
    ck_assert_int_eq(read_text(&config, text, &err), QD_INVALID);
}
END_TEST

START_TEST(daemon_config_load__three_sources__flag_beats_env_beats_file)
{
    char path[] = "/tmp/quantd-config-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    const char *text = "idle_timeout = 1\nheader_timeout = 1\ndrain_timeout = 1\n";
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    char config_env[64];
    snprintf(config_env, sizeof(config_env), "QUANTD_CONFIG=%s", path);
    const char *env[] = {config_env, "QUANTD_IDLE_TIMEOUT=2", "QUANTD_HEADER_TIMEOUT=2", "HOME=/", NULL};
    const char *flags[] = {"--idle-timeout", "3", "--body-max=7K"};
    struct daemon_config config;
    struct qd_error err;
    ck_assert_int_eq(daemon_config_load(&config, 3, flags, env, &err), QD_OK);
    ck_assert_uint_eq(config.idle_timeout, 3);
    ck_assert_uint_eq(config.header_timeout, 2);
    ck_assert_uint_eq(config.drain_timeout, 1);
    ck_assert_uint_eq(config.body_max, 7168);
    unlink(path);
    ck_assert_int_eq(daemon_config_load(&config, 0, flags, env, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, path));
}
END_TEST

START_TEST(daemon_config_load__wrong_usage__not_found)
{
    static const char *const bad[][2] = {{"--colour", "x"}, {"x", "--listen"}, {"-l", "x"},
                                   {"--", "x"},       {"--idle-timeout=4", "--data"},
                                   {"--idle_timeout", "4"}};
    struct daemon_config config;
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        struct qd_error err = {.code = QD_OK};
        ck_assert_msg(daemon_config_load(&config, 2, bad[i], empty, &err) == QD_NOT_FOUND,
                      "row %zu", i);
        ck_assert(err.message[0] != '\0');
    }
    const char *env[] = {"QUANTD_COLOUR=blue", NULL};
    struct qd_error err;
    ck_assert_int_eq(daemon_config_load(&config, 0, empty, env, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "QUANTD_COLOUR"));
}
END_TEST

START_TEST(daemon_config_listen__addresses__loopback_only)
{
    struct daemon_config config;
    struct qd_error err;
    char host[DAEMON_TEXT_MAX];
    unsigned port = 0;
    daemon_config_default(&config);
    strcpy(config.listen, "[::1]:0");
    ck_assert_int_eq(daemon_config_listen(&config, host, &port, &err), QD_OK);
    ck_assert_str_eq(host, "::1");
    strcpy(config.listen, "127.9.9.9:65535");
    ck_assert_int_eq(daemon_config_listen(&config, host, &port, &err), QD_OK);
    ck_assert_uint_eq(port, 65535);
    static const char *const bad[] = {"0.0.0.0:1",      "[::]:1", "localhost:1", "127.0.0.1",
                                      "127.0.0.1:65536", "127.0.0.1:", ":80", "10.0.0.1:80"};
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        strcpy(config.listen, bad[i]);
        ck_assert_msg(daemon_config_listen(&config, host, &port, &err) == QD_INVALID, "%s",
                      bad[i]);
        ck_assert_ptr_nonnull(strstr(err.message, bad[i]));
    }
}
END_TEST

static void log_line(char *ret, size_t size, bool json, enum daemon_level least,
                     const char *message, const char *value)
{
    memset(ret, 0, size);
    FILE *file = fmemopen(ret, size, "w");
    struct daemon_log log = {.out = file, .json = json, .level = least};
    const struct daemon_field fields[] = {{"name", value, 0}, {"n", NULL, 2.5}};
    daemon_log_write(&log, DAEMON_INFO, message, fields, 2);
    fclose(file);
}

START_TEST(daemon_log_write__hostile_text__one_escaped_line)
{
    static char text[8192], huge[6000];
    log_line(text, sizeof(text), true, DAEMON_DEBUG, "m", "a\"b\\\n\x1b\xff");
    ck_assert_ptr_nonnull(strstr(text, "\"name\":\"a\\\"b\\\\\\u000a\\u001b\\u00ff\",\"n\":2.5}\n"));
    log_line(text, sizeof(text), false, DAEMON_DEBUG, "m", "x y");
    ck_assert_ptr_nonnull(strstr(text, " message=\"m\" name=\"x y\" n=2.5\n"));
    memset(huge, '\n', sizeof(huge) - 1);
    log_line(text, sizeof(text), true, DAEMON_DEBUG, "m", huge);
    ck_assert_ptr_nonnull(strstr(text, "~\"}\n"));
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    log_line(text, sizeof(text), true, DAEMON_WARN, "m", "x");
    ck_assert_str_eq(text, "");
}
END_TEST

/* deploy/quantd.conf: every setting once, with its default (the folder of the state apart). */
START_TEST(daemon_config_read__example_file__complete_and_the_defaults)
{
    struct daemon_config config;
    struct qd_error err;
    char line[256], name[64];
    size_t n = 0;
    FILE *file = fopen("deploy/quantd.conf", "re");
    ck_assert_ptr_nonnull(file);
    daemon_config_default(&config);
    struct daemon_config defaults = config;
    ck_assert_msg(daemon_config_read(&config, file, "quantd.conf", &err) == QD_OK, "%s",
                  err.message);
    ck_assert_str_eq(config.data, "/var/lib/quantd");
    memcpy(config.data, defaults.data, sizeof(config.data));
    for (size_t i = 0; i < daemon_n_settings; i++) {
        bool found = false;
        rewind(file);
        while (fgets(line, sizeof(line), file) != NULL) {
            found = found || (sscanf(line, "%63[a-z_] =", name) == 1 &&
                              strcmp(name, daemon_settings[i].name) == 0);
        }
        ck_assert_msg(found, "deploy/quantd.conf lacks %s", daemon_settings[i].name);
        n++;
    }
    (void)fclose(file);
    ck_assert_uint_eq(n, daemon_n_settings);
    ck_assert_uint_eq(config.workers, defaults.workers);
    ck_assert_uint_eq(config.job_memory, defaults.job_memory);
    ck_assert_uint_eq(config.body_max, defaults.body_max);
    ck_assert_uint_eq(config.min_free, defaults.min_free);
    ck_assert_str_eq(config.listen, defaults.listen);
    ck_assert_str_eq(config.worker_program, defaults.worker_program);
}
END_TEST

Suite *test_daemon_config_suite(void)
{
    Suite *suite = suite_create("test_daemon_config");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, daemon_config_default__every_row__accepted_and_documented);
    tcase_add_test(tests, daemon_config_set__bounds__kept);
    tcase_add_test(tests, daemon_config_read__lines__set_or_named);
    tcase_add_test(tests, daemon_config_load__three_sources__flag_beats_env_beats_file);
    tcase_add_test(tests, daemon_config_load__wrong_usage__not_found);
    tcase_add_test(tests, daemon_config_listen__addresses__loopback_only);
    tcase_add_test(tests, daemon_log_write__hostile_text__one_escaped_line);
    tcase_add_test(tests, daemon_config_read__example_file__complete_and_the_defaults);
    suite_add_tcase(suite, tests);
    return suite;
}
