#include <check.h>
#include <string.h>

#include "worker/worker_spec.h"

static enum qd_code parse(const char *text, struct worker_spec *s, json_t **config,
                          struct qd_error *err)
{
    *config = NULL;
    enum qd_code code = worker_spec_load(text, strlen(text), config, err);
    return code != QD_OK ? code : worker_spec_parse(*config, s, err);
}

START_TEST(parse__empty__documented_defaults)
{
    struct worker_spec s;
    struct qd_error err;
    json_t *c;
    ck_assert_int_eq(parse("{}", &s, &c, &err), QD_OK);
    ck_assert_int_eq(s.options.calibrator, QC_CALIB_MSE);
    ck_assert(s.options.weights_per_channel && s.options.bias_correction);
    ck_assert_int_eq(s.options.bins, 150);
    ck_assert(s.options.histograms);
    ck_assert_str_eq(s.name, "");
    json_decref(c);
}
END_TEST

START_TEST(parse__number_formats__set)
{
    struct worker_spec s;
    struct qd_error err;
    json_t *c;
    ck_assert_int_eq(parse("{}", &s, &c, &err), QD_OK);
    ck_assert(!s.options.activations.is_s8 && !s.options.activations.symmetric);
    ck_assert(s.options.dense_per_channel && !s.options.weights_full_range);
    ck_assert(!s.options.weights_asymmetric);
    ck_assert(!s.options.input_from_normalization);
    json_decref(c);
    const char *text = "{\"activations\":{\"type\":\"s8\",\"scheme\":\"symmetric\"},"
                       "\"weights\":{\"dense_per_channel\":false,\"range\":\"full\","
                       "\"scheme\":\"asymmetric\"},"
                       "\"calibration\":{\"input_range\":\"from_normalization\"},"
                       "\"preprocess\":{\"mean\":[10,20],\"std\":[2,4]}}";
    ck_assert_int_eq(parse(text, &s, &c, &err), QD_OK);
    ck_assert(s.options.activations.is_s8 && s.options.activations.symmetric);
    ck_assert(!s.options.dense_per_channel && s.options.weights_full_range);
    ck_assert(s.options.weights_asymmetric);
    ck_assert(s.options.input_from_normalization);
    ck_assert(s.options.input_lo == -5 && s.options.input_hi == 122.5);
    json_decref(c);
}
END_TEST

START_TEST(parse__every_kind_of_field__set)
{
    struct worker_spec s;
    struct qd_error err;
    json_t *c;
    const char *text =
        "{\"name\":\"resnet20\",\"isa\":\"avx2\",\"calibration\":{\"calibrator\":\"js\","
        "\"divergence\":\"spread\",\"max_percentile\":0.9999,\"batch_size\":4},"
        "\"weights\":{\"bias_correction\":false},"
        "\"exclude\":{\"nodes\":[\"conv1\",\"fc\"],\"types\":[\"Add\"],"
        "\"patterns\":[\"head*\"],\"ranges\":[{\"from\":\"a\",\"to\":\"b\"}]},"
        "\"preprocess\":{\"scale\":0.5,\"mean\":[1,2,3],\"std\":2,\"channel_order\":\"bgr\"}}";
    ck_assert_int_eq(parse(text, &s, &c, &err), QD_OK);
    ck_assert_str_eq(s.name, "resnet20");
    ck_assert_int_eq(s.options.calibrator, QC_CALIB_JS);
    ck_assert_int_eq(s.options.divergence, QC_FORM_SPREAD);
    ck_assert_int_eq(s.options.isa, QC_ISA_AVX2);
    ck_assert_int_eq(s.options.batch_size, 4);
    ck_assert(!s.options.bias_correction);
    ck_assert_int_eq(s.options.exclude.n_nodes, 2);
    ck_assert_str_eq(s.options.exclude.nodes[1], "fc");
    ck_assert_int_eq(s.options.exclude.n_types, 1);
    ck_assert_str_eq(s.options.exclude.types[0], "Add");
    ck_assert_int_eq(s.options.exclude.n_patterns, 1);
    ck_assert_str_eq(s.options.exclude.patterns[0], "head*");
    ck_assert_int_eq(s.options.exclude.n_ranges, 1);
    ck_assert_str_eq(s.options.exclude.ranges[0].from, "a");
    ck_assert_str_eq(s.options.exclude.ranges[0].to, "b");
    ck_assert_int_eq(s.preprocess.n_mean, 3);
    ck_assert_int_eq(s.preprocess.n_std, 1);
    ck_assert(s.preprocess.has_scale && s.preprocess.bgr);
    json_decref(c);
}
END_TEST

