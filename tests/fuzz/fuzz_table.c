/* Calibration tables: TensorRT caches, ncnn tables, JSON. What is read must be writable, and
 * quantd's own form must come back as it was. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "worker/worker_table_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_all(const struct worker_table *table)
{
    for (int i = 0; i < WORKER_TABLE_FORMAT_COUNT; i++) {
        char *text = NULL;
        size_t size = 0;
        struct qd_error err;
        if (worker_table_write(table, (enum worker_table_format)i, &text, &size, &err) != QD_OK) {
            continue; /* a name that the format cannot hold */
        }
        struct qd_arena arena;
        struct worker_table back;
        qd_arena_init(&arena, 1u << 26);
        enum qd_code code = i == WORKER_TABLE_JSON && size <= WORKER_TABLE_MAX_BYTES
                                ? worker_table_read((struct qd_bytes){(uint8_t *)text, size},
                                                    "again", &arena, &back, &err)
                                : QD_OK;
        if (code == QD_INVALID || code == QD_UNSUPPORTED) {
            __builtin_trap();
        }
        qd_arena_done(&arena);
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qd_arena arena;
    struct worker_table table;
    struct qd_error err;
    qd_arena_init(&arena, 1u << 26);
    if (worker_table_read((struct qd_bytes){data, size}, "fuzz", &arena, &table, &err) == QD_OK) {
        write_all(&table);
    }
    qd_arena_done(&arena);
    return 0;
}
