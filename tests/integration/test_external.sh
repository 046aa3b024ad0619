#!/bin/bash
# A network whose weights are in a file beside it, offline and over HTTP: the same artifact as of
# the network that has them inside, also after a restart and from statistics.
# usage: tests/integration/test_external.sh [BINARY]
set -uo pipefail
export LC_ALL=C
name=test_external
binary=${1:-build/quantd}
program=$(realpath "$binary")
inside=tests/fuzz/corpus/model/conv_net.onnx
outside=tests/fuzz/corpus/onnx/external_net.onnx
weights=tests/fuzz/corpus/onnx/external_net.bin
. "$(dirname "$0")/../lib/service.sh"

# 20 samples of [2, 5, 5], each element 1 or 2
{
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' \
        "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 2, 5, 5), }"
    for i in $(seq 1000); do
        if [ $((i * i % 7)) -lt 3 ]; then printf '\0\0\x80\x3f'; else printf '\0\0\0\x40'; fi
    done
} > "$work/x.npy"
sha() { sha256sum < "$1" | cut -d' ' -f1; }
# offline CODE REGEX ARGUMENTS: exit code and message of a subcommand
offline() {
    local code=$1 regex=$2 rc=0
    shift 2
    timeout 30 "$binary" "$@" > "$work/body" 2>&1 || rc=$?
    same "exit code of $1" "$code" "$rc"
    [ -z "$regex" ] || holds "message of $1" "$work/body" "$regex"
}

# ---- offline ------------------------------------------------------------------------------------
offline 0 '' quantize $inside --calibration "$work/x.npy" --output "$work/in"
offline 0 '' quantize $outside --calibration "$work/x.npy" --output "$work/out.d"
wanted=$(sha "$work/in/model.qdq.onnx")
same 'the same artifact' "$wanted" "$(sha "$work/out.d/model.qdq.onnx")"
offline 0 'conv|Conv' inspect $outside
offline 0 '' run $inside --input "$work/x.npy" --output "$work/y.npy"
offline 0 '' run $outside --input "$work/x.npy" --output "$work/z.npy"
same 'the same outputs' "$(sha "$work/y.npy")" "$(sha "$work/z.npy")"
offline 3 'statistics.*model|model.*statistics' quantize $inside --statistics "$work/out.d/statistics.qds" --output "$work/none"

mkdir "$work/m"
cp $outside "$work/m/m.onnx"
offline 3 "open 'external_net.bin'" inspect "$work/m/m.onnx"
ln -s "$PWD/$weights" "$work/m/external_net.bin"
offline 3 'symbolic link' inspect "$work/m/m.onnx"
rm "$work/m/external_net.bin"
mkfifo "$work/m/external_net.bin"
offline 3 'not a regular file' inspect "$work/m/m.onnx"
rm "$work/m/external_net.bin"
head -c 240 $weights > "$work/m/external_net.bin"
offline 3 "'f' in 'external_net.bin': 24 bytes at offset 217, the file has 240" inspect "$work/m/m.onnx"
cp $weights "$work/m/external_net.bin"
same 'in the folder itself' 'model' "$(cd "$work/m" && "$program" inspect m.onnx 2>&1 | head -c 5)"
sed 's#external_net.bin#../m/ernet.binxy#g' $outside > "$work/m/up.onnx"
offline 3 "'../m/ernet.binxy', which is no plain file name" inspect "$work/m/up.onnx"

# ---- the service --------------------------------------------------------------------------------
start
parts=(-F "model=@$outside" -F "calibration=@$work/x.npy")
ask -H 'Idempotency-Key: e' "${parts[@]}" -F "model.data=@$weights" "$url/v1/jobs"
same submit 201 "$status"
id=$(text id)
ask -H 'Idempotency-Key: e' "${parts[@]}" -F "model.data=@$weights" "$url/v1/jobs"
same 'the same request' "200 $id" "$status $(text id)"
{ cat $weights; echo; } > "$work/longer"
ask -H 'Idempotency-Key: e' "${parts[@]}" -F "model.data=@$work/longer;filename=external_net.bin" "$url/v1/jobs"
same 'other weights are another request' 422 "$status"
await "$id"
same 'the job ended' succeeded "$state"
artifact() { curl -sS --max-time 20 "$url/v1/jobs/$1/artifacts/model.qdq.onnx" | sha256sum | cut -d' ' -f1; }
same 'the artifact of the service' "$wanted" "$(artifact "$id")"

