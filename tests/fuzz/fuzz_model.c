/* Bytes → import → shapes, folding, fusing, plan; small networks also run, as f32 and, when they
 * carry QuantizeLinear, on integers. Refusals are fine, a crash or a silent one is not. */
#include <stdint.h>
#include <stdlib.h>

#include "quantcore/quantcore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 64 << 20, MAX_BUFFER = 1 << 20, MAX_MACS = 1 << 20, MAX_IO = 16 };

static void check(enum qd_code code, const struct qd_error *err)
{
    if (code != QD_OK && err->message[0] == '\0') {
        abort(); /* no failure without a message */
    }
}

/* One sample of each input or output, the dims after the first: ramps in exact memory. */
static bool make_io(const struct qc_io_info *io, int n, float **out)
{
    for (int i = 0; i < n; i++) {
        size_t elements = 1;
        for (int d = 1; d < io[i].rank; d++) {
            if (io[i].dim[d] < 0 || !qd_mul_size(elements, (size_t)io[i].dim[d], &elements) ||
                elements > MAX_BUFFER) {
                return false;
            }
        }
        out[i] = malloc(elements * sizeof(float) + 1);
        if (out[i] == NULL) {
            return false;
        }
        for (size_t e = 0; e < elements; e++) {
            out[i][e] = (float)(int)(e % 17) - 8.0f;
        }
    }
    return true;
}

static void run(struct qd_bytes model, enum qc_engine engine)
{
    struct qd_arena arena;
    struct qc_runner *runner = NULL;
    struct qd_error err = {.code = QD_OK};
    float *inputs[MAX_IO] = {NULL}, *outputs[MAX_IO] = {NULL};
    qd_arena_init(&arena, LIMIT);
    enum qd_code code = qc_runner_new(model, NULL, engine, QC_ISA_AVX512, &arena, &runner, &err);
    check(code, &err);
    if (code == QD_OK) {
        const struct qc_model_info *info = qc_runner_info(runner);
        if (info->n_inputs <= MAX_IO && info->n_outputs <= MAX_IO &&
            make_io(info->inputs, info->n_inputs, inputs) &&
            make_io(info->outputs, info->n_outputs, outputs)) {
            check(qc_runner_run(runner, (const float *const *)inputs, outputs, &err), &err);
        }
    }
    for (int i = 0; i < MAX_IO; i++) {
        free(inputs[i]);
        free(outputs[i]);
    }
    qd_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qd_bytes model = {data, size};
    struct qd_arena arena;
    struct qc_model_info *info = NULL;
    struct qd_error err = {.code = QD_OK};
    qd_arena_init(&arena, LIMIT);
    enum qd_code code = qc_inspect(model, NULL, &arena, &info, &err);
    check(code, &err);
    bool small = code == QD_OK && info->buffer_bytes <= MAX_BUFFER && info->n_macs <= MAX_MACS;
    bool quantized = small && info->is_quantized;
    qd_arena_done(&arena);
    if (small) {
        run(model, QC_ENGINE_F32);
    }
    if (quantized) {
        run(model, QC_ENGINE_INT8);
    }
    return 0;
}
