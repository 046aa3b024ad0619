#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/data/image.h"
#include "quantcore/data/preprocess.h"
#include "quantcore/data/resize.h"
#include "tests/lib/data_files.h"

static uint8_t noise(size_t i)
{
    return (uint8_t)(((uint32_t)i * 2654435761U) >> 24);
}

static void fill(uint8_t *pixels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pixels[i] = noise(i);
    }
}

static enum qd_code decode(struct test_bytes b, enum qc_member_kind kind, int channels,
                           struct qc_image *image, struct qd_error *err)
{
    struct qc_reader_limits limits = qc_limits_resolve(NULL);
    return qc_image_decode((struct qd_bytes){b.data, b.size}, kind, channels, &limits, "image",
                           image, err);
}

START_TEST(png__grey_rgb_rgba__pixels_as_pillow_converts)
{
    uint8_t pixels[7 * 5 * 4];
    struct qc_image image = {0};
    fill(pixels, sizeof(pixels));
    for (int have = 1; have <= 4; have += have == 1 ? 2 : 1) {
        struct test_bytes b = test_png(pixels, 7, 5, have);
        ck_assert_int_eq(decode(b, QC_MEMBER_PNG, 3, &image, NULL), QD_OK);
        ck_assert_int_eq(image.width, 7);
        ck_assert_int_eq(image.height, 5);
        for (size_t i = 0; i < 35; i++) {
            for (size_t c = 0; c < 3; c++) { /* alpha is dropped, not blended */
                uint8_t want = have == 1 ? pixels[i] : pixels[i * (size_t)have + c];
                ck_assert_uint_eq(image.pixels[i * 3 + c], want);
            }
        }
        ck_assert_int_eq(decode(b, QC_MEMBER_PNG, 1, &image, NULL), QD_OK);
        for (size_t i = 0; i < 35; i++) {
            const uint8_t *p = pixels + i * (size_t)have;
            uint32_t grey =
                have == 1 ? p[0] : (p[0] * 19595U + p[1] * 38470U + p[2] * 7471U + 32768U) >> 16;
            ck_assert_uint_eq(image.pixels[i], grey);
        }
        free(b.data);
    }
    qc_image_done(&image);
}
END_TEST

START_TEST(jpeg__grey_and_rgb__close_to_the_source)
{
    uint8_t pixels[32 * 24 * 3];
    struct qc_image image = {0};
    for (int have = 1; have <= 3; have += 2) {
        for (int i = 0; i < 32 * 24 * have; i++) {
            pixels[i] = (uint8_t)(40 + i / have % 32 * 4 + i / have / 32);
        }
        struct test_bytes b = test_jpeg(pixels, 32, 24, have);
        ck_assert_int_eq(decode(b, QC_MEMBER_JPEG, have, &image, NULL), QD_OK);
        ck_assert_int_eq(image.height, 24);
        for (int i = 0; i < 32 * 24 * have; i++) {
            ck_assert_int_le(abs(image.pixels[i] - pixels[i]), 4);
        }
        free(b.data);
    }
    qc_image_done(&image);
}
END_TEST

/* Every prefix fails with a message and leaves nothing behind (run under sanitizers). */
START_TEST(decode__truncated_or_cmyk__refused)
{
    uint8_t pixels[16 * 16 * 4];
    struct qc_image image = {0};
    struct qd_error err = {0};
    fill(pixels, sizeof(pixels));
    struct test_bytes png = test_png(pixels, 16, 16, 3);
    struct test_bytes jpeg = test_jpeg(pixels, 16, 16, 3);
    for (size_t n = 0; n + 2 < png.size; n += 7) {
        struct test_bytes cut = {png.data, n};
        ck_assert_int_eq(decode(cut, QC_MEMBER_PNG, 3, &image, &err), QD_INVALID);
        ck_assert_ptr_nonnull(strstr(err.message, "image: PNG:"));
    }
    for (size_t n = 0; n + 2 < jpeg.size; n += 7) {
        struct test_bytes cut = {jpeg.data, n};
        ck_assert_int_eq(decode(cut, QC_MEMBER_JPEG, 3, &image, &err), QD_INVALID);
        ck_assert_ptr_nonnull(strstr(err.message, "image: JPEG:"));
    }
    struct test_bytes cmyk = test_jpeg(pixels, 16, 16, 4);
    ck_assert_int_eq(decode(cmyk, QC_MEMBER_JPEG, 3, &image, &err), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.message, "CMYK"));
    free(png.data);
    free(jpeg.data);
    free(cmyk.data);
    qc_image_done(&image);
}
END_TEST

START_TEST(decode__sides_over_limit__limit_exceeded_before_pixels)
{
    uint8_t pixels[64 * 3];
    struct qc_image image = {0};
    struct qd_error err = {0};
    struct qc_reader_limits limits = qc_limits_resolve(NULL);
    fill(pixels, sizeof(pixels));
    limits.max_image_side = 63;
    struct test_bytes files[] = {test_png(pixels, 64, 1, 3), test_jpeg(pixels, 64, 1, 3)};
    for (int kind = QC_MEMBER_PNG; kind <= QC_MEMBER_JPEG; kind++) {
        struct qd_bytes b = {files[kind].data, files[kind].size};
        ck_assert_int_eq(qc_image_decode(b, kind, 3, &limits, "image", &image, &err),
                         QD_LIMIT_EXCEEDED);
        ck_assert_ptr_nonnull(strstr(err.message, "64x1 pixels (limit max_image_side 63)"));
        ck_assert_uint_eq(image.capacity, 0);
        limits.max_image_side = 64;
        limits.max_member_bytes = 64 * 3 - 1;
        ck_assert_int_eq(qc_image_decode(b, kind, 3, &limits, "image", &image, &err),
                         QD_LIMIT_EXCEEDED);
        limits = qc_limits_resolve(NULL);
        limits.max_image_side = 63;
        free(files[kind].data);
    }
}
END_TEST

