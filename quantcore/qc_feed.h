/* Samples in batches: read in order by one thread, run by many.
 *
 * A calibration set may give up a share of its samples to verification. Which ones depends on
 * the index alone and is spread over the set (files are often sorted by class): sample i is held
 * back when floor((i + 1) * share) > floor(i * share). */
#ifndef QC_FEED_H
#define QC_FEED_H

#include "quantcore/graph/graph.h"
#include "quantcore/quantcore.h"

enum qc_feed_part { QC_FEED_ALL, QC_FEED_KEPT, QC_FEED_HELD_BACK };

struct qc_feed {
    struct qc_reader *reader;
    enum qc_feed_part part;
    double share;          /* held back */
    int64_t limit;         /* index of the first sample that is never read */
    int64_t next;          /* index in the reader */
    int n_inputs, n_slots;
    float ***slot;         /* [n_slots][n_inputs]: the samples of a batch */
    int64_t *index;        /* [n_slots]: their index in the reader */
    float ***ahead;        /* the same of the batch after it, or NULL */
    int64_t *ahead_index;
};

bool qc_feed_is_held_back(int64_t index, double share);
/* The share that holds back one of n samples, the last. */
double qc_feed_least_share(int64_t n);
/* Samples of the part among the first `limit`. */
int64_t qc_feed_count(int64_t limit, double share, enum qc_feed_part part);

/* Checks that the reader's samples have the elements that the graph's inputs take, and makes
 * room for a batch, or takes that of another feed of the same graph and as many slots which is
 * never read at the same time (room; NULL for none). limit 0: all samples. QD_INVALID names the
 * input. */
QD_MUST_CHECK enum qd_code qc_feed_init(struct qc_feed *feed, struct qc_reader *reader,
                                        const struct qc_graph *g, enum qc_feed_part part,
                                        double share, int64_t limit, int n_slots,
                                        const struct qc_feed *room, struct qd_arena *arena, struct qd_error *err);
/* End after n samples of the part (0: all). */
void qc_feed_cut(struct qc_feed *feed, int64_t n);
QD_MUST_CHECK enum qd_code qc_feed_rewind(struct qc_feed *feed, struct qd_error *err);
/* Fill the slots; *ret_n is 0 at the end. */
QD_MUST_CHECK enum qd_code qc_feed_batch(struct qc_feed *feed, int *ret_n, struct qd_error *err);

/* Reading one batch while another thread runs the one before: make room once, fill `ahead`, and
 * when the slots are not needed any more, swap. */
QD_MUST_CHECK enum qd_code qc_feed_room_ahead(struct qc_feed *feed, const struct qc_graph *g,
                                              struct qd_arena *arena, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_feed_ahead(struct qc_feed *feed, int *ret_n, struct qd_error *err);
void qc_feed_swap(struct qc_feed *feed);

#endif
