/* Stored array elements: types, byte order, shapes, and their conversion to f32. */
#ifndef QC_ELEMENTS_H
#define QC_ELEMENTS_H

#include "quantcore/data/source.h"

enum qc_element {
    QC_ELEMENT_F16,
    QC_ELEMENT_F32,
    QC_ELEMENT_F64,
    QC_ELEMENT_U8,
    QC_ELEMENT_S8,
    QC_ELEMENT_S16,
    QC_ELEMENT_S32,
    QC_ELEMENT_S64,
    QC_ELEMENT_BOOL,
    QC_ELEMENT_COUNT
};

/* What an array's header says. rank counts every axis, the sample axis included. */
struct qc_array_header {
    enum qc_element element;
    bool big_endian;
    bool fortran_order; /* never true for rank > 1: such arrays are refused */
    int rank;
    int64_t dim[QC_READER_MAX_RANK + 1];
    uint64_t elements;    /* product of dim, checked */
    uint64_t data_offset; /* bytes before the first element */
    uint64_t data_bytes;  /* elements * size of one, checked */
};

size_t qc_element_size(enum qc_element element);
const char *qc_element_name(enum qc_element element); /* "f32" */
bool qc_element_is_integer(enum qc_element element);  /* bool counts as one */

/* Fill elements and data_bytes from element, rank, dim and data_offset. QD_INVALID on an overflow
 * and when a file of known size (else QC_SOURCE_UNKNOWN) is not exactly header + data. `label`
 * names the array in the message. */
QD_MUST_CHECK enum qd_code qc_array_header_finish(struct qc_array_header *header,
                                                  uint64_t file_size, const char *label,
                                                  struct qd_error *err);

/* n elements to f32, rounded to nearest even (s32, s64 and f64 may lose bits). */
void qc_elements_to_f32(enum qc_element element, bool big_endian, const uint8_t *in, size_t n,
                        float *out);
/* n elements to s64, exact; only for types that qc_element_is_integer names. */
void qc_elements_to_s64(enum qc_element element, bool big_endian, const uint8_t *in, size_t n,
                        int64_t *out);

/* "[1,28,28]", "[any,3]" for -1; always terminated, cut if it does not fit. Returns text. */
const char *qc_shape_text(const int64_t *dim, int rank, char *text, size_t size);

#endif
