#include "worker/worker_child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/store_jobs.h"
#include "worker/worker_external.h"
#include "worker/worker_inputs.h"
#include "worker/worker_progress.h"
#include "worker/worker_report.h"
#include "worker/worker_sandbox.h"
#include "worker/worker_spec.h"
#include "worker/worker_table_read.h"
#include "worker/worker_threads.h"

#define MAX_INPUTS STORE_INPUTS_MAX
#define ROWS_A_FRAME 200

struct child {
    struct worker_channel channel;
    json_t *job;
    const char *scratch;
    char path[MAX_INPUTS][32]; /* "/proc/self/fd/N" of each input */
    struct worker_file calibration[MAX_INPUTS], validation[MAX_INPUTS];
    int n_calibration, n_validation;
    const char *labels;
    struct worker_file table; /* path NULL: none */
    struct qd_bytes model, statistics; /* mapped */
    struct qc_external external;       /* mapped too */
    struct worker_external_digest digest[QC_EXTERNAL_MAX];
    uint8_t model_sha256[32];
    bool has_sha256;
    struct worker_spec spec;
    struct qd_arena arena;
    struct qc_reader *calibration_reader, *validation_reader;
    struct worker_threads *threads;
    struct qd_bytes artifact;
    struct qc_report *report;
    struct qc_check *check; /* of a submission; NULL for a job */
    enum qc_phase phase;
    bool phase_sent;
    struct timespec last;
};

/* ---- the job --------------------------------------------------------------------------------- */

static enum qd_code map_input(int fd, const json_t *input, struct qd_bytes *ret,
                              struct qd_error *err)
{
    json_int_t size = json_integer_value(json_object_get(input, "size"));
    if (size < 1 || size >= (json_int_t)1 << 31) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "the %s has %lld bytes, allowed: 1 to 2147483647",
                       json_string_value(json_object_get(input, "role")),
                       (long long)size);
    }
    /* A blob is never changed once it has its name. */
    void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        return qd_fail_errno(err, errno, "map an input");
    }
    *ret = (struct qd_bytes){data, (size_t)size};
    return QD_OK;
}

/* The blob's address, which the daemon knows: nothing is hashed again. */
static bool read_sha256(const json_t *input, uint8_t ret[32])
{
    const char *hex = json_string_value(json_object_get(input, "sha256"));
    bool good = hex != NULL && strlen(hex) == 64;
    for (size_t i = 0; good && i < 32; i++) {
        unsigned byte = 0;
        good = sscanf(hex + 2 * i, "%2x", &byte) == 1;
        ret[i] = (uint8_t)byte;
    }
    return good;
}

static enum qd_code take_external(struct child *c, int fd, const char *name, const json_t *input,
                                  struct qd_error *err)
{
    int n = c->external.n;
    if (n == QC_EXTERNAL_MAX) {
        return qd_fail(err, QD_INTERNAL, "the job has more than %d files of external data",
                       QC_EXTERNAL_MAX);
    }
    c->digest[n].name = name;
    if (!read_sha256(input, c->digest[n].sha256)) {
        return qd_fail(err, QD_INTERNAL, "the file '%.100s' of the job has no sha256", name);
    }
    c->external.files[n].name = name;
    QD_TRY(map_input(fd, input, &c->external.files[n].bytes, err));
    c->external.n++;
    return QD_OK;
}

static enum qd_code take_input(struct child *c, size_t i, const json_t *input,
                               struct qd_error *err)
{
    const char *role = json_string_value(json_object_get(input, "role"));
    const char *name = json_string_value(json_object_get(input, "name"));
    int fd = (int)json_integer_value(json_object_get(input, "fd"));
    if (role == NULL || name == NULL || fd < WORKER_FIRST_INPUT_FD) {
        return qd_fail(err, QD_INTERNAL, "input %zu of the job is incomplete", i);
    }
    (void)snprintf(c->path[i], sizeof(c->path[i]), "/proc/self/fd/%d", fd);
    struct worker_file file = {c->path[i], name};
    if (strcmp(role, "model") == 0) {
        c->has_sha256 = read_sha256(input, c->model_sha256);
        return map_input(fd, input, &c->model, err);
    }
    if (strcmp(role, "model.data") == 0) {
        return take_external(c, fd, name, input, err);
    }
    if (strncmp(name, "statistics/", 11) == 0) {
        return map_input(fd, input, &c->statistics, err);
    }
    if (strcmp(role, "calibration") == 0) {
        c->calibration[c->n_calibration++] = file;
    } else if (strncmp(name, "table/", 6) == 0) {
        c->table = (struct worker_file){file.path, name + 6};
    } else if (strncmp(name, "labels/", 7) == 0) {
        c->labels = file.path;
    } else {
        c->validation[c->n_validation++] = file;
    }
    return QD_OK;
}

