#include "quantcore/data/npy.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The dictionary's text; `at` never passes `end`. */
struct scanner {
    const char *at, *end;
};

static void skip_space(struct scanner *s)
{
    while (s->at < s->end && strchr(" \t\r\n", *s->at) != NULL && *s->at != '\0') {
        s->at++;
    }
}

static bool accept(struct scanner *s, const char *token)
{
    size_t n = strlen(token);
    skip_space(s);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, token, n) != 0) {
        return false;
    }
    s->at += n;
    return true;
}

/* 'text' or "text" without escapes. */
static bool scan_string(struct scanner *s, char *out, size_t size)
{
    skip_space(s);
    if (s->at >= s->end || (*s->at != '\'' && *s->at != '"')) {
        return false;
    }
    char quote = *s->at++;
    size_t n = 0;
    while (s->at < s->end && *s->at != quote) {
        if (*s->at == '\\' || *s->at == '\0' || n + 1 >= size) {
            return false;
        }
        out[n++] = *s->at++;
    }
    out[n] = '\0';
    return accept(s, (const char[]){quote, '\0'});
}

static bool scan_dimension(struct scanner *s, int64_t *ret)
{
    int64_t value = 0;
    int digits = 0;
    skip_space(s);
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++, digits++) {
        if (__builtin_mul_overflow(value, (int64_t)10, &value) ||
            __builtin_add_overflow(value, (int64_t)(*s->at - '0'), &value)) {
            return false;
        }
    }
    (void)accept(s, "L"); /* written by NumPy under Python 2 */
    *ret = value;
    return digits > 0;
}

/* "()", "(3,)", "(3, 4)". */
static bool scan_shape(struct scanner *s, struct qc_array_header *header)
{
    header->rank = 0;
    if (!accept(s, "(")) {
        return false;
    }
    while (!accept(s, ")")) {
        if (header->rank > QC_READER_MAX_RANK || !scan_dimension(s, &header->dim[header->rank])) {
            return false;
        }
        header->rank++;
        if (!accept(s, ",")) {
            return header->rank > 1 && accept(s, ")");
        }
    }
    return true;
}

struct dictionary {
    char descr[64];
    bool has_descr, has_order, has_shape;
    bool is_structured; /* descr is a list: fields */
};

static bool scan_value(struct scanner *s, const char *key, struct dictionary *d,
                       struct qc_array_header *header)
{
    if (strcmp(key, "descr") == 0 && !d->has_descr) {
        d->has_descr = true;
        d->is_structured = accept(s, "[");
        return d->is_structured || scan_string(s, d->descr, sizeof(d->descr));
    }
    if (strcmp(key, "fortran_order") == 0 && !d->has_order) {
        d->has_order = true;
        header->fortran_order = accept(s, "True");
        return header->fortran_order || accept(s, "False");
    }
    if (strcmp(key, "shape") == 0 && !d->has_shape) {
        d->has_shape = true;
        return scan_shape(s, header);
    }
    return false;
}

static bool scan_dictionary(struct scanner *s, struct dictionary *d,
                            struct qc_array_header *header)
{
    char key[32];
    if (!accept(s, "{")) {
        return false;
    }
    while (!accept(s, "}")) {
        if (!scan_string(s, key, sizeof(key)) || !accept(s, ":") ||
            !scan_value(s, key, d, header)) {
            return false;
        }
        if (d->is_structured) {
            return true; /* refused by the caller: its fields need not be read */
        }
        if (!accept(s, ",")) {
            if (!accept(s, "}")) {
                return false;
            }
            break;
        }
    }
    skip_space(s);
    return s->at == s->end && d->has_descr && d->has_order && d->has_shape;
}

