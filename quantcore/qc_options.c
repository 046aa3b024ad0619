#include "quantcore/quantcore.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quantcore/quant/quantize_weights.h"

void qc_options_init(struct qc_options *options)
{
    *options = (struct qc_options){
        /* Chosen by parts of the calibration samples, held back in turn, never by evaluation data
         * (tests/bench/bench_defaults.py): beyond twice the error no other calibrator, range or
         * uncorrected bias is better on more than one network, and each is worse on some. The
         * statistics of quantized inference are neither. */
        .calibrator = QC_CALIB_MSE,
        .min_percentile = 1.0,
        .max_percentile = 1.0,
        .search_start_scale = 0.3,
        .search_end_scale = 1.7,
        .search_step = 0.01,
        .bins = 150,
        .histograms = true,
        .weights_per_channel = true,
        .dense_per_channel = true,
        .weight_bits = QC_WEIGHT_BITS,
        .bias_correction = true,
        .holdout = 0.2,
        .batch_size = 8,
        .isa = QC_ISA_AVX512,
    };
}

void qc_options_normalization(struct qc_options *options, const struct qc_preprocess *preprocess)
{
    const struct qc_preprocess *p = preprocess;
    int n = p->n_mean > p->n_std ? p->n_mean : p->n_std;
    double scale = p->has_scale ? (double)p->scale : 1;
    for (int c = 0; c < (n > 1 ? n : 1); c++) {
        double mean = p->n_mean == 0 ? 0 : (double)p->mean[p->n_mean > 1 ? c : 0];
        double std = p->n_std == 0 ? 1 : (double)p->std[p->n_std > 1 ? c : 0];
        double a = -mean / std;
        double b = (255 * scale - mean) / std; /* below a for a negative scale */
        options->input_lo = c == 0 ? fmin(a, b) : fmin(options->input_lo, fmin(a, b));
        options->input_hi = c == 0 ? fmax(a, b) : fmax(options->input_hi, fmax(a, b));
    }
}

static enum qd_code check_range(const char *field, double value, double lo, double hi,
                                struct qd_error *err)
{
    if (!(value >= lo && value <= hi)) { /* NaN too */
        return qd_fail_on(err, QD_INVALID, field, "%s is %g, allowed: %g to %g", field, value, lo,
                          hi);
    }
    return QD_OK;
}

/* Is value one of the n allowed? */
static bool is_among(int value, const int *allowed, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (value == allowed[i]) {
            return true;
        }
    }
    return false;
}

static enum qd_code check_bits(const struct qc_options *o, struct qd_error *err)
{
    static const int bits[] = {QC_WEIGHT_BITS, 7, 4, 3, 2, 1, QC_FLOAT16_BITS};
    if (!is_among(o->weight_bits, bits, QD_COUNT_OF(bits))) {
        return qd_fail_on(err, QD_INVALID, "bits",
                          "bits of weights is %d, allowed: 8, 7, 4, 3, 2, 1, and 16 (float16) in mode "
                          "weight_only", o->weight_bits);
    }
    if (o->weight_bits == QC_FLOAT16_BITS && o->mode != QC_MODE_WEIGHT_ONLY) {
        return qd_fail_on(err, QD_INVALID, "bits",
                          "bits of weights is 16 (float16) in mode %s, allowed: in mode weight_only",
                          qc_mode_name(o->mode));
    }
    if (o->weight_bits == QC_FLOAT16_BITS && (o->weights_asymmetric || o->weights_full_range)) {
        return qd_fail_on(err, QD_INVALID, "bits",
                          "bits of weights is 16 (float16), which has no codes: scheme asymmetric and "
                          "range full have no use there");
    }
    if (o->weight_bits == 1 && (o->weights_asymmetric || o->weights_full_range)) {
        return qd_fail_on(err, QD_INVALID, "bits",
                          "bits of weights is 1, with scheme %s and range %s: a sign is symmetric and "
                          "narrow", o->weights_asymmetric ? "asymmetric" : "symmetric",
                          o->weights_full_range ? "full" : "narrow");
    }
    return QD_OK;
}

static enum qd_code check_blocks(const struct qc_options *o, struct qd_error *err)
{
    static const int sizes[] = {0, 32, 64, 128, 256};
    if (!is_among(o->block_size, sizes, QD_COUNT_OF(sizes))) {
        return qd_fail_on(err, QD_INVALID, "block_size",
                          "block_size is %d, allowed: 0 (none), 32, 64, 128, 256", o->block_size);
    }
    if (o->block_size > 0 &&
        (o->mode != QC_MODE_WEIGHT_ONLY || o->weight_bits > QC_WEIGHT_BITS)) {
        return qd_fail_on(err, QD_INVALID, "block_size",
                          "block_size is %d in mode %s with %d bits, allowed: in mode weight_only with "
                          "8 bits at most", o->block_size, qc_mode_name(o->mode), o->weight_bits);
    }
    if (o->block_size > 0 && !(o->weights_per_channel && o->dense_per_channel)) {
        return qd_fail_on(err, QD_INVALID, "block_size",
                          "block_size is %d, but %s is false: blocks are parts of a channel",
                          o->block_size, o->weights_per_channel ? "dense_per_channel" : "per_channel");
    }
    return QD_OK;
}

