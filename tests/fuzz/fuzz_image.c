/* PNG and JPEG decoders with small limits, then a resize of what they gave. */
#include <stdint.h>
#include <stdlib.h>

#include "quantcore/data/image.h"
#include "quantcore/data/resize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qc_reader_limits limits = {.max_image_side = 256};
    struct qc_image image = {0};
    struct qc_image small = {0};
    struct qc_resizer resizer = {0};
    struct qd_error err = {0};
    enum qc_member_kind kind = qc_member_kind_of(data, size);
    limits = qc_limits_resolve(&limits);
    if (kind != QC_MEMBER_PNG && kind != QC_MEMBER_JPEG) {
        return 0;
    }
    for (int channels = 1; channels <= 3; channels += 2) {
        if (qc_image_decode((struct qd_bytes){data, size}, kind, channels, &limits, "fuzz",
                            &image, &err) != QD_OK) {
            if (err.message[0] == '\0') {
                abort(); /* no failure without a message */
            }
            break;
        }
        if (qc_resize(&resizer, &image, 7, 5, QC_FILTER_BICUBIC, 1 << 20, "fuzz", &small, &err) !=
            QD_OK) {
            break;
        }
    }
    qc_image_done(&image);
    qc_image_done(&small);
    qc_resizer_done(&resizer);
    return 0;
}
