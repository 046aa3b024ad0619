/* Calibration and validation data as a stream of samples.
 *
 * A reader is opened on an already stored file (never on a path out of untrusted bytes), tells
 * what it holds, and then delivers f32 samples in order, as often as it is rewound: memory does
 * not depend on the number of samples. Formats, found by content and not by name: .npy, .npz,
 * IDX (plain or .gz), tar / tar.gz / tar.zst / zip of PNG, JPEG or .npy members, TensorProto is
 * not one of them. Members of an archive are taken in the order of their names (byte order). */
#ifndef QC_READER_H
#define QC_READER_H

#include "quantcore/base/qd_arena.h"

#define QC_READER_MAX_RANK 8
#define QC_READER_MAX_INPUTS 16

enum qc_image_resize { QC_RESIZE_NONE, QC_RESIZE_STRETCH, QC_RESIZE_SHORTER };
enum qc_image_filter { QC_FILTER_BILINEAR, QC_FILTER_BICUBIC };

/* How a stored sample becomes the network's input: image decoding, resize, centre crop, channel
 * order, then y = (x * scale - mean[c]) / std[c] in f32, then layout. Arrays of u8 and f32 take
 * the arithmetic part too (never resize or crop). Zeroed = nothing is done. With several inputs
 * it is for those of rank 3 alone. mean and std are in the order of the network's channels. */
struct qc_preprocess {
    enum qc_image_resize resize;
    enum qc_image_filter filter;
    int resize_height, resize_width; /* SHORTER: resize_height is the shorter side */
    int crop_height, crop_width;     /* 0: no crop */
    bool source_is_hwc;   /* arrays: stored [H,W,C]; images are HWC by nature */
    bool to_hwc;          /* the network wants NHWC; default is NCHW */
    bool bgr;             /* swap channels 0 and 2 */
    bool grayscale;       /* images: one channel (ITU-R 601) */
    bool has_scale;
    float scale;          /* x * scale, e.g. 1/255 */
    int n_mean, n_std;    /* 0: none, 1: the same for all, or one per channel */
    float mean[16], std[16];
};

/* Limits for untrusted files. Zero = the default in parentheses. */
struct qc_reader_limits {
    uint64_t max_member_bytes;  /* one decompressed member (1 GiB) */
    uint64_t max_total_bytes;   /* all members together (64 GiB) */
    uint64_t max_ratio;         /* decompressed : compressed after the first MiB (200) */
    uint32_t max_members;       /* (1,000,000) */
    uint32_t max_image_side;    /* pixels (16,384) */
};

/* One network input that the data must fill. */
struct qc_reader_input {
    const char *name;              /* .npz arrays are matched by it; with a single input and a
                                      single array any name will do */
    int rank;                      /* without the sample axis: [C,H,W] for an image network */
    int64_t dim[QC_READER_MAX_RANK]; /* -1: any */
};

struct qc_reader; /* heap object, closes its files in _free */

struct qc_reader_options {
    const struct qc_reader_input *inputs;
    int n_inputs;
    struct qc_preprocess preprocess;
    struct qc_reader_limits limits;
    const char *labels_path; /* optional: see qc_reader_read_labels */
};

/* Open the file behind `path` (display name `label` in messages). The format, rank, shape and
 * type are checked here as far as the headers tell: QD_INVALID names the array, its shape and
 * what was expected; QD_UNSUPPORTED names the format. */
QD_MUST_CHECK enum qd_code qc_reader_open(const char *path, const char *label,
                                          const struct qc_reader_options *options,
                                          struct qc_reader **ret, struct qd_error *err);
/* Several files one after the other, as one stream. Takes ownership of the parts. */
QD_MUST_CHECK enum qd_code qc_reader_concat_take(struct qc_reader **parts, int n,
                                                 struct qc_reader **ret, struct qd_error *err);
/* Labels from a file, one a sample: .npy (integers) or IDX1, plain or in gzip. They take the place
 * of what the data carries. */
QD_MUST_CHECK enum qd_code qc_reader_read_labels(struct qc_reader *reader, const char *path,
                                                 struct qd_error *err);
void qc_reader_free(struct qc_reader *reader);

/* Number of samples; known after open (archives are listed once). */
int64_t qc_reader_count(const struct qc_reader *reader);
/* Elements of one sample of input i. */
size_t qc_reader_elements(const struct qc_reader *reader, int input);

/* Deliver the next sample: out[i] has room for qc_reader_elements(i) floats. Sets *ret_end and
 * writes nothing when the stream is over. NaN or Inf is QD_INVALID and names the input, the
 * sample's index and the element. */
QD_MUST_CHECK enum qd_code qc_reader_next(struct qc_reader *reader, float *const *out,
                                          bool *ret_end, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_reader_rewind(struct qc_reader *reader, struct qd_error *err);
/* Skip n samples without decoding them where the format allows it. */
QD_MUST_CHECK enum qd_code qc_reader_skip(struct qc_reader *reader, int64_t n,
                                          struct qd_error *err);
/* Labels if there are any (qc_reader_read_labels, or an .npz array called "labels" or
 * "label"), else NULL. One per sample; owned by the reader. */
const int32_t *qc_reader_labels(const struct qc_reader *reader);

#endif
