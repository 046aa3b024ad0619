#!/bin/bash
# A job's peak of resident memory does not depend on the number of calibration samples.
# usage: test_memory.sh BINARY PEAK_MEMORY    (PEAK_MEMORY: tests/integration/peak_memory.c, built)
#
# The samples are made here, for the example's network. With QUANTD_MEMORY_MODEL (an ONNX file) and
# QUANTD_MEMORY_DATA (1,000 samples for it or more) that pair is measured too, with the number of
# threads that is the default: below 150 MB, and alike for 100 and 1,000 samples.
set -euo pipefail
binary=${1:-build/quantd}
peak=${2:-build/peak_memory}
limit=150000000   # bytes, of QUANTD_MEMORY_MODEL
percent=5
model=examples/fashion-mnist/model.onnx
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "test_memory: $*" >&2
    exit 1
}

# make_npy FILE COUNT: u8 [COUNT,1,28,28] out of the network's own bytes, which vary enough.
make_npy() {
    local bytes=$(($2 * 784))
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' \
        "{'descr': '|u1', 'fortran_order': False, 'shape': ($2, 1, 28, 28), }" > "$1"
    local size copies
    size=$(wc -c < $model)
    for ((copies = bytes / size + 1; copies > 0; copies--)); do cat $model >> "$1"; done
    truncate -s $((128 + bytes)) "$1"
}

# measure MODEL DATA CONFIGURATION: prints KiB.
measure() {
    printf '%s' "$3" > "$work/job.json"
    timeout 300 "$peak" "$work/kib" "$binary" quantize "$1" --calibration "$2" \
        --config "$work/job.json" --output "$work/out" > "$work/log" 2>&1 || {
        tail -5 "$work/log" >&2
        fail "quantize $1 failed"
    }
    cat "$work/kib"
}

# alike A B: neither exceeds the other by more than $percent %.
alike() {
    [ $(($1 * 100)) -le $(($2 * (100 + percent))) ] && [ $(($2 * 100)) -le $(($1 * (100 + percent))) ]
}

scaled='{"preprocess":{"scale":0.0039215686}}'
make_npy "$work/few.npy" 100
make_npy "$work/many.npy" 1000
few=$(measure $model "$work/few.npy" "$scaled")
many=$(measure $model "$work/many.npy" "$scaled")
echo "test_memory: example: $few KiB with 100 samples, $many KiB with 1000"
alike "$few" "$many" || fail "they differ by more than $percent %"

# The comparison must be able to fail: as many samples held at once are seen.
held=$(measure $model "$work/many.npy" '{"preprocess":{"scale":0.0039215686},"calibration":{"batch_size":800}}')
echo "test_memory: $held KiB with 800 samples in memory at once"
! alike "$many" "$held" || fail "800 samples in memory make no difference: the measurement is blind"

[ -n "${QUANTD_MEMORY_MODEL-}${QUANTD_MEMORY_DATA-}" ] || exit 0
for f in "${QUANTD_MEMORY_MODEL-}" "${QUANTD_MEMORY_DATA-}"; do
    if [ ! -r "$f" ]; then
        echo "test_memory: '$f' is absent (QUANTD_MEMORY_MODEL, QUANTD_MEMORY_DATA): not measured"
        exit 0
    fi
done
few=$(measure "$QUANTD_MEMORY_MODEL" "$QUANTD_MEMORY_DATA" '{"calibration":{"max_samples":100}}')
many=$(measure "$QUANTD_MEMORY_MODEL" "$QUANTD_MEMORY_DATA" '{"calibration":{"max_samples":1000}}')
echo "test_memory: $QUANTD_MEMORY_MODEL: $few KiB with 100 samples, $many KiB with 1000"
alike "$few" "$many" || fail "they differ by more than $percent %"
[ $((many * 1024)) -lt $limit ] || fail "$((many * 1024)) bytes, the limit is $limit"
