/* Merge patches by the examples of RFC 7396, and what a requantization may not change. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_create.h"
#include "api/api_requantize.h"

static struct qd_error err;

/* RFC 7396, appendix A: original, patch, result. */
static const char *const rfc7396[][3] = {
    {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
    {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
    {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
    {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
    {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
    {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
    {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
    {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
    {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
    {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
    {"{\"a\":\"foo\"}", "null", "null"},
    {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
    {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
    {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
    {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
};

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    ck_assert_msg(json != NULL, "%s", text);
    return json;
}

START_TEST(merge__examples_of_the_rfc__their_results)
{
    const char *const *example = rfc7396[_i];
    json_t *target = parse(example[0]), *patch = parse(example[1]), *result = parse(example[2]);
    json_t *target_before = json_deep_copy(target), *patch_before = json_deep_copy(patch);
    json_t *merged = api_requantize_merge(target, patch);
    ck_assert_msg(json_equal(merged, result), "%s with %s", example[0], example[1]);
    ck_assert(json_equal(target, target_before) && json_equal(patch, patch_before));
    json_decref(target_before);
    json_decref(patch_before);
    json_decref(target);
    json_decref(patch);
    ck_assert(json_equal(merged, result)); /* it shares nothing with them */
    json_decref(merged);
    json_decref(result);
}
END_TEST

START_TEST(merge__deep_patch__as_deep)
{
    enum { DEPTH = 2000 };
    char *text = malloc(6 * DEPTH + 8), *at = text;
    for (int i = 0; i < DEPTH; i++) {
        at = stpcpy(at, "{\"a\":");
    }
    at = stpcpy(at, "1");
    memset(at, '}', DEPTH);
    at[DEPTH] = '\0';
    json_t *patch = parse(text);
    json_t *merged = api_requantize_merge(NULL, patch);
    ck_assert(json_equal(merged, patch));
    json_decref(merged);
    json_decref(patch);
    free(text);
}
END_TEST

/* ---- what may change ------------------------------------------------------------------------ */

static const struct {
    const char *config, *pointer; /* NULL: it may */
} changes[] = {
    {"{\"preprocess\":{\"scale\":0.5}}", NULL}, /* the same */
    {"{\"preprocess\":{\"scale\":0.5},\"calibration\":{\"holdout\":0.2}}", NULL}, /* the default */
    {"{\"preprocess\":{\"scale\":0.5},\"calibration\":{\"calibrator\":\"kl\",\"batch_size\":1},"
     "\"activations\":{\"type\":\"s8\"},\"weights\":{\"per_channel\":false},\"isa\":\"ref\","
     "\"exclude\":{\"types\":[\"Add\"]},\"verification\":{\"max_samples\":3},"
     "\"gate\":{\"max_drop\":1},\"mode\":\"dynamic\",\"name\":\"x\"}",
     NULL},
    {"{}", "/preprocess"},
    {"{\"preprocess\":{\"scale\":0.25}}", "/preprocess"},
    {"{\"preprocess\":{\"scale\":0.5,\"channel_order\":\"bgr\"}}", "/preprocess"},
    {"{\"preprocess\":{\"scale\":0.5,\"std\":[1,1,1]}}", "/preprocess"},
    {"{\"preprocess\":{\"scale\":0.5},\"calibration\":{\"holdout\":0.1}}", "/calibration/holdout"},
    {"{\"preprocess\":{\"scale\":0.5},\"calibration\":{\"max_samples\":7}}",
     "/calibration/max_samples"},
    {"{\"preprocess\":{\"scale\":0.5},\"calibration\":{\"tail_length\":7}}",
     "/calibration/tail_length"},
    {"{\"preprocess\":{\"scale\":0.5},\"calibration\":{\"histograms\":false,"
     "\"calibrator\":\"minmax\"}}",
     "/calibration/histograms"},
};

START_TEST(check__changed_fields__only_those_that_statistics_allow)
{
    static struct worker_spec taken, wanted;
    json_t *base = parse("{\"preprocess\":{\"scale\":0.5}}"), *other = parse(changes[_i].config);
    ck_assert_int_eq(worker_spec_parse(base, &taken, &err), QD_OK);
    ck_assert_msg(worker_spec_parse(other, &wanted, &err) == QD_OK, "%s", err.message);
    enum qd_code code = api_requantize_check(&taken, &wanted, &err);
    if (changes[_i].pointer == NULL) {
        ck_assert_msg(code == QD_OK, "%s", err.message);
    } else {
        ck_assert_int_eq(code, QD_INVALID);
        ck_assert_str_eq(err.subject, changes[_i].pointer);
        ck_assert_ptr_nonnull(strstr(err.message, "the statistics were taken with"));
    }
    json_decref(base);
    json_decref(other);
}
END_TEST

START_TEST(hash__texts__order_and_borders_count)
{
    const char *const a[] = {"abc", ""}, *const b[] = {"ab", "c"}, *const c[] = {"", "abc"};
    char hash_a[STORE_SHA256_SIZE], hash_b[STORE_SHA256_SIZE], hash_c[STORE_SHA256_SIZE];
    api_create_hash(a, 2, hash_a);
    api_create_hash(b, 2, hash_b);
    api_create_hash(c, 2, hash_c);
    ck_assert(store_sha256_valid(hash_a));
    ck_assert_str_ne(hash_a, hash_b);
    ck_assert_str_ne(hash_a, hash_c);
    /* printf 'abc\0\0' | sha256sum */
    ck_assert_str_eq(hash_a, "0616290e0a45001015ac04f49716fbec564e5bd3301a9e8871c422ef5a691fc1");
}
END_TEST

Suite *test_api_requantize_suite(void)
{
    Suite *s = suite_create("api_requantize");
    TCase *t = tcase_create("api_requantize");
    tcase_add_loop_test(t, merge__examples_of_the_rfc__their_results, 0,
                        (int)QD_COUNT_OF(rfc7396));
    tcase_add_test(t, merge__deep_patch__as_deep);
    tcase_add_loop_test(t, check__changed_fields__only_those_that_statistics_allow, 0,
                        (int)QD_COUNT_OF(changes));
    tcase_add_test(t, hash__texts__order_and_borders_count);
    suite_add_tcase(s, t);
    return s;
}