static enum qd_code take_job(struct child *c, struct qd_error *err)
{
    const json_t *inputs = json_object_get(c->job, "inputs");
    json_t *config = json_object_get(c->job, "config");
    size_t n = json_array_size(inputs);
    c->scratch = json_string_value(json_object_get(c->job, "scratch"));
    if (c->scratch == NULL || n < 1 || n > MAX_INPUTS) {
        return qd_fail(err, QD_INTERNAL, "the job has %zu inputs, allowed: 1 to %d", n, MAX_INPUTS);
    }
    struct worker_sandbox sandbox = {.scratch = c->scratch,
                                     .first_input_fd = WORKER_FIRST_INPUT_FD,
                                     .n_inputs = (unsigned)n};
    json_int_t limit = json_integer_value(json_object_get(c->job, "memory_limit"));
    sandbox.memory_limit = limit > 0 ? (uint64_t)limit : 0;
    struct worker_sandbox_level level;
    QD_TRY(worker_sandbox_enter(&sandbox, &level, err));
    /* Only now: a thread started before would not be confined. */
    worker_channel_done(&c->channel);
    QD_TRY(worker_channel_init(&c->channel, WORKER_CHILD_FD, WORKER_HEARTBEAT_S, err));
    (void)printf("sandbox: landlock %s, seccomp %s\n", level.landlock ? "yes" : "no",
                 level.seccomp ? "yes" : "no");
    /* Unsorted archives are unpacked to a temporary file: only the scratch folder is writable. */
    if (setenv("TMPDIR", c->scratch, 1) != 0) {
        return qd_fail_errno(err, errno, "set TMPDIR");
    }
    for (size_t i = 0; i < n; i++) {
        QD_TRY(take_input(c, i, json_array_get(inputs, i), err));
    }
    if (c->model.data == NULL) {
        return qd_fail(err, QD_INVALID, "the job has no model");
    }
    worker_external_identify(c->digest, (size_t)c->external.n, c->model_sha256);
    return worker_spec_parse(json_is_object(config) ? config : NULL, &c->spec, err);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* At most ten progress frames a second: a fast network would flood the daemon. */
static bool is_due(struct child *c)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ms = (int64_t)(t.tv_sec - c->last.tv_sec) * 1000 +
                 (t.tv_nsec - c->last.tv_nsec) / 1000000;
    if (ms < 100) {
        return false;
    }
    c->last = t;
    return true;
}

static bool on_progress(void *ctx, enum qc_phase phase, int64_t done, int64_t total,
                        const char *unit)
{
    struct child *c = ctx;
    enum qd_code code = QD_OK;
    if (!c->phase_sent || phase != c->phase) {
        c->phase = phase;
        c->phase_sent = true;
        code = worker_channel_phase(&c->channel, qc_phase_name(phase), NULL);
    }
    if (code == QD_OK && total > 0 && (done == total || is_due(c))) {
        code = worker_channel_progress(&c->channel, done, total, unit, NULL);
    }
    return code == QD_OK; /* the daemon is gone: stop */
}

static enum qd_code open_readers(struct child *c, struct qd_error *err)
{
    struct qd_arena arena;
    struct qc_model_info *info = NULL;
    qd_arena_init(&arena, c->spec.options.memory_limit);
    enum qd_code code = qc_inspect(c->model, &c->external, &arena, &info, err);
    if (code == QD_OK && c->n_calibration > 0) {
        /* Without others they are of the samples that are held back, too. */
        code = worker_inputs_open(info, &c->spec.preprocess, c->calibration, c->n_calibration,
                                  c->n_validation > 0 ? NULL : c->labels,
                                  &c->calibration_reader, err);
    }
    if (code == QD_OK && c->n_validation > 0) {
        code = worker_inputs_open(info, &c->spec.preprocess, c->validation, c->n_validation,
                                  c->labels, &c->validation_reader, err);
    }
    if (code == QD_OK && c->labels != NULL && c->n_calibration + c->n_validation == 0) {
        code = qd_fail(err, QD_INVALID, "labels are given without samples that they are for");
    }
    qd_arena_done(&arena);
    return code;
}

static void unmap(struct qd_bytes *bytes)
{
    if (bytes->data != NULL) {
        (void)munmap((void *)(uintptr_t)bytes->data, bytes->size);
        bytes->data = NULL;
    }
}

static void unmap_model(void *ctx)
{
    struct child *c = ctx;
    unmap(&c->model);
    for (int i = 0; i < c->external.n; i++) {
        unmap(&c->external.files[i].bytes);
    }
}

