/* A whole file through the reader: any format, small limits, every sample read. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "quantcore/data/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const char *path, const struct qc_reader_options *options)
{
    struct qc_reader *reader = NULL;
    struct qd_error err = {0};
    if (qc_reader_open(path, "fuzz", options, &reader, &err) != QD_OK) {
        if (err.message[0] == '\0') {
            abort(); /* no failure without a message */
        }
        return;
    }
    size_t elements = qc_reader_elements(reader, 0);
    float *sample = elements <= 1 << 22 ? malloc(elements * sizeof(float)) : NULL;
    float *out[] = {sample};
    bool end = false;
    int64_t n = 0;
    while (sample != NULL && !end && n < 1000) {
        if (qc_reader_next(reader, out, &end, &err) != QD_OK) {
            break;
        }
        n += !end;
    }
    if (n > qc_reader_count(reader)) {
        abort();
    }
    free(sample);
    qc_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct qc_reader_input input = {.name = "x", .rank = 3, .dim = {-1, -1, -1}};
    struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
    options.limits = (struct qc_reader_limits){.max_member_bytes = 1 << 20,
                                               .max_total_bytes = 8 << 20,
                                               .max_members = 100,
                                               .max_image_side = 256};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    if (write(fd, data, size) == (ssize_t)size) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        read_all(path, &options);
    }
    close(fd);
    return 0;
}
