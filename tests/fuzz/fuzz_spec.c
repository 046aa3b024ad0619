/* A job's configuration. What is accepted is stored as compact JSON and read again by the child:
 * the second reading must be accepted too and give the same options. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum qd_code parse(const char *text, size_t size, json_t **ret_json,
                          struct worker_spec *ret, struct qd_error *err)
{
    *ret_json = NULL;
    enum qd_code code = worker_spec_load(text, size, ret_json, err);
    return code == QD_OK ? worker_spec_parse(*ret_json, ret, err) : code;
}

static bool same(const struct worker_spec *a, const struct worker_spec *b)
{
    const struct qc_options *x = &a->options, *y = &b->options;
    return strcmp(a->name, b->name) == 0 && x->calibrator == y->calibrator &&
           x->bins == y->bins && x->batch_size == y->batch_size &&
           x->max_samples == y->max_samples && x->memory_limit == y->memory_limit &&
           x->exclude.n_nodes == y->exclude.n_nodes && x->holdout == y->holdout &&
           x->exclude.n_types == y->exclude.n_types && x->isa == y->isa &&
           a->preprocess.n_mean == b->preprocess.n_mean &&
           a->preprocess.n_std == b->preprocess.n_std &&
           a->preprocess.crop_height == b->preprocess.crop_height;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct worker_spec spec, again;
    struct qd_error err = {.code = QD_OK};
    json_t *json = NULL, *second = NULL;
    enum qd_code code = parse((const char *)data, size, &json, &spec, &err);
    if (code != QD_OK) {
        if (err.message[0] == '\0') {
            abort(); /* no failure without a message */
        }
    } else {
        char *text = json_dumps(json, JSON_COMPACT);
        if (text == NULL || parse(text, strlen(text), &second, &again, &err) != QD_OK ||
            !same(&spec, &again)) {
            abort();
        }
        free(text);
    }
    json_decref(json);
    json_decref(second);
    return 0;
}