blobs=$(count_blobs)
ask "${parts[@]}" "$url/v1/jobs"
same 'a file that is missing' 422 "$status"
holds 'it is named' "$work/body" "'w' has its data in 'external_net.bin', which is not among the files given: none"
ask "${parts[@]}" -F "model.data=@$weights;filename=typo.bin" "$url/v1/jobs"
same 'another name' 422 "$status"
holds 'the names given' "$work/body" "files given: 'typo.bin'"
ask "${parts[@]}" -F "model.data=@$weights" -F "model.data=@$weights;filename=more.bin" "$url/v1/jobs"
same 'a file that nobody names' 422 "$status"
holds 'that file' "$work/body" "'more.bin' that was given"
ask "${parts[@]}" -F "model.data=@$weights" -F "model.data=@$weights" "$url/v1/jobs"
same 'the same name twice' 400 "$status"
ask "${parts[@]}" -F model.data=abc "$url/v1/jobs"
same 'no name' 400 "$status"
ask "${parts[@]}" -F "model.data=@$weights;filename=../external_net.bin" "$url/v1/jobs"
same 'a path' 400 "$status"
many=()
for i in $(seq 17); do many+=(-F "model.data=@$weights;filename=$i"); done
ask "${parts[@]}" "${many[@]}" "$url/v1/jobs"
same 'seventeen files' 413 "$status"
ask "${parts[@]}" -F "model.data=@$weights" "$url/v1/jobs?dry_run=true"
same 'a dry run' 200 "$status"
same 'these leave nothing' "$blobs" "$(count_blobs)"

ask -H 'Content-Type: application/json' -d '{"calibration":{"calibrator":"minmax"}}' "$url/v1/jobs/$id/requantize"
same requantize 201 "$status"
derived=$(text id)
await "$derived"
same 'the derived job ended' succeeded "$state"

# A job that is queued or runs when the daemon dies runs afterwards, with its file.
ask "${parts[@]}" -F "model.data=@$weights" "$url/v1/jobs"
same 'submit before the end' 201 "$status"
queued=$(text id)
end KILL
start
await "$queued"
same 'it ended after the restart' succeeded "$state"
same 'the artifact after the restart' "$wanted" "$(artifact "$queued")"

# Canceled and tried again it has its file still; the last of those that share it takes it along.
spare=()
for _ in $(seq 20); do
    ask "${parts[@]}" -F "model.data=@$weights" "$url/v1/jobs"
    again=$(text id)
    ask -X POST "$url/v1/jobs/$again/cancel"
    await "$again"
    [ "$state" = canceled ] && break
    spare+=("$again") # it was faster
done
same 'it was canceled' canceled "$state"
ask -X POST "$url/v1/jobs/$again/retry"
same 'once more' 200 "$status"
await "$again"
same 'it ended in the second try' succeeded "$state"
same 'the artifact of the second try' "$wanted" "$(artifact "$again")"
stored() { find "$work/data/blobs" -name "$(sha "$1")" -type f | wc -l; }
find "$work/data/blobs" -type f -exec touch -d '2 minutes ago' {} + # as if time had passed
for job in "$id" "$derived" "$queued" "${spare[@]}" "$again"; do
    same "the file is there before $job goes" 1 "$(stored $weights)"
    ask -X DELETE "$url/v1/jobs/$job"
    same "delete $job" 204 "$status"
done
for file in $weights $outside "$work/x.npy" "$work/out.d/model.qdq.onnx"; do
    same "$file went with the last job" 0 "$(stored "$file")"
done

echo "$name: $passed checks passed, $failed failed"
[ "$failed" = 0 ]
