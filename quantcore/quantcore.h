/* quantcore: from a trained ONNX network and calibration samples to a verified INT8 network.
 *
 * The one public header. No HTTP, SQL, JSON, processes or logs; threads only through the
 * callback that the caller gives. Everything is allocated in the caller's arena. */
#ifndef QUANTCORE_H
#define QUANTCORE_H

#include "quantcore/affine/qparams.h" /* struct qc_scheme */
#include "quantcore/base/qd_arena.h"
#include "quantcore/calib/calibrator.h" /* enum qc_calibrator and its names */
#include "quantcore/data/reader.h"
#include "quantcore/kernels/qc_kernels.h"
#include "quantcore/onnx/onnx_external.h" /* struct qc_external */
#include "quantcore/quant/quantize_exclude.h" /* struct qc_exclude */
#include "quantcore/quant/quantize_table.h"   /* struct qc_table_row */

enum qc_phase {
    QC_PHASE_VALIDATING, QC_PHASE_FOLDING, QC_PHASE_WEIGHTS, QC_PHASE_PASS1, QC_PHASE_PASS2,
    QC_PHASE_SEARCHING, QC_PHASE_BIAS, QC_PHASE_EXPORTING, QC_PHASE_VERIFYING, QC_PHASE_COUNT
};
const char *qc_phase_name(enum qc_phase phase); /* "validating", … */

/* static: calibrated integers throughout. weight_only: weights of a few bits, f32 arithmetic.
 * dynamic: s8 weights, activations quantized in each run. The last two need no calibration data; with data the
 * biases are corrected for the weights' rounding (bias_correction). */
enum qc_mode { QC_MODE_STATIC, QC_MODE_WEIGHT_ONLY, QC_MODE_DYNAMIC, QC_MODE_COUNT };
const char *qc_mode_name(enum qc_mode mode); /* "static", "weight_only", "dynamic" */
bool qc_mode_from_name(const char *name, enum qc_mode *ret);

/* What the histograms count: float: the f32 network's values, in the one pass over the samples;
 * quantized: those of a second pass (QC_PHASE_PASS2) with weights rounded, and each quantized tensor
 * rounded by its own range in the sample before it is read, so that the histograms hold the
 * error from upstream too. */
enum qc_inference { QC_INFERENCE_FLOAT, QC_INFERENCE_QUANTIZED };

struct qc_options {
    enum qc_mode mode;                         /* static; the others use weights_per_channel,
                                                  dense_per_channel, weights_full_range,
                                                  weights_asymmetric (weight_only),
                                                  weight_bits, block_size (weight_only), exclude,
                                                  bias_correction (with data), holdout,
                                                  max_samples, max_verification, batch_size, isa,
                                                  memory_limit and the gate */
    enum qc_calibrator calibrator;
    double min_percentile, max_percentile;     /* (0.5, 1]; 1 = plain min/max */
    double search_start_scale, search_end_scale, search_step; /* 0.3, 1.7, 0.01 */
    int bins;                                  /* coarse bins of the divergences: 150 */
    enum qc_inference inference;               /* float */
    bool histograms;                           /* true; false: nothing is counted, statistics hold
                                                  ranges, tails and sums alone. For minmax, and for
                                                  percentile within the tails */
    enum qc_divergence_form divergence;        /* levels; spread: without their aliasing */
    bool input_from_normalization;             /* false: the range of image inputs is calibrated;
                                                  true: it is what 0..255 become, see
                                                  qc_options_normalization */
    double input_lo, input_hi;                 /* that range */
    struct qc_scheme activations;              /* asymmetric u8 */
    bool weights_per_channel;                  /* true: a scale an output channel, else a tensor */
    bool dense_per_channel;                    /* true; false: one scale for a Gemm or MatMul */
    bool weights_full_range;                   /* false: codes [-127, 127], true: [-128, 127] */
    bool weights_asymmetric;                   /* false; true: from the smallest weight to the
                                                  largest, with a zero point beside each scale;
                                                  all codes are used. Not in mode dynamic */
    int weight_bits;                           /* 8; 7, 4, 3, 2, 1: fewer codes, in s8 but for
                                                  weight_only, where the file has two of them a
                                                  byte; 16: float16, weight_only alone */
    int block_size;                            /* weights along the inputs that share a scale: 0
                                                  (all), 32, 64, 128, 256; weight_only alone, up to
                                                  8 bits, with scales a channel */
    bool bias_correction;                      /* true */
    bool quantize_last_output;                 /* false: the last Conv/Gemm keeps f32 output */
    struct qc_exclude exclude;                 /* operators left in f32 */
    double holdout;                            /* share of the calibration samples kept for
                                                  verification when no validation set is given:
                                                  0.2, at least one sample */
    int64_t max_samples;                       /* of the calibration data, 0: all */
    int64_t max_verification;                  /* samples to verify on, 0: all */
    bool second_moments;                       /* false; true: statistics hold the second moments
                                                  of the columns of each product too */
    int64_t tail_length;                       /* values that statistics keep at each end of a
                                                  tensor at least: for other percentiles later */
    double choice_deadline;                    /* s for trying candidates, 0: none; the first is
                                                  tried in any case */
    int batch_size;                            /* samples handed out at once: 8; no effect on
                                                  any result */
    enum qc_isa isa;                           /* highest instruction set to use */
    size_t memory_limit;                       /* bytes for the arena, 0: none */
    /* gate: the job fails (QD_CONFLICT) when verification is below, or did not measure it, for
     * want of labels or of a classifier's output; 0 = off */
    double gate_min_sqnr_db, gate_min_agreement, gate_max_drop;
};
void qc_options_init(struct qc_options *options); /* the defaults named above */
/* input_lo and input_hi from the preprocessing y = (x scale - mean) / std of x in 0..255; with a
 * mean or std a channel, the widest range. One channel alone: scale 1 / std, zero point mean (for
 * scale 1). std must be above 0. */
