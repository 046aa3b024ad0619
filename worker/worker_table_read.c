#include "worker/worker_table_read.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quantcore/base/qd_utf8.h"
#include "worker/worker_table_names.h"
#include "worker/worker_table_read_json.h"

/* Where a reader of lines stands. */
struct lines {
    const char *at, *end;
    int number; /* of the last line handed out, from 1 */
};

struct piece {
    const char *text;
    size_t size;
};

/* What the rows of a text are collected in. */
struct text_table {
    struct qd_arena *arena;
    struct worker_table_row *rows;
    struct worker_table_layer *layers;
    struct worker_table_name *row_names, *layer_names;
    size_t n_rows, n_layers;
};

/* The next line that is not empty, without its end (\n or \r\n). */
static bool next_line(struct lines *l, struct piece *ret)
{
    while (l->at < l->end) {
        const char *start = l->at;
        const char *stop = memchr(start, '\n', (size_t)(l->end - start));
        l->at = stop != NULL ? stop + 1 : l->end;
        l->number++;
        size_t size = (size_t)((stop != NULL ? stop : l->end) - start);
        if (size > 0 && start[size - 1] == '\r') {
            size--;
        }
        if (size > 0) {
            *ret = (struct piece){start, size};
            return true;
        }
    }
    return false;
}

static size_t count_lines(struct lines lines)
{
    struct piece line;
    size_t n = 0;
    while (next_line(&lines, &line)) {
        n++;
    }
    return n;
}

static enum qd_code take_name(struct text_table *t, struct piece name, int line, const char *what,
                              const char **ret, struct qd_error *err)
{
    enum qd_code code = worker_table_check_name(name.size, what, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "line %d", line);
    }
    for (size_t i = 0; i < name.size;) {
        const unsigned char *at = (const unsigned char *)name.text + i;
        size_t n = qd_utf8_length(at, name.size - i);
        if (n == 0 || at[0] < 0x20 || at[0] == 0x7f) {
            return qd_fail(err, QD_INVALID,
                           "line %d: byte 0x%02x in the name of a %s is not text", line, at[0],
                           what);
        }
        i += n;
    }
    return qd_arena_string(t->arena, name.text, name.size, ret, err);
}

static struct worker_table_row symmetric_row(float scale)
{
    return (struct worker_table_row){.dtype = WORKER_TABLE_S8,
                                     .scale = scale,
                                     .lo = NAN,
                                     .hi = NAN,
                                     .min = NAN,
                                     .max = NAN,
                                     .mean = NAN,
                                     .std = NAN,
                                     .count = -1,
                                     .clipped_share = NAN};
}

/* --- TensorRT ---------------------------------------------------------------------------------
 */

/* The bits of an f32, highest first, in exactly 8 digits. */
static bool parse_hex_float(struct piece text, float *ret)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    uint32_t bits = 0;
    for (size_t i = 0; i < text.size && text.size == 8; i++) {
        const char *digit = text.text[i] != '\0' ? strchr(digits, text.text[i]) : NULL;
        if (digit == NULL) {
            return false;
        }
        uint32_t value = (uint32_t)(digit - digits);
        bits = bits << 4 | (value < 16 ? value : value - 6);
    }
    memcpy(ret, &bits, sizeof(*ret));
    return text.size == 8;
}

static enum qd_code tensorrt_line(struct text_table *t, struct piece line, int number,
                                  struct qd_error *err)
{
    size_t cut = line.size;
    while (cut > 1 && !(line.text[cut - 2] == ':' && line.text[cut - 1] == ' ')) {
        cut--;
    }
    if (cut < 2) {
        return qd_fail(err, QD_INVALID, "line %d: '%.*s' is not 'TENSOR: 8 hex digits'", number,
                       (int)(line.size < 100 ? line.size : 100), line.text);
    }
    struct piece value = {line.text + cut, line.size - cut};
    float bits, scale;
    if (!parse_hex_float(value, &bits)) {
        return qd_fail(err, QD_INVALID, "line %d: scale '%.*s' is not 8 hex digits", number,
                       (int)(value.size < 40 ? value.size : 40), value.text);
    }
    if (!worker_table_scale((double)bits, &scale)) {
        return qd_fail(err, QD_INVALID, "line %d: scale %.8s is %g, allowed: %g to %g", number,
                       value.text, (double)bits, 1.17549435e-38, 3.40282347e+38);
    }
    struct worker_table_row row = symmetric_row(scale);
    QD_TRY(take_name(t, (struct piece){line.text, cut - 2}, number, "tensor", &row.tensor, err));
    t->row_names[t->n_rows] = (struct worker_table_name){row.tensor, number};
    t->rows[t->n_rows++] = row;
    return QD_OK;
}

/* --- ncnn -------------------------------------------------------------------------------------
 */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The next word of the line, taken off its front; size 0 at the end. */
