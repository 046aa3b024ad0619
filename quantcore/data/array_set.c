#include "quantcore/data/array_set.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 16384 /* bytes of stored elements converted at a time; a multiple of 8 */

struct array {
    struct qc_source *source;
    struct qc_array_header header;
    size_t elements; /* of one sample */
    struct qc_prep prep;
    float *scratch; /* one sample, if the preprocessing moves elements */
};

struct qc_array_set {
    int n_arrays;
    int64_t count, index;
    uint8_t chunk[CHUNK];
    struct array arrays[QC_READER_MAX_INPUTS];
};

bool qc_shape_match(const int64_t *dim, int rank, const int64_t *want, int want_rank,
                    int64_t *ret_dim)
{
    int64_t full[QC_READER_MAX_RANK];
    bool ok = true;
    /* Aligned at the right: leading dimensions of 1 may be missing or extra. */
    for (int i = 0; i < want_rank; i++) {
        int j = i - want_rank + rank;
        full[i] = j >= 0 ? dim[j] : 1;
        ok = ok && (want[i] == -1 || want[i] == full[i]);
    }
    for (int j = 0; j < rank - want_rank; j++) {
        ok = ok && dim[j] == 1;
    }
    if (ok) {
        memcpy(ret_dim, full, (size_t)want_rank * sizeof(*full));
        return true;
    }
    /* Dimensions of 1 anywhere: the elements lie in the same order. */
    int i = 0;
    int j = 0;
    for (;;) {
        while (i < want_rank && want[i] == 1) {
            i++;
        }
        while (j < rank && dim[j] == 1) {
            j++;
        }
        if (i == want_rank || j == rank || want[i] != dim[j]) {
            break;
        }
        i++;
        j++;
    }
    if (i != want_rank || j != rank) {
        return false;
    }
    memcpy(ret_dim, want, (size_t)want_rank * sizeof(*want));
    return true;
}

struct qc_preprocess qc_preprocess_of(const struct qc_reader_options *options, int i)
{
    if (options->n_inputs > 1 && options->inputs[i].rank != 3) {
        return (struct qc_preprocess){0};
    }
    return options->preprocess;
}

void qc_stored_shape(const struct qc_reader_input *input, const struct qc_preprocess *options,
                     int64_t *ret_dim)
{
    int rank = input->rank;
    for (int i = 0; i < rank; i++) {
        int from = i;
        if (options->source_is_hwc && !options->to_hwc) {
            from = (i + 1) % rank;
        } else if (!options->source_is_hwc && options->to_hwc) {
            from = (i + rank - 1) % rank;
        }
        ret_dim[i] = input->dim[from];
    }
}

enum qd_code qc_array_set_new(const struct qc_reader_options *options, struct qc_array_set **ret,
                              struct qd_error *err)
{
    struct qc_array_set *set = calloc(1, sizeof(*set));
    if (set == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%d arrays cannot be opened", options->n_inputs);
    }
    *ret = set;
    return QD_OK;
}

void qc_array_set_free(struct qc_array_set *set)
{
    if (set == NULL) {
        return;
    }
    for (int i = 0; i < set->n_arrays; i++) {
        qc_source_free(set->arrays[i].source);
        free(set->arrays[i].scratch);
    }
    free(set);
}

static enum qd_code check_count(struct qc_array_set *set, const struct qc_array_header *header,
                                const char *name, const char *label, struct qd_error *err)
{
    if (header->rank < 1) {
        return qd_fail_on(err, QD_INVALID, name,
                          "%s: array for input %s is a single number without a sample axis",
                          label, name);
    }
    if (header->elements == 0) {
        char shape[128];
        return qd_fail_on(err, QD_INVALID, name,
                          "%s: array for input %s has shape %s: no samples or empty ones", label,
                          name, qc_shape_text(header->dim, header->rank, shape, sizeof(shape)));
    }
    if (set->n_arrays > 1 && header->dim[0] != set->count) {
        return qd_fail_on(err, QD_INVALID, name,
                          "%s: array for input %s has %" PRId64
                          " samples, the one before it has %" PRId64,
                          label, name, header->dim[0], set->count);
    }
    set->count = header->dim[0];
    return QD_OK;
}

static enum qd_code check_member_limit(const struct qc_source *source,
                                       const struct qc_array_header *header,
                                       const struct qc_reader_options *options,
                                       struct qd_error *err)
{
    struct qc_reader_limits limits = qc_limits_resolve(&options->limits);
    uint64_t bytes = header->data_offset + header->data_bytes;
    if (qc_source_size(source) == QC_SOURCE_UNKNOWN && bytes > limits.max_member_bytes) {
        const char *label = qc_source_label(source);
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: decompresses to %" PRIu64 " bytes by its header (limit "
                          "max_member_bytes %" PRIu64 ")",
                          label, bytes, limits.max_member_bytes);
    }
    return QD_OK;
}