void qc_options_normalization(struct qc_options *options, const struct qc_preprocess *preprocess);
/* QD_INVALID names the field, the value and the limits. */
QD_MUST_CHECK enum qd_code qc_options_check(const struct qc_options *options,
                                            struct qd_error *err);

/* Run fn(arg, index, thread) for index 0..n-1 on up to n_threads threads, return when all are
 * done. thread is 0..n_threads-1 and never used by two calls at once. */
struct qc_threads {
    int n_threads;
    void (*parallel_for)(void *ctx, int n, void (*fn)(void *arg, int index, int thread),
                         void *arg);
    void *ctx;
};
/* One thread: calls fn in the caller's. */
struct qc_threads qc_threads_none(void);

/* Progress and cancellation: return false to cancel (QD_CANCELED). unit is "samples", "nodes". */
struct qc_progress {
    bool (*step)(void *ctx, enum qc_phase phase, int64_t done, int64_t total, const char *unit);
    void *ctx;
};

/* One of several configurations of a job; `auto` stands for a few of them. They may differ in
 * what is derived from statistics; mode, samples, holdout, batch_size, isa, memory_limit and gate
 * are the first one's. */
struct qc_candidate {
    struct qc_options options;
    const char *label; /* "calibrator=mse, range=full"; borrowed */
};

struct qc_job {
    const struct qc_candidate *candidates; /* borrowed; n_candidates 0: the options alone */
    size_t n_candidates;
    struct qd_bytes model;         /* ONNX bytes, borrowed until release_model or the return */
    const struct qc_external *external; /* files with its initializers' data, NULL: none; the
                                      struct is borrowed until the return, the bytes as model's */
    void (*release_model)(void *ctx); /* called once when the bytes have been read: the network
                                         is a copy, so that they need not stay in memory through
                                         the passes; NULL: they stay */
    void *release_ctx;
    struct qc_reader *calibration; /* borrowed; rewound as needed; may be NULL with statistics
                                      or unless static */
    struct qc_reader *validation;  /* may be NULL; may carry labels */
    const struct qc_table_row *table; /* scales that win over calibration; borrowed */
    size_t n_table;                /* 0: none. QD_INVALID with a network that has its own */
    /* Of an earlier run on the same model (qc_report.statistics): nothing is calibrated, and the
     * calibration data serve to verify alone. Empty: none. */
    struct qd_bytes statistics;
    const uint8_t *model_sha256;   /* [32], goes into statistics and is compared; may be NULL */
    struct qc_threads threads;
    struct qc_progress progress;   /* step may be NULL */
};

