#include "worker/worker_result.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void worker_result_init(struct worker_result *result)
{
    *result = (struct worker_result){.calibration = json_array(), .layers = json_array()};
}

void worker_result_done(struct worker_result *result)
{
    json_decref(result->calibration);
    json_decref(result->layers);
    json_decref(result->final);
    memset(result, 0, sizeof(*result));
}

static enum qd_code add_rows(json_t *rows, const char *name, const json_t *frame,
                             struct qd_error *err)
{
    json_t *more = json_object_get(frame, name);
    if (more == NULL) {
        return QD_OK;
    }
    if (!json_is_array(more)) {
        return qd_fail(err, QD_INVALID, "'%s' is not an array", name);
    }
    if (json_array_size(rows) + json_array_size(more) > WORKER_MAX_ROWS) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "more than %d rows of '%s'", WORKER_MAX_ROWS, name);
    }
    return json_array_extend(rows, more) == 0
               ? QD_OK
               : qd_fail(err, QD_NO_MEMORY, "no memory for rows of '%s'", name);
}

enum qd_code worker_result_add(struct worker_result *result, const char *type, json_t *frame,
                               struct qd_error *err)
{
    QD_TRY(add_rows(result->calibration, "calibration", frame, err));
    QD_TRY(add_rows(result->layers, "layers", frame, err));
    if (strcmp(type, "result") == 0) {
        result->final = json_incref(frame);
    }
    return QD_OK;
}

static enum qd_code get_text(const json_t *row, const char *name, bool needed,
                             struct qd_arena *arena, const char **ret, struct qd_error *err)
{
    const json_t *value = json_object_get(row, name);
    *ret = NULL;
    if (!needed && (value == NULL || json_is_null(value))) {
        return QD_OK;
    }
    if (!json_is_string(value)) {
        return qd_fail(err, QD_INVALID, "'%s' is not a text", name);
    }
    return qd_arena_string(arena, json_string_value(value), json_string_length(value), ret, err);
}

/* null or absent: NaN. */
static enum qd_code get_real(const json_t *row, const char *name, double *ret,
                             struct qd_error *err)
{
    const json_t *value = json_object_get(row, name);
    if (value == NULL || json_is_null(value)) {
        *ret = (double)NAN;
        return QD_OK;
    }
    if (!json_is_number(value)) {
        return qd_fail(err, QD_INVALID, "'%s' is not a number", name);
    }
    *ret = json_number_value(value);
    return QD_OK;
}

static enum qd_code get_int(const json_t *row, const char *name, int64_t *ret,
                            struct qd_error *err)
{
    const json_t *value = json_object_get(row, name);
    if (!json_is_integer(value)) {
        return qd_fail(err, QD_INVALID, "'%s' is not an integer", name);
    }
    *ret = json_integer_value(value);
    return QD_OK;
}

static enum qd_code get_json(const json_t *row, const char *name, struct qd_arena *arena,
                             const char **ret, struct qd_error *err)
{
    const json_t *value = json_object_get(row, name);
    *ret = NULL;
    if (value == NULL || json_is_null(value)) {
        return QD_OK;
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for '%s'", name);
    }
    enum qd_code code = qd_arena_string(arena, text, strlen(text), ret, err);
    free(text);
    return code;
}

/* What no column holds is kept as JSON. `columns` ends with NULL. */
static enum qd_code get_extra(const json_t *row, const char *const *columns,
                              struct qd_arena *arena, const char **ret, struct qd_error *err)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)row); /* shallow; row stays as it is */
    json_t *holder = json_object();
    for (size_t i = 0; columns[i] != NULL; i++) {
        json_object_del(rest, columns[i]);
    }
    if (json_object_size(rest) > 0) {
        json_object_set(holder, "extra", rest);
    }
    enum qd_code code = get_json(holder, "extra", arena, ret, err);
    json_decref(rest);
    json_decref(holder);
    return code;
}

static enum qd_code read_calibration(const json_t *row, struct qd_arena *arena,
                                     struct store_calibration *c, struct qd_error *err)
{
    static const char *const columns[] = {"tensor", "op_type", "dtype",         "scale",
                                          "lo",     "hi",      "min",           "max",
                                          "count",  "zero_point", "clipped_share", NULL};
    QD_TRY(get_text(row, "tensor", true, arena, &c->tensor, err));
    QD_TRY(get_text(row, "op_type", true, arena, &c->op, err));
    QD_TRY(get_text(row, "dtype", true, arena, &c->dtype, err));
    QD_TRY(get_real(row, "scale", &c->scale, err));
    if (!(c->scale > 0) || isinf(c->scale)) {
        return qd_fail_on(err, QD_INVALID, c->tensor, "scale %g of tensor '%s' is not positive",
                          c->scale, c->tensor);
    }
    QD_TRY(get_int(row, "zero_point", &c->zero_point, err));
    QD_TRY(get_int(row, "count", &c->count, err));
    QD_TRY(get_real(row, "lo", &c->lo, err));
    QD_TRY(get_real(row, "hi", &c->hi, err));
    QD_TRY(get_real(row, "min", &c->min, err));
    QD_TRY(get_real(row, "max", &c->max, err));
    QD_TRY(get_real(row, "clipped_share", &c->saturated, err));
    return get_extra(row, columns, arena, &c->extra, err);
}