static struct piece next_word(struct piece *line)
{
    while (line->size > 0 && is_blank(line->text[0])) {
        line->text++;
        line->size--;
    }
    struct piece word = {line->text, 0};
    while (word.size < line->size && !is_blank(word.text[word.size])) {
        word.size++;
    }
    line->text += word.size;
    line->size -= word.size;
    return word;
}

/* A decimal number, nothing else: no infinity, no hexadecimal. */
static bool parse_number(struct piece word, double *ret)
{
    char text[64];
    if (word.size == 0 || word.size >= sizeof(text)) {
        return false;
    }
    memcpy(text, word.text, word.size);
    text[word.size] = '\0';
    char *end = NULL;
    *ret = strtod(text, &end);
    return strspn(text, "0123456789+-.eE") == word.size && end == text + word.size;
}

static enum qd_code parse_multiplier(struct piece word, int line, float *ret_scale,
                                     struct qd_error *err)
{
    double multiplier = 0;
    if (!parse_number(word, &multiplier)) {
        return qd_fail(err, QD_INVALID, "line %d: '%.*s' is not a number", line,
                       (int)(word.size < 60 ? word.size : 60), word.text);
    }
    if (!(multiplier > 0) || !worker_table_scale(1 / multiplier, ret_scale)) {
        return qd_fail(err, QD_INVALID, "line %d: scale %g, allowed: %g to %g", line, multiplier,
                       1 / 3.40282347e+38, 1 / 1.17549435e-38);
    }
    return QD_OK;
}

/* "NAME_param_K" -> NAME and K; false for a plain name. */
static bool split_param(struct piece key, struct piece *ret_name, struct piece *ret_index)
{
    static const char mark[] = "_param_";
    const size_t n = sizeof(mark) - 1;
    for (size_t at = key.size; at-- > 0;) {
        if (key.size - at >= n && memcmp(key.text + at, mark, n) == 0) {
            *ret_name = (struct piece){key.text, at};
            *ret_index = (struct piece){key.text + at + n, key.size - at - n};
            return true;
        }
    }
    return false;
}

static enum qd_code ncnn_weights(struct text_table *t, struct piece name, struct piece index,
                                 struct piece values, int line, struct qd_error *err)
{
    struct worker_table_layer *layer = &t->layers[t->n_layers];
    float *scale = NULL;
    size_t n = 0;
    QD_TRY(take_name(t, name, line, "layer", &layer->node, err));
    if (index.size != 1 || index.text[0] != '0') {
        return qd_fail_on(
            err, QD_UNSUPPORTED, layer->node,
            "line %d: weights %.*s of layer '%.200s': only layers with one matrix of "
            "weights (_param_0) are supported",
            line, (int)(index.size < 20 ? index.size : 20), index.text, layer->node);
    }
    for (struct piece rest = values; next_word(&rest).size > 0;) {
        n++;
    }
    if (n == 0) {
        return qd_fail(err, QD_INVALID, "line %d: layer '%.200s' has no scale", line,
                       layer->node);
    }
    QD_TRY(qd_arena_array(t->arena, n, sizeof(*scale), &scale, err));
    for (size_t i = 0; i < n; i++) {
        QD_TRY(parse_multiplier(next_word(&values), line, &scale[i], err));
    }
    layer->scale = scale;
    layer->n_scale = layer->n_channels = n;
    layer->n_groups = 1;
    t->layer_names[t->n_layers++] = (struct worker_table_name){layer->node, line};
    return QD_OK;
}

static enum qd_code ncnn_line(struct text_table *t, struct piece line, int number,
                              struct qd_error *err)
{
    struct piece name, index, key = next_word(&line);
    if (key.size == 0) {
        return QD_OK; /* blanks only */
    }
    if (split_param(key, &name, &index)) {
        return ncnn_weights(t, name, index, line, number, err);
    }
    struct worker_table_row row = symmetric_row(1);
    QD_TRY(take_name(t, key, number, "layer", &row.layer, err));
    struct piece value = next_word(&line);
    QD_TRY(parse_multiplier(value, number, &row.scale, err));
    if (next_word(&line).size > 0) {
        return qd_fail(err, QD_INVALID, "line %d: layer '%.200s' has more than one scale", number,
                       row.layer);
    }
    t->row_names[t->n_rows] = (struct worker_table_name){row.layer, number};
    t->rows[t->n_rows++] = row;
    return QD_OK;
}

/* --- all --------------------------------------------------------------------------------------
 */

static bool starts_with(struct qd_bytes text, const char *start)
{
    size_t n = strlen(start);
    return text.size >= n && memcmp(text.data, start, n) == 0;
}

