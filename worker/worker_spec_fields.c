#include "worker/worker_spec_fields.h"

#include <string.h>

#define OPTION(member)     offsetof(struct worker_spec, options.member)
#define PREPROCESS(member) offsetof(struct worker_spec, preprocess.member)

static enum qd_code set_calibrator(struct worker_spec *s, const char *word)
{
    enum qc_calibrator c;
    if (!qc_calibrator_from_name(word, &c)) {
        return QD_INVALID;
    }
    s->options.calibrator = c;
    return QD_OK;
}

static enum qd_code set_divergence(struct worker_spec *s, const char *word)
{
    return qc_divergence_form_from_name(word, &s->options.divergence) ? QD_OK : QD_INVALID;
}

static enum qd_code set_inference(struct worker_spec *s, const char *word)
{
    bool quantized = strcmp(word, "quantized") == 0;
    s->options.inference = quantized ? QC_INFERENCE_QUANTIZED : QC_INFERENCE_FLOAT;
    return quantized || strcmp(word, "float") == 0 ? QD_OK : QD_INVALID;
}

static enum qd_code set_moments(struct worker_spec *s, const char *word)
{
    s->options.second_moments = strcmp(word, "second") == 0;
    return s->options.second_moments || strcmp(word, "first") == 0 ? QD_OK : QD_INVALID;
}

static enum qd_code set_isa(struct worker_spec *s, const char *word)
{
    return qc_isa_from_name(word, &s->options.isa) ? QD_OK : QD_INVALID;
}

static enum qd_code set_mode(struct worker_spec *s, const char *word)
{
    return qc_mode_from_name(word, &s->options.mode) ? QD_OK : QD_INVALID;
}

static enum qd_code set_name(struct worker_spec *s, const char *word)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "._-";
    size_t n = strlen(word);
    if (n == 0 || n >= sizeof(s->name) || strspn(word, letters) != n || word[0] == '.') {
        return QD_INVALID;
    }
    memcpy(s->name, word, n + 1);
    return QD_OK;
}

static enum qd_code set_resize(struct worker_spec *s, const char *word)
{
    static const char *const words[] = {"none", "stretch", "shorter"};
    for (size_t i = 0; i < QD_COUNT_OF(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            s->preprocess.resize = (enum qc_image_resize)i;
            return QD_OK;
        }
    }
    return QD_INVALID;
}

static enum qd_code set_filter(struct worker_spec *s, const char *word)
{
    s->preprocess.filter = strcmp(word, "bicubic") == 0 ? QC_FILTER_BICUBIC : QC_FILTER_BILINEAR;
    return strcmp(word, "bicubic") == 0 || strcmp(word, "bilinear") == 0 ? QD_OK : QD_INVALID;
}

static enum qd_code set_flag(bool *flag, const char *word, const char *no, const char *yes)
{
    *flag = strcmp(word, yes) == 0;
    return *flag || strcmp(word, no) == 0 ? QD_OK : QD_INVALID;
}

static enum qd_code set_input_range(struct worker_spec *s, const char *word)
{
    return set_flag(&s->options.input_from_normalization, word, "calibrated",
                    "from_normalization");
}

static enum qd_code set_activation_type(struct worker_spec *s, const char *word)
{
    return set_flag(&s->options.activations.is_s8, word, "u8", "s8");
}

static enum qd_code set_activation_scheme(struct worker_spec *s, const char *word)
{
    return set_flag(&s->options.activations.symmetric, word, "asymmetric", "symmetric");
}

static enum qd_code set_weight_range(struct worker_spec *s, const char *word)
{
    return set_flag(&s->options.weights_full_range, word, "narrow", "full");
}

static enum qd_code set_weight_scheme(struct worker_spec *s, const char *word)
{
    return set_flag(&s->options.weights_asymmetric, word, "symmetric", "asymmetric");
}

static enum qd_code set_layout(struct worker_spec *s, const char *word)
{
    return set_flag(&s->preprocess.to_hwc, word, "nchw", "nhwc");
}

static enum qd_code set_source_layout(struct worker_spec *s, const char *word)
{
    return set_flag(&s->preprocess.source_is_hwc, word, "chw", "hwc");
}