static enum qd_code take_table(struct child *c, struct qc_job *job, struct qd_error *err)
{
    struct worker_table table;
    struct qc_table_row *rows = NULL;
    if (c->table.path == NULL) {
        return QD_OK;
    }
    QD_TRY(worker_table_read_file(c->table.path, c->table.label, &c->arena, &table, err));
    QD_TRY(worker_table_scales(&table, &c->arena, &rows, &job->n_table, err));
    job->table = rows;
    return QD_OK;
}

static enum qd_code run_job(struct child *c, struct qd_error *err)
{
    bool check = strcmp(json_string_value(json_object_get(c->job, "type")), "check") == 0;
    QD_TRY(take_job(c, err));
    (void)on_progress(c, QC_PHASE_VALIDATING, 0, 0, "");
    QD_TRY(open_readers(c, err));
    int n_threads = (int)json_integer_value(json_object_get(c->job, "threads"));
    QD_TRY(worker_threads_new(n_threads < 1 || check ? 1 : n_threads, &c->threads, err));
    struct qc_job job = {.model = c->model,
                         .external = &c->external,
                         .release_model = unmap_model,
                         .release_ctx = c,
                         .calibration = c->calibration_reader,
                         .validation = c->validation_reader,
                         .candidates = c->spec.candidates,
                         .n_candidates = c->spec.n_candidates,
                         .statistics = c->statistics,
                         .model_sha256 = c->has_sha256 ? c->model_sha256 : NULL,
                         .threads = worker_threads_callback(c->threads),
                         .progress = {on_progress, c}};
    QD_TRY(take_table(c, &job, err));
    if (check) {
        return qc_check(&job, &c->spec.options, &c->arena, &c->check, err);
    }
    return qc_quantize(&job, &c->spec.options, &c->arena, &c->artifact, &c->report, err);
}

/* ---- the result ------------------------------------------------------------------------------ */

static enum qd_code put_file(const struct child *c, const char *name, const void *data,
                             size_t size, struct qd_error *err)
{
    char path[4096];
    if (data == NULL ||
        snprintf(path, sizeof(path), "%s/%s", c->scratch, name) >= (int)sizeof(path)) {
        return qd_fail(err, QD_NO_MEMORY, "no room for '%s'", name);
    }
    FILE *f = fopen(path, "we");
    if (f == NULL) {
        return qd_fail_errno(err, errno, "create '%s'", name);
    }
    bool ok = fwrite(data, 1, size, f) == size;
    int cause = errno;
    if (fclose(f) != 0 && ok) { /* a small file is written only now */
        ok = false;
        cause = errno;
    }
    return ok ? QD_OK : qd_fail_errno(err, cause, "write '%s'", name);
}

static enum qd_code put_json(const struct child *c, const char *name, json_t *json,
                             struct qd_error *err)
{
    char *text = json_dumps(json, JSON_INDENT(1));
    enum qd_code code = put_file(c, name, text, text != NULL ? strlen(text) : 0, err);
    free(text);
    json_decref(json);
    return code;
}

static enum qd_code put_text(const struct child *c, const char *name, char *text,
                             struct qd_error *err)
{
    enum qd_code code = put_file(c, name, text, text != NULL ? strlen(text) : 0, err);
    free(text);
    return code;
}

static enum qd_code put_table(const struct child *c, enum worker_table_format format,
                              struct qd_error *err)
{
    char *text = NULL;
    size_t size = 0;
    QD_TRY(worker_report_table(c->report, format, &text, &size, err));
    enum qd_code code = put_file(c, worker_table_form(format)->file, text, size, err);
    free(text);
    return code;
}

static enum qd_code put_files(const struct child *c, struct qd_error *err)
{
    QD_TRY(put_file(c, "model.qdq.onnx", c->artifact.data, c->artifact.size, err));
    if (c->report->statistics.size > 0) {
        QD_TRY(put_file(c, "statistics.qds", c->report->statistics.data,
                        c->report->statistics.size, err));
    }
    QD_TRY(put_json(c, "report.json", worker_report_json(c->report), err));
    QD_TRY(put_text(c, "report.txt", worker_report_text(c->report), err));
    QD_TRY(put_table(c, WORKER_TABLE_JSON, err));
    return put_table(c, WORKER_TABLE_CSV, err);
}

