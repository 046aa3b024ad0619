/* quantd quantize MODEL --calibration DATA … --output DIR: the service's pipeline, offline. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/cmd.h"
#include "worker/worker_inputs.h"
#include "worker/worker_report.h"
#include "worker/worker_spec.h"
#include "worker/worker_table_read.h"
#include "worker/worker_threads.h"

#define MAX_FILES 64
#define MAX_RESULTS (WORKER_TABLE_FORMAT_COUNT + 4)

struct quantize {
    const char *model_path, *config_path, *output, *labels, *table_path, *statistics_path;
    struct worker_file calibration[MAX_FILES], validation[MAX_FILES];
    int n_calibration, n_validation, n_threads;
    bool table_format[WORKER_TABLE_FORMAT_COUNT]; /* json and csv always */
    json_t *config;
    struct worker_spec spec;
    struct qd_arena arena, model_arena; /* the model's bytes go as soon as they have been read */
    struct qc_reader *calibration_reader, *validation_reader;
    struct worker_threads *threads;
    struct qc_external external; /* bytes as the model's */
    struct qd_bytes artifact;
    struct qc_report *report;
    const char *results[MAX_RESULTS]; /* names of the files that are written */
    int n_results;
    bool made_output; /* the folder is new */
};

static const char usage[] =
    "usage: quantd quantize MODEL --calibration DATA [--calibration DATA ...] --output DIR\n"
    "           [--validation DATA ...] [--labels FILE] [--config JOB.json] [--threads N]\n"
    "           [--table FILE] [--table-format ncnn,tensorrt,ort,aimet]\n"
    "       quantd quantize MODEL --statistics FILE --output DIR [...]\n"
    "DATA: .npy, .npz, IDX (.gz), or tar/zip of PNG, JPEG or .npy\n"
    "--calibration: not needed with \"mode\": \"weight_only\" or \"dynamic\" in JOB.json\n"
    "--table: scales that win over calibration: calibration.json of another run, a TensorRT\n"
    "calibration cache, an ncnn table, AIMET encodings\n"
    "--statistics: statistics.qds of another run or of 'quantd statistics merge': no calibration\n"
    "is run; with --calibration or --validation the artifact is still verified\n";

static bool add_file(struct worker_file *files, int *n)
{
    if (*n == MAX_FILES) {
        (void)fprintf(stderr, "quantd quantize: more than %d files\n", MAX_FILES);
        return false;
    }
    files[(*n)++] = (struct worker_file){optarg, optarg};
    return true;
}

static bool parse_threads(struct quantize *q)
{
    char *end = NULL;
    long n = strtol(optarg, &end, 10);
    if (*end != '\0' || end == optarg || n < 1 || n > WORKER_THREADS_MAX) {
        (void)fprintf(stderr, "quantd quantize: --threads is '%s', allowed: 1 to %d\n", optarg,
                      WORKER_THREADS_MAX);
        return false;
    }
    q->n_threads = (int)n;
    return true;
}

/* Names between commas. */
static bool parse_table_formats(struct quantize *q)
{
    for (const char *at = optarg;;) {
        char name[16];
        struct qd_error err;
        enum worker_table_format format;
        size_t n = strcspn(at, ",");
        (void)snprintf(name, sizeof(name), "%.*s", (int)(n < sizeof(name) ? n : sizeof(name)),
                       at);
        if (worker_table_format_from_name(name, &format, &err) != QD_OK) {
            (void)fprintf(stderr, "quantd quantize: --table-format: %s\n", err.message);
            return false;
        }
        q->table_format[format] = true;
        if (at[n] == '\0') {
            return true;
        }
        at += n + 1;
    }
}

