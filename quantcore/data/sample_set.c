#include "quantcore/data/sample_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/data/array_set.h"
#include "quantcore/data/npy.h"
#include "quantcore/data/resize.h"

struct qc_sample_set {
    struct qc_member_list *list;
    const char *label;
    struct qc_reader_limits limits;
    struct qc_preprocess preprocess;
    struct qc_reader_input input;
    bool is_npy;
    size_t index;
    int64_t dim[QC_READER_MAX_RANK]; /* every sample as stored, of the input's rank */
    size_t elements;
    struct qc_prep prep;
    float *scratch;           /* one sample as stored */
    char where[512];          /* "file: member name": the label of what is being read */
    struct qc_source *source; /* .npy members: over the member's bytes */
    struct qc_image decoded, resized;
    struct qc_resizer resizer;
};

void qc_sample_set_free(struct qc_sample_set *set)
{
    if (set == NULL) {
        return;
    }
    qc_member_list_free(set->list);
    qc_source_free(set->source);
    qc_image_done(&set->decoded);
    qc_image_done(&set->resized);
    qc_resizer_done(&set->resizer);
    free(set->scratch);
    free(set);
}

int64_t qc_sample_set_count(const struct qc_sample_set *set)
{
    return (int64_t)qc_member_list_count(set->list);
}

size_t qc_sample_set_elements(const struct qc_sample_set *set)
{
    return set->elements;
}

static enum qd_code next_member(struct qc_sample_set *set, struct qd_bytes *ret,
                                struct qd_error *err)
{
    const char *name = qc_member_list_name(set->list, set->index);
    if (strcmp(name, set->label) == 0) {
        snprintf(set->where, sizeof(set->where), "%s", name);
    } else {
        snprintf(set->where, sizeof(set->where), "%.200s: member %.300s", set->label, name);
    }
    return qc_member_list_next(set->list, ret, err);
}

static enum qd_code match(struct qc_sample_set *set, const int64_t *dim, int rank,
                          const int64_t *want, int64_t *ret_full, struct qd_error *err)
{
    char have_text[128];
    char want_text[128];
    if (qc_shape_match(dim, rank, want, set->input.rank, ret_full)) {
        return QD_OK;
    }
    return qd_fail_on(
        err, QD_INVALID, set->input.name, "%s: sample has shape %s%s; input %s needs %s",
        set->where, qc_shape_text(dim, rank, have_text, sizeof(have_text)),
        set->is_npy ? "" : " (height, width, channels after resize and crop)", set->input.name,
        qc_shape_text(want, set->input.rank, want_text, sizeof(want_text)));
}

/* Shape of a member against `want`, from its header alone. */
static enum qd_code check_member(struct qc_sample_set *set, struct qd_bytes bytes,
                                 const int64_t *want, struct qc_array_header *ret_header,
                                 struct qc_image_geometry *ret_geometry, int64_t *ret_full,
                                 struct qd_error *err)
{
    if (set->is_npy) {
        qc_source_set_bytes(set->source, bytes);
        QD_TRY(qc_npy_read_header(set->source, ret_header, err));
        return match(set, ret_header->dim, ret_header->rank, want, ret_full, err);
    }
    int width = 0;
    int height = 0;
    enum qc_member_kind kind = qc_member_list_kind(set->list, set->index);
    QD_TRY(qc_image_size(bytes, kind, &set->limits, set->where, &width, &height, err));
    QD_TRY(qc_image_geometry(&set->preprocess, width, height, set->limits.max_image_side,
                             set->where, ret_geometry, err));
    int64_t dim[3] = {ret_geometry->height, ret_geometry->width,
                      set->preprocess.grayscale ? 1 : 3};
    return match(set, dim, 3, want, ret_full, err);
}

/* The shape of all samples, where the input leaves it open from the first one. */
static enum qd_code resolve_shape(struct qc_sample_set *set, struct qd_error *err)
{
    struct qd_bytes bytes = {0};
    struct qc_array_header header = {0};
    struct qc_image_geometry geometry = {0};
    int64_t want[QC_READER_MAX_RANK];
    QD_TRY(next_member(set, &bytes, err));
    qc_stored_shape(&set->input, &set->preprocess, want);
    QD_TRY(check_member(set, bytes, want, &header, &geometry, set->dim, err));
    set->elements = 1;
    for (int i = 0; i < set->input.rank; i++) {
        if (!qd_mul_size(set->elements, (size_t)set->dim[i], &set->elements)) {
            return qd_fail_on(err, QD_INVALID, set->input.name, "%s: shape overflows",
                              set->where);
        }
    }
    QD_TRY(qc_prep_init(&set->prep, &set->preprocess, set->preprocess.source_is_hwc, set->dim,
                        set->input.rank, set->input.name, err));
    set->scratch = calloc(set->elements, sizeof(float));
    if (set->scratch == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%s: no memory for a sample of %zu elements",
                       set->where, set->elements);
    }
    return qc_member_list_rewind(set->list, err);
}

