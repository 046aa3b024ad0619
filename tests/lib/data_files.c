#include "tests/lib/data_files.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <jpeglib.h>
#include <png.h>

static char folder[64];

#define MUST(condition)                                                                          \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #condition);               \
            abort();                                                                             \
        }                                                                                        \
    } while (0)

void test_bytes_add(struct test_bytes *b, const void *data, size_t n)
{
    b->data = realloc(b->data, b->size + n + 1);
    MUST(b->data != NULL);
    if (n > 0) {
        memcpy(b->data + b->size, data, n);
    }
    b->size += n;
}

char *test_path(const char *name)
{
    char *path = NULL;
    if (folder[0] == '\0' || access(folder, F_OK) != 0) {
        snprintf(folder, sizeof(folder), "/tmp/quantd-test-XXXXXX");
        MUST(mkdtemp(folder) != NULL);
    }
    MUST(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

void test_files_done(void)
{
    DIR *dir = folder[0] != '\0' ? opendir(folder) : NULL;
    struct dirent *e;
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] != '.') {
            unlinkat(dirfd(dir), e->d_name, 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
        rmdir(folder);
    }
    folder[0] = '\0';
}

char *test_write(const char *name, const void *data, size_t n)
{
    char *path = test_path(name);
    FILE *f = fopen(path, "wb");
    MUST(f != NULL && (n == 0 || fwrite(data, n, 1, f) == 1) && fclose(f) == 0);
    return path;
}

struct test_bytes test_npy(const char *descr, const char *order, const char *shape,
                           const void *data, size_t n)
{
    char text[512];
    struct test_bytes b = {0};
    int used = snprintf(text, sizeof(text), "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }",
                        descr, order, shape);
    int total = (10 + used + 1 + 63) / 64 * 64;
    memset(text + used, ' ', (size_t)(total - 10 - used));
    text[total - 11] = '\n';
    uint8_t head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)(total - 10), 0};
    test_bytes_add(&b, head, 10);
    test_bytes_add(&b, text, (size_t)(total - 10));
    test_bytes_add(&b, data, n);
    return b;
}

char *test_write_archive(const char *name, enum test_archive format,
                         const struct test_member *members, size_t n)
{
    char *path = test_path(name);
    struct archive *a = archive_write_new();
    if (format == TEST_ZIP || format == TEST_ZIP_STORED) {
        MUST(archive_write_set_format_zip(a) == ARCHIVE_OK);
        MUST(archive_write_set_options(a, format == TEST_ZIP
                                              ? "zip:compression=deflate"
                                              : "zip:compression=store") == ARCHIVE_OK);
    } else {
        MUST(archive_write_set_format_pax_restricted(a) == ARCHIVE_OK);
        if (format != TEST_TAR) {
            MUST((format == TEST_TAR_GZ ? archive_write_add_filter_gzip(a)
                                        : archive_write_add_filter_zstd(a)) == ARCHIVE_OK);
        }
    }
    MUST(archive_write_open_filename(a, path) == ARCHIVE_OK);
    for (size_t i = 0; i < n; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, members[i].name);
        archive_entry_set_perm(e, 0644);
        archive_entry_set_size(e, (la_int64_t)members[i].size);
        archive_entry_set_filetype(e, members[i].link != NULL ? AE_IFLNK : AE_IFREG);
        if (members[i].link != NULL) {
            archive_entry_set_symlink(e, members[i].link);
        }
        MUST(archive_write_header(a, e) == ARCHIVE_OK);
        if (members[i].size > 0) {
            MUST(archive_write_data(a, members[i].data, members[i].size) ==
                 (la_ssize_t)members[i].size);
        }
        archive_entry_free(e);
    }
    MUST(archive_write_close(a) == ARCHIVE_OK);
    archive_write_free(a);
    return path;
}

char *test_write_gz(const char *name, const void *data, size_t n)
{
    char *path = test_path(name);
    gzFile f = gzopen(path, "wb");
    MUST(f != NULL && gzwrite(f, data, (unsigned)n) == (int)n && gzclose(f) == Z_OK);
    return path;
}

struct test_bytes test_png(const uint8_t *pixels, int width, int height, int channels)
{
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = (png_uint_32)height};
    png_alloc_size_t size = 0;
    struct test_bytes b = {0};
    image.format = channels == 1   ? PNG_FORMAT_GRAY
                   : channels == 3 ? PNG_FORMAT_RGB
                                   : PNG_FORMAT_RGBA;
    MUST(png_image_write_to_memory(&image, NULL, &size, 0, pixels, 0, NULL));
    b.data = malloc(size);
    MUST(b.data != NULL);
    MUST(png_image_write_to_memory(&image, b.data, &size, 0, pixels, 0, NULL));
    b.size = size;
    return b;
}

struct test_bytes test_jpeg(const uint8_t *pixels, int width, int height, int channels)
{
    struct jpeg_compress_struct c = {0};
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long size = 0;
    struct test_bytes b = {0};
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &size);
    c.image_width = (JDIMENSION)width;
    c.image_height = (JDIMENSION)height;
    c.input_components = channels;
    c.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 95, TRUE);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < height; y++) {
        uint8_t row[4096];
        JSAMPROW rows[1] = {row};
        memcpy(row, pixels + (size_t)y * (size_t)width * (size_t)channels,
               (size_t)width * (size_t)channels);
        jpeg_write_scanlines(&c, rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    test_bytes_add(&b, out, size);
    free(out);
    return b;
}