static const struct {
    const char *text, *subject;
    enum qd_code code;
} wrong[] = {
    {"{\"nmae\":\"x\"}", "/nmae", QD_INVALID},
    {"{\"calibration\":{\"bins\":1.5}}", "/calibration/bins", QD_INVALID},
    {"{\"calibration\":{\"bins\":4}}", "/calibration/bins", QD_INVALID},
    {"{\"calibration\":{\"calibrator\":\"best\"}}", "/calibration/calibrator", QD_INVALID},
    {"{\"calibration\":{\"divergence\":\"coarse\"}}", "/calibration/divergence", QD_INVALID},
    {"{\"calibration\":[]}", "/calibration", QD_INVALID},
    {"{\"name\":\"../x\"}", "/name", QD_INVALID},
    {"{\"preprocess\":{\"std\":[1,0]}}", "/preprocess/std", QD_INVALID},
    {"{\"exclude\":{\"nodes\":[1]}}", "/exclude/nodes", QD_INVALID},
    {"{\"exclude\":{\"patterns\":\"*\"}}", "/exclude/patterns", QD_INVALID},
    {"{\"activations\":{\"type\":\"u16\"}}", "/activations/type", QD_INVALID},
    {"{\"activations\":{\"scheme\":true}}", "/activations/scheme", QD_INVALID},
    {"{\"weights\":{\"range\":\"wide\"}}", "/weights/range", QD_INVALID},
    {"{\"weights\":{\"scheme\":\"skewed\"}}", "/weights/scheme", QD_INVALID},
    {"{\"mode\":\"dynamic\",\"weights\":{\"scheme\":\"asymmetric\"}}", "/mode", QD_INVALID},
    {"{\"weights\":{\"dense_per_channel\":1}}", "/weights/dense_per_channel", QD_INVALID},
    {"{\"calibration\":{\"input_range\":\"mean\"}}", "/calibration/input_range", QD_INVALID},
    {"{\"exclude\":{\"names\":[]}}", "/exclude/names", QD_INVALID},
    {"{\"exclude\":{\"ranges\":{}}}", "/exclude/ranges", QD_INVALID},
    {"{\"exclude\":{\"ranges\":[{\"from\":\"a\"}]}}", "/exclude/ranges", QD_INVALID},
    {"{\"exclude\":{\"ranges\":[{\"from\":\"a\",\"to\":1}]}}", "/exclude/ranges", QD_INVALID},
    {"{\"exclude\":{\"ranges\":[{\"from\":\"a\",\"to\":\"b\",\"by\":\"c\"}]}}", "/exclude/ranges",
     QD_INVALID},
    {"{\"calibration\":{\"max_percentile\":0.2}}", "/calibration/max_percentile", QD_INVALID},
    {"{\"calibration\":{\"tail_length\":65537}}", "/calibration/tail_length", QD_INVALID},
    {"{\"gate\":{\"max_drop\":2}}", "/gate/max_drop", QD_INVALID},
    {"{\"gate\":{\"min_sqnr_db\":201}}", "/gate/min_sqnr_db", QD_INVALID},
    {"{\"a\":", "", QD_INVALID},
    {"{\"name\":\"a\",\"name\":\"b\"}", "", QD_INVALID},
};

START_TEST(parse__wrong_input__names_the_field)
{
    struct worker_spec s;
    struct qd_error err;
    json_t *c;
    ck_assert_int_eq(parse(wrong[_i].text, &s, &c, &err), wrong[_i].code);
    ck_assert_str_eq(err.subject, wrong[_i].subject);
    ck_assert(err.message[0] != '\0');
    json_decref(c);
}
END_TEST

