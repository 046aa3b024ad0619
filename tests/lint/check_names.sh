#!/bin/bash
# File names are unique in the tree; a kernel's name ends in its file's instruction set.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
bad=0
twice=$(find daemon api store worker quantcore tests -name '*.[ch]' -printf '%f\n' | sort | uniq -d)
if [ -n "$twice" ]; then
    echo "file names that stand twice: $twice"
    bad=1
fi
for isa in ref neon avx2 avxvnni avx512; do
    while read -r line; do
        echo "kernel outside its file: $line"
        bad=1
    done < <(grep -rnE "^void qc_[a-z0-9_]+__$isa\(" quantcore/kernels --include='*.c' |
        grep -v "_$isa\.c:" || true)
done
exit $bad
