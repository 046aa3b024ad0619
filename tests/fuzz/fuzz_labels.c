/* A file of labels (.npy, IDX, IDX.gz); the first byte says how many samples the data has. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "quantcore/data/labels.h"
#include "quantcore/data/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct qc_reader_limits limits = {.max_member_bytes = 1 << 20,
                                            .max_total_bytes = 8 << 20};
    struct qd_error err = {.code = QD_OK};
    int32_t *labels = NULL;
    volatile int32_t seen = 0;
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (size < 1 || fd < 0) {
        close(fd);
        return 0;
    }
    if (write(fd, data + 1, size - 1) == (ssize_t)(size - 1)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        enum qd_code code = qc_labels_open(path, data[0], &limits, &labels, &err);
        if (code != QD_OK && err.message[0] == '\0') {
            abort(); /* no failure without a message */
        }
        for (int i = 0; code == QD_OK && i < data[0]; i++) {
            seen = labels[i]; /* all of them are there */
        }
    }
    free(labels);
    close(fd);
    (void)seen;
    return 0;
}
