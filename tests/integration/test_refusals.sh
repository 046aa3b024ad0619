#!/bin/bash
# What must not become a job: broken, hostile and unsuitable models and data. Each gets a problem
# document that says what is wrong, at submission; the daemon lives on; no file stays behind.
# usage: tests/integration/test_refusals.sh [BINARY]
set -uo pipefail
export LC_ALL=C
name=test_refusals
binary=${1:-build/quantd}
model=examples/fashion-mnist/model.onnx
. "$(dirname "$0")/../lib/service.sh"

grey_images 40 > "$work/images"
start

# refused WHAT STATUS CODE REGEX ARGUMENTS of curl
refused() {
    local what=$1 wanted=$2 code=$3 regex=$4
    shift 4
    ask "$@" "$url/v1/jobs"
    same "$what: status" "$wanted" "$status"
    holds "$what: media type" "$work/head" '^content-type: application/problem\+json'
    same "$what: code" "$code" "$(text code)"
    holds "$what: detail" "$work/body" "$regex"
    same "$what: blobs left" 0 "$(count_blobs)"
    same "$what: scratch left" 0 "$(find "$work/data/scratch" -mindepth 1 | wc -l)"
}
# npy DTYPE SHAPE: the header
npy() {
    printf '\223NUMPY\1\0\166\0%-117s\n' "{'descr': '$1', 'fortran_order': False, 'shape': ($2), }"
}
# nested N: a model whose graphs lie in each other's attributes
nested() {
    awk -v n="$1" 'BEGIN {
        # Lengths from the inside out, then the bytes from the outside in.
        length_in = 0
        for (i = 0; i < n; i++)
            for (t = 0; t < 3; t++) {
                size[i, t] = length_in
                length_in += 2
                for (v = size[i, t]; v > 127; v = int(v / 128)) length_in++
            }
        printf "%c%c", 8, 8
        put(58, length_in)
        for (i = n - 1; i >= 0; i--) { put(10, size[i, 2]); put(42, size[i, 1]); put(50, size[i, 0]) }
    }
    function put(tag, v) {
        printf "%c", tag
        for (; v > 127; v = int(v / 128)) printf "%c", 128 + v % 128
        printf "%c", v
    }'
}

data=(-F "calibration=@$work/images")
head -c 20000 "$model" > "$work/truncated.onnx"
refused 'truncated model' 422 invalid 'truncated|bytes' -F "model=@$work/truncated.onnx" "${data[@]}"
printf 'this is no model' > "$work/text.onnx"
refused 'no model' 422 invalid 'protobuf|ONNX|field|wire' -F "model=@$work/text.onnx" "${data[@]}"
: > "$work/empty.onnx"
refused 'empty model' 422 limit_exceeded '0 bytes' -F "model=@$work/empty.onnx" "${data[@]}"
nested 10000 > "$work/nested.onnx"
refused 'nested model' 422 limit_exceeded 'nest|deep' -F "model=@$work/nested.onnx" "${data[@]}"
sed 's/Relu/Rely/g; s/Clip/Clap/g' "$model" > "$work/unsupported.onnx"
refused 'unsupported operator' 422 unsupported "operator '?(Rely|Clap)'?.*opset [0-9]+" -F "model=@$work/unsupported.onnx" "${data[@]}"
holds 'its node is named' "$work/body" "node '[^']+'"
holds 'its domain is named' "$work/body" 'domain'