static enum qd_code read_layer(const json_t *row, struct qd_arena *arena, struct store_layer *l,
                               struct qd_error *err)
{
    static const char *const columns[] = {"node",          "op_type",            "precision",
                                          "local_sqnr_db", "cumulative_sqnr_db", "cosine",
                                          "max_error",     "reason",             NULL};
    QD_TRY(get_text(row, "node", true, arena, &l->node, err));
    QD_TRY(get_text(row, "op_type", true, arena, &l->op, err));
    QD_TRY(get_text(row, "precision", true, arena, &l->precision, err));
    QD_TRY(get_text(row, "reason", false, arena, &l->reason, err));
    QD_TRY(get_real(row, "local_sqnr_db", &l->local_sqnr_db, err));
    QD_TRY(get_real(row, "cumulative_sqnr_db", &l->cumulative_sqnr_db, err));
    QD_TRY(get_real(row, "cosine", &l->cosine, err));
    QD_TRY(get_real(row, "max_error", &l->max_abs_error, err));
    return get_extra(row, columns, arena, &l->extra, err);
}

/* One plain name without a folder; printable, not hidden. */
static bool plain_name(const char *name)
{
    size_t n = strlen(name);
    if (n < 1 || n > 200 || name[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= 0x20 || c >= 0x7f || c == '/' || c == '\\' || c == '"') {
            return false;
        }
    }
    return true;
}

static enum qd_code ingest_file(int dir_fd, const char *file, struct store_blobs *blobs,
                                uint64_t max_bytes, struct qd_arena *arena,
                                struct store_artifact *a, struct qd_error *err)
{
    char sha256[STORE_SHA256_SIZE];
    struct stat st;
    /* NONBLOCK: a fifo would wait for its writer. */
    int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return qd_fail(err, QD_INVALID, "open '%s': %s", file, strerror(errno));
    }
    enum qd_code code = QD_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
        code = qd_fail(err, QD_INVALID, "'%s' is not a plain file", file);
    } else {
        code = store_blob_ingest(blobs, fd, max_bytes, sha256, &a->size, err);
    }
    close(fd);
    QD_TRY(code);
    return qd_arena_string(arena, sha256, STORE_SHA256_SIZE - 1, &a->blob, err);
}

static enum qd_code ingest_artifacts(const json_t *list, int dir_fd, struct store_blobs *blobs,
                                     uint64_t max_bytes, struct qd_arena *arena,
                                     struct store_artifact *out, struct qd_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        const char *file = NULL;
        QD_TRY(get_text(row, "name", true, arena, &out[i].name, err));
        QD_TRY(get_text(row, "file", true, arena, &file, err));
        QD_TRY(get_text(row, "content_type", true, arena, &out[i].content_type, err));
        if (!plain_name(out[i].name) || !plain_name(file)) {
            return qd_fail(err, QD_INVALID, "artifact name '%.200s' or file '%.200s' is not plain",
                           out[i].name, file);
        }
        QD_TRY(ingest_file(dir_fd, file, blobs, max_bytes, arena, &out[i], err));
    }
    return QD_OK;
}

static enum qd_code read_rows(const struct worker_result *r, struct qd_arena *arena,
                              struct store_result *out, struct qd_error *err)
{
    struct store_calibration *c = NULL;
    struct store_layer *l = NULL;
    out->n_calibration = json_array_size(r->calibration);
    out->n_layers = json_array_size(r->layers);
    QD_TRY(qd_arena_array(arena, out->n_calibration, sizeof(*c), &c, err));
    QD_TRY(qd_arena_array(arena, out->n_layers, sizeof(*l), &l, err));
    for (size_t i = 0; i < out->n_calibration; i++) {
        QD_TRY(read_calibration(json_array_get(r->calibration, i), arena, &c[i], err));
    }
    for (size_t i = 0; i < out->n_layers; i++) {
        QD_TRY(read_layer(json_array_get(r->layers, i), arena, &l[i], err));
    }
    out->calibration = c;
    out->layers = l;
    return QD_OK;
}

enum qd_code worker_result_ingest(const struct worker_result *result, const char *scratch,
                                  struct store_blobs *blobs, uint64_t max_bytes,
                                  struct qd_arena *arena, struct store_result *ret,
                                  struct qd_error *err)
{
    struct store_result out = {0};
    struct store_artifact *artifacts = NULL;
    const json_t *list = json_object_get(result->final, "artifacts");
    size_t n = json_array_size(list);
    if (list != NULL && (!json_is_array(list) || n > WORKER_MAX_ARTIFACTS)) {
        return qd_fail(err, QD_INVALID, "artifacts: not an array of at most %d",
                       WORKER_MAX_ARTIFACTS);
    }
    QD_TRY(read_rows(result, arena, &out, err));
    QD_TRY(get_json(result->final, "summary", arena, &out.summary, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*artifacts), &artifacts, err));
    int dir_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir_fd < 0) {
        return qd_fail_errno(err, errno, "open scratch folder '%s'", scratch);
    }
    enum qd_code code = ingest_artifacts(list, dir_fd, blobs, max_bytes, arena, artifacts, err);
    close(dir_fd);
    QD_TRY(code);
    out.artifacts = artifacts;
    out.n_artifacts = n;
    out.passed = json_is_true(json_object_get(result->final, "passed"));
    *ret = out;
    return QD_OK;
}
