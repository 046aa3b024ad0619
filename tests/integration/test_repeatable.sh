#!/bin/bash
# The same model, data and configuration give the same artifact, to the byte, for every
# instruction set, thread count and batch size. usage: test_repeatable.sh [BINARY]
set -euo pipefail
binary=${1:-build/quantd}
data=/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -r $data ] || { echo "test_repeatable: $data is missing (Debian: dataset-fashion-mnist)" >&2; exit 1; }

n=0
for isa in ref avx2 avx512; do
    for threads in 1 2; do
        for batch in 1 8; do
            echo "{\"isa\":\"$isa\",\"preprocess\":{\"scale\":0.0039215686},\"calibration\":{\"batch_size\":$batch,\"max_samples\":30}}" > "$work/job.json"
            timeout 60 "$binary" quantize examples/fashion-mnist/model.onnx --calibration $data \
                --config "$work/job.json" --threads $threads --output "$work/out" > /dev/null
            grep 'model.qdq.onnx\|calibration' "$work/out/SHA256SUMS" | sort > "$work/sums.$isa.$threads.$batch"
            cmp "$work/sums.ref.1.1" "$work/sums.$isa.$threads.$batch" || {
                echo "test_repeatable: $isa, $threads threads, batch $batch differ" >&2
                exit 1
            }
            n=$((n + 1))
        done
    done
done
# The comparison must be able to fail: other data, other bytes.
sed -i 's/"max_samples":30/"max_samples":20/' "$work/job.json"
"$binary" quantize examples/fashion-mnist/model.onnx --calibration $data --config "$work/job.json" \
    --output "$work/out" > /dev/null
if grep 'model.qdq.onnx\|calibration' "$work/out/SHA256SUMS" | sort | cmp -s "$work/sums.ref.1.1" -; then
    echo "test_repeatable: other data gave the same bytes" >&2
    exit 1
fi
echo "test_repeatable: $n runs, one artifact"
