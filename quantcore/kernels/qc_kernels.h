/* The table of kernels: a value that is passed in, so that tests can hold several at once.
 *
 * Every entry has a `_ref` (plain C, defines the result), an AVX2, an AVX-512 VNNI and a NEON
 * form; with AVX-VNNI the s8 kernels have one of their own.
 * Integer kernels agree to the byte; f32 kernels agree to the bit, because every output element
 * accumulates over K in one fixed order with fused multiply-add. */
#ifndef QC_KERNELS_H
#define QC_KERNELS_H

#include "quantcore/base/qd_base.h"

/* In order: whoever asks for one gets the highest up to it that the CPU has. */
enum qc_isa {
    QC_ISA_REF,
    QC_ISA_NEON, /* with dot product */
    QC_ISA_AVX2,
    QC_ISA_AVXVNNI,
    QC_ISA_AVX512,
    QC_ISA_COUNT
};

/* ---- convolution and GEMM: one driver, two micro-kernels ------------------------------------
 * A tile computes `rows` output pixels x a panel of output channels: QC_NR or, of f32, what the
 * table says. Input pixels are addressed by
 * row pointers plus tap offsets (no im2col): for tap t and input channel c the value is
 * row[r][tap[t] + c]. Borders have been filled by the producer with real zero (0.0f, or the
 * zero point), so that no tap needs a test; taps that see nothing else may be left out: in f32 any
 * of them, in s8 the first and the last. GEMM is the case n_taps = 1.
 *
 * Packed weights, for a panel of output channels (missing ones are zero):
 *   f32: [tap][c][panel]                    c = 0..channels-1
 *   s8:  [tap][c/n][QC_NR][n]               n = qc_kernels.s8_together: 4, with AVX2, which
 *        multiplies s16, 2. Channels are rounded up to a multiple of n with zeros; the input's
 *        channel stride must make those extra bytes readable (any value: weight 0). AVX2 widens
 *        them as it loads them, so that they take as much memory everywhere.
 * qc_pack_* below make them. */
#define QC_NR 32
#define QC_MAX_ROWS 12

struct qc_tile_f32 {
    const float *const *row;  /* n_rows input pixels */
    float *const *out;        /* n_rows output pixels */
    int64_t first;            /* where this panel's first channel is in them */
    int n_rows;               /* 1..QC_MAX_ROWS */
    const int32_t *tap;       /* n_taps offsets in elements */
    const int32_t *gap;       /* n_taps: elements of the panel left out after the tap's weights */
    int n_taps;
    int channels;             /* input channels of the group */
    int panel;                /* the kernel's panel_f32 */
    const float *weights;     /* of the first tap, in a packed panel */
    const float *bias;        /* panel values (zero padded) */
    int n_out;                /* channels of the panel to store, 1..panel */
    float lo, hi;             /* fused activation: clamp; -inf, +inf for none */
    bool far;                 /* out is hardly in the second cache: it may be asked for early */
};
/* acc = bias; for tap, for c: acc = fma(x, w, acc); out = min(max(acc, lo), hi). */
typedef void qc_tile_f32_fn(const struct qc_tile_f32 *t);

/* Around the products of a 3 x 3 convolution by F(2 x 2, 3 x 3), which need 16 multiplications for 4
 * output pixels instead of 36 (Winograd; Lavin and Gray, Fast Algorithms for Convolutional Neural
 * Networks): y = A^T [(G g G^T) * (B^T d B)] A + bias, with
 *   B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]    A^T = [1 1 1 0; 0 1 -1 -1]
 *   G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]
 * in: 4 x 4 pixels of the input, a pointer each. Value (i, j) of a channel is written to
 * out[(4 i + j) * plane + channel]. Rows are transformed first, then columns. */
typedef void qc_winograd_in_f32_fn(const float *const *in, int channels, float *out,
                                   size_t plane);
/* in: the sums over channels of products, at in[(4 i + j) * plane + channel]. out: 2 x 2 pixels.
 * bias is added last, then min(max(y, lo), hi). */
typedef void qc_winograd_out_f32_fn(const float *in, size_t plane, const float *bias,
                                    int channels, float lo, float hi, float *const *out);

