#include "quantcore/exec/exec_nd.h"

#include <string.h>

#include "quantcore/exec/exec_transpose.h"

void qc_view_strides(const struct qc_view *view, int64_t ret[QC_MAX_RANK])
{
    if (view->layout == QC_NHWC) {
        ret[0] = view->image_stride;
        ret[1] = 1;
        ret[2] = view->row_stride;
        ret[3] = view->pixel_stride;
        return;
    }
    int64_t stride = 1;
    for (int i = view->shape.rank - 1; i >= 0; i--) {
        ret[i] = stride;
        stride *= view->shape.dim[i];
    }
}

static bool mergeable(const struct qc_nd *nd, int64_t dim, const int64_t *stride)
{
    for (int k = 0; k < nd->n_operands; k++) {
        if (nd->stride[k][nd->rank - 1] != stride[k] * dim) {
            return false;
        }
    }
    return true;
}

/* Append a dim, merging it into the last one where all operands allow. */
static void append(struct qc_nd *nd, int64_t dim, const int64_t *stride)
{
    if (dim == 1) {
        return;
    }
    if (nd->rank > 0 && mergeable(nd, dim, stride)) {
        nd->dim[nd->rank - 1] *= dim;
    } else {
        nd->dim[nd->rank++] = dim;
    }
    for (int k = 0; k < nd->n_operands; k++) {
        nd->stride[k][nd->rank - 1] = stride[k];
    }
}

void qc_nd_init_strides(struct qc_nd *nd, const struct qc_shape *shape, int n_operands,
                        const int64_t *const *strides, bool nhwc)
{
    static const int nhwc_order[4] = {0, 2, 3, 1};
    memset(nd, 0, sizeof(*nd));
    nd->n_operands = n_operands;
    for (int i = 0; i < shape->rank; i++) {
        int d = nhwc ? nhwc_order[i] : i;
        int64_t stride[QC_ND_OPERANDS] = {0};
        for (int k = 0; k < n_operands; k++) {
            stride[k] = strides[k][d];
        }
        append(nd, shape->dim[d], stride);
    }
    if (nd->rank == 0) { /* one element; strides of 1 let the fast loops take it */
        nd->rank = 1;
        nd->dim[0] = 1;
        for (int k = 0; k < n_operands; k++) {
            nd->stride[k][0] = 1;
        }
    }
}

void qc_nd_init(struct qc_nd *nd, const struct qc_shape *shape, int n_operands,
                const struct qc_view *const *views)
{
    int64_t strides[QC_ND_OPERANDS][QC_MAX_RANK] = {{0}};
    const int64_t *pointers[QC_ND_OPERANDS] = {strides[0], strides[1], strides[2], strides[3]};
    bool nhwc = false;
    for (int k = 0; k < n_operands; k++) {
        const struct qc_view *v = views[k];
        int64_t own[QC_MAX_RANK] = {0};
        qc_view_strides(v, own);
        int shift = shape->rank - v->shape.rank;
        for (int i = 0; i < v->shape.rank; i++) {
            bool broadcast = v->shape.dim[i] == 1 && shape->dim[i + shift] != 1;
            strides[k][i + shift] = broadcast ? 0 : own[i];
        }
        nhwc = nhwc || v->layout == QC_NHWC;
    }
    qc_nd_init_strides(nd, shape, n_operands, pointers, nhwc && shape->rank == 4);
}

void qc_nd_init_pixels(struct qc_nd *nd, const struct qc_shape *shape, int n_operands,
                       const struct qc_view *const *views)
{
    const struct qc_view *y = views[n_operands - 1];
    bool whole = y->layout == QC_NHWC && y->owns_pixels && qc_shape_equal(shape, &y->shape);
    for (int k = 0; k < n_operands; k++) {
        const struct qc_view *v = views[k];
        whole = whole && v->layout == QC_NHWC && v->pixel_stride == y->pixel_stride &&
                qc_shape_equal(shape, &v->shape);
    }
    if (!whole) {
        qc_nd_init(nd, shape, n_operands, views);
        return;
    }
    int64_t strides[QC_ND_OPERANDS][QC_MAX_RANK] = {{0}};
    const int64_t *pointers[QC_ND_OPERANDS] = {strides[0], strides[1], strides[2], strides[3]};
    for (int k = 0; k < n_operands; k++) {
        qc_view_strides(views[k], strides[k]);
    }
    struct qc_shape pixels = *shape;
    pixels.dim[1] = y->pixel_stride;
    qc_nd_init_strides(nd, &pixels, n_operands, pointers, true);
}

