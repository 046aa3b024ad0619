#include "daemon/daemon_config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct daemon_config, member)

const struct daemon_setting daemon_settings[] = {
    {"listen", DAEMON_TEXT, 0, 0, NULL, "127.0.0.1:8080", AT(listen),
     "loopback address and port to serve on; port 0 takes a free one"},
    {"hosts", DAEMON_TEXT, 0, 0, NULL, "localhost", AT(hosts),
     "names with a dot that a Host header may have, beside addresses: those of proxies; * is any"},
    {"data", DAEMON_TEXT, 0, 0, NULL, "quantd-data", AT(data),
     "folder of the daemon's state; created when absent"},
    {"log_level", DAEMON_CHOICE, 0, 0, "debug info warn error", "info", AT(log_level),
     "least important lines of the log"},
    {"log_format", DAEMON_CHOICE, 0, 0, "json logfmt", "json", AT(log_format),
     "form of the log on stderr"},
    {"connections_max", DAEMON_NUMBER, 1, 65536, NULL, "1024", AT(connections_max),
     "connections open at the same time"},
    {"idle_timeout", DAEMON_NUMBER, 1, 3600, NULL, "30", AT(idle_timeout),
     "seconds without a byte after which a connection is closed"},
    {"header_timeout", DAEMON_NUMBER, 1, 3600, NULL, "10", AT(header_timeout),
     "seconds in which the header of a request must arrive"},
    {"body_rate_min", DAEMON_SIZE, 1, 1u << 30, NULL, "16K", AT(body_rate_min),
     "bytes a second that a transfer must keep up with after its first 30 s"},
    {"body_max", DAEMON_SIZE, 1024, 1ull << 40, NULL, "2G", AT(body_max),
     "bytes of one upload"},
    {"min_free", DAEMON_SIZE, 0, 1ull << 50, NULL, "256M", AT(min_free),
     "bytes that stay free on the disk: uploads beyond are refused"},
    {"workers", DAEMON_NUMBER, 1, 64, NULL, "1", AT(workers),
     "jobs that run at the same time, each in a process of its own"},
    {"job_threads", DAEMON_NUMBER, 1, 256, NULL, "2", AT(job_threads), "threads of one job"},
    {"job_memory", DAEMON_SIZE, 0, 1ull << 50, NULL, "8G", AT(job_memory),
     "address space of one job's process; 0: no limit"},
    {"job_deadline", DAEMON_NUMBER, 0, 30 * 86400, NULL, "86400", AT(job_deadline),
     "seconds that one attempt of a job may take; 0: no limit"},
    {"worker_program", DAEMON_TEXT, 0, 0, NULL, "/proc/self/exe", AT(worker_program),
     "what is started as 'worker' for a job: this program, or one that wraps it (nice, a cgroup)"},
    {"event_heartbeat", DAEMON_NUMBER, 1, 300, NULL, "15", AT(event_heartbeat),
     "seconds of silence after which an event stream gets a comment"},
    {"drain_timeout", DAEMON_NUMBER, 0, 3600, NULL, "20", AT(drain_timeout),
     "seconds that requests under way get after SIGTERM"},
};
const size_t daemon_n_settings = QD_COUNT_OF(daemon_settings);

static const struct daemon_setting *find_setting(const char *name)
{
    for (size_t i = 0; i < daemon_n_settings; i++) {
        if (strcmp(daemon_settings[i].name, name) == 0) {
            return &daemon_settings[i];
        }
    }
    return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *at = choices; *at != '\0'; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if (n == length && memcmp(at, value, n) == 0) {
            return true;
        }
        at += n;
    }
    return false;
}

/* Digits and, for sizes, one of K, M, G. */
static bool parse_number(const char *text, bool is_size, uint64_t *ret)
{
    uint64_t number = 0;
    if (!isdigit((unsigned char)*text)) {
        return false;
    }
    for (; isdigit((unsigned char)*text); text++) {
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number)) {
            return false;
        }
    }
    const char *units = "KMG";
    const char *unit = is_size && *text != '\0' ? strchr(units, *text) : NULL;
    if (unit != NULL) {
        uint64_t factor = (uint64_t)1024 << (10 * (unit - units));
        if (__builtin_mul_overflow(number, factor, &number)) {
            return false;
        }
        text++;
    }
    *ret = number;
    return *text == '\0';
}

