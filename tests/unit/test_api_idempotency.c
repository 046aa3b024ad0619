#include <check.h>
#include <string.h>

#include "api/api_idempotency.h"

START_TEST(api_idempotency_parse__quoted_or_not__the_same_key)
{
    char key[API_IDEMPOTENCY_KEY_MAX + 1], longest[API_IDEMPOTENCY_KEY_MAX + 2];
    struct qd_error err;
    ck_assert_int_eq(api_idempotency_parse("build-17", key, &err), QD_OK);
    ck_assert_str_eq(key, "build-17");
    ck_assert_int_eq(api_idempotency_parse("\"build-17\"", key, &err), QD_OK);
    ck_assert_str_eq(key, "build-17");
    ck_assert_int_eq(api_idempotency_parse("\"", key, &err), QD_OK);
    ck_assert_str_eq(key, "\"");
    memset(longest, 'a', sizeof(longest));
    longest[0] = longest[sizeof(longest) - 1] = '"';
    char quoted[sizeof(longest) + 1];
    memcpy(quoted, longest, sizeof(longest));
    quoted[sizeof(longest)] = '\0';
    ck_assert_int_eq(api_idempotency_parse(quoted, key, &err), QD_OK);
    ck_assert_uint_eq(strlen(key), API_IDEMPOTENCY_KEY_MAX);
}
END_TEST

START_TEST(api_idempotency_parse__bad_keys__refused)
{
    static const char *const bad[] = {"", "\"\"", "a b", " a", "a\t", "\x7f", "\xc3\xa9", "a\x01"};
    char key[API_IDEMPOTENCY_KEY_MAX + 1] = "untouched", text[API_IDEMPOTENCY_KEY_MAX + 2];
    struct qd_error err = {.code = QD_OK};
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        ck_assert_int_eq(api_idempotency_parse(bad[i], key, &err), QD_INVALID);
        ck_assert_str_eq(err.subject, "Idempotency-Key");
    }
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    ck_assert_int_eq(api_idempotency_parse(text, key, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "201 bytes"));
    ck_assert_str_eq(key, "untouched");
}
END_TEST

Suite *test_api_idempotency_suite(void)
{
    Suite *suite = suite_create("test_api_idempotency");
    TCase *c = tcase_create("idempotency");
    tcase_add_test(c, api_idempotency_parse__quoted_or_not__the_same_key);
    tcase_add_test(c, api_idempotency_parse__bad_keys__refused);
    suite_add_tcase(suite, c);
    return suite;
}