struct qc_tile_s8 {
    const uint8_t *const *row;
    /* Only where the kernels have widen_u8: the rows as s16, to which the taps are added likewise;
     * row is then not read. NULL: the tile widens them for itself, at each panel anew. */
    const int16_t *const *wide_row;
    int n_rows;
    const int32_t *tap;
    int n_taps;
    int channels;             /* rounded up to a multiple of s8_together */
    const int8_t *weights;    /* these taps of a packed panel */
    const int32_t *bias;      /* QC_NR values, the input zero point folded in:
                                 b[o] - x_zero_point * sum(w[o]) (wraps modulo 2^32) */
    /* Weights with zero points: sums of the rows' inputs (qc_sum_taps_u8_fn) and QC_NR zero
     * points; both NULL: none. bias then has sum(w[o] - w_zero_point[o]). */
    const int32_t *row_sum;
    const int32_t *w_zero_point;
    int n_out;
    /* exactly one of the two outputs */
    uint8_t *const *out_u8;   /* requantized with multiplier, or */
    float *const *out_f32;    /* dequantized: (float)acc * multiplier[o] */
    const float *multiplier;  /* QC_NR values: (s_x * s_w[o]) / s_y, or s_x * s_w[o] */
    int32_t y_zero_point;
    int32_t y_min, y_max;     /* 0..255 for u8, and narrower when an activation is fused */
    float lo, hi;             /* out_f32 only: clamp */
};
/* acc = bias - w_zero_point * row_sum + sum x*w exactly in 32 bits (wrapping);
 * u8: f = (float)acc * m; f = min(max(f, y_min - zp), y_max - zp); q = rne(f) + zp. */
typedef void qc_tile_s8_fn(const struct qc_tile_s8 *t);

/* out[i] = x[i]. */
typedef void qc_widen_u8_fn(const uint8_t *x, int16_t *out, size_t n);

/* ret_sums[r] = sum of row[r][tap[t] + c] over all taps and c < channels, modulo 2^32: what the
 * zero point of a weight is multiplied by. No byte beyond the channels counts. */
typedef void qc_sum_taps_u8_fn(const uint8_t *const *row, int n_rows, const int32_t *tap,
                               int n_taps, int channels, int32_t *ret_sums);

/* ---- depthwise convolution: rows of output pixels -------------------------------------------
 * Channels are independent; weights [tap][channels_padded], channels_padded a multiple of 64. */
struct qc_depthwise_f32 {
    const float *in;          /* first input pixel of the first output, tap 0 */
    float *out;
    int n_rows;
    int64_t in_row, out_row;  /* elements from a row to the next one */
    int n_pixels;             /* of a row */
    int64_t in_step;          /* elements between the inputs of neighbouring outputs */
    int64_t out_step;
    const int32_t *tap;
    int n_taps;
    int channels;
    int channels_padded;      /* row length of weights */
    const float *weights;     /* f32 [tap][channels_padded] */
    const float *bias;        /* channels_padded */
    float lo, hi;
};
typedef void qc_depthwise_f32_fn(const struct qc_depthwise_f32 *d);

struct qc_depthwise_s8 {
    const uint8_t *in;
    uint8_t *out_u8;          /* exactly one of out_u8, out_f32 */
    float *out_f32;
    int n_rows;
    int64_t in_row, out_row;
    int n_pixels;
    int64_t in_step;
    int64_t out_step;
    const int32_t *tap;
    int n_taps;
    int channels;
    int channels_padded;
    const int16_t *weights;   /* [tap][channels_padded] q_w - zero_point: nine bits */
    /* The same weights as quads of taps (qc_pack_quads), or NULL: they do not fit eight bits. */
    const int8_t *quads;
    const int32_t *quad_tap;  /* [n_quads][4] offsets; of a missing tap any that can be read */
    int n_quads;
    /* > 0: quad g is column g of a 3 x 3 kernel, the columns lie this many elements apart, and
     * in_step is that or twice that. */
    int64_t column_step;
    const int32_t *bias;      /* zero point folded in, channels_padded */
    const float *multiplier;  /* channels_padded */
    int32_t y_zero_point, y_min, y_max;
    float lo, hi;
};
typedef void qc_depthwise_s8_fn(const struct qc_depthwise_s8 *d);

/* ---- elementwise and reductions over n contiguous elements ---------------------------------- */
typedef void qc_binary_f32_fn(const float *a, const float *b, float *out, size_t n);
typedef void qc_clamp_f32_fn(const float *x, float lo, float hi, float *out, size_t n);
typedef void qc_quantize_u8_fn(const float *x, float scale, int32_t zero_point, uint8_t *out,
                               size_t n); /* clamp(rne(x / scale) + zp, 0, 255): divides */
/* The same from 2 to 4 planes into pixels: out[i * channels + c] is of x[c * plane + i]. */
typedef void qc_quantize_pixels_u8_fn(const float *x, int64_t plane, int channels, float scale,
                                      int32_t zero_point, uint8_t *out, size_t n);