/* One row of the calibration table: a quantized activation. */
struct qc_calibration_row {
    const char *tensor, *op_type; /* op_type of the producer, "Input" for a network input */
    const char *dtype;            /* "u8", "s8" */
    const char *source;           /* "calibrated", "imported": the scale of the model
                                     or of the job's table */
    float scale;
    int32_t zero_point;
    double lo, hi;                /* the chosen range */
    double min, max, mean, std;   /* observed */
    int64_t count;                /* elements seen */
    bool is_constant;             /* all of them were the same */
    double clipped_share;         /* of elements outside [lo, hi], by the fine histogram; NAN
                                     when some are and there is none */
    const char *const *shared;    /* the other tensors of its group: they have the same pair */
    int n_shared;
};

struct qc_layer_row {
    const char *node, *op_type, *output; /* output: the f32 tensor's name */
    const char *precision;        /* "int8", "f32"; f32 but for the weights: "int8_weights",
                                     "int4_weights" … "int1_weights", "float16_weights" */
    const char *reason;           /* why it is f32, else "" */
    double local_sqnr_db, cumulative_sqnr_db, cosine, max_error, saturated_share;
                                  /* NAN where not measured */
    double weight_sqnr_db;        /* NAN without weights */
    int64_t n_weights;
    int weight_bits;              /* of the weights' codes; 16: float16; 0: f32 */
    int block_size;               /* weights that share a scale along the inputs; 0: all */
    /* of an integer Conv, Gemm or MatMul; NULL and 0 otherwise */
    const char *input, *weights;  /* the data tensor and the weights that it multiplies */
    const float *weight_scales;   /* one a tensor, an output channel, or a block */
    int n_weight_scales;
    const int32_t *weight_zero_points; /* as many; NULL: all are 0 */
    int n_dead_channels;          /* output channels with next to no weights: scale raised */
    int n_raised_scales;          /* weight scales raised so that the bias fits 32 bits */
    int64_t n_saturating_pairs;   /* neighbouring weights whose products leave 16 bits on CPUs
                                     that add them there: quant/saturating_pairs.h */
    bool f32_bias;                /* the bias does not fit the model's own weight scales */
    int64_t n_channels, n_groups; /* output channels; groups of a Conv, else 1 */
};

struct qc_output_row {
    const char *name;
    double sqnr_db, cosine, max_error; /* artifact against f32 over all verification samples */
    double top1_agreement, top5_agreement; /* shares 0..1, NAN when not a classifier's output */
    double accuracy_f32, accuracy_int8, accuracy_ci95; /* NAN without labels; ci95 half width
                                                          (Wilson) of accuracy_int8 */
};

/* A configuration that was tried. */
struct qc_choice {
    const char *label;
    bool tried, chosen;
    double sqnr_db;   /* mean over the outputs */
    double agreement; /* NAN when no output is a classifier's */
    double seconds;
};

struct qc_report {
    const char *model_name;
    enum qc_mode mode;
    int weight_bits, block_size;  /* as asked for */
    int64_t opset_in, opset_out;
    const char *isa;
    int n_threads;
    int64_t n_calibration, n_verification;
    bool verification_held_back;  /* part of the calibration set; false: a set given, or */
    bool verification_same;       /* the only sample, which calibrated too */
    size_t size_in, size_out;     /* bytes of the ONNX files */
    double phase_seconds[QC_PHASE_COUNT];
    double total_seconds;
    size_t peak_arena_bytes;
    struct qc_calibration_row *calibration;
    int n_calibration_rows;
    struct qc_layer_row *layers;
    int n_layers;
    struct qc_output_row *outputs;
    int n_outputs;
    struct qc_choice *choices;    /* NULL when there was one configuration */
    int n_choices;
    int64_t n_selection;          /* samples that they were compared on */
    const char *choice_reason;
    struct qd_bytes statistics;   /* of the calibration: see qc_job */
    const char **warnings;
    int n_warnings;
    int n_nodes_int8, n_nodes_f32;
    int n_imported_tensors;       /* activations with the scale that the model or the job's
                                     table gave them */
    size_t n_table, n_table_unused; /* rows of the job's table; those for no quantized tensor */
    int n_imported_constants;     /* weights, biases … that were integers in the model */
    bool gate_passed;
    const char *gate_reason; /* the first limit that does not hold, or NULL; also a warning */
};