static enum qd_code check_kinds(struct qc_sample_set *set, struct qd_error *err)
{
    set->is_npy = qc_member_list_kind(set->list, 0) == QC_MEMBER_NPY;
    for (size_t i = 1; i < qc_member_list_count(set->list); i++) {
        if ((qc_member_list_kind(set->list, i) == QC_MEMBER_NPY) != set->is_npy) {
            return qd_fail_on(err, QD_INVALID, set->label,
                              "%s: images and arrays are mixed (members %s and %s)", set->label,
                              qc_member_list_name(set->list, 0),
                              qc_member_list_name(set->list, i));
        }
    }
    return QD_OK;
}

enum qd_code qc_sample_set_new_take(struct qc_member_list *list, const char *label,
                                    const struct qc_reader_options *options,
                                    struct qc_sample_set **ret, struct qd_error *err)
{
    if (options->n_inputs != 1) {
        qc_member_list_free(list);
        return qd_fail_on(err, QD_INVALID, label,
                          "%s: one file a sample fills one input, the network has %d; use .npz",
                          label, options->n_inputs);
    }
    struct qc_sample_set *set = calloc(1, sizeof(*set));
    if (set == NULL) {
        qc_member_list_free(list);
        return qd_fail(err, QD_NO_MEMORY, "%s: cannot open", label);
    }
    set->list = list;
    set->label = label;
    set->limits = qc_limits_resolve(&options->limits);
    set->preprocess = options->preprocess;
    set->input = options->inputs[0];
    enum qd_code code = qc_member_list_sort(list, err);
    if (code == QD_OK) {
        code = check_kinds(set, err);
    }
    if (code == QD_OK) {
        set->preprocess.source_is_hwc = set->preprocess.source_is_hwc || !set->is_npy;
        code = qc_source_open_bytes((struct qd_bytes){0}, set->where, &set->source, err);
    }
    if (code == QD_OK) {
        code = resolve_shape(set, err);
    }
    if (code != QD_OK) {
        qc_sample_set_free(set);
        return code;
    }
    *ret = set;
    return QD_OK;
}

static enum qd_code image_to_f32(struct qc_sample_set *set, struct qd_bytes bytes,
                                 const struct qc_image_geometry *g, struct qd_error *err)
{
    int channels = set->preprocess.grayscale ? 1 : 3;
    enum qc_member_kind kind = qc_member_list_kind(set->list, set->index);
    const struct qc_image *image = &set->decoded;
    QD_TRY(qc_image_decode(bytes, kind, channels, &set->limits, set->where, &set->decoded, err));
    if (g->resized_width != image->width || g->resized_height != image->height) {
        QD_TRY(qc_resize(&set->resizer, image, g->resized_width, g->resized_height,
                         set->preprocess.filter, set->limits.max_member_bytes, set->where,
                         &set->resized, err));
        image = &set->resized;
    }
    size_t row = (size_t)g->width * (size_t)channels;
    for (int y = 0; y < g->height; y++) {
        size_t at = (size_t)(g->crop_y + y) * (size_t)image->width + (size_t)g->crop_x;
        qc_elements_to_f32(QC_ELEMENT_U8, false, image->pixels + at * (size_t)channels, row,
                           set->scratch + (size_t)y * row);
    }
    return QD_OK;
}

enum qd_code qc_sample_set_next(struct qc_sample_set *set, float *out, struct qd_error *err)
{
    struct qd_bytes bytes = {0};
    struct qc_array_header header = {0};
    struct qc_image_geometry geometry = {0};
    int64_t full[QC_READER_MAX_RANK];
    QD_TRY(next_member(set, &bytes, err));
    QD_TRY(check_member(set, bytes, set->dim, &header, &geometry, full, err));
    if (set->is_npy) {
        qc_elements_to_f32(header.element, header.big_endian, bytes.data + header.data_offset,
                           set->elements, set->scratch);
    } else {
        QD_TRY(image_to_f32(set, bytes, &geometry, err));
    }
    qc_prep_apply(&set->prep, set->scratch, out);
    set->index++;
    return QD_OK;
}

enum qd_code qc_sample_set_skip(struct qc_sample_set *set, int64_t n, struct qd_error *err)
{
    QD_TRY(qc_member_list_skip(set->list, (size_t)n, err));
    set->index += (size_t)n;
    return QD_OK;
}

enum qd_code qc_sample_set_rewind(struct qc_sample_set *set, struct qd_error *err)
{
    QD_TRY(qc_member_list_rewind(set->list, err));
    set->index = 0;
    return QD_OK;
}