data=(-F "model=@$model")
{
    printf '\0\0\010\003\0\0\0\012\0\0\0\033\0\0\0\034'
    head -c $((10 * 27 * 28)) /dev/zero
} > "$work/narrow"
refused 'wrong shape' 422 invalid '27' "${data[@]}" -F "calibration=@$work/narrow"
{ npy '<f4' '12, 3, 28, 28'; head -c $((12 * 3 * 784 * 4)) /dev/zero; } > "$work/rgb.npy"
refused 'wrong channels' 422 invalid '3' "${data[@]}" -F "calibration=@$work/rgb.npy"
{ npy '<f4' '12, 1, 28, 28'; head -c $((3 * 784 * 4)) /dev/zero; printf '\0\0\300\177'; head -c $((9 * 784 * 4 - 4)) /dev/zero; } > "$work/nan.npy"
refused 'NaN in an early sample' 422 invalid 'sample 3.*NaN|NaN.*sample 3' "${data[@]}" -F "calibration=@$work/nan.npy"
{ npy '<f4' '12, 1, 28, 28'; head -c 100 /dev/zero; } > "$work/short.npy"
refused 'data that end early' 422 invalid 'bytes' "${data[@]}" -F "calibration=@$work/short.npy"
{ npy '<f4' '0, 1, 28, 28'; } > "$work/none.npy"
refused 'no samples' 422 invalid 'sample' "${data[@]}" -F "calibration=@$work/none.npy"
refused 'data of no kind' 422 unsupported 'none of .npy' "${data[@]}" -F "calibration=@$model"
mkdir "$work/t"
{ npy '|u1' '400000, 1, 28, 28'; head -c $((400000 * 784)) /dev/zero; } > "$work/t/a.npy"
tar -C "$work/t" -czf "$work/bomb.tar.gz" a.npy
rm -r "$work/t"
refused 'an archive of a giant member' 422 limit_exceeded 'ratio|[0-9]+ to 1|limit' "${data[@]}" -F "calibration=@$work/bomb.tar.gz"

many=()
for i in $(seq 512); do many+=(-F "calibration=@$work/narrow"); done
refused 'too many files' 413 limit_exceeded 'calibration|511' "${data[@]}" "${many[@]}"

# The same content belongs to a job now: a refusal with it takes nothing away.
ask -F "model=@$model" -F "calibration=@$work/images" "$url/v1/jobs?dry_run=true"
same 'dry run' 200 "$status"
holds 'what it would do' "$work/body" '"n_calibration":32,.*"n_nodes_int8":[1-9]'
holds 'and what memory it would take' "$work/body" '"memory_bytes":\{"total":[0-9]{6,},"second_moments":0\}'
same 'a dry run keeps nothing' 0 "$(count_blobs)"
ask -F "model=@$model" -F "calibration=@$work/images" "$url/v1/jobs"
same 'a good one' 201 "$status"
job=$(text id)
kept=$(count_blobs)
ask -F "model=@$model" -F "calibration=@$work/narrow" "$url/v1/jobs"
same 'a bad one with the same model' 422 "$status"
await "$job"
same 'the good one goes on' succeeded "$state"
ask "$url/livez"
same 'the daemon lives' 200 "$status"
[ "$kept" -le "$(count_blobs)" ] || fail "blobs were lost: $kept before"

# A stream without an index is only seen to expand without end while the job reads it.
{ printf '\0\0\010\003\0\020\0\0\0\0\0\034\0\0\0\034'; head -c 60M /dev/zero; } | gzip > "$work/bomb.gz"
ask -F "model=@$model" -F "calibration=@$work/bomb.gz" "$url/v1/jobs"
same 'a stream that expands without end' 201 "$status"
job=$(text id)
await "$job"
same 'its job' failed "$state"
holds 'why' "$work/body" '"code":"limit_exceeded".*200 to 1'
ask -X DELETE "$url/v1/jobs/$job"
same 'delete' 204 "$status"

# Many at once: more than there are processes that check.
for i in 1 2 3 4 5 6; do
    curl -sS --max-time 60 -o /dev/null -w '%{http_code}\n' -F "model=@$work/truncated.onnx" -F "calibration=@$work/images" "$url/v1/jobs" > "$work/many.$i" &
done
wait $(jobs -p | grep -v "^$pid$")
same 'six at once' '422 422 422 422 422 422' "$(cat "$work"/many.? | xargs)"
end TERM
same 'exit code' 0 "$rc"
report
