#include "quantcore/data/image.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>
#include <png.h>

#define MAX_SCANS 500 /* of a progressive JPEG: each costs a pass over all coefficients */

enum qd_code qc_image_reserve(struct qc_image *image, int width, int height, int channels,
                              uint64_t max_bytes, const char *label, struct qd_error *err)
{
    size_t need = 0;
    if (!qd_mul_size((size_t)width, (size_t)height, &need) ||
        !qd_mul_size(need, (size_t)channels, &need) || need > max_bytes) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: an image of %dx%d pixels with %d channels takes more than %" PRIu64
                          " bytes (limit max_member_bytes)",
                          label, width, height, channels, max_bytes);
    }
    if (need > image->capacity) {
        uint8_t *grown = realloc(image->pixels, need);
        if (grown == NULL) {
            return qd_fail(err, QD_NO_MEMORY, "%s: no memory for %zu bytes of pixels", label,
                           need);
        }
        image->pixels = grown;
        image->capacity = need;
    }
    image->width = width;
    image->height = height;
    image->channels = channels;
    return QD_OK;
}

void qc_image_done(struct qc_image *image)
{
    free(image->pixels);
    *image = (struct qc_image){0};
}

static enum qd_code check_size(uint64_t width, uint64_t height,
                               const struct qc_reader_limits *limits, const char *label,
                               struct qd_error *err)
{
    if (width < 1 || height < 1) {
        return qd_fail_on(err, QD_INVALID, label, "%s: image of %" PRIu64 "x%" PRIu64 " pixels",
                          label, width, height);
    }
    if (width > limits->max_image_side || height > limits->max_image_side) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: image of %" PRIu64 "x%" PRIu64
                          " pixels (limit max_image_side %" PRIu32 ")",
                          label, width, height, limits->max_image_side);
    }
    return QD_OK;
}

static void rgb_row_to_grey(const uint8_t *in, uint8_t *out, int width)
{
    for (int x = 0; x < width; x++, in += 3) {
        out[x] = (uint8_t)((in[0] * 19595U + in[1] * 38470U + in[2] * 7471U + 0x8000U) >> 16);
    }
}

static void grey_row_to_rgb(const uint8_t *in, uint8_t *out, int width)
{
    for (int x = 0; x < width; x++, out += 3) {
        out[0] = out[1] = out[2] = in[x];
    }
}

/* One decoded row of `have` channels into row y of the image. */
static void store_row(struct qc_image *image, int y, const uint8_t *row, int have)
{
    size_t stride = (size_t)image->width * (size_t)image->channels;
    uint8_t *out = image->pixels + (size_t)y * stride;
    if (have == image->channels) {
        memcpy(out, row, stride);
    } else if (have == 3) {
        rgb_row_to_grey(row, out, image->width);
    } else {
        grey_row_to_rgb(row, out, image->width);
    }
}

/* --- JPEG -------------------------------------------------------------------------------------
 */

struct jpeg_state {
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
    uint8_t *row;
};

static void jpeg_escape(j_common_ptr c)
{
    struct jpeg_state *s = c->client_data;
    c->err->format_message(c, s->message);
    longjmp(s->escape, 1);
}

static void jpeg_warn(j_common_ptr c, int level)
{
    /* Corrupt data: a calibration sample must not be half grey. Stray bytes between two markers
     * are common and change no pixel. */
    if (level < 0 && c->err->msg_code != JWRN_EXTRANEOUS_DATA) {
        jpeg_escape(c);
    }
}

static void jpeg_silence(j_common_ptr c)
{
    (void)c;
}

static void jpeg_count_scans(j_common_ptr c)
{
    struct jpeg_state *s = c->client_data;
    if (s->c.input_scan_number > MAX_SCANS) {
        snprintf(s->message, sizeof(s->message), "more than %d scans", MAX_SCANS);
        longjmp(s->escape, 1);
    }
}

static void jpeg_start(struct jpeg_state *s, struct qd_bytes bytes)
{
    s->c.err = jpeg_std_error(&s->errors);
    s->errors.error_exit = jpeg_escape;
    s->errors.emit_message = jpeg_warn;
    s->errors.output_message = jpeg_silence;
    s->c.client_data = s;
    jpeg_create_decompress(&s->c);
    s->progress.progress_monitor = jpeg_count_scans;
    s->c.progress = &s->progress;
    jpeg_mem_src(&s->c, bytes.data, (unsigned long)bytes.size);
    (void)jpeg_read_header(&s->c, TRUE);
}