/* The whole pipeline. *ret_artifact (in the arena) is the QDQ model's bytes. On QD_CONFLICT
 * from the gate both results are set. */
QD_MUST_CHECK enum qd_code qc_quantize(const struct qc_job *job, const struct qc_options *options,
                                       struct qd_arena *arena, struct qd_bytes *ret_artifact,
                                       struct qc_report **ret_report, struct qd_error *err);

/* Statistics of parts of the calibration data as those of the whole, to the byte (when the parts
 * kept tails of the same length). What they are: calib/statistics_file.h. */
struct qc_statistics_info {
    const uint8_t *model_sha256; /* [32], zeros when unknown */
    int64_t n_samples;
    int n_tensors;
    bool has_histograms;
};
QD_MUST_CHECK enum qd_code qc_merge_statistics(const struct qd_bytes *parts, int n,
                                               struct qd_arena *arena, struct qd_bytes *ret,
                                               struct qc_statistics_info *ret_info,
                                               struct qd_error *err);

/* What qc_quantize would refuse before its first pass (options, model, shapes, nothing that can
 * be quantized, statistics that do not fit), and the first samples of the calibration data; no
 * sample is run. */
struct qc_check {
    int64_t n_calibration, n_verification; /* samples */
    int n_nodes_int8, n_nodes_f32;
    /* Estimate of a job's memory: the weights (as stored and packed) and tables of values, and
     * what each thread takes for activations and statistics, second moments among them. */
    size_t shared_bytes, thread_bytes, moments_bytes;
};
QD_MUST_CHECK enum qd_code qc_check(const struct qc_job *job, const struct qc_options *options,
                                    struct qd_arena *arena, struct qc_check **ret,
                                    struct qd_error *err);

/* What a model is and whether it can be quantized: imports, infers, folds. Used by submission
 * (an unsupported operator fails here with node, operator, opset and domain) and `inspect`. */
struct qc_io_info {
    const char *name;
    const char *dtype;
    int rank;
    int64_t dim[QC_READER_MAX_RANK]; /* -1: symbolic (the batch) */
};
struct qc_model_info {
    const char *name, *producer;
    int64_t ir_version, opset;
    int n_inputs, n_outputs;
    const struct qc_io_info *inputs, *outputs;
    int n_nodes, n_nodes_folded;   /* as stored; after folding and fusing */
    int64_t n_parameters, n_macs;  /* multiply-accumulates of one sample */
    size_t buffer_bytes;           /* activations of one f32 run, one thread */
    bool is_quantized;             /* carries QuantizeLinear already */
    bool has_quantized_weights;    /* a DequantizeLinear of a constant */
    const char *dump;              /* the folded graph, one line a node */
};
QD_MUST_CHECK enum qd_code qc_inspect(struct qd_bytes model, const struct qc_external *external,
                                      struct qd_arena *arena, struct qc_model_info **ret,
                                      struct qd_error *err);

/* Run a network on samples: the f32 engine, or the integer engine for a QDQ model. */
enum qc_engine { QC_ENGINE_F32, QC_ENGINE_INT8 };
struct qc_runner; /* in the arena; states are freed with it */
QD_MUST_CHECK enum qd_code qc_runner_new(struct qd_bytes model,
                                         const struct qc_external *external,
                                         enum qc_engine engine, enum qc_isa isa, struct qd_arena *arena,
                                         struct qc_runner **ret, struct qd_error *err);
const struct qc_model_info *qc_runner_info(const struct qc_runner *runner);
/* outputs[i] has room for one sample of output i as f32 (dims after the first). */
QD_MUST_CHECK enum qd_code qc_runner_run(struct qc_runner *runner, const float *const *inputs,
                                         float *const *outputs, struct qd_error *err);

#endif
