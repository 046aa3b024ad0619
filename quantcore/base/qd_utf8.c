#include "quantcore/base/qd_utf8.h"

#include "quantcore/base/qd_base.h"

size_t qd_utf8_length(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char first, last, second_low, second_high, length;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t r = 0; r < QD_COUNT_OF(rows); r++) {
        if (s[0] < rows[r].first || s[0] > rows[r].last || rows[r].length > left) {
            continue;
        }
        if (rows[r].length > 1 && (s[1] < rows[r].second_low || s[1] > rows[r].second_high)) {
            return 0;
        }
        for (size_t i = 2; i < rows[r].length; i++) {
            if ((s[i] & 0xc0) != 0x80) {
                return 0;
            }
        }
        return rows[r].length;
    }
    return 0;
}