static enum qd_code set_channel_order(struct worker_spec *s, const char *word)
{
    return set_flag(&s->preprocess.bgr, word, "rgb", "bgr");
}

static const struct worker_spec_field fields[] = {
    {"/name", FIELD_WORD, 0, set_name, "1 to 128 of A-Z a-z 0-9 . _ -, not starting with a dot"},
    {"/mode", FIELD_WORD, 0, set_mode, "static, weight_only, dynamic"},
    {"/isa", FIELD_WORD, 0, set_isa, "ref, neon, avx2, avxvnni, avx512"},
    {"/quantize_last_output", FIELD_BOOL, OPTION(quantize_last_output), NULL, NULL},
    {"/memory_limit", FIELD_SIZE, OPTION(memory_limit), NULL, NULL},
    {"/calibration/calibrator", FIELD_WORD, 0, set_calibrator,
     "auto, mse, minmax, percentile, kl, symmetric_kl, js, entropy"},
    {"/calibration/divergence", FIELD_WORD, 0, set_divergence, "levels, spread"},
    {"/calibration/inference", FIELD_WORD, 0, set_inference, "float, quantized"},
    {"/calibration/histograms", FIELD_BOOL, OPTION(histograms), NULL, NULL},
    {"/calibration/min_percentile", FIELD_F64, OPTION(min_percentile), NULL, NULL},
    {"/calibration/max_percentile", FIELD_F64, OPTION(max_percentile), NULL, NULL},
    {"/calibration/search_start_scale", FIELD_F64, OPTION(search_start_scale), NULL, NULL},
    {"/calibration/search_end_scale", FIELD_F64, OPTION(search_end_scale), NULL, NULL},
    {"/calibration/search_step", FIELD_F64, OPTION(search_step), NULL, NULL},
    {"/calibration/bins", FIELD_INT, OPTION(bins), NULL, NULL},
    {"/calibration/holdout", FIELD_F64, OPTION(holdout), NULL, NULL},
    {"/calibration/max_samples", FIELD_S64, OPTION(max_samples), NULL, NULL},
    {"/calibration/moments", FIELD_WORD, 0, set_moments, "first, second"},
    {"/calibration/tail_length", FIELD_S64, OPTION(tail_length), NULL, NULL},
    {"/grid/deadline_s", FIELD_F64, OPTION(choice_deadline), NULL, NULL},
    {"/verification/max_samples", FIELD_S64, OPTION(max_verification), NULL, NULL},
    {"/calibration/batch_size", FIELD_INT, OPTION(batch_size), NULL, NULL},
    {"/calibration/input_range", FIELD_WORD, 0, set_input_range,
     "calibrated, from_normalization"},
    {"/activations/type", FIELD_WORD, 0, set_activation_type, "u8, s8"},
    {"/activations/scheme", FIELD_WORD, 0, set_activation_scheme, "asymmetric, symmetric"},
    {"/weights/per_channel", FIELD_BOOL, OPTION(weights_per_channel), NULL, NULL},
    {"/weights/dense_per_channel", FIELD_BOOL, OPTION(dense_per_channel), NULL, NULL},
    {"/weights/range", FIELD_WORD, 0, set_weight_range, "narrow, full"},
    {"/weights/scheme", FIELD_WORD, 0, set_weight_scheme, "symmetric, asymmetric"},
    {"/weights/bits", FIELD_INT, OPTION(weight_bits), NULL, NULL},
    {"/weights/block_size", FIELD_INT, OPTION(block_size), NULL, NULL},
    {"/weights/bias_correction", FIELD_BOOL, OPTION(bias_correction), NULL, NULL},
    {"/gate/min_sqnr_db", FIELD_F64, OPTION(gate_min_sqnr_db), NULL, NULL},
    {"/gate/min_agreement", FIELD_F64, OPTION(gate_min_agreement), NULL, NULL},
    {"/gate/max_drop", FIELD_F64, OPTION(gate_max_drop), NULL, NULL},
    {"/preprocess/resize", FIELD_WORD, 0, set_resize, "none, stretch, shorter"},
    {"/preprocess/filter", FIELD_WORD, 0, set_filter, "bilinear, bicubic"},
    {"/preprocess/resize_height", FIELD_INT, PREPROCESS(resize_height), NULL, NULL},
    {"/preprocess/resize_width", FIELD_INT, PREPROCESS(resize_width), NULL, NULL},
    {"/preprocess/crop_height", FIELD_INT, PREPROCESS(crop_height), NULL, NULL},
    {"/preprocess/crop_width", FIELD_INT, PREPROCESS(crop_width), NULL, NULL},
    {"/preprocess/layout", FIELD_WORD, 0, set_layout, "nchw, nhwc"},
    {"/preprocess/source_layout", FIELD_WORD, 0, set_source_layout, "chw, hwc"},
    {"/preprocess/channel_order", FIELD_WORD, 0, set_channel_order, "rgb, bgr"},
    {"/preprocess/grayscale", FIELD_BOOL, PREPROCESS(grayscale), NULL, NULL},
    {"/preprocess/scale", FIELD_F32, PREPROCESS(scale), NULL, NULL},
};