START_TEST(parse__weight_bits__set_or_refused_with_value_and_limit)
{
    static const struct {
        const char *text, *subject, *part;
    } rows[] = {
        {"{\"weights\":{\"bits\":5}}", "/weights/bits",
         "bits of weights is 5, allowed: 8, 7, 4, 3, 2, 1, and 16 (float16) in mode weight_only"},
        {"{\"weights\":{\"bits\":\"four\"}}", "/weights/bits", "/weights/bits must be an integer"},
        {"{\"weights\":{\"bits\":16}}", "/weights/bits",
         "bits of weights is 16 (float16) in mode static, allowed: in mode weight_only"},
        {"{\"mode\":\"dynamic\",\"weights\":{\"bits\":16}}", "/weights/bits", "in mode dynamic"},
        {"{\"mode\":\"weight_only\",\"weights\":{\"bits\":16,\"scheme\":\"asymmetric\"}}",
         "/weights/bits", "which has no codes"},
        {"{\"weights\":{\"bits\":1,\"range\":\"full\"}}", "/weights/bits",
         "bits of weights is 1, with scheme symmetric and range full"},
        {"{\"weights\":{\"bits\":1,\"scheme\":\"asymmetric\"}}", "/weights/bits",
         "with scheme asymmetric and range narrow"},
        {"{\"mode\":\"weight_only\",\"weights\":{\"block_size\":48}}", "/weights/block_size",
         "block_size is 48, allowed: 0 (none), 32, 64, 128, 256"},
        {"{\"weights\":{\"bits\":4,\"block_size\":32}}", "/weights/block_size",
         "block_size is 32 in mode static with 4 bits, allowed: in mode weight_only with 8 bits"},
        {"{\"mode\":\"weight_only\",\"weights\":{\"bits\":16,\"block_size\":32}}",
         "/weights/block_size", "in mode weight_only with 16 bits"},
        {"{\"mode\":\"weight_only\",\"weights\":{\"bits\":4,\"block_size\":64,"
         "\"dense_per_channel\":false}}", "/weights/block_size",
         "block_size is 64, but dense_per_channel is false"},
        {"{\"weights\":{\"bits\":[8,16]}}", "/weights/bits", "in mode static"},
        {"{\"mode\":\"weight_only\",\"weights\":{\"bits\":[8,4]}}", "/mode",
         "lists of values are for mode static"},
        {"{\"mode\":\"weight_only\",\"weights\":{\"bits\":4,\"block_size\":128}}", "", ""},
        {"{\"mode\":\"weight_only\",\"weights\":{\"bits\":16}}", "", ""},
        {"{\"mode\":\"dynamic\",\"weights\":{\"bits\":1}}", "", ""},
    };
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        struct worker_spec s;
        struct qd_error err = {.code = QD_OK};
        json_t *c;
        bool good = rows[i].subject[0] == '\0';
        ck_assert_int_eq(parse(rows[i].text, &s, &c, &err), good ? QD_OK : QD_INVALID);
        if (!good) {
            ck_assert_str_eq(err.subject, rows[i].subject);
            ck_assert_msg(strstr(err.message, rows[i].part) != NULL, "'%s'", err.message);
        }
        json_decref(c);
    }
}
END_TEST

START_TEST(parse__histograms__set_or_refused_by_the_calibrator_that_needs_them)
{
    static const struct {
        const char *text, *part; /* part "": accepted */
    } rows[] = {
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":\"minmax\"}}", ""},
        {"{\"calibration\":{\"calibrator\":\"percentile\",\"histograms\":false}}", ""},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":[\"minmax\",\"percentile\"]}}", ""},
        {"{\"mode\":\"weight_only\",\"calibration\":{\"histograms\":false}}", ""},
        {"{\"calibration\":{\"histograms\":false}}",
         "histograms is false and calibrator is 'mse', which needs histograms, allowed: minmax, "
         "percentile"},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":\"auto\"}}", "is 'auto'"},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":\"kl\"}}", "is 'kl'"},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":\"symmetric_kl\"}}", "'symmetric_kl'"},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":\"js\"}}", "is 'js'"},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":\"entropy\"}}", "is 'entropy'"},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":[\"minmax\",\"js\"]}}", "is 'js'"},
        {"{\"calibration\":{\"histograms\":false,\"calibrator\":\"minmax\","
         "\"inference\":\"quantized\"}}", "inference is quantized"},
        {"{\"mode\":\"dynamic\",\"calibration\":{\"histograms\":false,\"inference\":\"quantized\"}}",
         "inference is quantized"},
        {"{\"calibration\":{\"histograms\":0}}", "must be true or false"},
        {"{\"calibration\":{\"histograms\":[true,false]}}", "must be true or false"},
    };
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        struct worker_spec s;
        struct qd_error err = {.code = QD_OK};
        json_t *c;
        bool good = rows[i].part[0] == '\0';
        ck_assert_msg(parse(rows[i].text, &s, &c, &err) == (good ? QD_OK : QD_INVALID), "%s",
                      rows[i].text);
        ck_assert(!good || !s.options.histograms);
        if (!good) {
            ck_assert_str_eq(err.subject, "/calibration/histograms");
            ck_assert_msg(strstr(err.message, rows[i].part) != NULL, "'%s'", err.message);
        }
        json_decref(c);
    }
}
END_TEST

