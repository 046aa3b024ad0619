/* The option histograms = false through the whole pipeline, on a small network
 * (tests/fuzz/corpus/model). */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/calib/statistics_file.h"
#include "quantcore/quantcore.h"
#include "tests/lib/data_files.h"
#include "worker/worker_table.h"
#include "worker/worker_table_read.h"

enum { N_INPUT = 50 /* elements of x[N,2,5,5] */, N_SAMPLES = 20, N_MANY = 3400 };

static struct qd_arena arena;
static struct qd_error err;
static struct qc_options options;
static struct qc_job job;
static bool seen[QC_PHASE_COUNT]; /* phases of the last run */

static bool step(void *ctx, enum qc_phase phase, int64_t done, int64_t total, const char *unit)
{
    (void)ctx;
    (void)done;
    (void)total;
    (void)unit;
    seen[phase] = true;
    return true;
}

static struct qc_reader *open_samples(int n)
{
    static const struct qc_reader_input input = {.name = "x", .rank = 3, .dim = {2, 5, 5}};
    const struct qc_reader_options o = {.inputs = &input, .n_inputs = 1};
    struct qc_reader *reader = NULL;
    size_t size = (size_t)n * N_INPUT * sizeof(float);
    float *x = malloc(size);
    char shape[64];
    snprintf(shape, sizeof(shape), "(%d, 2, 5, 5)", n);
    for (int i = 0; i < n * N_INPUT; i++) {
        uint32_t h = (uint32_t)i * 2654435761u;
        x[i] = -2.0f + 5.0f * (float)(h >> 8) / 16777216.0f;
    }
    struct test_bytes b = test_npy("<f4", "False", shape, x, size);
    char *path = test_write("x.npy", b.data, b.size);
    ck_assert_msg(qc_reader_open(path, "x.npy", &o, &reader, &err) == QD_OK, "%s", err.message);
    free(x);
    free(b.data);
    free(path);
    return reader;
}

static void setup(void)
{
    static uint8_t data[4096];
    FILE *f = fopen("tests/fuzz/corpus/model/conv_net.onnx", "rb");
    ck_assert_msg(f != NULL, "run from the repository root");
    qd_arena_init(&arena, 0);
    qc_options_init(&options);
    options.quantize_last_output = true;
    options.calibrator = QC_CALIB_MINMAX;
    options.histograms = false;
    job = (struct qc_job){.model = {data, fread(data, 1, sizeof(data), f)},
                          .calibration = open_samples(N_SAMPLES),
                          .threads = qc_threads_none(),
                          .progress = {.step = step}};
    fclose(f);
}

static void teardown(void)
{
    qc_reader_free(job.calibration);
    qd_arena_done(&arena);
    test_files_done();
}

static enum qd_code try_quantize(struct qd_bytes *artifact, struct qc_report **report)
{
    memset(seen, 0, sizeof(seen));
    return qc_quantize(&job, &options, &arena, artifact, report, &err);
}

static struct qc_report *quantize(struct qd_bytes *artifact)
{
    struct qc_report *report = NULL;
    ck_assert_msg(try_quantize(artifact, &report) == QD_OK, "%s", err.message);
    return report;
}

static void refused(const char *part)
{
    struct qd_bytes artifact;
    struct qc_report *report = NULL;
    struct qc_check *check = NULL;
    ck_assert_int_eq(try_quantize(&artifact, &report), QD_INVALID);
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s'", err.message);
    ck_assert(!seen[QC_PHASE_PASS1] && !seen[QC_PHASE_SEARCHING]);
    ck_assert_int_eq(qc_check(&job, &options, &arena, &check, &err), QD_INVALID);
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s'", err.message);
}

static void same(struct qd_bytes a, struct qd_bytes b)
{
    ck_assert_uint_eq(a.size, b.size);
    ck_assert(memcmp(a.data, b.data, a.size) == 0);
}

