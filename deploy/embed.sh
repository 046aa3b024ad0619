#!/bin/sh
# Writes a C table of the files named on the command line: daemon/embedded.h says how it is read.
set -eu
echo '#include "quantcore/base/qd_embedded.h"'
i=0
for f in "$@"; do
    printf 'static const unsigned char file_%d[] = {' "$i"
    od -An -v -tx1 "$f" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
    echo '0};'
    i=$((i + 1))
done
echo 'const struct qd_embedded qd_embedded_files[] = {'
i=0
for f in "$@"; do
    echo "    {\"$f\", file_$i, sizeof(file_$i) - 1},"
    i=$((i + 1))
done
echo '    {0, 0, 0},'
echo '};'
