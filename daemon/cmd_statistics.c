/* quantd statistics merge FILE … --output FILE: parts of a calibration as the whole. */
#include <stdio.h>
#include <string.h>

#include "daemon/cmd.h"
#include "quantcore/quantcore.h"

#define MAX_PARTS 1024

static const char usage[] =
    "usage: quantd statistics merge FILE [FILE ...] --output FILE\n"
    "       quantd statistics show FILE\n"
    "FILE: statistics.qds of a quantization\n";

/* Never half a file under its name. */
static enum qd_code write_file(const char *path, struct qd_bytes bytes, struct qd_error *err)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    size_t n = slash != NULL ? (size_t)(slash - path) : 1;
    if (strlen(path) >= sizeof(folder) - 8 || name[0] == '\0') {
        return qd_fail(err, QD_INVALID, "'%.200s' is no name for a file", path);
    }
    (void)snprintf(folder, sizeof(folder), "%.*s", (int)n, slash != NULL ? path : ".");
    QD_TRY(cmd_write_tmp(path, bytes.data, bytes.size, err));
    return cmd_publish(n == 0 ? "/" : folder, &name, 1, err);
}

static enum qd_code merge(char **files, int n, const char *output, struct qd_arena *arena,
                          struct qd_error *err)
{
    struct qd_bytes *parts = NULL, merged;
    struct qc_statistics_info info;
    QD_TRY(qd_arena_array(arena, (size_t)n, sizeof(*parts), &parts, err));
    for (int i = 0; i < n; i++) {
        QD_TRY(cmd_read_file(files[i], arena, &parts[i], err));
    }
    QD_TRY(qc_merge_statistics(parts, n, arena, &merged, &info, err));
    if (output != NULL) {
        QD_TRY(write_file(output, merged, err));
    }
    (void)printf("model sha256:");
    for (int i = 0; i < 32; i++) {
        (void)printf("%02x", info.model_sha256[i]);
    }
    (void)printf(", %lld samples, %d tensors%s, %zu bytes\n", (long long)info.n_samples,
                 info.n_tensors, info.has_histograms ? "" : " without histograms", merged.size);
    return QD_OK;
}

int cmd_statistics(int argc, char **argv)
{
    struct qd_arena arena;
    struct qd_error err = {.code = QD_OK};
    const char *output = NULL;
    int n = argc - 1;
    bool show = argc == 2 && strcmp(argv[0], "show") == 0;
    bool merges = argc >= 4 && strcmp(argv[0], "merge") == 0 &&
                  strcmp(argv[argc - 2], "--output") == 0;
    if (cmd_asks_help(argc, argv)) {
        (void)fputs(usage, stdout);
        return CMD_OK;
    }
    if (merges) {
        output = argv[argc - 1];
        n = argc - 3;
    }
    if (!show && (!merges || n > MAX_PARTS)) {
        (void)fputs(usage, stderr);
        return CMD_USAGE;
    }
    qd_arena_init(&arena, 0);
    enum qd_code code = merge(argv + 1, n, output, &arena, &err);
    qd_arena_done(&arena);
    return cmd_report_error("statistics", code, &err);
}
