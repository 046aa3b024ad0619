/* Small data files for the tests of readers: archives, images, raw bytes in a folder that the
 * process removes when it ends. Failures abort: a test without its input tests nothing. */
#ifndef TEST_DATA_FILES_H
#define TEST_DATA_FILES_H

#include <stddef.h>
#include <stdint.h>

/* Growing bytes; free(data). */
struct test_bytes {
    uint8_t *data;
    size_t size;
};
void test_bytes_add(struct test_bytes *b, const void *data, size_t n);

/* Path of a file in this process's own folder under /tmp; malloc'ed. The folder and its files
 * are removed by test_files_done. */
char *test_path(const char *name);
void test_files_done(void);
/* Write a file there, give its path (malloc'ed). */
char *test_write(const char *name, const void *data, size_t n);

/* A .npy file (version 1.0) with any descr and shape text, e.g. "<f4", "(2, 3)". */
struct test_bytes test_npy(const char *descr, const char *order, const char *shape,
                           const void *data, size_t n);

struct test_member {
    const char *name;
    const void *data;
    size_t size;
    const char *link; /* not NULL: a symbolic link to it */
};
enum test_archive { TEST_TAR, TEST_TAR_GZ, TEST_TAR_ZST, TEST_ZIP, TEST_ZIP_STORED };
/* Members in the given order. */
char *test_write_archive(const char *name, enum test_archive format,
                         const struct test_member *members, size_t n);
char *test_write_gz(const char *name, const void *data, size_t n);

/* 8-bit images of 1 or 3 channels (4: RGBA for PNG, CMYK for JPEG). */
struct test_bytes test_png(const uint8_t *pixels, int width, int height, int channels);
struct test_bytes test_jpeg(const uint8_t *pixels, int width, int height, int channels);

#endif
