/* Sums of a window's inputs, against sums written down here. Every row ends with its buffer, so
 * that a sanitizer sees a read beyond the channels. */
#include <check.h>
#include <stdlib.h>

#include "quantcore/kernels/qc_kernels.h"
#include "tests/kernels/kernel_data.h"

enum { MAX_TAPS = 9 };

static const int channel_counts[] = {1,  2,  3,  4,  7,  8,   15,  16,  17,  24,  31,  32, 33,
                                     47, 48, 63, 64, 65, 96, 127, 128, 129, 191, 192, 200};

static void check_sums(enum qc_isa isa, int channels, int n_taps, int n_rows, enum data_kind kind)
{
    struct qc_kernels k;
    const uint8_t *row[QC_MAX_ROWS];
    int32_t tap[MAX_TAPS], got[QC_MAX_ROWS + 1];
    size_t size = (size_t)(MAX_TAPS + QC_MAX_ROWS) * (size_t)channels;
    uint8_t *in = malloc(size);
    ck_assert_ptr_nonnull(in);
    data_u8(in, size, kind);
    qc_kernels_init(&k, isa);
    for (int t = 0; t < n_taps; t++) {
        tap[t] = (int32_t)(data_next() % MAX_TAPS) * channels;
    }
    for (int r = 0; r < n_rows; r++) { /* the last one may end with the buffer */
        row[r] = in + (data_next() % QC_MAX_ROWS + 1) * (size_t)channels;
    }
    tap[0] = (MAX_TAPS - 1) * channels;
    row[n_rows - 1] = in + QC_MAX_ROWS * (size_t)channels;
    got[n_rows] = -77;
    k.sum_taps_u8(row, n_rows, tap, n_taps, channels, got);
    ck_assert_int_eq(got[n_rows], -77);
    for (int r = 0; r < n_rows; r++) {
        int32_t want = 0;
        for (int t = 0; t < n_taps; t++) {
            for (int c = 0; c < channels; c++) {
                want += row[r][tap[t] + c];
            }
        }
        ck_assert_msg(got[r] == want, "row %d of %d, taps %d, channels %d: %d, not %d", r, n_rows,
                      n_taps, channels, got[r], want);
    }
    free(in);
}

START_TEST(sum_taps_u8__every_width__direct_sums)
{
    for (size_t c = 0; c < QD_COUNT_OF(channel_counts); c++) {
        for (int n_taps = 1; n_taps <= MAX_TAPS; n_taps++) {
            check_sums((enum qc_isa)_i, channel_counts[c], n_taps,
                       1 + (int)(data_next() % QC_MAX_ROWS),
                       n_taps % 2 == 0 ? DATA_PLAIN : DATA_EXTREME);
        }
    }
}
END_TEST

START_TEST(sum_taps_u8__more_than_32_bits__wraps)
{
    enum { CHANNELS = 4112, TAPS = 5000 };
    static uint8_t in[CHANNELS];
    static int32_t tap[TAPS];
    struct qc_kernels k;
    const uint8_t *row = in;
    int32_t got = 0;
    memset(in, 255, sizeof(in));
    qc_kernels_init(&k, (enum qc_isa)_i);
    k.sum_taps_u8(&row, 1, tap, TAPS, CHANNELS, &got);
    ck_assert_uint_eq((uint32_t)got, (uint32_t)(255ULL * CHANNELS * TAPS));
}
END_TEST

Suite *test_kernels_sum_taps_suite(void);
Suite *test_kernels_sum_taps_suite(void)
{
    Suite *suite = suite_create("kernels_sum_taps");
    TCase *tc = tcase_create("all");
    data_every_isa(tc, sum_taps_u8__every_width__direct_sums);
    data_every_isa(tc, sum_taps_u8__more_than_32_bits__wraps);
    suite_add_tcase(suite, tc);
    return suite;
}
