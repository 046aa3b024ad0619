/* The body of a requantization: a stored configuration, a newline, the merge patch for it. Merging
 * once more changes nothing; what is accepted can be stored, read and checked again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_requantize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_merged(const json_t *taken, const json_t *patch)
{
    static struct worker_spec before, after, again;
    struct qd_error err = {.code = QD_OK};
    json_t *empty = json_object(), *second = NULL;
    json_t *merged = api_requantize_merge(taken, patch);
    json_t *twice = api_requantize_merge(merged, patch);
    json_t *same = api_requantize_merge(merged, empty);
    check(merged != NULL && json_equal(merged, twice));
    check(json_is_object(merged) ? json_equal(merged, same) : json_is_object(same));
    if (worker_spec_parse(taken, &before, &err) == QD_OK &&
        worker_spec_parse(merged, &after, &err) == QD_OK) {
        char *text = json_dumps(merged, JSON_COMPACT);
        enum qd_code code = api_requantize_check(&before, &after, &err);
        check(code == QD_OK || (err.message[0] != '\0' && err.subject[0] == '/'));
        /* A patch may make it longer than what may be sent: the handler refuses that. */
        if (strlen(text) <= WORKER_SPEC_MAX_BYTES) {
            check(worker_spec_load(text, strlen(text), &second, &err) == QD_OK);
            check(worker_spec_parse(second, &again, &err) == QD_OK);
            check(api_requantize_check(&after, &again, &err) == QD_OK);
        }
        free(text);
    } else {
        check(err.message[0] != '\0');
    }
    json_decref(second);
    json_decref(same);
    json_decref(twice);
    json_decref(merged);
    json_decref(empty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *cut = size > 0 ? memchr(data, '\n', size) : NULL;
    struct qd_error err = {.code = QD_OK};
    json_t *taken = NULL, *patch = NULL;
    if (cut == NULL) {
        return 0;
    }
    size_t n = (size_t)(cut - data);
    if (worker_spec_load((const char *)data, n, &taken, &err) == QD_OK &&
        worker_spec_load((const char *)cut + 1, size - n - 1, &patch, &err) == QD_OK) {
        check_merged(taken, patch);
    } else {
        check(err.message[0] != '\0');
    }
    json_decref(taken);
    json_decref(patch);
    return 0;
}