/* By extremes, by exact tails, symmetric, and all of them compared. */
START_TEST(qc_quantize__no_histograms__artifact_is_the_same)
{
    static const enum qc_calibrator calibrators[] = {QC_CALIB_MINMAX, QC_CALIB_PERCENTILE};
    struct qd_bytes with, without;
    for (int i = 0; i < 4; i++) {
        options.calibrator = calibrators[i / 2];
        options.min_percentile = options.max_percentile = 0.99;
        options.activations.symmetric = i % 2 == 1;
        options.histograms = true;
        struct qc_report *a = quantize(&with);
        options.histograms = false;
        struct qc_report *b = quantize(&without);
        same(with, without);
        ck_assert(!seen[QC_PHASE_PASS2]);
        ck_assert_uint_lt(b->statistics.size, a->statistics.size);
        ck_assert_int_eq(a->n_calibration_rows, b->n_calibration_rows);
        for (int k = 0; k < a->n_calibration_rows; k++) {
            double x = a->calibration[k].clipped_share, y = b->calibration[k].clipped_share;
            ck_assert_msg(x <= 0 ? y <= 0 || isnan(y) : isnan(y), "%g, %g", x, y);
            ck_assert_double_eq(a->calibration[k].mean, b->calibration[k].mean);
        }
        ck_assert_msg(options.calibrator == QC_CALIB_MINMAX ||
                          isnan(b->calibration[0].clipped_share),
                      "%g", b->calibration[0].clipped_share);
    }
}
END_TEST

START_TEST(qc_quantize__candidates_without_histograms__compared)
{
    struct qd_bytes artifact, alone;
    struct qc_candidate list[2] = {{options, "minmax"}, {options, "percentile"}};
    list[1].options.calibrator = QC_CALIB_PERCENTILE;
    list[1].options.max_percentile = 0.98;
    job.candidates = list;
    job.n_candidates = 2;
    struct qc_report *report = quantize(&artifact);
    ck_assert_int_eq(report->n_choices, 2);
    ck_assert(report->choices[0].tried && report->choices[1].tried);
    int chosen = report->choices[1].chosen;
    job.n_candidates = 0;
    options = list[chosen].options;
    quantize(&alone);
    same(artifact, alone);
    job.n_candidates = 2; /* one that needs them is enough */
    options = list[0].options;
    list[1].options.calibrator = QC_CALIB_ENTROPY;
    refused("calibrator is 'entropy', which needs histograms");
    list[1].options.calibrator = QC_CALIB_AUTO;
    refused("needs histograms");
}
END_TEST

START_TEST(qc_quantize__statistics_without_histograms__by_tails_or_refused)
{
    struct qd_bytes first, second;
    options.calibrator = QC_CALIB_PERCENTILE;
    options.max_percentile = 0.98;
    struct qc_report *report = quantize(&first);
    job.statistics = report->statistics;
    quantize(&second); /* the option is that of the run which took them */
    same(first, second);
    options.histograms = true;
    report = quantize(&second);
    same(first, second);
    ck_assert(isnan(report->calibration[0].clipped_share));
    options.calibrator = QC_CALIB_MSE;
    refused("statistics without histograms: calibrator 'mse' needs histograms, tensor '");
    ck_assert(err.subject[0] != '\0');
    options.calibrator = QC_CALIB_AUTO;
    refused("calibrator 'mse' needs histograms");
    options.calibrator = QC_CALIB_PERCENTILE;
    options.max_percentile = 0.6;
    refused("percentile 0.6 needs the ");
}
END_TEST

/* Their biases need means, no calibrator. */
START_TEST(qc_quantize__other_modes__no_need_of_histograms)
{
    for (int mode = QC_MODE_WEIGHT_ONLY; mode <= QC_MODE_DYNAMIC; mode++) {
        struct qd_bytes with, without, again;
        options.mode = (enum qc_mode)mode;
        options.calibrator = QC_CALIB_MSE;
        options.histograms = true;
        quantize(&with);
        options.histograms = false;
        struct qc_report *report = quantize(&without);
        same(with, without);
        job.statistics = report->statistics;
        quantize(&again);
        same(with, again);
        job.statistics = (struct qd_bytes){NULL, 0};
    }
}
END_TEST

START_TEST(qc_quantize__percentile_beyond_the_tails__refused_before_the_first_sample)
{
    struct qd_bytes artifact;
    qc_reader_free(job.calibration);
    job.calibration = open_samples(N_MANY);
    options.holdout = 0.01;
    options.calibrator = QC_CALIB_PERCENTILE;
    options.max_percentile = 0.6; /* 2 / 5 of 3,366 * 50 values are 67,320 */
    refused("histograms is false: percentile 0.6 needs the 67320 largest of the 168300 values of "
            "'x', 65536 are kept");
    ck_assert_str_eq(err.subject, "x");
    options.max_percentile = 0.62;
    quantize(&artifact);
    options.max_percentile = 0.6;
    options.calibrator = QC_CALIB_MINMAX; /* reads no percentile */
    quantize(&artifact);
    options.calibrator = QC_CALIB_PERCENTILE;
    options.histograms = true;
    quantize(&artifact);
}
END_TEST