START_TEST(parse__list_of_bits__a_candidate_each)
{
    struct worker_spec s;
    struct qd_error err;
    json_t *c;
    ck_assert_int_eq(parse("{\"weights\":{\"bits\":[8,4,2],\"block_size\":[0]}}", &s, &c, &err),
                     QD_OK);
    ck_assert_uint_eq(s.n_candidates, 3);
    ck_assert_int_eq(s.candidates[1].options.weight_bits, 4);
    ck_assert_str_eq(s.candidates[2].label, "block_size=0, bits=2");
    json_decref(c);
}
END_TEST

START_TEST(parse__lists__every_combination)
{
    struct worker_spec s;
    struct qd_error err;
    json_t *c;
    const char *text = "{\"quantize_last_output\":[false,true],\"calibration\":{\"calibrator\":"
                       "[\"auto\",\"js\",\"mse\"],\"bins\":99},\"weights\":{\"range\":[\"full\"],"
                       "\"scheme\":[\"asymmetric\"]},"
                       "\"grid\":{\"deadline_s\":2.5}}";
    ck_assert_int_eq(parse(text, &s, &c, &err), QD_OK);
    ck_assert_uint_eq(s.n_candidates, 6);
    for (size_t i = 0; i < s.n_candidates; i++) {
        const struct qc_options *o = &s.candidates[i].options;
        ck_assert(o->weights_full_range && o->weights_asymmetric);
        ck_assert_int_eq(o->bins, 99);
        ck_assert(o->choice_deadline == 2.5);
        for (size_t k = 0; k < i; k++) {
            ck_assert(o->calibrator != s.candidates[k].options.calibrator ||
                      o->quantize_last_output != s.candidates[k].options.quantize_last_output);
            ck_assert_str_ne(s.candidates[i].label, s.candidates[k].label);
        }
    }
    ck_assert_int_eq(s.options.calibrator, QC_CALIB_AUTO);
    ck_assert_str_eq(s.candidates[0].label,
                     "quantize_last_output=false, scheme=asymmetric, range=full, calibrator=auto");
    json_decref(c);
    ck_assert_int_eq(parse("{\"calibration\":{\"calibrator\":\"js\"}}", &s, &c, &err), QD_OK);
    ck_assert_uint_eq(s.n_candidates, 0);
    json_decref(c);
}
END_TEST

START_TEST(parse__lists_too_long_empty_or_wrong__named)
{
    static const struct {
        const char *text, *subject;
        enum qd_code code;
    } bad[] = {
        {"{\"calibration\":{\"calibrator\":[]}}", "/calibration/calibrator", QD_INVALID},
        {"{\"calibration\":{\"calibrator\":[\"mse\",\"x\"]}}", "/calibration/calibrator", QD_INVALID},
        {"{\"calibration\":{\"holdout\":[0.1,0.2]}}", "/calibration/holdout", QD_INVALID},
        {"{\"calibration\":{\"bins\":[8,9,10,11,12,13,14,15,16],\"min_percentile\":"
         "[1,0.9,0.91,0.92,0.93,0.94,0.95,0.96]}}", "/calibration/min_percentile",
         QD_LIMIT_EXCEEDED},
        {"{\"mode\":\"dynamic\",\"weights\":{\"range\":[\"full\",\"narrow\"]}}", "/mode",
         QD_INVALID},
        {"{\"calibration\":{\"bins\":[8,1]}}", "/calibration/bins", QD_INVALID},
    };
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        struct worker_spec s;
        struct qd_error err;
        json_t *c;
        ck_assert_int_eq(parse(bad[i].text, &s, &c, &err), bad[i].code);
        ck_assert_str_eq(err.subject, bad[i].subject);
        json_decref(c);
    }
}
END_TEST

Suite *test_spec_suite(void)
{
    Suite *s = suite_create("spec");
    TCase *tc = tcase_create("spec");
    tcase_add_test(tc, parse__empty__documented_defaults);
    tcase_add_test(tc, parse__number_formats__set);
    tcase_add_test(tc, parse__every_kind_of_field__set);
    tcase_add_loop_test(tc, parse__wrong_input__names_the_field, 0, (int)QD_COUNT_OF(wrong));
    tcase_add_test(tc, parse__weight_bits__set_or_refused_with_value_and_limit);
    tcase_add_test(tc, parse__list_of_bits__a_candidate_each);
    tcase_add_test(tc, parse__histograms__set_or_refused_by_the_calibrator_that_needs_them);
    tcase_add_test(tc, parse__lists__every_combination);
    tcase_add_test(tc, parse__lists_too_long_empty_or_wrong__named);
    suite_add_tcase(s, tc);
    return s;
}
