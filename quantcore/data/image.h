/* PNG and JPEG to 8-bit grey or RGB pixels, with libpng and libjpeg-turbo.
 *
 * The values are those of Pillow's Image.open(f).convert("RGB") or convert("L"): alpha is
 * dropped, 16-bit samples keep their high byte, grey is (19595 R + 38470 G + 7471 B + 32768) >>
 * 16 (ITU-R 601). EXIF orientation and colour profiles are not applied. */
#ifndef QC_IMAGE_H
#define QC_IMAGE_H

#include "quantcore/data/member_list.h"

/* Interleaved rows without padding: [height, width, channels]. The buffer is reused between
 * images and grows to the largest. Zeroed = empty. */
struct qc_image {
    int width, height, channels;
    uint8_t *pixels;
    size_t capacity;
};

/* Make room for a size; the content is undefined afterwards. QD_LIMIT_EXCEEDED over max_bytes. */
QD_MUST_CHECK enum qd_code qc_image_reserve(struct qc_image *image, int width, int height,
                                            int channels, uint64_t max_bytes, const char *label,
                                            struct qd_error *err);
void qc_image_done(struct qc_image *image);

/* Size from the header; nothing is decoded. Sides over limits->max_image_side (resolved limits)
 * are QD_LIMIT_EXCEEDED. kind is PNG or JPEG. */
QD_MUST_CHECK enum qd_code qc_image_size(struct qd_bytes bytes, enum qc_member_kind kind,
                                         const struct qc_reader_limits *limits, const char *label,
                                         int *ret_width, int *ret_height, struct qd_error *err);
/* Decode to `channels` (1 or 3). QD_UNSUPPORTED: CMYK and YCCK; QD_INVALID: damaged, truncated;
 * warnings of libjpeg about damaged data count as errors. */
QD_MUST_CHECK enum qd_code qc_image_decode(struct qd_bytes bytes, enum qc_member_kind kind,
                                           int channels, const struct qc_reader_limits *limits,
                                           const char *label, struct qc_image *image,
                                           struct qd_error *err);

#endif