static enum qd_code jpeg_check(const struct jpeg_state *s, const struct qc_reader_limits *limits,
                               const char *label, struct qd_error *err)
{
    if (s->c.jpeg_color_space != JCS_GRAYSCALE && s->c.jpeg_color_space != JCS_YCbCr &&
        s->c.jpeg_color_space != JCS_RGB) {
        return qd_fail_on(err, QD_UNSUPPORTED, label,
                          "%s: JPEG with %d components is neither grey, YCbCr nor RGB (CMYK is "
                          "not supported)",
                          label, s->c.num_components);
    }
    return check_size(s->c.image_width, s->c.image_height, limits, label, err);
}

static enum qd_code jpeg_decode_rows(struct jpeg_state *s, struct qc_image *image)
{
    int have = s->c.output_components;
    s->row = malloc((size_t)s->c.output_width * (size_t)have);
    if (s->row == NULL) {
        return QD_NO_MEMORY;
    }
    while (s->c.output_scanline < s->c.output_height) {
        int y = (int)s->c.output_scanline;
        if (jpeg_read_scanlines(&s->c, &s->row, 1) != 1) {
            break;
        }
        store_row(image, y, s->row, have);
    }
    (void)jpeg_finish_decompress(&s->c);
    return QD_OK;
}

/* image NULL: the size alone. */
static enum qd_code decode_jpeg(struct qd_bytes bytes, int channels,
                                const struct qc_reader_limits *limits, const char *label,
                                struct qc_image *image, int *ret_width, int *ret_height,
                                struct qd_error *err)
{
    struct jpeg_state *s = calloc(1, sizeof(*s)); /* on the heap: it must survive longjmp */
    volatile enum qd_code code = QD_OK;
    if (s == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%s: no memory for the decoder", label);
    }
    if (setjmp(s->escape) != 0) {
        code = qd_fail_on(err, QD_INVALID, label, "%s: JPEG: %s", label, s->message);
        goto out;
    }
    jpeg_start(s, bytes);
    code = jpeg_check(s, limits, label, err);
    if (code != QD_OK) {
        goto out;
    }
    *ret_width = (int)s->c.image_width;
    *ret_height = (int)s->c.image_height;
    if (image != NULL) {
        code = qc_image_reserve(image, *ret_width, *ret_height, channels,
                                limits->max_member_bytes, label, err);
        if (code != QD_OK) {
            goto out;
        }
        s->c.out_color_space = s->c.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
        (void)jpeg_start_decompress(&s->c);
        if (jpeg_decode_rows(s, image) != QD_OK) {
            code = qd_fail(err, QD_NO_MEMORY, "%s: no memory for a row", label);
        }
    }
out:
    jpeg_destroy_decompress(&s->c);
    free(s->row);
    free(s);
    return code;
}

/* --- PNG --------------------------------------------------------------------------------------
 */

struct png_state {
    png_structp png;
    png_infop info;
    struct qd_bytes rest; /* not read yet */
    jmp_buf escape;
    char message[128];
    uint8_t *pixels; /* as decoded: interlaced images need all rows at once */
    png_bytep *rows;
};

static void png_escape(png_structp png, png_const_charp text)
{
    struct png_state *s = png_get_error_ptr(png);
    snprintf(s->message, sizeof(s->message), "%s", text);
    longjmp(s->escape, 1);
}

static void png_quiet(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void png_take(png_structp png, png_bytep out, png_size_t n)
{
    struct png_state *s = png_get_io_ptr(png);
    if (n > s->rest.size) {
        png_error(png, "the file ends too early");
    }
    memcpy(out, s->rest.data, n);
    s->rest.data += n;
    s->rest.size -= n;
}

static bool png_start(struct png_state *s)
{
    s->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, s, png_escape, png_quiet);
    s->info = s->png != NULL ? png_create_info_struct(s->png) : NULL;
    if (s->info == NULL) {
        return false;
    }
    /* check_size() judges the sides before anything is decoded, with a better message. */
    png_set_user_limits(s->png, 0x7fffffff, 0x7fffffff);
    png_set_chunk_malloc_max(s->png, 8 * 1024 * 1024);
    png_set_chunk_cache_max(s->png, 128);
    png_set_read_fn(s->png, s, png_take);
    return true;
}