enum qd_code daemon_config_set(struct daemon_config *config, const char *name, const char *value,
                               const char *source, struct qd_error *err)
{
    const struct daemon_setting *s = find_setting(name);
    if (s == NULL) {
        return qd_fail_on(err, QD_NOT_FOUND, name, "%s: there is no setting '%s'", source, name);
    }
    char *member = (char *)config + s->offset;
    uint64_t number = 0;
    switch (s->type) {
    case DAEMON_CHOICE:
        if (!is_choice(s->choices, value)) {
            return qd_fail_on(err, QD_INVALID, name, "%s: %s is '%s', not one of: %s", source,
                              name, value, s->choices);
        }
        break;
    case DAEMON_TEXT:
        if (value[0] == '\0' || strlen(value) >= DAEMON_TEXT_MAX) {
            return qd_fail_on(err, QD_INVALID, name, "%s: %s has %zu bytes, not 1 to %d", source,
                              name, strlen(value), DAEMON_TEXT_MAX - 1);
        }
        break;
    case DAEMON_NUMBER:
    case DAEMON_SIZE:
        if (!parse_number(value, s->type == DAEMON_SIZE, &number) || number < s->low ||
            number > s->high) {
            return qd_fail_on(err, QD_INVALID, name,
                              "%s: %s is '%s', not a whole number from %llu to %llu%s", source,
                              name, value, (unsigned long long)s->low,
                              (unsigned long long)s->high,
                              s->type == DAEMON_SIZE ? " (K, M or G may follow)" : "");
        }
        memcpy(member, &number, sizeof(number));
        return QD_OK;
    case DAEMON_TYPE_COUNT:
        return qd_fail(err, QD_INTERNAL, "setting '%s' has no type", name);
    }
    (void)snprintf(member, DAEMON_TEXT_MAX, "%s", value);
    return QD_OK;
}

void daemon_config_default(struct daemon_config *config)
{
    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < daemon_n_settings; i++) {
        struct qd_error err;
        /* A default that its own row refuses is a bug; the test reads them all. */
        if (daemon_config_set(config, daemon_settings[i].name, daemon_settings[i].default_text,
                              "default", &err) != QD_OK) {
            abort();
        }
    }
}

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) {
        text[--n] = '\0';
    }
    return text;
}

enum qd_code daemon_config_read(struct daemon_config *config, FILE *file, const char *file_name,
                                struct qd_error *err)
{
    char line[1024], source[300];
    for (unsigned number = 1; fgets(line, sizeof(line), file) != NULL; number++) {
        (void)snprintf(source, sizeof(source), "%.250s:%u", file_name, number);
        if (strchr(line, '\n') == NULL && !feof(file)) {
            return qd_fail(err, QD_INVALID, "%s: the line has more than %zu bytes", source,
                           sizeof(line) - 2);
        }
        char *name = trim(line);
        char *equals = strchr(name, '=');
        if (name[0] == '\0' || name[0] == '#') {
            continue;
        }
        if (equals == NULL) {
            return qd_fail(err, QD_INVALID, "%s: '%s' is not 'name = value'", source, name);
        }
        *equals = '\0';
        name = trim(name);
        enum qd_code code = daemon_config_set(config, name, trim(equals + 1), source, err);
        if (code != QD_OK) {
            /* In a file an unknown name is bad input, not wrong usage of the command. */
            err->code = QD_INVALID;
            return QD_INVALID;
        }
    }
    return ferror(file) ? qd_fail(err, QD_IO, "%s could not be read", file_name) : QD_OK;
}

static enum qd_code read_path(struct daemon_config *config, const char *path,
                              struct qd_error *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        (void)qd_fail_errno(err, errno, "configuration file %s", path);
        err->code = QD_INVALID; /* not found means something else here: a wrong flag */
        return QD_INVALID;
    }
    enum qd_code code = daemon_config_read(config, file, path, err);
    (void)fclose(file);
    return code;
}

/* "--log-level" -> "log_level"; false when it is no flag or too long for one. */
static bool flag_name(const char *argument, char *ret, size_t size, const char **ret_value)
{
    size_t n = strcspn(argument, "=");
    if (strncmp(argument, "--", 2) != 0 || n < 3 || n - 2 >= size) {
        return false;
    }
    for (size_t i = 2; i < n; i++) {
        ret[i - 2] = argument[i] == '-' ? '_' : argument[i] == '_' ? '?' : argument[i];
    }
    ret[n - 2] = '\0';
    *ret_value = argument[n] == '=' ? argument + n + 1 : NULL;
    return true;
}