/* Rows in slices, so that no frame comes near its limit. */
static enum qd_code send_rows(struct child *c, const char *key, json_t *rows, struct qd_error *err)
{
    enum qd_code code = QD_OK;
    for (size_t at = 0; at < json_array_size(rows) && code == QD_OK; at += ROWS_A_FRAME) {
        json_t *slice = json_array();
        for (size_t i = at; i < at + ROWS_A_FRAME && i < json_array_size(rows); i++) {
            json_array_append(slice, json_array_get(rows, i));
        }
        json_t *frame = json_pack("{s:s, s:o}", "type", "rows", key, slice);
        code = worker_channel_send(&c->channel, frame, err);
        json_decref(frame);
    }
    return code;
}

static json_t *artifact(const char *name, const char *content_type)
{
    return json_pack("{s:s, s:s, s:s}", "name", name, "file", name, "content_type", content_type);
}

/* What a list of jobs shows: the report without its tables. */
static json_t *summary_of(const struct qc_report *report)
{
    json_t *summary = worker_report_json(report);
    json_object_del(summary, "layers");
    return summary;
}

static enum qd_code send_result(struct child *c, bool passed, struct qd_error *err)
{
    QD_TRY(put_files(c, err));
    json_t *calibration = worker_report_calibration(c->report);
    json_t *layers = worker_report_layers(c->report);
    enum qd_code code =
        send_rows(c, "calibration", calibration, err);
    code = code == QD_OK ? send_rows(c, "layers", layers, err) : code;
    json_decref(calibration);
    json_decref(layers);
    if (code != QD_OK) {
        return code;
    }
    json_t *artifacts = json_pack("[o,o,o,o,o]",
                                  artifact("model.qdq.onnx", "application/octet-stream"),
                                  artifact("report.json", "application/json"),
                                  artifact("report.txt", "text/plain; charset=utf-8"),
                                  artifact("calibration.json", "application/json"),
                                  artifact("calibration.csv", "text/csv; charset=utf-8"));
    if (c->report->statistics.size > 0) {
        json_array_append_new(artifacts, artifact("statistics.qds", "application/octet-stream"));
    }
    json_t *frame = json_pack("{s:s, s:b, s:o, s:o}", "type", "result", "passed", passed,
                              "summary", summary_of(c->report), "artifacts", artifacts);
    code = worker_channel_send(&c->channel, frame, err);
    json_decref(frame);
    return code;
}

static enum qd_code send_check(struct child *c, struct qd_error *err)
{
    const struct qc_check *k = c->check;
    json_int_t threads = json_integer_value(json_object_get(c->job, "threads"));
    json_int_t each = threads > 0 ? threads : 1;
    json_t *frame = json_pack(
        "{s:s, s:{s:I, s:I, s:i, s:i, s:{s:I, s:I}}}", "type", "result", "summary",
        "n_calibration", (json_int_t)k->n_calibration, "n_verification",
        (json_int_t)k->n_verification, "n_nodes_int8", k->n_nodes_int8, "n_nodes_f32",
        k->n_nodes_f32, "memory_bytes", "total",
        (json_int_t)k->shared_bytes + each * (json_int_t)k->thread_bytes, "second_moments",
        each * (json_int_t)k->moments_bytes);
    enum qd_code code = worker_channel_send(&c->channel, frame, err);
    json_decref(frame);
    return code;
}

static int finish(struct child *c)
{
    struct qd_error err = {.code = QD_OK};
    enum qd_code code = run_job(c, &err);
    bool gate_failed = code == QD_CONFLICT && c->report != NULL;
    if (code == QD_OK && c->check != NULL) {
        code = send_check(c, &err);
    } else if (code == QD_OK || gate_failed) {
        code = send_result(c, !gate_failed, &err);
    }
    if (code != QD_OK) {
        struct qd_error send_err = {.code = QD_OK};
        err.code = code;
        code = worker_channel_error(&c->channel, &err, &send_err);
        if (code != QD_OK) {
            (void)fprintf(stderr, "%s; then: %s\n", err.message, send_err.message);
        }
    }
    return code == QD_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int worker_child_main(void)
{
    struct qd_error err = {.code = QD_OK};
    struct child *c = calloc(1, sizeof(*c));
    int status = EXIT_FAILURE;
    if (c == NULL) {
        return EXIT_FAILURE;
    }
    qd_arena_init(&c->arena, 0);
    if (worker_channel_init(&c->channel, WORKER_CHILD_FD, 0, &err) != QD_OK ||
        worker_channel_read(&c->channel, &c->job, &err) != QD_OK) {
        (void)fprintf(stderr, "quantd worker: %s\n", err.message);
    } else {
        status = finish(c);
    }
    worker_channel_done(&c->channel);
    worker_threads_free(c->threads);
    qc_reader_free(c->calibration_reader);
    qc_reader_free(c->validation_reader);
    qd_arena_done(&c->arena);
    unmap_model(c);
    json_decref(c->job);
    free(c);
    return status;
}
