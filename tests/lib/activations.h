/* The activations that a network's calibration looks at, kept whole: for comparing calibrators
 * with forms that need every value. */
#ifndef TEST_ACTIVATIONS_H
#define TEST_ACTIVATIONS_H

#include "quantcore/base/qd_arena.h"
#include "quantcore/data/reader.h"
#include "quantcore/graph/tensor.h"

struct activation {
    const char *name;
    struct qc_shape shape; /* of a sample */
    int channel_axis;      /* of the channel means; -1: none */
    float *x;              /* samples one after another */
    size_t n;
};
struct activations {
    int n;
    struct activation *tensor; /* in the arena */
};

/* Run samples 0, every, 2 every, … (n of them, or fewer when the data end) and keep the tensors
 * whose ranges quantization would search. QD_NOT_FOUND when model or data are absent. */
QD_MUST_CHECK enum qd_code activations_collect(const char *model_path, const char *data_path,
                                               const struct qc_preprocess *preprocess, int n,
                                               int every, struct qd_arena *arena,
                                               struct activations *ret, struct qd_error *err);

#endif
