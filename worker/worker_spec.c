#include "worker/worker_spec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum field_type { FIELD_F64, FIELD_F32, FIELD_INT, FIELD_S64, FIELD_SIZE, FIELD_BOOL, FIELD_WORD };

/* One field: its place in the JSON ("/section/key"), its type and where it goes. */
struct spec_field {
    const char *pointer;
    enum field_type type;
    size_t at;
    enum qd_code (*word)(struct worker_spec *s, const char *word); /* FIELD_WORD */
    const char *allowed;                                           /* FIELD_WORD: for messages */
};

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

static const struct spec_field fields[] = {
    {"/name", FIELD_WORD, 0, set_name, "1 to 128 of A-Z a-z 0-9 . _ -, not starting with a dot"},
    {"/mode", FIELD_WORD, 0, set_mode, "static, weight_only, dynamic"},
    {"/isa", FIELD_WORD, 0, set_isa, "ref, neon, avx2, avxvnni, avx512"},
    {"/quantize_last_output", FIELD_BOOL, OPTION(quantize_last_output), NULL, NULL},
    {"/memory_limit", FIELD_SIZE, OPTION(memory_limit), NULL, NULL},
    {"/calibration/calibrator", FIELD_WORD, 0, set_calibrator,
     "auto, mse, minmax, percentile, kl, symmetric_kl, js, entropy"},
    {"/calibration/divergence", FIELD_WORD, 0, set_divergence, "levels, spread"},
    {"/calibration/inference", FIELD_WORD, 0, set_inference, "float, quantized"},
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

static enum qd_code wrong_type(const struct spec_field *f, const char *wanted,
                               struct qd_error *err)
{
    return qd_fail_on(err, QD_INVALID, f->pointer, "%s must be %s", f->pointer, wanted);
}

static enum qd_code set_integer(const struct spec_field *f, const json_t *value, void *to,
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

static enum qd_code set_field(struct worker_spec *s, const struct spec_field *f,
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

/* ---- a grid ----------------------------------------------------------------------------------- */

/* Fields that may be a list of values: what is derived from statistics. */
static const char *const grid_fields[] = {
    "/calibration/calibrator",         "/calibration/divergence",
    "/calibration/min_percentile",     "/calibration/max_percentile",
    "/calibration/search_start_scale", "/calibration/search_end_scale",
    "/calibration/search_step",        "/calibration/bins",
    "/calibration/input_range",        "/activations/type",
    "/activations/scheme",             "/weights/per_channel",
    "/weights/dense_per_channel",      "/weights/range",
    "/weights/scheme",                 "/weights/bias_correction",
    "/quantize_last_output",
};

struct axis {
    const struct spec_field *field;
    const json_t *values;
};

/* "calibrator=mse, range=full", cut to size. */
static void write_label(char label[WORKER_SPEC_LABEL], const struct axis *axes, size_t n_axes,
                        size_t index)
{
    size_t used = 0;
    size_t rest = index;
    for (size_t k = n_axes; k-- > 0;) {
        size_t n = json_array_size(axes[k].values);
        const json_t *value = json_array_get(axes[k].values, rest % n);
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        rest /= n;
        int wrote = snprintf(label + used, (size_t)WORKER_SPEC_LABEL - used, "%s%s=%s",
                             used > 0 ? ", " : "", strrchr(axes[k].field->pointer, '/') + 1,
                             json_is_string(value) ? json_string_value(value)
                             : text != NULL        ? text
                                                   : "?");
        free(text);
        used += wrote > 0 ? (size_t)wrote : 0;
        used = used < (size_t)WORKER_SPEC_LABEL ? used : (size_t)WORKER_SPEC_LABEL - 1;
    }
}

/* Every combination of the axes' values, the last axis fastest. */
static enum qd_code make_candidate(struct worker_spec *s, const struct axis *axes, size_t n_axes,
                                   size_t index, struct qd_error *err)
{
    size_t rest = index;
    for (size_t k = n_axes; k-- > 0;) {
        size_t n = json_array_size(axes[k].values);
        const json_t *value = json_array_get(axes[k].values, rest % n);
        rest /= n;
        QD_TRY(set_field(s, axes[k].field, value, err));
    }
    QD_TRY(qc_options_check(&s->options, err));
    write_label(s->labels[index], axes, n_axes, index);
    s->candidates[index] = (struct qc_candidate){s->options, s->labels[index]};
    return QD_OK;
}

static const struct spec_field *grid_field(const char *pointer)
{
    for (size_t i = 0; i < QD_COUNT_OF(grid_fields); i++) {
        for (size_t k = 0; strcmp(pointer, grid_fields[i]) == 0 && k < QD_COUNT_OF(fields); k++) {
            if (strcmp(fields[k].pointer, pointer) == 0) {
                return &fields[k];
            }
        }
    }
    return NULL;
}

/* The lists among a section's members (or the top level's). */
static enum qd_code find_axes(const json_t *object, const char *prefix, struct axis *axes,
                              size_t *n_axes, size_t *product, struct qd_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char pointer[200];
        (void)snprintf(pointer, sizeof(pointer), "%s/%.128s", prefix, key);
        const struct spec_field *field = grid_field(pointer);
        if (field == NULL || !json_is_array(value)) {
            continue;
        }
        size_t n = json_array_size(value);
        *product *= n;
        if (n < 1 || *product > WORKER_SPEC_MAX_CANDIDATES) {
            return qd_fail_on(err, n < 1 ? QD_INVALID : QD_LIMIT_EXCEEDED, field->pointer,
                              "%s: the lists make %zu configurations, allowed: 1 to %d",
                              field->pointer, *product, WORKER_SPEC_MAX_CANDIDATES);
        }
        axes[(*n_axes)++] = (struct axis){field, value};
    }
    return QD_OK;
}

static enum qd_code make_grid(struct worker_spec *s, const json_t *config, struct qd_error *err)
{
    static const char *const sections[] = {"calibration", "activations", "weights"};
    struct axis axes[QD_COUNT_OF(grid_fields)];
    size_t n_axes = 0, product = 1;
    for (size_t i = 0; i < QD_COUNT_OF(sections); i++) {
        char prefix[32];
        (void)snprintf(prefix, sizeof(prefix), "/%s", sections[i]);
        QD_TRY(find_axes(json_object_get(config, sections[i]), prefix, axes, &n_axes, &product,
                         err));
    }
    QD_TRY(find_axes(config, "", axes, &n_axes, &product, err));
    for (size_t i = 0; n_axes > 0 && i < product; i++) {
        QD_TRY(make_candidate(s, axes, n_axes, i, err));
        s->n_candidates = i + 1;
    }
    if (n_axes > 0) {
        s->options = s->candidates[0].options;
    }
    if (n_axes > 0 && s->options.mode != QC_MODE_STATIC) {
        return qd_fail_on(err, QD_INVALID, "/mode",
                          "/mode is '%s': lists of values are for mode static",
                          qc_mode_name(s->options.mode));
    }
    return QD_OK;
}

/* ---- fields that are lists -------------------------------------------------------------------- */

static enum qd_code parse_names(const json_t *value, const char *pointer, const char **names,
                                int *ret_n, struct qd_error *err)
{
    size_t n = json_array_size(value);
    if (!json_is_array(value) || n > WORKER_SPEC_MAX_NAMES) {
        return qd_fail_on(err, QD_INVALID, pointer, "%s must be a list of at most %d strings",
                          pointer, WORKER_SPEC_MAX_NAMES);
    }
    for (size_t i = 0; i < n; i++) {
        names[i] = json_string_value(json_array_get(value, i));
        if (names[i] == NULL) {
            return qd_fail_on(err, QD_INVALID, pointer, "%s/%zu must be a string", pointer, i);
        }
    }
    *ret_n = (int)n;
    return QD_OK;
}

/* One number for all channels, or a list with one a channel. */
static enum qd_code parse_channels(const json_t *value, const char *pointer, float *out,
                                   int *ret_n, struct qd_error *err)
{
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n < 1 || n > 16) {
        return qd_fail_on(err, QD_INVALID, pointer, "%s has %zu values, allowed: 1 to 16", pointer,
                          n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_is_array(value) ? json_array_get(value, i) : value;
        out[i] = (float)json_number_value(v);
        if (!json_is_number(v) || !isfinite(out[i])) {
            return qd_fail_on(err, QD_INVALID, pointer, "%s must be a number or a list of numbers",
                              pointer);
        }
    }
    *ret_n = (int)n;
    return QD_OK;
}

/* [{"from": "node", "to": "node"}, …] */
static enum qd_code parse_ranges(const json_t *value, const char *pointer,
                                 struct qc_exclude_range *ranges, int *ret_n, struct qd_error *err)
{
    size_t n = json_array_size(value);
    if (!json_is_array(value) || n > WORKER_SPEC_MAX_NAMES) {
        return qd_fail_on(err, QD_INVALID, pointer,
                          "%s must be a list of at most %d objects with \"from\" and \"to\"",
                          pointer, WORKER_SPEC_MAX_NAMES);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *range = json_array_get(value, i);
        ranges[i].from = json_string_value(json_object_get(range, "from"));
        ranges[i].to = json_string_value(json_object_get(range, "to"));
        if (ranges[i].from == NULL || ranges[i].to == NULL || json_object_size(range) != 2) {
            return qd_fail_on(err, QD_INVALID, pointer,
                              "%s/%zu must be {\"from\": node, \"to\": node}", pointer, i);
        }
    }
    *ret_n = (int)n;
    return QD_OK;
}

static enum qd_code set_exclude(struct worker_spec *s, const char *pointer, const json_t *value,
                                bool *ret_known, struct qd_error *err)
{
    struct qc_exclude *e = &s->options.exclude;
    const struct {
        const char *pointer;
        const char **names;
        const char *const **to;
        int *n;
    } lists[] = {
        {"/exclude/nodes", s->exclude_nodes, &e->nodes, &e->n_nodes},
        {"/exclude/types", s->exclude_types, &e->types, &e->n_types},
        {"/exclude/patterns", s->exclude_patterns, &e->patterns, &e->n_patterns},
    };
    *ret_known = true;
    for (size_t i = 0; i < QD_COUNT_OF(lists); i++) {
        if (strcmp(pointer, lists[i].pointer) == 0) {
            *lists[i].to = lists[i].names;
            return parse_names(value, pointer, lists[i].names, lists[i].n, err);
        }
    }
    if (strcmp(pointer, "/exclude/ranges") == 0) {
        e->ranges = s->exclude_ranges;
        return parse_ranges(value, pointer, s->exclude_ranges, &e->n_ranges, err);
    }
    *ret_known = false;
    return QD_OK;
}

static enum qd_code set_list(struct worker_spec *s, const char *pointer, const json_t *value,
                             bool *ret_known, struct qd_error *err)
{
    *ret_known = true;
    if (strncmp(pointer, "/exclude/", strlen("/exclude/")) == 0) {
        return set_exclude(s, pointer, value, ret_known, err);
    }
    if (strcmp(pointer, "/preprocess/mean") == 0) {
        return parse_channels(value, pointer, s->preprocess.mean, &s->preprocess.n_mean, err);
    }
    if (strcmp(pointer, "/preprocess/std") == 0) {
        return parse_channels(value, pointer, s->preprocess.std, &s->preprocess.n_std, err);
    }
    *ret_known = false;
    return QD_OK;
}

static enum qd_code set_value(struct worker_spec *s, const char *pointer, const json_t *value,
                              struct qd_error *err)
{
    if (json_is_array(value) && grid_field(pointer) != NULL) {
        return QD_OK; /* make_grid takes it */
    }
    for (size_t i = 0; i < QD_COUNT_OF(fields); i++) {
        if (strcmp(fields[i].pointer, pointer) == 0) {
            QD_TRY(set_field(s, &fields[i], value, err));
            s->preprocess.has_scale =
                s->preprocess.has_scale || strcmp(pointer, "/preprocess/scale") == 0;
            return QD_OK;
        }
    }
    bool known = false;
    QD_TRY(set_list(s, pointer, value, &known, err));
    return known ? QD_OK : qd_fail_on(err, QD_INVALID, pointer, "unknown field %s", pointer);
}

static bool is_section(const char *key)
{
    static const char *const sections[] = {"calibration", "weights", "gate", "preprocess",
                                           "exclude", "activations", "verification",
                                           "grid"};
    for (size_t i = 0; i < QD_COUNT_OF(sections); i++) {
        if (strcmp(key, sections[i]) == 0) {
            return true;
        }
    }
    return false;
}

static enum qd_code set_section(struct worker_spec *s, const char *section, const json_t *object,
                                struct qd_error *err)
{
    char pointer[200];
    const char *key;
    json_t *value;
    if (!json_is_object(object)) {
        snprintf(pointer, sizeof(pointer), "/%.128s", section);
        return qd_fail_on(err, QD_INVALID, pointer, "%s must be an object", pointer);
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        snprintf(pointer, sizeof(pointer), "/%s/%.128s", section, key);
        QD_TRY(set_value(s, pointer, value, err));
    }
    return QD_OK;
}

static enum qd_code check_preprocess(const struct qc_preprocess *p, struct qd_error *err)
{
    for (int i = 0; i < p->n_std; i++) {
        if (!(p->std[i] > 0)) {
            return qd_fail_on(err, QD_INVALID, "/preprocess/std",
                              "/preprocess/std is %g, it must be above 0", (double)p->std[i]);
        }
    }
    if (p->resize != QC_RESIZE_NONE && p->resize_height < 1) {
        return qd_fail_on(err, QD_INVALID, "/preprocess/resize_height",
                          "/preprocess/resize needs /preprocess/resize_height");
    }
    if (p->resize == QC_RESIZE_STRETCH && p->resize_width < 1) {
        return qd_fail_on(err, QD_INVALID, "/preprocess/resize_width",
                          "/preprocess/resize 'stretch' needs /preprocess/resize_width");
    }
    return QD_OK;
}

/* Options are checked under the names of their members: "bins", "gate_max_drop". */
static void point_at_field(struct qd_error *err)
{
    const char *name = err != NULL ? err->subject : "";
    bool gate = strncmp(name, "gate_", 5) == 0;
    for (size_t i = 0; i < QD_COUNT_OF(fields); i++) {
        const char *pointer = fields[i].pointer;
        if (strcmp(strrchr(pointer, '/') + 1, gate ? name + 5 : name) == 0 &&
            gate == (strncmp(pointer, "/gate/", 6) == 0)) {
            (void)snprintf(err->subject, sizeof(err->subject), "%s", pointer);
            return;
        }
    }
}

static enum qd_code parse_spec(const json_t *config, struct worker_spec *ret, struct qd_error *err)
{
    const char *key;
    json_t *value;
    memset(ret, 0, sizeof(*ret));
    qc_options_init(&ret->options);
    if (config != NULL && !json_is_object(config)) {
        return qd_fail(err, QD_INVALID, "the configuration must be a JSON object");
    }
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        char pointer[160];
        if (is_section(key)) {
            QD_TRY(set_section(ret, key, value, err));
            continue;
        }
        snprintf(pointer, sizeof(pointer), "/%.128s", key);
        QD_TRY(set_value(ret, pointer, value, err));
    }
    QD_TRY(check_preprocess(&ret->preprocess, err));
    qc_options_normalization(&ret->options, &ret->preprocess);
    QD_TRY(make_grid(ret, config, err));
    return qc_options_check(&ret->options, err);
}

enum qd_code worker_spec_parse(const json_t *config, struct worker_spec *ret, struct qd_error *err)
{
    enum qd_code code = parse_spec(config, ret, err);
    if (code != QD_OK) {
        point_at_field(err);
    }
    return code;
}

enum qd_code worker_spec_load(const char *text, size_t size, json_t **ret, struct qd_error *err)
{
    json_error_t e;
    if (size > WORKER_SPEC_MAX_BYTES) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "the configuration has %zu bytes, limit %d", size,
                       WORKER_SPEC_MAX_BYTES);
    }
    /* jansson refuses nesting beyond JSON_PARSER_MAX_DEPTH itself */
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    if (value == NULL) {
        return qd_fail(err, QD_INVALID, "the configuration is not JSON: line %d, column %d: %s",
                       e.line, e.column, e.text);
    }
    *ret = value;
    return QD_OK;
}