static bool parse_arguments(struct quantize *q, int argc, char **argv)
{
    static const struct option options[] = {{"calibration", required_argument, NULL, 'c'},
                                            {"validation", required_argument, NULL, 'v'},
                                            {"labels", required_argument, NULL, 'l'},
                                            {"config", required_argument, NULL, 'f'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"table", required_argument, NULL, 'b'},
                                            {"statistics", required_argument, NULL, 's'},
                                            {"table-format", required_argument, NULL, 'T'},
                                            {NULL, 0, NULL, 0}};
    bool good = true;
    int c;
    /* getopt wants the name in front of the arguments */
    while (good && (c = getopt_long(argc + 1, argv - 1, "", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            good = add_file(q->calibration, &q->n_calibration);
            break;
        case 'v':
            good = add_file(q->validation, &q->n_validation);
            break;
        case 'l':
            q->labels = optarg;
            break;
        case 'f':
            q->config_path = optarg;
            break;
        case 't':
            good = parse_threads(q);
            break;
        case 'b':
            q->table_path = optarg;
            break;
        case 's':
            q->statistics_path = optarg;
            break;
        case 'T':
            good = parse_table_formats(q);
            break;
        case 'o':
            q->output = optarg;
            break;
        default:
            good = false;
        }
    }
    if (good && optind == argc) {
        q->model_path = argv[argc - 1];
    }
    /* A configuration may name a mode that needs no data: qc_quantize knows. */
    bool data = q->n_calibration > 0 || q->config_path != NULL ||
                q->statistics_path != NULL;
    return good && q->model_path != NULL && data && q->output != NULL;
}

static enum qd_code load_config(struct quantize *q, struct qd_error *err)
{
    struct qd_bytes text;
    if (q->config_path == NULL) {
        return worker_spec_parse(NULL, &q->spec, err);
    }
    QD_TRY(cmd_read_file(q->config_path, &q->arena, &text, err));
    enum qd_code code = worker_spec_load((const char *)text.data, text.size, &q->config, err);
    code = code == QD_OK ? worker_spec_parse(q->config, &q->spec, err) : code;
    return code == QD_OK ? code : qd_wrap(err, code, "%s", q->config_path);
}

/* The inputs' shapes, from an arena of its own: the pipeline loads the model again. */
static enum qd_code open_readers(struct quantize *q, struct qd_bytes model, struct qd_error *err)
{
    struct qd_arena arena;
    struct qc_model_info *info = NULL;
    qd_arena_init(&arena, q->spec.options.memory_limit);
    enum qd_code code = qc_inspect(model, &q->external, &arena, &info, err);
    if (code == QD_OK && q->n_calibration > 0) {
        /* Without others they are of the samples that are held back, too. */
        code = worker_inputs_open(info, &q->spec.preprocess, q->calibration, q->n_calibration,
                                  q->n_validation > 0 ? NULL : q->labels,
                                  &q->calibration_reader, err);
    }
    if (code == QD_OK && q->n_validation > 0) {
        code = worker_inputs_open(info, &q->spec.preprocess, q->validation, q->n_validation,
                                  q->labels, &q->validation_reader, err);
    }
    if (code == QD_OK && q->labels != NULL && q->n_calibration + q->n_validation == 0) {
        code = qd_fail(err, QD_INVALID, "labels are given without samples that they are for");
    }
    qd_arena_done(&arena);
    return code;
}

static bool show_progress(void *ctx, enum qc_phase phase, int64_t done, int64_t total,
                          const char *unit)
{
    (void)ctx;
    if (total > 0) {
        (void)fprintf(stderr, "\r%-10s %lld/%lld %s\033[K", qc_phase_name(phase), (long long)done,
                      (long long)total, unit);
    } else {
        (void)fprintf(stderr, "\r%-10s\033[K", qc_phase_name(phase));
    }
    return true;
}

static void release_model(void *ctx)
{
    struct quantize *q = ctx;
    qd_arena_done(&q->model_arena);
}

static enum qd_code load_table(struct quantize *q, struct qc_job *job, struct qd_error *err)
{
    struct worker_table table;
    struct qc_table_row *rows = NULL;
    if (q->table_path == NULL) {
        return QD_OK;
    }
    QD_TRY(worker_table_read_file(q->table_path, q->table_path, &q->arena, &table, err));
    QD_TRY(worker_table_scales(&table, &q->arena, &rows, &job->n_table, err));
    job->table = rows;
    return QD_OK;
}

static enum qd_code run_pipeline(struct quantize *q, struct qd_error *err)
{
    struct qc_job job = {.release_model = release_model, .release_ctx = q};
    QD_TRY(load_config(q, err));
    QD_TRY(cmd_read_model(q->model_path, &q->model_arena, &job.model, &q->arena, &q->external,
                          err));
    uint8_t sha256[32];
    cmd_sha256_model(job.model, &q->external, sha256);
    job.external = &q->external;
    job.model_sha256 = sha256;
    job.candidates = q->spec.candidates;
    job.n_candidates = q->spec.n_candidates;
    if (q->statistics_path != NULL) {
        QD_TRY(cmd_read_file(q->statistics_path, &q->arena, &job.statistics, err));
    }
    QD_TRY(load_table(q, &job, err));
    QD_TRY(open_readers(q, job.model, err));
    QD_TRY(worker_threads_new(q->n_threads, &q->threads, err));
    job.calibration = q->calibration_reader;
    job.validation = q->validation_reader;
    job.threads = worker_threads_callback(q->threads);
    job.progress.step = isatty(STDERR_FILENO) ? show_progress : NULL;
    enum qd_code code =
        qc_quantize(&job, &q->spec.options, &q->arena, &q->artifact, &q->report, err);
    if (job.progress.step != NULL) {
        (void)fputs("\r\033[K", stderr);
    }
    return code;
}

/* ---- the results --------------------------------------------------------------------------- */

static enum qd_code put(struct quantize *q, FILE *sums, const char *name, const void *data,
                        size_t size, struct qd_error *err)
{
    char path[4096], hex[65];
    if (data == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "out of memory for '%s'", name);
    }
    (void)snprintf(path, sizeof(path), "%s/%s", q->output, name);
    QD_TRY(cmd_write_tmp(path, data, size, err));
    q->results[q->n_results++] = name;
    if (sums != NULL) {
        cmd_sha256(data, size, hex);
        (void)fprintf(sums, "%s  %s\n", hex, name);
    }
    return QD_OK;
}

