/* Frames of a hostile child, cut at a place that the input chooses, down to the rows. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "worker/worker_progress.h"
#include "worker/worker_result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum qd_code on_frame(void *arg, const char *type, json_t *frame, struct qd_error *err)
{
    if (strcmp(type, "rows") == 0 || strcmp(type, "result") == 0) {
        struct worker_result *result = arg;
        return result->final != NULL ? QD_OK : worker_result_add(result, type, frame, err);
    }
    return QD_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct worker_decoder decoder;
    struct worker_result result;
    struct qd_arena arena;
    struct store_result rows;
    struct qd_error err;
    size_t cut = size > 0 ? data[0] % size : 0;
    worker_decoder_init(&decoder);
    worker_result_init(&result);
    qd_arena_init(&arena, 1u << 26);
    enum qd_code code = QD_OK;
    if (size > 0) {
        data++;
        size--;
        cut = cut < size ? cut : size;
        code = worker_decoder_feed(&decoder, data, cut, on_frame, &result, &err);
        if (code == QD_OK) {
            code = worker_decoder_feed(&decoder, data + cut, size - cut, on_frame, &result, &err);
        }
    }
    /* A folder that is never there: rows are read, no file is. */
    code = worker_result_ingest(&result, "/nonexistent/quantd", NULL, 1, &arena, &rows, &err);
    if (code == QD_OK) {
        __builtin_trap();
    }
    qd_arena_done(&arena);
    worker_result_done(&result);
    worker_decoder_done(&decoder);
    return 0;
}