/* Values of Pillow 13.0.0: im.resize((width, 11), f).resize((width, height), f) of the 13x11
 * noise image, which fixes the order of the passes; the sum is over all bytes, s = s * 31 + byte.
 */
START_TEST(resize__both_filters_up_and_down__equal_to_pillow)
{
    static const struct {
        enum qc_image_filter filter;
        int width, height;
        uint32_t sum;
        uint8_t first[6];
    } cases[] = {
        {QC_FILTER_BILINEAR, 5, 4, 0xb731cc69, {129, 148, 79, 153, 88, 151}},
        {QC_FILTER_BILINEAR, 17, 6, 0x23999cb7, {16, 174, 76, 143, 149, 52}},
        {QC_FILTER_BILINEAR, 13, 20, 0x074e59e2, {0, 158, 60, 218, 120, 23}},
        {QC_FILTER_BILINEAR, 20, 17, 0x6848d075, {0, 158, 60, 104, 140, 42}},
        {QC_FILTER_BICUBIC, 5, 4, 0x67fc5014, {130, 152, 70, 159, 75, 161}},
        {QC_FILTER_BICUBIC, 17, 6, 0xb3dc0a46, {7, 172, 74, 153, 148, 41}},
        {QC_FILTER_BICUBIC, 13, 20, 0x78856816, {0, 156, 58, 216, 118, 21}},
        {QC_FILTER_BICUBIC, 20, 17, 0x58a0d239, {0, 159, 61, 96, 141, 29}},
    };
    struct qc_resizer resizer = {0};
    struct qc_image in = {0};
    struct qc_image out = {0};
    ck_assert_int_eq(qc_image_reserve(&in, 13, 11, 3, 1000, "in", NULL), QD_OK);
    fill(in.pixels, 13 * 11 * 3);
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        ck_assert_int_eq(qc_resize(&resizer, &in, cases[i].width, cases[i].height,
                                   cases[i].filter, 100000, "in", &out, NULL),
                         QD_OK);
        ck_assert_mem_eq(out.pixels, cases[i].first, 6);
        uint32_t sum = 0;
        for (size_t j = 0; j < (size_t)cases[i].width * (size_t)cases[i].height * 3; j++) {
            sum = sum * 31 + out.pixels[j];
        }
        ck_assert_msg(sum == cases[i].sum, "case %zu: %08x", i, sum);
    }
    ck_assert_int_eq(qc_resize(&resizer, &in, 13, 11, QC_FILTER_BICUBIC, 1000, "in", &out, NULL),
                     QD_OK);
    ck_assert_mem_eq(out.pixels, in.pixels, 13 * 11 * 3);
    struct qd_error err = {0};
    ck_assert_int_eq(
        qc_resize(&resizer, &in, 130, 110, QC_FILTER_BICUBIC, 1000, "in", &out, &err),
        QD_LIMIT_EXCEEDED);
    qc_resizer_done(&resizer);
    qc_image_done(&in);
    qc_image_done(&out);
}
END_TEST

START_TEST(geometry__resize_and_crop__sizes_and_limits)
{
    struct qc_preprocess p = {
        .resize = QC_RESIZE_SHORTER, .resize_height = 256, .crop_height = 224, .crop_width = 224};
    struct qc_image_geometry g = {0};
    struct qd_error err = {0};
    ck_assert_int_eq(qc_image_geometry(&p, 500, 375, 16384, "i", &g, &err), QD_OK);
    ck_assert_int_eq(g.resized_width, 341);
    ck_assert_int_eq(g.resized_height, 256);
    ck_assert_int_eq(g.crop_x, 58);
    ck_assert_int_eq(g.crop_y, 16);
    ck_assert_int_eq(qc_image_geometry(&p, 375, 500, 16384, "i", &g, &err), QD_OK);
    ck_assert_int_eq(g.resized_height, 341);
    ck_assert_int_eq(qc_image_geometry(&p, 16384, 1, 16384, "i", &g, &err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "4194304"));
    p.resize = QC_RESIZE_NONE;
    ck_assert_int_eq(qc_image_geometry(&p, 300, 223, 16384, "i", &g, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "224x224"));
    p.crop_width = p.crop_height = 0;
    p.resize = QC_RESIZE_STRETCH;
    p.resize_height = 0;
    p.resize_width = 10;
    ck_assert_int_eq(qc_image_geometry(&p, 300, 223, 16384, "i", &g, &err), QD_INVALID);
}
END_TEST

Suite *test_image_suite(void)
{
    Suite *s = suite_create("image");
    TCase *c = tcase_create("image");
    tcase_add_test(c, png__grey_rgb_rgba__pixels_as_pillow_converts);
    tcase_add_test(c, jpeg__grey_and_rgb__close_to_the_source);
    tcase_add_test(c, decode__truncated_or_cmyk__refused);
    tcase_add_test(c, decode__sides_over_limit__limit_exceeded_before_pixels);
    tcase_add_test(c, resize__both_filters_up_and_down__equal_to_pillow);
    tcase_add_test(c, geometry__resize_and_crop__sizes_and_limits);
    suite_add_tcase(s, c);
    return s;
}