static enum qd_code wrong_type(const struct worker_spec_field *f, const char *wanted,
                               struct qd_error *err)
{
    return qd_fail_on(err, QD_INVALID, f->pointer, "%s must be %s", f->pointer, wanted);
}

static enum qd_code set_integer(const struct worker_spec_field *f, const json_t *value, void *to,
                                struct qd_error *err)
{
    json_int_t i = json_integer_value(value);
    bool fits = json_is_integer(value) && i >= 0 &&
                (f->type != FIELD_INT || i <= INT32_MAX);
    if (!fits) {
        return wrong_type(f, f->type == FIELD_INT ? "an integer from 0 to 2147483647"
                                                  : "an integer of at least 0", err);
    }
    if (f->type == FIELD_INT) {
        *(int *)to = (int)i;
    } else if (f->type == FIELD_S64) {
        *(int64_t *)to = i;
    } else {
        *(size_t *)to = (size_t)i;
    }
    return QD_OK;
}

enum qd_code worker_spec_set(struct worker_spec *s, const struct worker_spec_field *f,
                             const json_t *value, struct qd_error *err)
{
    void *to = (char *)s + f->at;
    switch (f->type) {
    case FIELD_F64:
    case FIELD_F32:
        if (!json_is_number(value)) {
            return wrong_type(f, "a number", err);
        }
        if (f->type == FIELD_F64) {
            *(double *)to = json_number_value(value);
        } else {
            *(float *)to = (float)json_number_value(value);
        }
        return QD_OK;
    case FIELD_BOOL:
        if (!json_is_boolean(value)) {
            return wrong_type(f, "true or false", err);
        }
        *(bool *)to = json_is_true(value);
        return QD_OK;
    case FIELD_WORD:
        if (!json_is_string(value)) {
            return wrong_type(f, "a string", err);
        }
        if (f->word(s, json_string_value(value)) != QD_OK) {
            return qd_fail_on(err, QD_INVALID, f->pointer, "%s is '%.64s', allowed: %s",
                              f->pointer, json_string_value(value), f->allowed);
        }
        return QD_OK;
    case FIELD_INT:
    case FIELD_S64:
    case FIELD_SIZE:
        return set_integer(f, value, to, err);
    }
    return QD_OK;
}

const struct worker_spec_field *worker_spec_field(const char *pointer)
{
    for (size_t i = 0; i < QD_COUNT_OF(fields); i++) {
        if (strcmp(fields[i].pointer, pointer) == 0) {
            return &fields[i];
        }
    }
    return NULL;
}

const char *worker_spec_pointer(const char *option)
{
    bool gate = strncmp(option, "gate_", 5) == 0;
    for (size_t i = 0; i < QD_COUNT_OF(fields); i++) {
        const char *pointer = fields[i].pointer;
        if (strcmp(strrchr(pointer, '/') + 1, gate ? option + 5 : option) == 0 &&
            gate == (strncmp(pointer, "/gate/", 6) == 0)) {
            return pointer;
        }
    }
    return NULL;
}