enum qd_code qc_array_set_add_take(struct qc_array_set *set,
                                   const struct qc_reader_options *options,
                                   struct qc_source *source, const struct qc_array_header *header,
                                   struct qd_error *err)
{
    int i = set->n_arrays++;
    struct array *array = &set->arrays[i];
    array->source = source;
    array->header = *header;
    const struct qc_reader_input *input = &options->inputs[i];
    struct qc_preprocess preprocess = qc_preprocess_of(options, i);
    const char *label = qc_source_label(source);
    int64_t want[QC_READER_MAX_RANK];
    int64_t full[QC_READER_MAX_RANK];
    QD_TRY(check_count(set, header, input->name, label, err));
    QD_TRY(check_member_limit(source, header, options, err));
    qc_stored_shape(input, &preprocess, want);
    if (!qc_shape_match(header->dim + 1, header->rank - 1, want, input->rank, full)) {
        char have_text[128];
        char want_text[128];
        return qd_fail_on(
            err, QD_INVALID, input->name,
            "%s: array for input %s has shape %s; its samples (first axis) must be %s", label,
            input->name, qc_shape_text(header->dim, header->rank, have_text, sizeof(have_text)),
            qc_shape_text(want, input->rank, want_text, sizeof(want_text)));
    }
    array->elements = (size_t)(header->elements / (uint64_t)header->dim[0]);
    QD_TRY(qc_prep_init(&array->prep, &preprocess, preprocess.source_is_hwc, full, input->rank,
                        input->name, err));
    if (qc_prep_moves(&array->prep)) {
        array->scratch = calloc(array->elements, sizeof(float));
        if (array->scratch == NULL) {
            return qd_fail(err, QD_NO_MEMORY, "%s: no memory for a sample of %zu elements", label,
                           array->elements);
        }
    }
    return QD_OK;
}

int64_t qc_array_set_count(const struct qc_array_set *set)
{
    return set->count;
}

size_t qc_array_set_elements(const struct qc_array_set *set, int input)
{
    return set->arrays[input].elements;
}

static enum qd_code read_sample(struct qc_array_set *set, struct array *array, float *out,
                                struct qd_error *err)
{
    size_t size = qc_element_size(array->header.element);
    for (size_t done = 0; done < array->elements;) {
        size_t n = array->elements - done;
        n = n < CHUNK / size ? n : CHUNK / size;
        QD_TRY(qc_source_read(array->source, set->chunk, n * size, err));
        qc_elements_to_f32(array->header.element, array->header.big_endian, set->chunk, n,
                           out + done);
        done += n;
    }
    return QD_OK;
}

enum qd_code qc_array_set_next(struct qc_array_set *set, float *const *out, struct qd_error *err)
{
    for (int i = 0; i < set->n_arrays; i++) {
        struct array *array = &set->arrays[i];
        float *raw = array->scratch != NULL ? array->scratch : out[i];
        if (set->index == 0) {
            QD_TRY(qc_source_rewind(array->source, err));
            QD_TRY(qc_source_skip(array->source, array->header.data_offset, err));
        }
        QD_TRY(read_sample(set, array, raw, err));
        if (set->index + 1 == set->count) {
            QD_TRY(qc_source_expect_end(array->source, err));
        }
        qc_prep_apply(&array->prep, raw, out[i]);
    }
    set->index++;
    return QD_OK;
}

enum qd_code qc_array_set_skip(struct qc_array_set *set, int64_t n, struct qd_error *err)
{
    for (int i = 0; i < set->n_arrays; i++) {
        struct array *array = &set->arrays[i];
        uint64_t bytes = (uint64_t)array->elements * qc_element_size(array->header.element);
        if (set->index == 0) {
            QD_TRY(qc_source_rewind(array->source, err));
            QD_TRY(qc_source_skip(array->source, array->header.data_offset, err));
        }
        QD_TRY(qc_source_skip(array->source, bytes * (uint64_t)n, err));
    }
    set->index += n;
    return QD_OK;
}

enum qd_code qc_array_set_rewind(struct qc_array_set *set, struct qd_error *err)
{
    set->index = 0;
    for (int i = 0; i < set->n_arrays; i++) {
        QD_TRY(qc_source_rewind(set->arrays[i].source, err));
    }
    return QD_OK;
}
