/* Calibration tables from elsewhere, read from untrusted bytes: a TensorRT calibration cache, an
 * ncnn table, AIMET encodings, quantd's own JSON (worker_table.h describes them; the answer of
 * GET /v1/jobs/{id}/calibration counts as the last). The first bytes decide: '{' is JSON, "TRT-"
 * TensorRT, everything else ncnn.
 *
 * TensorRT and ncnn give symmetric s8 pairs, zero point 0: scale as it stands, 1 / multiplier.
 * A TensorRT name is what stands before the last ": ". ncnn names layers: such a row has `layer`
 * and no `tensor`, it is for the layer's first input. Reading quantd's JSON gives back every
 * field that was written, bit for bit.
 *
 * Checked are: UTF-8 and control characters of names, every number (a scale lies in
 * [1.17549435e-38, 3.40282347e+38], a zero point within its dtype), that no tensor or layer
 * appears twice. Messages name the line, the value and the limit. */
#ifndef WORKER_TABLE_READ_H
#define WORKER_TABLE_READ_H

#include "worker/worker_table.h"

#define WORKER_TABLE_MAX_BYTES (8u * 1024 * 1024)
#define WORKER_TABLE_MAX_ROWS  65536 /* tensors, shared ones included; layers; lines */
#define WORKER_TABLE_MAX_NAME  4096  /* bytes */

/* `name` is the file's, for messages. Everything in *ret is in the arena. QD_INVALID,
 * QD_LIMIT_EXCEEDED, QD_UNSUPPORTED (ncnn: recurrent and attention layers, whose weights are more
 * than one matrix), QD_NO_MEMORY. */
QD_MUST_CHECK enum qd_code worker_table_read(struct qd_bytes text, const char *name,
                                             struct qd_arena *arena, struct worker_table *ret,
                                             struct qd_error *err);

/* The same from a file, which is not read when it is larger than WORKER_TABLE_MAX_BYTES. fd is
 * borrowed, its position does not matter. */
QD_MUST_CHECK enum qd_code worker_table_read_fd(int fd, const char *name, struct qd_arena *arena,
                                                struct worker_table *ret, struct qd_error *err);
QD_MUST_CHECK enum qd_code worker_table_read_file(const char *path, const char *name,
                                                  struct qd_arena *arena,
                                                  struct worker_table *ret, struct qd_error *err);

#endif
