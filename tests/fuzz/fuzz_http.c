/* All that a client sends over one connection: request lines, headers, bodies, one request after
 * the other. In the input a newline alone stands for CR LF, so that seeds are texts. */
#include <stdint.h>

#include "tests/fuzz/fuzz_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[40000];
    size_t n = 0;
    for (size_t i = 0; i < size && n < sizeof(text) - 2; i++) {
        if (data[i] == '\n' && (i == 0 || data[i - 1] != '\r')) {
            text[n++] = '\r';
        }
        text[n++] = (char)data[i];
    }
    fuzz_exchange(text, n);
    return 0;
}
