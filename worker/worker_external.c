#include "worker/worker_external.h"

#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct worker_external_digest *)a)->name,
                  ((const struct worker_external_digest *)b)->name);
}

void worker_external_identify(struct worker_external_digest *files, size_t n, uint8_t model[32])
{
    struct sha256_ctx ctx;
    if (n == 0) {
        return;
    }
    qsort(files, n, sizeof(*files), by_name);
    sha256_init(&ctx);
    sha256_update(&ctx, 32, model);
    for (size_t i = 0; i < n; i++) {
        sha256_update(&ctx, strlen(files[i].name) + 1, (const uint8_t *)files[i].name);
        sha256_update(&ctx, 32, files[i].sha256);
    }
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, model);
}
