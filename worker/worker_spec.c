#include "worker/worker_spec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_spec_fields.h"
#include "worker/worker_spec_grid.h"

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
    if (worker_spec_is_axis(pointer, value)) {
        return QD_OK; /* worker_spec_make_grid takes it */
    }
    const struct worker_spec_field *field = worker_spec_field(pointer);
    if (field != NULL) {
        QD_TRY(worker_spec_set(s, field, value, err));
        s->preprocess.has_scale =
            s->preprocess.has_scale || strcmp(pointer, "/preprocess/scale") == 0;
        return QD_OK;
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

/* Options are checked under the names of their members. */
static void point_at_field(struct qd_error *err)
{
    const char *pointer = err != NULL ? worker_spec_pointer(err->subject) : NULL;
    if (pointer != NULL) {
        (void)snprintf(err->subject, sizeof(err->subject), "%s", pointer);
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
    QD_TRY(worker_spec_make_grid(ret, config, err));
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