static enum qd_code read_lines(struct qd_bytes text, struct text_table *t, struct qd_error *err)
{
    const char *start = (const char *)text.data;
    struct lines lines = {start, start + text.size, 0};
    struct piece line;
    size_t n = count_lines(lines);
    bool tensorrt = starts_with(text, "TRT-");
    if (n > WORKER_TABLE_MAX_ROWS) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%zu lines, allowed: %d", n,
                       WORKER_TABLE_MAX_ROWS);
    }
    QD_TRY(qd_arena_array(t->arena, n, sizeof(*t->rows), &t->rows, err));
    QD_TRY(qd_arena_array(t->arena, n, sizeof(*t->layers), &t->layers, err));
    QD_TRY(qd_arena_array(t->arena, n, sizeof(*t->row_names), &t->row_names, err));
    QD_TRY(qd_arena_array(t->arena, n, sizeof(*t->layer_names), &t->layer_names, err));
    if (tensorrt && !next_line(&lines, &line)) {
        return qd_fail(err, QD_INTERNAL, "no first line");
    }
    while (next_line(&lines, &line)) {
        QD_TRY(tensorrt ? tensorrt_line(t, line, lines.number, err)
                        : ncnn_line(t, line, lines.number, err));
    }
    QD_TRY(
        worker_table_check_unique(t->row_names, t->n_rows, tensorrt ? "tensor" : "layer", err));
    return worker_table_check_unique(t->layer_names, t->n_layers, "layer", err);
}

static enum qd_code read_any(struct qd_bytes text, struct qd_arena *arena,
                             struct worker_table *table, struct qd_error *err)
{
    size_t at = 0;
    if (text.size == 0) {
        return qd_fail(err, QD_INVALID, "is empty");
    }
    if (text.size > WORKER_TABLE_MAX_BYTES) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%zu bytes, allowed: %u", text.size,
                       WORKER_TABLE_MAX_BYTES);
    }
    while (at < text.size && memchr(" \t\r\n", text.data[at], 4) != NULL) {
        at++;
    }
    if (at < text.size && text.data[at] == '{') {
        return worker_table_read_json(text, arena, table, err);
    }
    struct text_table t = {.arena = arena};
    QD_TRY(read_lines(text, &t, err));
    *table = (struct worker_table){t.rows, t.n_rows, t.layers, t.n_layers};
    return QD_OK;
}

enum qd_code worker_table_read(struct qd_bytes text, const char *name, struct qd_arena *arena,
                               struct worker_table *ret, struct qd_error *err)
{
    struct worker_table table = {0};
    enum qd_code code = read_any(text, arena, &table, err);
    if (code == QD_OK && table.n_rows == 0) {
        code = qd_fail(err, QD_INVALID, "holds no scale of an activation");
    }
    if (code != QD_OK) {
        return qd_wrap(err, code, "calibration table '%.200s'", name);
    }
    *ret = table;
    return QD_OK;
}

/* --- files ------------------------------------------------------------------------------------
 */

static enum qd_code read_fd(int fd, struct qd_arena *arena, struct qd_bytes *ret,
                            struct qd_error *err)
{
    struct stat st;
    uint8_t *data = NULL;
    size_t at = 0;
    if (fstat(fd, &st) != 0) {
        return qd_fail_errno(err, errno, "look at it");
    }
    if (!S_ISREG(st.st_mode)) {
        return qd_fail(err, QD_INVALID, "is not a plain file");
    }
    if (st.st_size > (off_t)WORKER_TABLE_MAX_BYTES) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%lld bytes, allowed: %u", (long long)st.st_size,
                       WORKER_TABLE_MAX_BYTES);
    }
    size_t size = (size_t)st.st_size;
    QD_TRY(qd_arena_alloc(arena, size, &data, err));
    while (at < size) {
        ssize_t n = pread(fd, data + at, size - at, (off_t)at);
        if (n > 0) {
            at += (size_t)n;
        } else if (n == 0) {
            size = at; /* it became shorter */
        } else if (errno != EINTR) {
            return qd_fail_errno(err, errno, "read it");
        }
    }
    *ret = (struct qd_bytes){data, size};
    return QD_OK;
}

enum qd_code worker_table_read_fd(int fd, const char *name, struct qd_arena *arena,
                                  struct worker_table *ret, struct qd_error *err)
{
    struct qd_bytes text;
    enum qd_code code = read_fd(fd, arena, &text, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "calibration table '%.200s'", name);
    }
    return worker_table_read(text, name, arena, ret, err);
}

enum qd_code worker_table_read_file(const char *path, const char *name, struct qd_arena *arena,
                                    struct worker_table *ret, struct qd_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo would wait */
    if (fd < 0) {
        return qd_fail_errno(err, errno, "open calibration table '%.200s'", name);
    }
    enum qd_code code = worker_table_read_fd(fd, name, arena, ret, err);
    (void)close(fd);
    return code;
}
