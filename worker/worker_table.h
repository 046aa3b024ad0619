/* The calibration table of a quantization, and the forms in which other tools take one.
 *
 * A table holds the pairs (scale, zero_point) of activations and the scales of weights. It comes
 * from a report, or from untrusted bytes by worker_table_read.h, and is written as
 *
 *   json      quantd's own form: everything, and what worker_table_read takes back unchanged
 *   csv       RFC 4180, one line a tensor, for spreadsheets
 *   ncnn      what ncnn2int8 reads: "LAYER_param_0 s0 s1 …" for weights, one multiplier a
 *             channel (a group of a grouped convolution), then "LAYER s" for the layer's input; multiplier
 *             = 1 / scale = 127 / amax. LAYER is the ONNX node's name, which onnx2ncnn keeps.
 *             Conv, Gemm and MatMul only; a layer without lines stays float.
 *   tensorrt  the cache that IInt8Calibrator::readCalibrationCache hands out: a line
 *             "TRT-8501-EntropyCalibration2", then "TENSOR: 8 hex digits", the bits of the f32
 *             scale amax / 127, highest first. The name in the first line is that of the
 *             calibrator class that takes the cache, not of the one that made it.
 *   ort       the JSON of onnxruntime.quantization (TensorsData.from_dict, or the argument
 *             calibration_cache_path of quantize_static): each tensor's lowest and highest in f32.
 *             Its default recipe (u8, asymmetric) finds the same scale, within one rounding, and
 *             the same zero point.
 *   aimet     AIMET encodings 0.6.1, activations and weights: offset = qmin - zero_point
 *
 * The range that is handed on is the one that the pair can represent, [(qmin - zp) * scale,
 * (qmax - zp) * scale], and amax the larger of its ends' magnitudes (127 steps when zp is in the
 * middle: s8 0, u8 128). ncnn and TensorRT know symmetric s8 only, so an asymmetric u8 pair loses:
 * behind a Relu (zp 0) the lower half of the codes is unused and a step is 255 / 127 = 2.008 times
 * as large, one bit less; with 0 at the share f of the range it is 2.008 * max(f, 1 - f) times as
 * large, nothing worth naming for f = 0.5. Reading such a table back gives the symmetric pair,
 * never the lost one.
 *
 * Names are hostile. json, ort and aimet escape what JSON must escape, and refuse a name that is
 * not UTF-8; csv quotes (and puts an apostrophe before = + - @, which a spreadsheet would run).
 * ncnn and tensorrt have no escapes, so a name that they cannot hold is QD_INVALID and nothing is
 * written: for ncnn white space, control characters, "_param_", or more than 247 bytes (ncnn2int8
 * has 256 for the key); for tensorrt control characters or ": ", where a reader would cut. */
#ifndef WORKER_TABLE_H
#define WORKER_TABLE_H

#include "quantcore/quantcore.h"

enum worker_table_format {
    WORKER_TABLE_JSON, WORKER_TABLE_CSV, WORKER_TABLE_NCNN, WORKER_TABLE_TENSORRT,
    WORKER_TABLE_ORT, WORKER_TABLE_AIMET, WORKER_TABLE_FORMAT_COUNT
};

enum worker_table_dtype { WORKER_TABLE_U8, WORKER_TABLE_S8, WORKER_TABLE_DTYPE_COUNT };

/* An activation. What a format does not carry is NULL, NAN or -1. */
struct worker_table_row {
    const char *tensor;  /* NULL in a table read from ncnn, which names layers */
    const char *layer;   /* ncnn only: the layer whose input this is, else NULL */
    const char *op_type; /* of the producer, "Input" for a network's input */
    const char *source;  /* "calibrated", "imported"; NULL: not known */
    enum worker_table_dtype dtype;
    float scale;         /* > 0, finite */
    int32_t zero_point;  /* within dtype */
    double lo, hi, min, max, mean, std; /* chosen range, observed values */
    int64_t count;       /* elements seen */
    double clipped_share;
    const char *const *shared; /* tensors that have the same pair */
    size_t n_shared;
};

/* The weights of a layer, s8 with zero point 0. */
struct worker_table_layer {
    const char *node;
    const char *op_type, *input, *weights; /* NULL when read from ncnn */
    const float *scale;                    /* n_scale, each > 0 and finite */
    size_t n_scale;                        /* 1: for all channels; else n_channels */
    size_t n_channels, n_groups;           /* n_groups divides n_channels */
};

/* All borrowed: from the report or from the arena that was read into. */
struct worker_table {
    const struct worker_table_row *rows;
    size_t n_rows;
    const struct worker_table_layer *layers;
    size_t n_layers;
};

struct worker_table_form {
    const char *name;         /* "json", … as in ?format= and --table-format */
    const char *file;         /* "calibration.json", "calibration.ncnn.table", … */
    const char *content_type;
};
const struct worker_table_form *worker_table_form(enum worker_table_format format);
/* QD_INVALID names what is allowed. */
QD_MUST_CHECK enum qd_code worker_table_format_from_name(const char *name,
                                                         enum worker_table_format *ret,
                                                         struct qd_error *err);

const char *worker_table_dtype_name(enum worker_table_dtype dtype); /* "u8", "s8" */
bool worker_table_dtype_from_name(const char *name, enum worker_table_dtype *ret);
/* [-128, 127] or [0, 255]. */
int worker_table_qmin(enum worker_table_dtype dtype);
int worker_table_qmax(enum worker_table_dtype dtype);
/* The larger magnitude of the representable range's ends, see above. */
double worker_table_amax(const struct worker_table_row *row);

/* Rows in the arena that borrow from the report. */
QD_MUST_CHECK enum qd_code worker_table_from_report(const struct qc_report *report,
                                                    struct qd_arena *arena,
                                                    struct worker_table *ret,
                                                    struct qd_error *err);

/* The activations as scales for a job (qc_job.table), each shared tensor with a row of its own;
 * the names are borrowed from the table. */
QD_MUST_CHECK enum qd_code worker_table_scales(const struct worker_table *table,
                                               struct qd_arena *arena,
                                               struct qc_table_row **ret, size_t *ret_n,
                                               struct qd_error *err);

/* *ret_text is malloc'ed, followed by a NUL that *ret_size does not count; the caller frees it.
 * QD_INVALID: a name that the format cannot hold (see above), or ncnn for a table whose layers'
 * inputs are not among its tensors. QD_NO_MEMORY. */
QD_MUST_CHECK enum qd_code worker_table_write(const struct worker_table *table,
                                              enum worker_table_format format, char **ret_text,
                                              size_t *ret_size, struct qd_error *err);

#endif