static enum qd_code put_text(struct quantize *q, FILE *sums, const char *name, char *text,
                             struct qd_error *err)
{
    enum qd_code code = put(q, sums, name, text, text != NULL ? strlen(text) : 0, err);
    free(text);
    return code;
}

static enum qd_code put_json(struct quantize *q, FILE *sums, const char *name, json_t *json,
                             struct qd_error *err)
{
    char *text = json_dumps(json, JSON_INDENT(1));
    json_decref(json);
    return put_text(q, sums, name, text, err);
}

static enum qd_code put_table(struct quantize *q, FILE *sums,
                              enum worker_table_format format, struct qd_error *err)
{
    char *text = NULL;
    size_t size = 0;
    QD_TRY(worker_report_table(q->report, format, &text, &size, err));
    enum qd_code code = put(q, sums, worker_table_form(format)->file, text, size, err);
    free(text);
    return code;
}

static enum qd_code put_all(struct quantize *q, FILE *sums, struct qd_error *err)
{
    QD_TRY(put(q, sums, "model.qdq.onnx", q->artifact.data, q->artifact.size, err));
    for (int i = 0; i < WORKER_TABLE_FORMAT_COUNT; i++) {
        if (q->table_format[i]) {
            QD_TRY(put_table(q, sums, (enum worker_table_format)i, err));
        }
    }
    if (q->report->statistics.size > 0) {
        QD_TRY(put(q, sums, "statistics.qds", q->report->statistics.data,
                   q->report->statistics.size, err));
    }
    return put_json(q, sums, "report.json", worker_report_json(q->report), err);
}

/* Before hours of work, not after them. */
static enum qd_code make_output(struct quantize *q, struct qd_error *err)
{
    if (strlen(q->output) > 4096 - 64) {
        return qd_fail(err, QD_INVALID, "the path of the output folder is too long");
    }
    q->made_output = mkdir(q->output, 0777) == 0;
    if (!q->made_output && errno != EEXIST) {
        return qd_fail_errno(err, errno, "create folder '%s'", q->output);
    }
    struct stat st;
    if (stat(q->output, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return qd_fail_errno(err, ENOTDIR, "write to '%s'", q->output);
    }
    return access(q->output, W_OK | X_OK) == 0
               ? QD_OK
               : qd_fail_errno(err, errno, "write to folder '%s'", q->output);
}

/* All files or none. */
static enum qd_code write_results(struct quantize *q, struct qd_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *sums = open_memstream(&text, &size);
    if (sums == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "out of memory");
    }
    enum qd_code code = put_all(q, sums, err);
    (void)fclose(sums);
    code = code == QD_OK ? put(q, NULL, "SHA256SUMS", text, size, err) : code;
    free(text);
    if (code != QD_OK) {
        cmd_discard(q->output, q->results, q->n_results);
    } else {
        code = cmd_publish(q->output, q->results, q->n_results, err);
    }
    return code;
}

static void print_summary(const struct quantize *q)
{
    char *text = worker_report_text(q->report);
    if (text != NULL) {
        (void)fputs(text, stdout);
    }
    free(text);
}

int cmd_quantize(int argc, char **argv)
{
    struct quantize *q = NULL;
    struct qd_error err = {.code = QD_OK};
    if (cmd_asks_help(argc, argv)) {
        (void)fputs(usage, stdout);
        return CMD_OK;
    }
    q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return CMD_FAILED;
    }
    q->table_format[WORKER_TABLE_JSON] = q->table_format[WORKER_TABLE_CSV] = true;
    q->n_threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    q->n_threads = q->n_threads < 1 ? 1 : q->n_threads;
    if (!parse_arguments(q, argc, argv)) {
        (void)fputs(usage, stderr);
        free(q);
        return CMD_USAGE;
    }
    qd_arena_init(&q->arena, 0);
    qd_arena_init(&q->model_arena, 0);
    enum qd_code code = make_output(q, &err);
    code = code == QD_OK ? run_pipeline(q, &err) : code;
    if (q->report != NULL) { /* after a failed gate too: its report says why */
        struct qd_error write_err = {.code = QD_OK};
        enum qd_code written = write_results(q, &write_err);
        print_summary(q);
        if (code == QD_OK) {
            code = written;
            err = write_err;
        }
    }
    if (q->made_output && code != QD_OK) {
        (void)rmdir(q->output); /* unless there are results, of a failed gate */
    }
    worker_threads_free(q->threads);
    qc_reader_free(q->calibration_reader);
    qc_reader_free(q->validation_reader);
    json_decref(q->config);
    qd_arena_done(&q->model_arena);
    qd_arena_done(&q->arena);
    free(q);
    return cmd_report_error("quantize", code, &err);
}