static enum qd_code check_histograms(const struct qc_options *o, struct qd_error *err)
{
    if (o->histograms) {
        return QD_OK;
    }
    if (o->inference == QC_INFERENCE_QUANTIZED) {
        return qd_fail_on(err, QD_INVALID, "histograms",
                          "histograms is false and inference is quantized, whose second pass is for "
                          "histograms alone, allowed: inference float");
    }
    if (o->mode == QC_MODE_STATIC && qc_calibrator_needs_histogram(o->calibrator)) {
        return qd_fail_on(err, QD_INVALID, "histograms",
                          "histograms is false and calibrator is '%s', which needs histograms, "
                          "allowed: minmax, percentile", qc_calibrator_name(o->calibrator));
    }
    return QD_OK;
}

enum qd_code qc_options_check(const struct qc_options *o, struct qd_error *err)
{
    QD_TRY(check_range("min_percentile", o->min_percentile, 0.5000001, 1, err));
    QD_TRY(check_range("max_percentile", o->max_percentile, 0.5000001, 1, err));
    QD_TRY(check_range("search_start_scale", o->search_start_scale, 0.01, 10, err));
    QD_TRY(check_range("search_end_scale", o->search_end_scale, o->search_start_scale, 10, err));
    QD_TRY(check_range("search_step", o->search_step, 0.001, 1, err));
    QD_TRY(check_range("bins", o->bins, 8, 8192, err));
    if (o->input_from_normalization) {
        QD_TRY(check_range("input_lo", o->input_lo, -(double)FLT_MAX, (double)FLT_MAX, err));
        QD_TRY(check_range("input_hi", o->input_hi, o->input_lo, (double)FLT_MAX, err));
    }
    QD_TRY(check_range("tail_length", (double)o->tail_length, 0, QC_TAIL_MAX, err));
    QD_TRY(check_range("choice_deadline", o->choice_deadline, 0, 86400, err));
    QD_TRY(check_range("holdout", o->holdout, 0, 0.9, err));
    QD_TRY(check_range("batch_size", o->batch_size, 1, 1024, err));
    if (o->weights_asymmetric && o->mode == QC_MODE_DYNAMIC) {
        return qd_fail_on(err, QD_INVALID, "mode",
                          "mode is dynamic: asymmetric weights are for static and weight_only, "
                          "because ONNX Runtime's ConvInteger takes no zero point a channel");
    }
    QD_TRY(check_histograms(o, err));
    QD_TRY(check_bits(o, err));
    QD_TRY(check_blocks(o, err));
    QD_TRY(check_range("gate_min_agreement", o->gate_min_agreement, 0, 1, err));
    QD_TRY(check_range("gate_max_drop", o->gate_max_drop, 0, 1, err));
    return check_range("gate_min_sqnr_db", o->gate_min_sqnr_db, 0, 200, err);
}

static const char *const mode_names[QC_MODE_COUNT] = {[QC_MODE_STATIC] = "static",
                                                      [QC_MODE_WEIGHT_ONLY] = "weight_only",
                                                      [QC_MODE_DYNAMIC] = "dynamic"};

const char *qc_mode_name(enum qc_mode mode)
{
    return mode_names[mode];
}

bool qc_mode_from_name(const char *name, enum qc_mode *ret)
{
    for (int i = 0; i < QC_MODE_COUNT; i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            *ret = (enum qc_mode)i;
            return true;
        }
    }
    return false;
}

const char *qc_phase_name(enum qc_phase phase)
{
    static const char *const names[QC_PHASE_COUNT] = {
        [QC_PHASE_VALIDATING] = "validating", [QC_PHASE_FOLDING] = "folding",
        [QC_PHASE_WEIGHTS] = "weights",       [QC_PHASE_PASS1] = "pass1",
        [QC_PHASE_PASS2] = "pass2",           [QC_PHASE_SEARCHING] = "searching",
        [QC_PHASE_BIAS] = "bias",             [QC_PHASE_EXPORTING] = "exporting",
        [QC_PHASE_VERIFYING] = "verifying"};
    return names[phase];
}

static void call_in_turn(void *ctx, int n, void (*fn)(void *arg, int index, int thread), void *arg)
{
    (void)ctx;
    for (int i = 0; i < n; i++) {
        fn(arg, i, 0);
    }
}

struct qc_threads qc_threads_none(void)
{
    return (struct qc_threads){.n_threads = 1, .parallel_for = call_in_turn, .ctx = NULL};
}
