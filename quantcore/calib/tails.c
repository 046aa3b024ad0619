#include "quantcore/calib/tails.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t qc_tail_length(uint64_t n_values, double p)
{
    /* N p in binary may fall a hair under the integer it stands for (1e6 * 0.99999 does not,
     * others do); a share of a value below 1e-6 is not meant by anybody. */
    double inside = floor((double)n_values * p + 1e-6);
    if (inside >= (double)n_values) {
        return 1;
    }
    uint64_t k = n_values - (uint64_t)inside;
    return k < 1 ? 1 : k;
}

enum qd_code qc_tail_init(struct qc_tail *t, bool smallest, uint64_t k, struct qd_arena *arena,
                          struct qd_error *err)
{
    size_t room = k > QC_TAIL_MAX ? QC_TAIL_MAX : (size_t)(k < 1 ? 1 : k);
    QD_TRY(qd_arena_array(arena, room, sizeof(float), &t->heap, err));
    t->smallest = smallest;
    t->k = room;
    t->n = 0;
    return QD_OK;
}

static void sift_down(float *heap, size_t n, size_t i)
{
    float value = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) {
            break;
        }
        if (child + 1 < n && heap[child + 1] < heap[child]) {
            child++;
        }
        if (heap[child] >= value) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = value;
}

static void push(struct qc_tail *t, float value)
{
    if (t->n < t->k) {
        size_t i = t->n++;
        while (i > 0 && t->heap[(i - 1) / 2] > value) {
            t->heap[i] = t->heap[(i - 1) / 2];
            i = (i - 1) / 2;
        }
        t->heap[i] = value;
    } else if (value > t->heap[0]) {
        t->heap[0] = value;
        sift_down(t->heap, t->n, 0);
    }
}

void qc_tail_add(struct qc_tail *t, const float *x, size_t n)
{
    if (t->smallest) {
        for (size_t i = 0; i < n; i++) {
            if (t->n < t->k || -x[i] > t->heap[0]) {
                push(t, -x[i]);
            }
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            if (t->n < t->k || x[i] > t->heap[0]) {
                push(t, x[i]);
            }
        }
    }
}

void qc_tail_merge(struct qc_tail *a, const struct qc_tail *b)
{
    assert(a->smallest == b->smallest);
    for (size_t i = 0; i < b->n; i++) {
        push(a, b->heap[i]);
    }
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

float qc_tail_at(const struct qc_tail *t, size_t i, float *scratch)
{
    assert(i >= 1 && i <= t->n);
    memcpy(scratch, t->heap, t->n * sizeof(float));
    qsort(scratch, t->n, sizeof(float), descending);
    return t->smallest ? -scratch[i - 1] : scratch[i - 1];
}
