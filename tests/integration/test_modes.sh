#!/bin/bash
# The modes without calibration, by command and over HTTP: nothing but a model goes in, a file of
# less than a third comes out, which runs. usage: tests/integration/test_modes.sh [BINARY]
set -uo pipefail
export LC_ALL=C
name=test_modes
binary=${1:-build/quantd}
model=examples/fashion-mnist/model.onnx
. "$(dirname "$0")/../lib/service.sh"

grey_images 40 > "$work/images"
: > "$work/body"
size() { stat -c %s "$1"; }

# ---- the command ----------------------------------------------------------------------------
for mode in weight_only dynamic; do
    echo "{\"mode\":\"$mode\"}" > "$work/$mode.json"
    for threads in 1 2; do
        timeout 60 "$binary" quantize $model --config "$work/$mode.json" --threads $threads \
            --output "$work/$mode.$threads" > "$work/text" 2>&1
        same "$mode: exit" 0 $?
    done
    same "$mode: no data" "mode $mode, without calibration, verified on 0 samples" \
        "$(sed -n 2p "$work/text")"
    cmp "$work/$mode.1/model.qdq.onnx" "$work/$mode.2/model.qdq.onnx"
    same "$mode: bytes of 1 and 2 threads" 0 $?
    share=$((100 * $(size "$work/$mode.1/model.qdq.onnx") / $(size $model)))
    [ $share -le 30 ]
    same "$mode: $share % of the f32 file" 0 $?
    holds "$mode: report" "$work/$mode.1/report.json" "\"mode\": \"$mode\""
    # Data that are given verify; a gate needs them.
    echo "{\"mode\":\"$mode\",\"gate\":{\"min_sqnr_db\":5}}" > "$work/gate.json"
    timeout 60 "$binary" quantize $model --config "$work/gate.json" --output "$work/gate" \
        > "$work/text" 2>&1
    same "$mode: gate without data" 3 $?
    holds "$mode: says why" "$work/text" 'a gate needs data'
    timeout 60 "$binary" quantize $model --config "$work/gate.json" \
        --validation "$work/images" --output "$work/gate" > "$work/text" 2>&1
    same "$mode: gate with data" 0 $?
    holds "$mode: what was measured" "$work/text" 'output .*SQNR [0-9.]+ dB'
    # With data, or what an earlier run knows of them, the biases are corrected.
    timeout 60 "$binary" quantize $model --config "$work/$mode.json" --threads 1 \
        --calibration "$work/images" --output "$work/data1" > "$work/text" 2>&1
    same "$mode: with data" "mode $mode, calibrated on 32 samples, verified on 8 held back" \
        "$(sed -n 2p "$work/text")"
    cmp -s "$work/data1/model.qdq.onnx" "$work/$mode.1/model.qdq.onnx"
    same "$mode: data change the biases" 1 $?
    timeout 60 "$binary" quantize $model --config "$work/$mode.json" --threads 2 \
        --statistics "$work/data1/statistics.qds" --output "$work/data2" > "$work/text" 2>&1
    cmp "$work/data1/model.qdq.onnx" "$work/data2/model.qdq.onnx"
    same "$mode: statistics give the same bytes" 0 $?
    # An artifact is a network like any other: its own integer weights stay.
    timeout 60 "$binary" quantize "$work/$mode.1/model.qdq.onnx" --config "$work/weight_only.json" \
        --output "$work/again" > "$work/text" 2>&1
    rc=$?
    if [ $mode = weight_only ]; then
        same "$mode again: exit" 0 $rc
        cmp "$work/$mode.1/model.qdq.onnx" "$work/again/model.qdq.onnx"
        same "$mode again: the same bytes" 0 $?
    else
        same "$mode again: exit" 3 $rc
        holds "$mode again: why" "$work/text" 'nothing in the network can be quantized'
    fi
done
echo '{"mode":"static"}' > "$work/static.json"
timeout 60 "$binary" quantize $model --config "$work/static.json" --output "$work/none" \
    > "$work/text" 2>&1
same 'static without data: exit' 3 $?
holds 'static without data: why' "$work/text" 'calibration data are missing'

