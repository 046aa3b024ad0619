/* .npy headers and whole .npy streams from memory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/data/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qc_source *source = NULL;
    struct qc_array_header h = {0};
    struct qd_error err = {0};
    if (qc_source_open_bytes((struct qd_bytes){data, size}, "fuzz", &source, &err) != QD_OK) {
        return 0;
    }
    if (qc_npy_read_header(source, &h, &err) == QD_OK) {
        /* A header that was accepted describes exactly the bytes that are there. */
        if (h.data_offset + h.data_bytes != size) {
            abort();
        }
        float *out = malloc((size_t)h.elements * sizeof(float) + 1);
        if (out != NULL) {
            qc_elements_to_f32(h.element, h.big_endian, data + h.data_offset, (size_t)h.elements,
                               out);
        }
        free(out);
    } else if (err.message[0] == '\0') {
        abort(); /* no failure without a message */
    }
    qc_source_free(source);
    return 0;
}