/* Without histograms no share is known, but that there are values outside is. */
START_TEST(qc_quantize__values_beyond_the_normalization__warned)
{
    struct qd_bytes artifact;
    options.input_from_normalization = true;
    options.input_lo = -2;
    options.input_hi = 3;
    struct qc_report *report = quantize(&artifact);
    ck_assert_double_eq(report->calibration[0].clipped_share, 0);
    int n = report->n_warnings;
    options.input_hi = 2;
    report = quantize(&artifact);
    ck_assert_str_eq(report->calibration[0].source, "normalization");
    ck_assert(isnan(report->calibration[0].clipped_share));
    ck_assert_int_eq(report->n_warnings, n + 1);
    ck_assert_ptr_nonnull(strstr(report->warnings[n], "mean and std promise"));
}
END_TEST

START_TEST(qc_check__no_histograms__less_memory)
{
    struct qc_check *with = NULL, *without = NULL;
    struct qd_bytes artifact;
    ck_assert_int_eq(qc_check(&job, &options, &arena, &without, &err), QD_OK);
    size_t peak = quantize(&artifact)->peak_arena_bytes;
    options.histograms = true;
    ck_assert_int_eq(qc_check(&job, &options, &arena, &with, &err), QD_OK);
    /* x and what the network computes */
    ck_assert_uint_ge(with->thread_bytes, without->thread_bytes + 2 * QC_VALUES_ALL * sizeof(float));
    ck_assert_uint_ge(with->shared_bytes,
                      without->shared_bytes + 2 * QC_VALUES_ALL * sizeof(struct qc_value_count));
    qd_arena_done(&arena);
    qd_arena_init(&arena, 0);
    ck_assert_uint_gt(quantize(&artifact)->peak_arena_bytes, peak);
}
END_TEST

/* The table that a run writes has no share, and gives the artifact again. */
START_TEST(table__no_share__null_and_back)
{
    struct qd_bytes first, second;
    struct worker_table table;
    struct qc_table_row *rows = NULL;
    char *text = NULL;
    size_t size = 0, n = 0;
    options.calibrator = QC_CALIB_PERCENTILE;
    options.max_percentile = options.min_percentile = 0.98;
    struct qc_report *report = quantize(&first);
    ck_assert_int_eq(worker_table_from_report(report, &arena, &table, &err), QD_OK);
    ck_assert_int_eq(worker_table_write(&table, WORKER_TABLE_CSV, &text, &size, &err), QD_OK);
    ck_assert_ptr_nonnull(strstr(text, ",\r\n"));
    free(text);
    ck_assert_int_eq(worker_table_write(&table, WORKER_TABLE_JSON, &text, &size, &err), QD_OK);
    ck_assert_ptr_nonnull(strstr(text, "\"clipped_share\": null"));
    struct qd_bytes bytes = {(const uint8_t *)text, size};
    ck_assert_msg(worker_table_read(bytes, "calibration.json", &arena, &table, &err) == QD_OK, "%s",
                  err.message);
    ck_assert(isnan(table.rows[0].clipped_share));
    ck_assert_int_eq(worker_table_scales(&table, &arena, &rows, &n, &err), QD_OK);
    job.table = rows;
    job.n_table = n;
    report = quantize(&second);
    same(first, second);
    ck_assert_str_eq(report->calibration[0].source, "imported");
    ck_assert(isnan(report->calibration[0].clipped_share));
    free(text);
}
END_TEST

Suite *test_no_histograms_suite(void);
Suite *test_no_histograms_suite(void)
{
    Suite *s = suite_create("test_no_histograms");
    TCase *c = tcase_create("pipeline");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, qc_quantize__no_histograms__artifact_is_the_same);
    tcase_add_test(c, qc_quantize__candidates_without_histograms__compared);
    tcase_add_test(c, qc_quantize__statistics_without_histograms__by_tails_or_refused);
    tcase_add_test(c, qc_quantize__other_modes__no_need_of_histograms);
    tcase_add_test(c, qc_quantize__percentile_beyond_the_tails__refused_before_the_first_sample);
    tcase_add_test(c, qc_quantize__values_beyond_the_normalization__warned);
    tcase_add_test(c, qc_check__no_histograms__less_memory);
    tcase_add_test(c, table__no_share__null_and_back);
    suite_add_tcase(s, c);
    return s;
}