# ---- few bits -------------------------------------------------------------------------------
# bits, block size, most per cent of the f32 file, what the report says
while read -r bits block most words; do
    echo "{\"mode\":\"weight_only\",\"weights\":{\"bits\":$bits,\"block_size\":$block}}" \
        > "$work/bits.json"
    for threads in 1 2; do
        timeout 60 "$binary" quantize $model --config "$work/bits.json" --threads $threads \
            --calibration "$work/images" --output "$work/bits.$threads" > "$work/text" 2>&1
        same "$bits bits, $block: exit" 0 $?
    done
    same "$bits bits, $block: report" \
        "mode weight_only, $words, calibrated on 32 samples, verified on 8 held back" \
        "$(sed -n 2p "$work/text")"
    cmp "$work/bits.1/model.qdq.onnx" "$work/bits.2/model.qdq.onnx"
    same "$bits bits, $block: bytes of 1 and 2 threads" 0 $?
    share=$((100 * $(size "$work/bits.1/model.qdq.onnx") / $(size $model)))
    [ $share -le "$most" ]
    same "$bits bits, $block: $share % of the f32 file" 0 $?
    timeout 60 "$binary" run "$work/bits.1/model.qdq.onnx" --input "$work/images" \
        --output "$work/bits.npy" > "$work/text" 2>&1
    same "$bits bits, $block: runs" 0 $?
    [ "$bits" = 16 ] && continue # float16 is folded when the network is read
    timeout 60 "$binary" inspect "$work/bits.1/model.qdq.onnx" > "$work/text" 2>&1
    holds "$bits bits, $block: inspect" "$work/text" 'quantized weights already'
    timeout 60 "$binary" quantize "$work/bits.1/model.qdq.onnx" --config "$work/bits.json" \
        --output "$work/again" > "$work/text" 2>&1
    cmp "$work/bits.1/model.qdq.onnx" "$work/again/model.qdq.onnx"
    same "$bits bits, $block again: the same bytes" 0 $?
done <<'END'
8 32 30 weights of 8 bits in blocks of 32
4 0 18 weights of 4 bits
4 32 18 weights of 4 bits in blocks of 32
2 0 18 weights of 2 bits
1 0 18 weights of 1 bit
16 0 52 weights in float16
END
echo '{"weights":{"bits":[8,4]}}' > "$work/bits.json"
timeout 60 "$binary" quantize $model --config "$work/bits.json" --calibration "$work/images" \
    --output "$work/grid" > "$work/text" 2>&1
same 'list of bits: exit' 0 $?
holds 'list of bits: the better one' "$work/text" '^[*] bits=8 '
holds 'list of bits: report' "$work/grid/report.json" '"bits": 8'

# ---- the service ----------------------------------------------------------------------------
start
for mode in weight_only dynamic; do
    ask -F "config={\"name\":\"net\",\"mode\":\"$mode\"};type=application/json" \
        -F "model=@$model" "$url/v1/jobs"
    same "$mode: submitted" 201 "$status"
    id=$(text id)
    await "$id"
    same "$mode: state" succeeded "$state"
    ask "$url/v1/jobs/$id/artifacts/model.qdq.onnx"
    same "$mode: download" 200 "$status"
    cmp "$work/body" "$work/$mode.1/model.qdq.onnx"
    same "$mode: the command's bytes" 0 $?
    ask "$url/v1/jobs/$id/report"
    holds "$mode: report" "$work/body" "\"mode\": *\"$mode\""
done
ask -F "model=@$model" "$url/v1/jobs"
same 'static without data: status' 400 "$status"
holds 'static without data: detail' "$work/body" "part .calibration. is missing"
ask -F 'config={"mode":"weight_only","weights":{"bits":4,"block_size":64}};type=application/json' \
    -F "model=@$model" "$url/v1/jobs"
same '4 bits: submitted' 201 "$status"
id=$(text id)
await "$id"
same '4 bits: state' succeeded "$state"
ask "$url/v1/jobs/$id/report"
holds '4 bits: report' "$work/body" '"bits": *4'
holds '4 bits: report' "$work/body" '"block_size": *64'
ask "$url/v1/jobs/$id/layers"
holds '4 bits: layers' "$work/body" '"precision":"int4_weights"'
ask -F 'config={"weights":{"bits":6}};type=application/json' -F "model=@$model" \
    -F "calibration=@$work/images" "$url/v1/jobs"
same '6 bits: status' 422 "$status"
holds '6 bits: detail' "$work/body" 'bits of weights is 6, allowed: 8, 7, 4, 3, 2, 1'
holds '6 bits: field' "$work/body" '/weights/bits'
ask -F 'config={"mode":"int4"};type=application/json' -F "model=@$model" "$url/v1/jobs"
same 'unknown mode: status' 422 "$status"
holds 'unknown mode: detail' "$work/body" 'allowed: static, weight_only, dynamic'
end TERM
report
