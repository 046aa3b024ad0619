#include "quantcore/data/elements.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} types[QC_ELEMENT_COUNT] = {
    [QC_ELEMENT_F16] = {"f16", 2}, [QC_ELEMENT_F32] = {"f32", 4}, [QC_ELEMENT_F64] = {"f64", 8},
    [QC_ELEMENT_U8] = {"u8", 1},   [QC_ELEMENT_S8] = {"s8", 1},   [QC_ELEMENT_S16] = {"s16", 2},
    [QC_ELEMENT_S32] = {"s32", 4}, [QC_ELEMENT_S64] = {"s64", 8}, [QC_ELEMENT_BOOL] = {"bool", 1},
};

size_t qc_element_size(enum qc_element element)
{
    return types[element].size;
}

const char *qc_element_name(enum qc_element element)
{
    return types[element].name;
}

enum qd_code qc_array_header_finish(struct qc_array_header *header, uint64_t file_size,
                                    const char *label, struct qd_error *err)
{
    char shape[128];
    size_t nonzero = 1; /* a zero must not hide an overflow of the other dimensions */
    size_t bytes = 0;
    bool ok = true;
    bool empty = false;
    qc_shape_text(header->dim, header->rank, shape, sizeof(shape));
    for (int i = 0; i < header->rank; i++) {
        empty = empty || header->dim[i] == 0;
        ok = ok && header->dim[i] >= 0 &&
             qd_mul_size(nonzero, header->dim[i] > 0 ? (size_t)header->dim[i] : 1, &nonzero);
    }
    ok = ok && qd_mul_size(nonzero, types[header->element].size, &bytes) &&
         bytes <= (size_t)INT64_MAX / 8;
    if (!ok) {
        return qd_fail_on(err, QD_INVALID, label, "%s: shape %s of %s overflows", label, shape,
                          types[header->element].name);
    }
    header->elements = empty ? 0 : nonzero;
    header->data_bytes = empty ? 0 : bytes;
    uint64_t want = header->data_offset + header->data_bytes;
    if (file_size != QC_SOURCE_UNKNOWN && file_size != want) {
        return qd_fail_on(err, QD_INVALID, label,
                          "%s: %s: shape %s of %s needs %" PRIu64 " bytes, the file has %" PRIu64,
                          label, file_size < want ? "truncated" : "too long", shape,
                          types[header->element].name, want, file_size);
    }
    return QD_OK;
}

static uint16_t load16(const uint8_t *p, bool big)
{
    return (uint16_t)(big ? p[0] << 8 | p[1] : p[1] << 8 | p[0]);
}

static uint32_t load32(const uint8_t *p, bool big)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return big ? __builtin_bswap32(v) : v;
}

static uint64_t load64(const uint8_t *p, bool big)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return big ? __builtin_bswap64(v) : v;
}

static float f32_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static float f32_of_f64_bits(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof(d));
    return (float)d;
}

/* IEEE 754 binary16, exact. */
static float f32_of_f16_bits(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16;
    uint32_t exponent = (h >> 10) & 0x1fU;
    uint32_t fraction = h & 0x3ffU;
    if (exponent == 0x1f) {
        return f32_of_bits(sign | 0x7f800000U | fraction << 13);
    }
    if (exponent != 0) {
        return f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    }
    float magnitude = ldexpf((float)fraction, -24);
    return sign != 0 ? -magnitude : magnitude;
}

void qc_elements_to_f32(enum qc_element element, bool big, const uint8_t *in, size_t n,
                        float *out)
{
    for (size_t i = 0; i < n; i++) {
        switch (element) {
        case QC_ELEMENT_F32:
            out[i] = f32_of_bits(load32(in + 4 * i, big));
            break;
        case QC_ELEMENT_U8:
            out[i] = (float)in[i];
            break;
        case QC_ELEMENT_F16:
            out[i] = f32_of_f16_bits(load16(in + 2 * i, big));
            break;
        case QC_ELEMENT_F64:
            out[i] = f32_of_f64_bits(load64(in + 8 * i, big));
            break;
        case QC_ELEMENT_S8:
            out[i] = (float)(int8_t)in[i];
            break;
        case QC_ELEMENT_S16:
            out[i] = (float)(int16_t)load16(in + 2 * i, big);
            break;
        case QC_ELEMENT_S32:
            out[i] = (float)(int32_t)load32(in + 4 * i, big);
            break;
        case QC_ELEMENT_S64:
            out[i] = (float)(int64_t)load64(in + 8 * i, big);
            break;
        case QC_ELEMENT_BOOL:
            out[i] = in[i] != 0 ? 1.0F : 0.0F;
            break;
        case QC_ELEMENT_COUNT:
            break;
        }
    }
}

bool qc_element_is_integer(enum qc_element element)
{
    return element != QC_ELEMENT_F16 && element != QC_ELEMENT_F32 && element != QC_ELEMENT_F64;
}

void qc_elements_to_s64(enum qc_element element, bool big, const uint8_t *in, size_t n,
                        int64_t *out)
{
    for (size_t i = 0; i < n; i++) {
        switch (element) {
        case QC_ELEMENT_U8:
        case QC_ELEMENT_BOOL:
            out[i] = in[i];
            break;
        case QC_ELEMENT_S8:
            out[i] = (int8_t)in[i];
            break;
        case QC_ELEMENT_S16:
            out[i] = (int16_t)load16(in + 2 * i, big);
            break;
        case QC_ELEMENT_S32:
            out[i] = (int32_t)load32(in + 4 * i, big);
            break;
        case QC_ELEMENT_S64:
            out[i] = (int64_t)load64(in + 8 * i, big);
            break;
        case QC_ELEMENT_F16:
        case QC_ELEMENT_F32:
        case QC_ELEMENT_F64:
        case QC_ELEMENT_COUNT:
            break;
        }
    }
}

const char *qc_shape_text(const int64_t *dim, int rank, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && used < size; i++) {
        const char *comma = i > 0 ? "," : "";
        int n = dim[i] < 0 ? snprintf(text + used, size - used, "%sany", comma)
                           : snprintf(text + used, size - used, "%s%" PRId64, comma, dim[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < size) {
        snprintf(text + used, size - used, "]");
    }
    return text;
}