void qc_nd_walk(const struct qc_nd *nd, qc_nd_run_fn *run, void *ctx)
{
    int64_t index[QC_MAX_RANK] = {0};
    int64_t off[QC_ND_OPERANDS] = {0};
    for (int i = 0; i < nd->rank; i++) {
        if (nd->dim[i] == 0) {
            return;
        }
    }
    for (;;) {
        run(nd, off, ctx);
        int d = nd->rank - 2;
        for (; d >= 0; d--) {
            for (int k = 0; k < nd->n_operands; k++) {
                off[k] += nd->stride[k][d];
            }
            if (++index[d] < nd->dim[d]) {
                break;
            }
            index[d] = 0;
            for (int k = 0; k < nd->n_operands; k++) {
                off[k] -= nd->stride[k][d] * nd->dim[d];
            }
        }
        if (d < 0) {
            return;
        }
    }
}

int64_t qc_nd_take_row(struct qc_nd *nd)
{
    int last = nd->rank - 1;
    int64_t n = nd->dim[last];
    for (int k = 0; k < nd->n_operands; k++) {
        if (nd->stride[k][last] != 1) {
            return 1;
        }
    }
    if (last > 0) {
        nd->rank--;
    } else {
        nd->dim[0] = 1; /* one row */
    }
    return n;
}

struct copy {
    size_t size;
    const char *from;
    char *to;
    int64_t n, from_stride, to_stride; /* the outer dim of a plane */
};

/* A plane in stripes of the outer dim, so that a transposition uses whole cache lines of both. */
enum { STRIPE = 16 };
#define COPY_AS(type)                                                                            \
    do {                                                                                         \
        const type *f = (const type *)(const void *)from;                                        \
        type *t = (type *)(void *)to;                                                            \
        for (int64_t first = 0; first < c->n; first += STRIPE) {                                 \
            int64_t end = c->n - first < STRIPE ? c->n : first + STRIPE;                         \
            for (int64_t i = 0; i < n; i++) {                                                    \
                for (int64_t j = first; j < end; j++) {                                          \
                    t[j * c->to_stride + i * st] = f[j * c->from_stride + i * sf];               \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
    } while (0)

/* The same where one side's runs are the other's columns. */
static bool transpose(const struct copy *c, const char *from, char *to, int64_t n, int64_t sf,
                      int64_t st)
{
    struct qc_plane p = {.from = from, .to = to};
    if (st == 1 && c->from_stride == 1) {
        p.n = n;
        p.m = c->n;
        p.from_step = sf;
        p.to_step = c->to_stride;
    } else if (sf == 1 && c->to_stride == 1) {
        p.n = c->n;
        p.m = n;
        p.from_step = c->from_stride;
        p.to_step = st;
    } else {
        return false;
    }
    return qc_plane_transpose(&p, c->size);
}

static void copy_plane(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct copy *c = ctx;
    int64_t n = nd->dim[nd->rank - 1], size = (int64_t)c->size;
    int64_t sf = nd->stride[0][nd->rank - 1], st = nd->stride[1][nd->rank - 1];
    const char *from = c->from + off[0] * size;
    char *to = c->to + off[1] * size;
    if (sf == 1 && st == 1) {
        for (int64_t j = 0; j < c->n; j++) {
            memcpy(to + j * c->to_stride * size, from + j * c->from_stride * size,
                   (size_t)(n * size));
        }
    } else if (transpose(c, from, to, n, sf, st)) {
        return;
    } else if (c->size == 1) {
        COPY_AS(uint8_t);
    } else if (c->size == 2) {
        COPY_AS(uint16_t);
    } else if (c->size == 4) {
        COPY_AS(uint32_t);
    } else {
        COPY_AS(uint64_t);
    }
}

void qc_nd_copy(const struct qc_nd *nd, size_t size, const void *from, void *to)
{
    struct copy c = {.size = size, .from = from, .to = to, .n = 1};
    struct qc_nd planes = *nd;
    int last = nd->rank - 1;
    if (last > 0) { /* the dim before the last one is walked here */
        c.n = nd->dim[last - 1];
        c.from_stride = nd->stride[0][last - 1];
        c.to_stride = nd->stride[1][last - 1];
        planes.dim[last - 1] = nd->dim[last];
        planes.stride[0][last - 1] = nd->stride[0][last];
        planes.stride[1][last - 1] = nd->stride[1][last];
        planes.rank = last;
    }
    qc_nd_walk(&planes, copy_plane, &c);
}
