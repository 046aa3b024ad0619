/* A file of statistics: what is accepted is written to the same values again, and merges with
 * itself into twice the counts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/calib/statistics_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void run(struct qd_bytes bytes, struct qd_arena *arena)
{
    struct qc_statistics *s = NULL, *again = NULL, *twice = NULL;
    struct qd_bytes first, second;
    struct qd_error err = {.code = QD_OK};
    if (qc_statistics_read(bytes, arena, &s, &err) != QD_OK) {
        check(err.message[0] != '\0'); /* no failure without a message */
        return;
    }
    /* Counts may have been longer than needed, and version 1 had no numbers of values; from the
     * second time on the bytes are the same. */
    check(qc_statistics_write(s, arena, &first, &err) == QD_OK &&
          first.size <= bytes.size + 4 * (size_t)s->n);
    check(qc_statistics_read(first, arena, &again, &err) == QD_OK);
    check(qc_statistics_write(again, arena, &second, &err) == QD_OK);
    check(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    if (qc_statistics_merge(s, again, arena, &twice, &err) != QD_OK) {
        check(err.message[0] != '\0'); /* sums may overflow */
        return;
    }
    check(twice->n == s->n && twice->n_samples == 2 * s->n_samples);
    for (int i = 0; i < s->n; i++) {
        check(twice->tensors[i].count == 2 * s->tensors[i].count &&
              twice->tensors[i].min == s->tensors[i].min &&
              twice->tensors[i].max == s->tensors[i].max &&
              twice->tensors[i].values.n == s->tensors[i].values.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qd_arena arena;
    qd_arena_init(&arena, 256 << 20);
    run((struct qd_bytes){data, size}, &arena);
    qd_arena_done(&arena);
    return 0;
}
