/* winograd_in_f32 and winograd_out_f32 of an instruction set: a file each, which says how long its
 * vectors are. Channels are independent and sums have one order, without products, so that every
 * length gives winograd_ref.c's bits. */
#ifndef QC_KERNELS_WINOGRAD_H
#define QC_KERNELS_WINOGRAD_H

#include "quantcore/affine/requant.h"
#include "quantcore/kernels/kernels_decl.h"

/* Vectors are read and written unaligned. */
#define AT(type, p) (*(type *)(p))

/* Row i of the input times B: h_i0 .. h_i3. */
#define IN_ROW(type, i)                                                           \
    const type d##i##0 = AT(const type, in[4 * i] + c);                           \
    const type d##i##1 = AT(const type, in[4 * i + 1] + c);                       \
    const type d##i##2 = AT(const type, in[4 * i + 2] + c);                       \
    const type d##i##3 = AT(const type, in[4 * i + 3] + c);                       \
    const type h##i##0 = d##i##0 - d##i##2, h##i##1 = d##i##1 + d##i##2;          \
    const type h##i##2 = d##i##2 - d##i##1, h##i##3 = d##i##1 - d##i##3;

/* B^T times column j of that. */
#define IN_COLUMN(type, j)                                        \
    AT(type, out + (size_t)(j)*plane + c) = h0##j - h2##j;        \
    AT(type, out + (size_t)(4 + j) * plane + c) = h1##j + h2##j;  \
    AT(type, out + (size_t)(8 + j) * plane + c) = h2##j - h1##j;  \
    AT(type, out + (size_t)(12 + j) * plane + c) = h1##j - h3##j;

#define IN_STEP(type)                                                          \
    {                                                                          \
        IN_ROW(type, 0) IN_ROW(type, 1) IN_ROW(type, 2) IN_ROW(type, 3)        \
        IN_COLUMN(type, 0) IN_COLUMN(type, 1) IN_COLUMN(type, 2) IN_COLUMN(type, 3) \
    }

/* Row i of the products times A: s_i0, s_i1. */
#define OUT_ROW(type, i)                                                                     \
    const type m##i##0 = AT(const type, in + (size_t)(4 * i) * plane + c);                   \
    const type m##i##1 = AT(const type, in + (size_t)(4 * i + 1) * plane + c);               \
    const type m##i##2 = AT(const type, in + (size_t)(4 * i + 2) * plane + c);               \
    const type m##i##3 = AT(const type, in + (size_t)(4 * i + 3) * plane + c);               \
    const type s##i##0 = m##i##0 + m##i##1 + m##i##2, s##i##1 = m##i##1 - m##i##2 - m##i##3;

/* A^T times column j of that. */
#define OUT_COLUMN(type, j, clamp)                                                      \
    AT(type, out[j] + c) = clamp(s0##j + s1##j + s2##j + b, lo, hi);                    \
    AT(type, out[2 + j] + c) = clamp(s1##j - s2##j - s3##j + b, lo, hi);

#define OUT_STEP(type, clamp)                                                 \
    {                                                                         \
        const type b = AT(const type, bias + c);                              \
        OUT_ROW(type, 0) OUT_ROW(type, 1) OUT_ROW(type, 2) OUT_ROW(type, 3)   \
        OUT_COLUMN(type, 0, clamp) OUT_COLUMN(type, 1, clamp)                 \
    }

/* width: floats of a vector. clamp_vector lets NaN through, as qc_clamp does. */
#define WINOGRAD_KERNELS(isa, width)                                                          \
    typedef float vector __attribute__((vector_size(4 * (width)), aligned(4), may_alias));    \
    typedef int mask __attribute__((vector_size(4 * (width)), aligned(4)));                   \
    static inline vector clamp_vector(vector x, float lo, float hi)                           \
    {                                                                                         \
        const vector l = lo - (vector){0}, h = hi - (vector){0};                              \
        const mask below = x < l;                                                             \
        x = (vector)((below & (mask)l) | (~below & (mask)x));                                 \
        const mask above = x > h;                                                             \
        return (vector)((above & (mask)h) | (~above & (mask)x));                              \
    }                                                                                         \
    void qc_winograd_in_f32__##isa(const float *const *in, int channels, float *out,          \
                                   size_t plane)                                              \
    {                                                                                         \
        int c = 0;                                                                            \
        for (; c + (width) <= channels; c += (width)) {                                       \
            IN_STEP(vector)                                                                   \
        }                                                                                     \
        for (; c < channels; c++) {                                                           \
            IN_STEP(float)                                                                    \
        }                                                                                     \
    }                                                                                         \
    void qc_winograd_out_f32__##isa(const float *in, size_t plane, const float *bias,         \
                                    int channels, float lo, float hi, float *const *out)      \
    {                                                                                         \
        int c = 0;                                                                            \
        for (; c + (width) <= channels; c += (width)) {                                       \
            OUT_STEP(vector, clamp_vector)                                                    \
        }                                                                                     \
        for (; c < channels; c++) {                                                           \
            OUT_STEP(float, qc_clamp)                                                         \
        }                                                                                     \
    }

#endif
