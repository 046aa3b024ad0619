/* AIMET encodings (0.6.1) of activations, from untrusted JSON. */
#ifndef WORKER_TABLE_READ_AIMET_H
#define WORKER_TABLE_READ_AIMET_H

#include <jansson.h>

#include "worker/worker_table.h"

/* root: {"activation_encodings": {tensor: [{"bitwidth": 8, "scale", "offset", "dtype": "int",
 * "is_symmetric"}]}}. A pair with is_symmetric and offset -128 is s8 with zero point 0, every
 * other u8 with zero point -offset: the same values. Encodings of weights are left aside, they
 * need no calibration. QD_UNSUPPORTED: another bit width, a float encoding, one a channel, the
 * lists of version 1.0.0. */
QD_MUST_CHECK enum qd_code worker_table_read_aimet(const json_t *root, struct qd_arena *arena,
                                                   struct worker_table *ret,
                                                   struct qd_error *err);

#endif
