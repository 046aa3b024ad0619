/* Text from outside need not be text. */
#ifndef QD_UTF8_H
#define QD_UTF8_H

#include <stddef.h>

/* Length of the well-formed UTF-8 sequence at s (RFC 3629), 0 if there is none; left >= 1. */
size_t qd_utf8_length(const unsigned char *s, size_t left);

#endif
