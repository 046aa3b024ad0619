#include "worker/worker_spec_grid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_spec_fields.h"

/* Fields that may be a list of values: what is derived from statistics. */
static const char *const grid_fields[] = {
    "/calibration/calibrator",         "/calibration/divergence",
    "/calibration/min_percentile",     "/calibration/max_percentile",
    "/calibration/search_start_scale", "/calibration/search_end_scale",
    "/calibration/search_step",        "/calibration/bins",
    "/calibration/input_range",        "/activations/type",
    "/activations/scheme",             "/weights/per_channel",
    "/weights/dense_per_channel",      "/weights/range",
    "/weights/scheme",                 "/weights/bits",
    "/weights/block_size",             "/weights/bias_correction",
    "/quantize_last_output",
};

struct axis {
    const struct worker_spec_field *field;
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
        QD_TRY(worker_spec_set(s, axes[k].field, value, err));
    }
    QD_TRY(qc_options_check(&s->options, err));
    write_label(s->labels[index], axes, n_axes, index);
    s->candidates[index] = (struct qc_candidate){s->options, s->labels[index]};
    return QD_OK;
}

/* NULL: of this field a list is no grid. */
static const struct worker_spec_field *grid_field(const char *pointer)
{
    for (size_t i = 0; i < QD_COUNT_OF(grid_fields); i++) {
        if (strcmp(pointer, grid_fields[i]) == 0) {
            return worker_spec_field(pointer);
        }
    }
    return NULL;
}

bool worker_spec_is_axis(const char *pointer, const json_t *value)
{
    return json_is_array(value) && grid_field(pointer) != NULL;
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
        if (!worker_spec_is_axis(pointer, value)) {
            continue;
        }
        const struct worker_spec_field *field = grid_field(pointer);
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

enum qd_code worker_spec_make_grid(struct worker_spec *s, const json_t *config,
                                   struct qd_error *err)
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