/* Everything to 8-bit grey or RGB; alpha and transparency are dropped as Pillow does. */
static void png_plan(struct png_state *s)
{
    int colour = png_get_color_type(s->png, s->info);
    if (colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_palette_to_rgb(s->png);
    }
    if (colour == PNG_COLOR_TYPE_GRAY || colour == PNG_COLOR_TYPE_GRAY_ALPHA) {
        png_set_expand_gray_1_2_4_to_8(s->png);
    }
    png_set_strip_16(s->png);
    png_set_strip_alpha(s->png);
    (void)png_set_interlace_handling(s->png);
    png_read_update_info(s->png, s->info);
}

static enum qd_code png_decode_rows(struct png_state *s, struct qc_image *image,
                                    const struct qc_reader_limits *limits, const char *label,
                                    struct qd_error *err)
{
    int have = png_get_channels(s->png, s->info);
    size_t stride = png_get_rowbytes(s->png, s->info);
    size_t bytes = 0;
    if ((have != 1 && have != 3) || stride != (size_t)image->width * (size_t)have ||
        !qd_mul_size(stride, (size_t)image->height, &bytes) || bytes > limits->max_member_bytes) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: PNG with %d channels and rows of %zu bytes (limit "
                          "max_member_bytes %" PRIu64 ")",
                          label, have, stride, limits->max_member_bytes);
    }
    s->pixels = malloc(bytes);
    s->rows = malloc((size_t)image->height * sizeof(*s->rows));
    if (s->pixels == NULL || s->rows == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%s: no memory for %zu bytes of pixels", label, bytes);
    }
    for (int y = 0; y < image->height; y++) {
        s->rows[y] = s->pixels + (size_t)y * stride;
    }
    png_read_image(s->png, s->rows);
    png_read_end(s->png, NULL);
    for (int y = 0; y < image->height; y++) {
        store_row(image, y, s->rows[y], have);
    }
    return QD_OK;
}

static enum qd_code decode_png(struct qd_bytes bytes, int channels,
                               const struct qc_reader_limits *limits, const char *label,
                               struct qc_image *image, int *ret_width, int *ret_height,
                               struct qd_error *err)
{
    struct png_state *s = calloc(1, sizeof(*s));
    volatile enum qd_code code = QD_OK;
    if (s == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%s: no memory for the decoder", label);
    }
    s->rest = bytes;
    if (setjmp(s->escape) != 0) {
        code = qd_fail_on(err, QD_INVALID, label, "%s: PNG: %s", label, s->message);
        goto out;
    }
    if (!png_start(s)) {
        code = qd_fail(err, QD_NO_MEMORY, "%s: no memory for the decoder", label);
        goto out;
    }
    png_read_info(s->png, s->info);
    png_uint_32 width = png_get_image_width(s->png, s->info);
    png_uint_32 height = png_get_image_height(s->png, s->info);
    code = check_size(width, height, limits, label, err);
    if (code != QD_OK) {
        goto out;
    }
    *ret_width = (int)width;
    *ret_height = (int)height;
    if (image != NULL) {
        code = qc_image_reserve(image, (int)width, (int)height, channels,
                                limits->max_member_bytes, label, err);
        if (code == QD_OK) {
            png_plan(s);
            code = png_decode_rows(s, image, limits, label, err);
        }
    }
out:
    if (s->png != NULL) {
        png_destroy_read_struct(&s->png, &s->info, NULL);
    }
    free(s->pixels);
    free(s->rows);
    free(s);
    return code;
}

enum qd_code qc_image_size(struct qd_bytes bytes, enum qc_member_kind kind,
                           const struct qc_reader_limits *limits, const char *label,
                           int *ret_width, int *ret_height, struct qd_error *err)
{
    return kind == QC_MEMBER_PNG
               ? decode_png(bytes, 0, limits, label, NULL, ret_width, ret_height, err)
               : decode_jpeg(bytes, 0, limits, label, NULL, ret_width, ret_height, err);
}

enum qd_code qc_image_decode(struct qd_bytes bytes, enum qc_member_kind kind, int channels,
                             const struct qc_reader_limits *limits, const char *label,
                             struct qc_image *image, struct qd_error *err)
{
    int width = 0;
    int height = 0;
    return kind == QC_MEMBER_PNG
               ? decode_png(bytes, channels, limits, label, image, &width, &height, err)
               : decode_jpeg(bytes, channels, limits, label, image, &width, &height, err);
}