typedef void qc_dequantize_u8_fn(const uint8_t *q, float scale, int32_t zero_point, float *out,
                                 size_t n);
typedef void qc_lut_u8_fn(const uint8_t *x, const uint8_t table[256], uint8_t *out, size_t n);

/* q = clamp(rne(fma(a - o, ra, fma(b - o, rb, k))) + o, y_min, y_max), ra = s_a/s_y, rb = s_b/s_y,
 * k = (zp_y - o) - fma(ra, zp_a - o, rb*(zp_b - o)), all f32. The offset o is 128 where the codes
 * stand for s8 ones, else 0: k is rounded, so the place of 0 decides ties. */
struct qc_add_u8 {
    float ra, rb, k;
    int32_t offset;
    int32_t y_min, y_max;
};
typedef void qc_add_u8_fn(const uint8_t *a, const uint8_t *b, const struct qc_add_u8 *p,
                          uint8_t *out, size_t n);
/* q = clamp(rne((float)((a - zp_a) * (b - zp_b)) * m + zp_y), 0, 255), m = s_a*s_b/s_y;
 * multiply, then add (not fused). */
struct qc_mul_u8 {
    int32_t a_zero_point, b_zero_point;
    float multiplier;
    int32_t y_zero_point;
    int32_t y_min, y_max;
};
typedef void qc_mul_u8_fn(const uint8_t *a, const uint8_t *b, const struct qc_mul_u8 *p,
                          uint8_t *out, size_t n);

/* out[i] = max over n_taps >= 1 of x[tap[t] + i], for max pooling; of a NaN the later one is taken. */
typedef void qc_max_taps_f32_fn(const float *x, const int32_t *tap, int n_taps, float *out,
                                size_t n);
typedef void qc_max_taps_u8_fn(const uint8_t *x, const int32_t *tap, int n_taps, uint8_t *out,
                               size_t n);
/* inout[i] += x[i], for average pooling. */
typedef void qc_sum_f32_fn(const float *x, float *inout, size_t n);
typedef void qc_sum_u8_fn(const uint8_t *x, int32_t *inout, size_t n);

/* Smallest and largest of n > 0 values; *ret_finite is false when any is NaN or Inf. */
typedef void qc_minmax_f32_fn(const float *x, size_t n, float *ret_min, float *ret_max,
                              bool *ret_finite);
/* counts[clamp(floor(x * inv_width) - first, 0, n_bins - 1)] += 1 for each x; NaN counts in bin 0.
 * inv_width is a power of two, so that the product is exact; |x| * inv_width <= 2^24 within the
 * bins; n_bins <= 65536. Modulo 2^32: whoever counts more than that empties the counts before. */
typedef void qc_histogram_f32_fn(const float *x, size_t n, int32_t first, float inv_width,
                                 int n_bins, uint32_t *counts);

/* ---- sums in double over n_rows rows of n contiguous elements --------------------------------
 * Eight partial sums: element i of a row goes to sum i % 8, rows follow each other, so that the
 * order is part of the result. `step` elements lie between the beginnings of two rows; n_rows is
 * below 2^31. Products of f32 values are exact. */
#define QC_SUM_LANES 8

/* What has been seen of channels, an array entry each. */
struct qc_channel_sums {
    double *sum, *squares;
    uint64_t *n_nonzero;
    float *min, *max; /* no NaN and never -0; start with +inf, -inf */
};
/* across: element i of every row belongs to channel i of n; a channel's sums take the rows one
 * after the other.
 * along: all elements belong to one channel; its sums take the partial ones' total, which is
 * ((0 + 4) + (1 + 5)) + ((2 + 6) + (3 + 7)).
 * A sum ends finite if and only if all its values are. `across` goes through the rows once for a few
 * channels after the other, which only the caches bear: callers give it strips of rows, and it
 * fetches the next one meanwhile. */
typedef void qc_channels_f32_fn(const float *x, int64_t step, size_t n_rows, size_t n,
                                const struct qc_channel_sums *m);

/* Sums of an approximation's error. noise takes a fused multiply-add. */

