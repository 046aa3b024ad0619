/* Settings of the daemon: one table, three sources. File < environment < flag.
 *
 * A setting `log_level` is `log_level = debug` in the file, QUANTD_LOG_LEVEL in the environment
 * and --log-level on the command line. Unknown names are errors everywhere, so that a misspelt
 * limit is not silently absent. */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdio.h>

#include "quantcore/base/qd_error.h"

#define DAEMON_TEXT_MAX 256 /* bytes of a text setting with its NUL */

struct daemon_config {
    char listen[DAEMON_TEXT_MAX]; /* "ADDRESS:PORT" */
    char hosts[DAEMON_TEXT_MAX]; /* separated by spaces */
    char data[DAEMON_TEXT_MAX];
    char log_level[DAEMON_TEXT_MAX], log_format[DAEMON_TEXT_MAX];
    uint64_t connections_max;
    uint64_t idle_timeout, header_timeout, drain_timeout; /* s */
    uint64_t body_rate_min; /* bytes a second */
    uint64_t event_heartbeat; /* s */
    uint64_t body_max;      /* bytes */
    uint64_t min_free;      /* bytes */
    uint64_t workers, job_threads;
    uint64_t job_memory;    /* bytes */
    uint64_t job_deadline;  /* s */
    char worker_program[DAEMON_TEXT_MAX];
};

enum daemon_type {
    DAEMON_TEXT = 0,
    DAEMON_NUMBER, /* whole number within [low, high] */
    DAEMON_SIZE,   /* the same, with K, M, G (powers of 1024) allowed */
    DAEMON_CHOICE, /* one of the words in `choices` */
    DAEMON_TYPE_COUNT
};

struct daemon_setting {
    const char *name;
    enum daemon_type type;
    uint64_t low, high;
    const char *choices;      /* space separated */
    const char *default_text; /* in the form that the file has */
    size_t offset;            /* in struct daemon_config */
    const char *help;
};

extern const struct daemon_setting daemon_settings[];
extern const size_t daemon_n_settings;

void daemon_config_default(struct daemon_config *config);
/* Set one by its name in the file. `source` opens the message ("flag --x", "quantd.conf:3").
 * QD_NOT_FOUND: no such setting; QD_INVALID. */
QD_MUST_CHECK enum qd_code daemon_config_set(struct daemon_config *config, const char *name,
                                             const char *value, const char *source,
                                             struct qd_error *err);
/* Lines "name = value"; "#" begins a comment line. */
QD_MUST_CHECK enum qd_code daemon_config_read(struct daemon_config *config, FILE *file,
                                              const char *file_name, struct qd_error *err);
/* Everything: defaults, the file that --config or QUANTD_CONFIG names, environment ("A=b"
 * strings, NULL at the end), flags "--name value" and "--name=value". QD_NOT_FOUND for a flag
 * or argument that does not exist (a usage error), other codes for a bad value. */
QD_MUST_CHECK enum qd_code daemon_config_load(struct daemon_config *config, int argc,
                                              const char *const *argv, const char *const *environment,
                                              struct qd_error *err);
/* Cut "127.0.0.1:8080" or "[::1]:8080"; refuses what is no loopback address, since this daemon
 * has no way to tell who asks. ret_host has DAEMON_TEXT_MAX bytes. */
QD_MUST_CHECK enum qd_code daemon_config_listen(const struct daemon_config *config,
                                                char *ret_host, unsigned *ret_port,
                                                struct qd_error *err);
void daemon_config_help(FILE *out);

#endif
