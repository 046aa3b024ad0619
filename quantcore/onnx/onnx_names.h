/* Map from names to indices, for models with many thousand values. Private to quantcore/onnx. */
#ifndef QC_ONNX_NAMES_H
#define QC_ONNX_NAMES_H

#include "quantcore/base/qd_arena.h"

struct qc_onnx_names {
    struct qd_arena *arena; /* of the table itself; names are borrowed */
    struct qc_onnx_name *slots;
    size_t count, capacity;
};

struct qc_onnx_name {
    const char *text; /* NULL: free */
    int index;
};

/* Index of a name, -1 when it is absent. */
int qc_onnx_names_find(const struct qc_onnx_names *names, const char *text);
/* Add a name that is not there yet. */
QD_MUST_CHECK enum qd_code qc_onnx_names_add(struct qc_onnx_names *names, const char *text,
                                             int index, struct qd_error *err);
/* `base`, or base_1, base_2 … until it is new, copied into `arena` and added with `index`. */
QD_MUST_CHECK enum qd_code qc_onnx_names_make(struct qc_onnx_names *names,
                                              struct qd_arena *arena, const char *base, int index,
                                              const char **ret, struct qd_error *err);

#endif