struct qc_error_sums {
    double signal[QC_SUM_LANES];    /* x^2 */
    double noise[QC_SUM_LANES];     /* e^2, e = x - y */
    double dot[QC_SUM_LANES];       /* f32: x y; u8: x (q - zero_point) */
    double energy[QC_SUM_LANES];    /* f32: y^2; u8: (q - zero_point)^2 */
    double max_error[QC_SUM_LANES]; /* largest |e|, no NaN */
    uint64_t saturated;             /* u8: codes 0 with x < lo, codes 255 with x > hi */
};
struct qc_error {
    const float *x;
    const float *y_f32;         /* the one that the kernel is for */
    const uint8_t *y_u8;        /* y = scale * (q - zero_point), exact in double */
    int64_t x_step, y_step;     /* elements between the rows' beginnings */
    size_t n_rows, n;
    float scale;                /* the rest is for u8 */
    int32_t zero_point;         /* 0..255 */
    float lo, hi;               /* lo <= 0 <= hi */
};
/* Add to the sums. */
typedef void qc_error_fn(const struct qc_error *p, struct qc_error_sums *sums);

struct qc_kernels {
    enum qc_isa isa;
    int tile_rows_f32, tile_rows_s8; /* rows a tile does best with */
    int panel_f32;                   /* channels of a packed panel, at most QC_NR */
    int s8_together;          /* input channels beside each other in packed s8 weights: 4 or 2 */
    qc_widen_u8_fn *widen_u8; /* NULL: the s8 tile takes bytes */
    qc_tile_f32_fn *tile_f32;
    qc_winograd_in_f32_fn *winograd_in_f32;
    qc_winograd_out_f32_fn *winograd_out_f32;
    qc_tile_s8_fn *tile_s8;
    qc_sum_taps_u8_fn *sum_taps_u8;
    qc_depthwise_f32_fn *depthwise_f32;
    qc_depthwise_s8_fn *depthwise_s8;
    qc_binary_f32_fn *add_f32, *mul_f32;
    qc_clamp_f32_fn *clamp_f32;
    qc_quantize_u8_fn *quantize_u8;
    qc_quantize_pixels_u8_fn *quantize_pixels_u8;
    qc_dequantize_u8_fn *dequantize_u8;
    qc_lut_u8_fn *lut_u8;
    qc_add_u8_fn *add_u8;
    qc_mul_u8_fn *mul_u8;
    qc_max_taps_f32_fn *max_taps_f32;
    qc_max_taps_u8_fn *max_taps_u8;
    qc_sum_f32_fn *sum_f32;
    qc_sum_u8_fn *sum_u8;
    qc_minmax_f32_fn *minmax_f32;
    qc_histogram_f32_fn *histogram_f32;
    qc_channels_f32_fn *channels_across_f32, *channels_along_f32;
    qc_error_fn *error_f32, *error_u8;
};

/* Best instruction set of this CPU; whether it has one (AVX-512 does not imply AVX-VNNI). */
enum qc_isa qc_isa_detect(void);
bool qc_isa_supported(enum qc_isa isa);
/* "ref", "neon", "avx2", "avxvnni", "avx512"; NULL for an unknown name in _from_name's ret. */
const char *qc_isa_name(enum qc_isa isa);
bool qc_isa_from_name(const char *name, enum qc_isa *ret);
/* Fill the table for the highest supported instruction set up to `isa`: a ladder, each step
 * overrides what it has. */
void qc_kernels_init(struct qc_kernels *kernels, enum qc_isa isa);

/* Packing. w: [n_out][channels][taps] (ONNX OIHW with HW flattened). out: panels *
 * qc_packed_*_size. Padded lanes are zero. */
size_t qc_packed_panel_f32(int n_taps, int channels, int panel); /* floats of one panel */
size_t qc_packed_panel_s8(int n_taps, int channels);             /* bytes of one panel */
void qc_pack_f32(const float *w, int n_out, int channels, int n_taps, int panel, float *out);
/* together: the kernels' s8_together. */
void qc_pack_s8(const int8_t *w, int n_out, int channels, int n_taps, int together, int8_t *out);
/* Quads: taps of a depthwise convolution by four, so that one instruction multiplies them.
 * ret_order [qc_quads(n_taps)][4]: the taps in their order or, columns (3 x 3 taps only), those of a
 * column a quad; -1 where there is none. */
int qc_quads(int n_taps);
void qc_quads_order(int n_taps, bool columns, int32_t *ret_order);
/* Weights [tap][channels_padded] as [quad][channels_padded / 64][4][16 channels][4 taps]: 16 channels
 * are 4 k + 0..3 of each sixteen. false when a weight does not fit eight bits: out is then of no
 * use. out: 4 n_quads channels_padded bytes. */
bool qc_pack_quads(const int16_t *w, const int32_t *order, int n_quads, int channels_padded,
                   int8_t *out);

#endif
