/* Bytes → import → export → import: anything may be refused, nothing may crash, and what was
 * exported must be importable. Files of external data are the input itself. The first bytes also go through the reader of tensor files. */
#include <stdlib.h>

#include "quantcore/onnx/onnx_export.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/onnx/onnx_tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { LIMIT = 64 << 20 };
    struct qd_arena arena;
    struct qd_error err = {0};
    struct qc_tensor *tensor;
    struct qc_graph *g;
    struct qd_bytes bytes = {data, size}, out;
    struct qc_external external = {.n = 0};
    qd_arena_init(&arena, LIMIT);
    if (qc_onnx_read_tensor(bytes, &arena, &tensor, &err) != QD_OK && err.message[0] == '\0') {
        abort();
    }
    if (qc_onnx_external_names(bytes, &arena, &external, &err) != QD_OK &&
        err.message[0] == '\0') {
        abort();
    }
    err = (struct qd_error){0};
    for (int i = 0; i < external.n; i++) {
        external.files[i].bytes = bytes;
    }
    enum qd_code code = qc_onnx_import(bytes, &external, &arena, &g, &err);
    if (code != QD_OK && err.message[0] == '\0') {
        abort();
    }
    if (code == QD_OK) {
        code = qc_onnx_export(g, &arena, &out, &err);
        if (code == QD_OK) {
            code = qc_onnx_import(out, NULL, &arena, &g, &err);
        }
        if (code != QD_OK && code != QD_LIMIT_EXCEEDED) {
            abort();
        }
    }
    qd_arena_done(&arena);
    return 0;
}
