/* A multipart/form-data body behind a good head; as in fuzz_http a newline alone is CR LF. */
#include <stdint.h>

#include "tests/fuzz/fuzz_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char body[20000], text[20400];
    size_t n = 0;
    for (size_t i = 0; i < size && n < sizeof(body) - 2; i++) {
        if (data[i] == '\n' && (i == 0 || data[i - 1] != '\r')) {
            body[n++] = '\r';
        }
        body[n++] = (char)data[i];
    }
    int head = snprintf(text, sizeof(text),
                        "POST /up HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; "
                        "boundary=b\r\nContent-Length: %zu\r\n\r\n",
                        n);
    memcpy(text + head, body, n);
    fuzz_exchange(text, (size_t)head + n);
    return 0;
}
