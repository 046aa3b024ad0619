/* quantd: the program. Exit codes: 0 success, 1 failure, 2 wrong usage, 3 bad input. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cmd.h"
#include "daemon/daemon_config.h"
#include "daemon/daemon_loop.h"
#include "worker/worker_child.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INPUT = 3 };

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static int run_serve(int argc, char **argv);
static int run_worker(int argc, char **argv);
static int run_version(int argc, char **argv);
static int run_help(int argc, char **argv);

static const struct command commands[] = {
    {"serve", run_serve, "answer HTTP requests until SIGTERM"},
    {"quantize", cmd_quantize, "quantize a model with calibration data, without a server"},
    {"run", cmd_run, "run a model on samples: f32 or integer engine"},
    {"inspect", cmd_inspect, "tell what a model is and whether it can be quantized"},
    {"statistics", cmd_statistics, "merge statistics of calibrations of one model"},
    {"worker", run_worker, "run one job; the daemon starts it, people do not"},
    {"version", run_version, "print the version"},
    {"help", run_help, "print this list and the settings of serve"},
};

static void list_commands(FILE *out)
{
    (void)fprintf(out, "usage: quantd SUBCOMMAND [FLAGS]\n\nSubcommands:\n");
    for (size_t i = 0; i < QD_COUNT_OF(commands); i++) {
        (void)fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    }
}

static int exit_code_of(enum qd_code code)
{
    switch (code) {
    case QD_OK:
        return EXIT_OK;
    case QD_INVALID:
    case QD_UNSUPPORTED:
    case QD_LIMIT_EXCEEDED:
        return EXIT_INPUT;
    case QD_NOT_FOUND:
    case QD_CONFLICT:
    case QD_NO_MEMORY:
    case QD_NO_SPACE:
    case QD_IO:
    case QD_CANCELED:
    case QD_TIMED_OUT:
    case QD_INTERNAL:
    case QD_CODE_COUNT:
        break;
    }
    return EXIT_FAILED;
}

static int run_serve(int argc, char **argv)
{
    if (cmd_asks_help(argc, argv)) {
        return run_help(0, argv);
    }
    struct daemon_config config;
    struct qd_error err = {.code = QD_OK};
    enum qd_code code = daemon_config_load(&config, argc, (const char *const *)argv,
                                           (const char *const *)environ, &err);
    if (code == QD_NOT_FOUND) {
        (void)fprintf(stderr, "quantd serve: %s (see: quantd help)\n", err.message);
        return EXIT_USAGE;
    }
    code = code == QD_OK ? daemon_serve(&config, &err) : code;
    if (code != QD_OK) {
        (void)fprintf(stderr, "quantd serve: %s\n", err.message);
    }
    return exit_code_of(code);
}

static int refuse_arguments(const char *name, int argc, char **argv)
{
    if (argc == 0) {
        return EXIT_OK;
    }
    (void)fprintf(stderr, "quantd %s: takes no argument such as '%s'\n", name, argv[0]);
    return EXIT_USAGE;
}

static int run_worker(int argc, char **argv)
{
    int code = refuse_arguments("worker", argc, argv);
    return code == EXIT_OK ? worker_child_main() : code;
}

static int run_version(int argc, char **argv)
{
    int code = refuse_arguments("version", argc, argv);
    if (code == EXIT_OK) {
        (void)printf("quantd %s\n", DAEMON_VERSION);
    }
    return code;
}

static int run_help(int argc, char **argv)
{
    int code = refuse_arguments("help", argc, argv);
    if (code == EXIT_OK) {
        list_commands(stdout);
        (void)printf("\n");
        daemon_config_help(stdout);
        (void)printf("\nExit codes: 0 success, 1 failure, 2 wrong usage, 3 bad input.\n");
    }
    return code;
}

/* What is large goes back to the system when it is freed: glibc would raise these limits at the
 * first free of a large block, up to 32 and 64 MiB, and keep what a finished phase took. */
static void limit_malloc(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

int main(int argc, char **argv)
{
    limit_malloc();
    if (argc < 2) {
        list_commands(stderr);
        return EXIT_USAGE;
    }
    const char *name = strcmp(argv[1], "--help") == 0      ? "help"
                       : strcmp(argv[1], "--version") == 0 ? "version"
                                                           : argv[1];
    for (size_t i = 0; i < QD_COUNT_OF(commands); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return commands[i].run(argc - 2, argv + 2);
        }
    }
    (void)fprintf(stderr, "quantd: there is no subcommand '%s'\n", argv[1]);
    list_commands(stderr);
    return EXIT_USAGE;
}
