#include "quantcore/qc_feed.h"

#include <assert.h>
#include <math.h>

bool qc_feed_is_held_back(int64_t index, double share)
{
    return floor((double)(index + 1) * share) > floor((double)index * share);
}

double qc_feed_least_share(int64_t n)
{
    double share = 1.0 / (double)n;
    return (double)n * share < 1 ? nextafter(share, 1) : share; /* rounded down */
}

int64_t qc_feed_count(int64_t limit, double share, enum qc_feed_part part)
{
    int64_t held = (int64_t)floor((double)limit * share);
    switch (part) {
    case QC_FEED_ALL:
        return limit;
    case QC_FEED_KEPT:
        return limit - held;
    case QC_FEED_HELD_BACK:
        return held;
    }
    return 0;
}

static enum qd_code check_elements(const struct qc_feed *feed, const struct qc_graph *g,
                                   struct qd_error *err)
{
    for (int i = 0; i < g->n_inputs; i++) {
        const struct qc_value *v = &g->values[g->inputs[i].value];
        size_t want = qc_shape_elements(&v->shape), have = qc_reader_elements(feed->reader, i);
        if (v->dtype != QC_F32 || want != have) {
            char shape[128];
            return qd_fail_on(err, QD_INVALID, v->name,
                              "input '%s' is %s%s, %zu elements a sample; the data have %zu",
                              v->name, qc_dtype_name(v->dtype),
                              qc_shape_format(&v->shape, shape, sizeof(shape)), want, have);
        }
    }
    return QD_OK;
}

static enum qd_code new_slots(const struct qc_feed *feed, const struct qc_graph *g,
                              struct qd_arena *arena, float ****ret_slot, int64_t **ret_index,
                              struct qd_error *err)
{
    size_t n_slots = (size_t)feed->n_slots, n_inputs = (size_t)g->n_inputs;
    float ***slot = NULL;
    QD_TRY(qd_arena_array(arena, n_slots, sizeof(*slot), &slot, err));
    QD_TRY(qd_arena_array(arena, n_slots, sizeof(**ret_index), ret_index, err));
    for (size_t s = 0; s < n_slots; s++) {
        QD_TRY(qd_arena_array(arena, n_inputs, sizeof(float *), &slot[s], err));
        for (size_t i = 0; i < n_inputs; i++) {
            size_t want = qc_shape_elements(&g->values[g->inputs[i].value].shape);
            QD_TRY(qd_arena_array(arena, want, sizeof(float), &slot[s][i], err));
        }
    }
    *ret_slot = slot;
    return QD_OK;
}

enum qd_code qc_feed_init(struct qc_feed *feed, struct qc_reader *reader,
                          const struct qc_graph *g, enum qc_feed_part part, double share,
                          int64_t limit, int n_slots, const struct qc_feed *room,
                          struct qd_arena *arena, struct qd_error *err)
{
    int64_t count = qc_reader_count(reader);
    *feed = (struct qc_feed){.reader = reader,
                             .part = part,
                             .share = share,
                             .limit = limit > 0 && limit < count ? limit : count,
                             .n_inputs = g->n_inputs,
                             .n_slots = n_slots};
    QD_TRY(check_elements(feed, g, err));
    if (room == NULL) {
        return new_slots(feed, g, arena, &feed->slot, &feed->index, err);
    }
    assert(room->n_inputs == g->n_inputs && room->n_slots == n_slots);
    feed->slot = room->slot;
    feed->index = room->index;
    return QD_OK;
}

static bool is_wanted(const struct qc_feed *feed, int64_t index)
{
    bool held = feed->part != QC_FEED_ALL && qc_feed_is_held_back(index, feed->share);
    return feed->part == QC_FEED_HELD_BACK ? held : !held;
}

void qc_feed_cut(struct qc_feed *feed, int64_t n)
{
    int64_t seen = 0;
    for (int64_t i = 0; n > 0 && i < feed->limit; i++) {
        seen += is_wanted(feed, i);
        if (seen == n) {
            feed->limit = i + 1;
        }
    }
}

enum qd_code qc_feed_rewind(struct qc_feed *feed, struct qd_error *err)
{
    feed->next = 0;
    return qc_reader_rewind(feed->reader, err);
}

static enum qd_code read_batch(struct qc_feed *feed, float ***slot, int64_t *ret_index,
                               int *ret_n, struct qd_error *err)
{
    int n = 0;
    while (n < feed->n_slots && feed->next < feed->limit) {
        bool end = false;
        int64_t index = feed->next++;
        if (!is_wanted(feed, index)) {
            QD_TRY(qc_reader_skip(feed->reader, 1, err));
            continue;
        }
        QD_TRY(qc_reader_next(feed->reader, slot[n], &end, err));
        if (end) {
            return qd_fail(err, QD_INVALID, "the data end at sample %lld, %lld were announced",
                           (long long)index, (long long)feed->limit);
        }
        ret_index[n++] = index;
    }
    *ret_n = n;
    return QD_OK;
}

enum qd_code qc_feed_batch(struct qc_feed *feed, int *ret_n, struct qd_error *err)
{
    return read_batch(feed, feed->slot, feed->index, ret_n, err);
}

enum qd_code qc_feed_room_ahead(struct qc_feed *feed, const struct qc_graph *g,
                                struct qd_arena *arena, struct qd_error *err)
{
    return feed->ahead != NULL
               ? QD_OK
               : new_slots(feed, g, arena, &feed->ahead, &feed->ahead_index, err);
}

enum qd_code qc_feed_ahead(struct qc_feed *feed, int *ret_n, struct qd_error *err)
{
    return read_batch(feed, feed->ahead, feed->ahead_index, ret_n, err);
}

void qc_feed_swap(struct qc_feed *feed)
{
    float ***slot = feed->slot;
    int64_t *index = feed->index;
    feed->slot = feed->ahead;
    feed->index = feed->ahead_index;
    feed->ahead = slot;
    feed->ahead_index = index;
}