/* Walk the flags: only `--config` (config NULL) or all others. */
static enum qd_code read_flags(struct daemon_config *config, int argc, const char *const *argv,
                               const char **ret_file, struct qd_error *err)
{
    char name[64], source[96];
    for (int i = 0; i < argc; i++) {
        const char *value = NULL;
        if (!flag_name(argv[i], name, sizeof(name), &value)) {
            return qd_fail(err, QD_NOT_FOUND, "'%s' is not a flag", argv[i]);
        }
        bool is_file = strcmp(name, "config") == 0;
        if (!is_file && find_setting(name) == NULL) {
            return qd_fail(err, QD_NOT_FOUND, "there is no flag '%.60s'", argv[i]);
        }
        if (value == NULL && ++i == argc) {
            return qd_fail(err, QD_NOT_FOUND, "flag '%s' needs a value", argv[i - 1]);
        }
        value = value != NULL ? value : argv[i];
        (void)snprintf(source, sizeof(source), "flag for %s", name);
        if (is_file) {
            *ret_file = value;
        } else if (config != NULL) {
            QD_TRY(daemon_config_set(config, name, value, source, err));
        }
    }
    return QD_OK;
}

static enum qd_code read_environment(struct daemon_config *config, const char *const *environment,
                                     const char **ret_file, struct qd_error *err)
{
    for (; *environment != NULL; environment++) {
        const char *text = *environment;
        const char *equals = strchr(text, '=');
        char name[64], source[96];
        size_t n = equals != NULL ? (size_t)(equals - text) : 0;
        if (strncmp(text, "QUANTD_", 7) != 0 || n < 8) {
            continue;
        }
        (void)snprintf(source, sizeof(source), "environment %.*s", (int)(n < 70 ? n : 70), text);
        if (n - 7 >= sizeof(name)) {
            return qd_fail(err, QD_INVALID, "%s: there is no such setting", source);
        }
        for (size_t i = 7; i < n; i++) {
            name[i - 7] = (char)tolower((unsigned char)text[i]);
        }
        name[n - 7] = '\0';
        if (strcmp(name, "config") == 0) {
            *ret_file = equals + 1;
        } else if (config != NULL &&
                   daemon_config_set(config, name, equals + 1, source, err) != QD_OK) {
            err->code = QD_INVALID;
            return QD_INVALID;
        }
    }
    return QD_OK;
}

enum qd_code daemon_config_load(struct daemon_config *config, int argc, const char *const *argv,
                                const char *const *environment, struct qd_error *err)
{
    const char *file = NULL;
    daemon_config_default(config);
    QD_TRY(read_environment(NULL, environment, &file, err));
    QD_TRY(read_flags(NULL, argc, argv, &file, err));
    if (file != NULL) {
        QD_TRY(read_path(config, file, err));
    }
    QD_TRY(read_environment(config, environment, &file, err));
    return read_flags(config, argc, argv, &file, err);
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        return (ntohl(v4.s_addr) >> 24) == 127;
    }
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

enum qd_code daemon_config_listen(const struct daemon_config *config, char *ret_host,
                                  unsigned *ret_port, struct qd_error *err)
{
    char host[DAEMON_TEXT_MAX];
    uint64_t port = 0;
    (void)snprintf(host, sizeof(host), "%s", config->listen);
    char *colon = strrchr(host, ':');
    if (colon == NULL || !parse_number(colon + 1, false, &port) || port > 65535) {
        return qd_fail_on(err, QD_INVALID, "listen",
                          "listen is '%s', not ADDRESS:PORT with a port from 0 to 65535",
                          config->listen);
    }
    *colon = '\0';
    char *address = host;
    size_t n = strlen(host);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        address++;
    }
    if (!is_loopback(address)) {
        return qd_fail_on(err, QD_INVALID, "listen",
                          "listen is '%s', which is not a loopback address (127.0.0.0/8 or "
                          "[::1]): requests are not authenticated; put a proxy in front",
                          config->listen);
    }
    (void)snprintf(ret_host, DAEMON_TEXT_MAX, "%s", address);
    *ret_port = (unsigned)port;
    return QD_OK;
}

void daemon_config_help(FILE *out)
{
    (void)fprintf(out, "Settings of serve (file < environment < flag; --config FILE names the "
                       "file of 'name = value' lines):\n");
    for (size_t i = 0; i < daemon_n_settings; i++) {
        const struct daemon_setting *s = &daemon_settings[i];
        char flag[64], env[64];
        size_t n = strlen(s->name);
        for (size_t c = 0; c <= n && n < sizeof(flag); c++) {
            flag[c] = s->name[c] == '_' ? '-' : s->name[c];
            env[c] = (char)toupper((unsigned char)s->name[c]);
        }
        (void)fprintf(out, "  --%-16s QUANTD_%-16s %s", flag, env, s->help);
        if (s->choices != NULL) {
            (void)fprintf(out, " (%s)", s->choices);
        } else if (s->type != DAEMON_TEXT) {
            (void)fprintf(out, " (%llu to %llu)", (unsigned long long)s->low,
                          (unsigned long long)s->high);
        }
        (void)fprintf(out, "; default %s\n", s->default_text);
    }
}
