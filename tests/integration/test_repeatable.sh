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
for isa in ref neon avx2 avxvnni avx512; do
    for threads in 1 2; do
        for batch in 1 8; do
            # The quantized pass is in it as well: it rounds by ranges of what it is given at a time.
            echo "{\"isa\":\"$isa\",\"preprocess\":{\"scale\":0.0039215686},\"calibration\":{\"batch_size\":$batch,\"max_samples\":30,\"inference\":\"quantized\"}}" > "$work/job.json"
            timeout 60 "$binary" quantize examples/fashion-mnist/model.onnx --calibration $data \
                --config "$work/job.json" --threads $threads --output "$work/rounded" > /dev/null
            sed -i 's/,"inference":"quantized"//' "$work/job.json"
            timeout 60 "$binary" quantize examples/fashion-mnist/model.onnx --calibration $data \
                --config "$work/job.json" --threads $threads --output "$work/out" > /dev/null
            grep -hE 'model.qdq.onnx|calibration|statistics' "$work/out/SHA256SUMS" "$work/rounded/SHA256SUMS" | sort > "$work/sums.$isa.$threads.$batch"
            cmp "$work/sums.ref.1.1" "$work/sums.$isa.$threads.$batch" || {
                echo "test_repeatable: $isa, $threads threads, batch $batch differ" >&2
                exit 1
            }
            n=$((n + 2))
        done
    done
done
cmp -s "$work/out/statistics.qds" "$work/rounded/statistics.qds" && {
    echo 'test_repeatable: the quantized pass saw what the f32 pass saw' >&2
    exit 1
}
# A run's own table, brought along, gives the artifact again; a TensorRT cache gives itself again.
first="$work/first"
quantize=(timeout 60 "$binary" quantize examples/fashion-mnist/model.onnx --calibration $data \
    --config "$work/job.json" --table-format tensorrt)
"${quantize[@]}" --output "$first" > /dev/null
"${quantize[@]}" --output "$work/again" --table "$first/calibration.json" > /dev/null
cmp "$first/model.qdq.onnx" "$work/again/model.qdq.onnx"
"${quantize[@]}" --output "$work/trt" --table "$first/calibration.tensorrt.cache" > /dev/null
cmp "$first/calibration.tensorrt.cache" "$work/trt/calibration.tensorrt.cache"
if cmp -s "$first/model.qdq.onnx" "$work/trt/model.qdq.onnx"; then
    echo "test_repeatable: the scales of the cache changed nothing" >&2
    exit 1
fi
# A network with scales of its own refuses a table, a table of another network is of no use here.
printf 'TRT-8501-EntropyCalibration2\nnobody: 3f800000\n' > "$work/other.cache"
refused() { # what the message says, MODEL, TABLE
    if timeout 60 "$binary" quantize "$2" --calibration $data --config "$work/job.json" \
        --table "$3" --output "$work/refused" > /dev/null 2> "$work/message"; then
        echo "test_repeatable: $2 took $3" >&2
        exit 1
    fi
    grep -q "$1" "$work/message" || { cat "$work/message" >&2; exit 1; }
}
refused 'is quantized already' "$first/model.qdq.onnx" "$first/calibration.json"
refused "none of the 1 scales .* 'nobody'" examples/fashion-mnist/model.onnx "$work/other.cache"
# The comparison must be able to fail: other data, other bytes.
sed -i 's/"max_samples":30/"max_samples":20/' "$work/job.json"
"$binary" quantize examples/fashion-mnist/model.onnx --calibration $data --config "$work/job.json" \
    --output "$work/out" > /dev/null
if grep -q "$(grep model.qdq.onnx "$work/out/SHA256SUMS")" "$work/sums.ref.1.1"; then
    echo "test_repeatable: other data gave the same bytes" >&2
    exit 1
fi
echo "test_repeatable: $n runs, one artifact for each of two configurations"