static enum qd_code parse_descr(const char *descr, const char *label,
                                struct qc_array_header *header, struct qd_error *err)
{
    static const struct {
        const char *code;
        enum qc_element element;
    } known[] = {
        {"f2", QC_ELEMENT_F16}, {"f4", QC_ELEMENT_F32}, {"f8", QC_ELEMENT_F64},
        {"u1", QC_ELEMENT_U8},  {"i1", QC_ELEMENT_S8},  {"i2", QC_ELEMENT_S16},
        {"i4", QC_ELEMENT_S32}, {"i8", QC_ELEMENT_S64}, {"b1", QC_ELEMENT_BOOL},
    };
    if (descr[0] != '\0' && strchr("|<>=", descr[0]) != NULL) {
        header->big_endian = descr[0] == '>';
        for (size_t i = 0; i < QD_COUNT_OF(known); i++) {
            if (strcmp(descr + 1, known[i].code) == 0) {
                header->element = known[i].element;
                return QD_OK;
            }
        }
    }
    if (strchr(descr, 'O') != NULL) {
        return qd_fail_on(err, QD_UNSUPPORTED, label,
                          "%s: dtype '%s' holds Python objects as a pickle, which is never read",
                          label, descr);
    }
    return qd_fail_on(err, QD_UNSUPPORTED, label,
                      "%s: dtype '%s' is none of f2, f4, f8, u1, i1, i2, i4, i8, b1", label,
                      descr);
}

static enum qd_code parse_text(const char *text, size_t size, const char *label,
                               struct qc_array_header *header, struct qd_error *err)
{
    struct scanner s = {text, text + size};
    struct dictionary d = {0};
    if (!scan_dictionary(&s, &d, header)) {
        return qd_fail_on(err, QD_INVALID, label,
                          "%s: .npy header is malformed at its byte %td (up to %d dimensions, "
                          "keys descr, fortran_order, shape)",
                          label, s.at - text, QC_READER_MAX_RANK + 1);
    }
    if (d.is_structured) {
        return qd_fail_on(err, QD_UNSUPPORTED, label,
                          "%s: structured dtype (fields) is not supported", label);
    }
    QD_TRY(parse_descr(d.descr, label, header, err));
    if (header->fortran_order && header->rank > 1) {
        return qd_fail_on(err, QD_UNSUPPORTED, label,
                          "%s: fortran_order with rank %d is not supported; save "
                          "numpy.ascontiguousarray(array)",
                          label, header->rank);
    }
    return QD_OK;
}

enum qd_code qc_npy_read_header(struct qc_source *source, struct qc_array_header *ret,
                                struct qd_error *err)
{
    const char *label = qc_source_label(source);
    struct qc_array_header header = {0};
    uint8_t p[12];
    QD_TRY(qc_source_read(source, p, 8, err));
    if (memcmp(p, "\x93NUMPY", 6) != 0) {
        return qd_fail_on(err, QD_INVALID, label, "%s: not an .npy array", label);
    }
    if (p[6] < 1 || p[6] > 3 || p[7] != 0) {
        return qd_fail_on(err, QD_UNSUPPORTED, label,
                          "%s: .npy version %d.%d (1.0, 2.0 and 3.0 are known)", label, p[6],
                          p[7]);
    }
    size_t length_bytes = p[6] == 1 ? 2 : 4;
    QD_TRY(qc_source_read(source, p + 8, length_bytes, err));
    uint32_t length = (uint32_t)p[8] | (uint32_t)p[9] << 8;
    if (length_bytes == 4) {
        length |= (uint32_t)p[10] << 16 | (uint32_t)p[11] << 24;
    }
    if (length > QC_NPY_MAX_HEADER) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: .npy header of %" PRIu32 " bytes (limit %d)", label, length,
                          QC_NPY_MAX_HEADER);
    }
    char *text = malloc(length + 1U);
    if (text == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%s: %" PRIu32 " bytes for the header", label, length);
    }
    enum qd_code code = qc_source_read(source, text, length, err);
    if (code == QD_OK) {
        code = parse_text(text, length, label, &header, err);
    }
    free(text);
    QD_TRY(code);
    header.data_offset = 8 + length_bytes + length;
    QD_TRY(qc_array_header_finish(&header, qc_source_size(source), label, err));
    *ret = header;
    return QD_OK;
}
