#!/bin/bash
# Submits jobs to the real daemon on a free loopback port: a whole quantization of the example
# network, refusals, idempotency, cancel, restart. Every wait has a deadline.
# usage: tests/integration/test_jobs.sh [BINARY]
set -uo pipefail
binary=${1:-build/quantd}
model=examples/fashion-mnist/model.onnx
name=test_jobs
. "$(dirname "$0")/../lib/service.sh"

grey_images 40 > "$work/images"
config='{"name":"example","preprocess":{"scale":0.00392156862745098}}'
parts=(-F "model=@$model" -F "calibration=@$work/images")

start
ask -H 'Idempotency-Key: "a-1"' -F "config=$config;type=application/json" "${parts[@]}" "$url/v1/jobs"
same submit 201 "$status"
holds Location "$work/head" '^location: /v1/jobs/j_'
id=$(sed -nE 's/^\{"id":"([^"]*)".*/\1/p' "$work/body")
ask -H 'Idempotency-Key: a-1' -F "config=$config;type=application/json" "${parts[@]}" "$url/v1/jobs"
same 'same key, same request' 200 "$status"
same 'the same job' "$id" "$(sed -nE 's/^\{"id":"([^"]*)".*/\1/p' "$work/body")"
ask -H 'Idempotency-Key: a-1' "${parts[@]}" "$url/v1/jobs"
same 'same key, other request' 422 "$status"
ask -H 'Idempotency-Key: a b' "${parts[@]}" "$url/v1/jobs"
same 'bad key' 400 "$status"

ask -F 'config={"nam":"x"}' "${parts[@]}" "$url/v1/jobs"
same 'unknown field' 422 "$status"
holds 'it is named' "$work/body" '"pointer":"/nam"'
ask -F 'config={' "${parts[@]}" "$url/v1/jobs"
same 'broken JSON' 400 "$status"
ask -F "model=@$model" "$url/v1/jobs"
same 'no calibration' 400 "$status"
ask "${parts[@]}" -F "model=@$model" "$url/v1/jobs"
same 'two models' 413 "$status"
ask "${parts[@]}" -F colour=blue "$url/v1/jobs"
same 'unknown part' 400 "$status"
ask -F "model=@$model;filename=\"../x\"" "$url/v1/jobs"
same 'a path as file name' 400 "$status"
head -c 70000 /dev/zero | tr '\0' ' ' > "$work/long"
ask -F "config=<$work/long" "${parts[@]}" "$url/v1/jobs"
same 'long config' 413 "$status"
ask -H 'Content-Type: multipart/form-data; boundary=b' --data-binary $'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nabc' "$url/v1/jobs"
same 'no closing boundary' 400 "$status"
ask -H 'Content-Type: application/json' -d '{}' "$url/v1/jobs"
same 'other type' 415 "$status"
ask "$url/v1/jobs/$id?wait=1h"
same 'bad wait' 400 "$status"
ask "$url/v1/jobs/j_none"
same 'unknown job' 404 "$status"

await "$id"
same 'the job ended' succeeded "$state"
ask "$url/v1/jobs/$id/artifacts"
holds artifacts "$work/body" '"name":"model.qdq.onnx"'
ask "$url/v1/jobs/$id/artifacts/model.qdq.onnx"
same artifact 200 "$status"
etag=$(sed -nE 's/^etag: (.*)\r$/\1/Ip' "$work/head")
same 'ETag is the hash' "\"sha256:$(sha256sum "$work/body" | cut -d' ' -f1)\"" "$etag"
digest=$(sed -nE 's/^repr-digest: sha-256=:(.*):\r$/\1/Ip' "$work/head" | base64 -d | od -An -v -tx1 | tr -d ' \n')
same 'Repr-Digest is the hash' "$(sha256sum < "$work/body" | cut -d' ' -f1)" "$digest"
cp "$work/body" "$work/artifact"
ask -H "If-None-Match: $etag" "$url/v1/jobs/$id/artifacts/model.qdq.onnx"
same 'unchanged artifact' 304 "$status"
ask -r 100-199 "$url/v1/jobs/$id/artifacts/model.qdq.onnx"
same 'part of the artifact' "206 $(head -c 200 "$work/artifact" | tail -c 100 | sha256sum)" "$status $(sha256sum < "$work/body")"
ask "$url/v1/jobs/$id/report?format=text"
same report 200 "$status"
ask "$url/v1/jobs/$id/calibration?format=csv"
holds 'calibration table' "$work/body" '^"[^"]+","[^"]*","u8",[0-9.e-]+,'
ask "$url/v1/jobs/$id/calibration?format=ncnn"
holds 'ncnn table, weights' "$work/body" '^stem/conv_param_0( [0-9.e+-]+){12,}$'
holds 'ncnn table, input' "$work/body" '^stem/conv [0-9.]+$'
holds 'its name' "$work/head" '^content-disposition: attachment; filename="calibration.ncnn.table"'
ask "$url/v1/jobs/$id/calibration?format=tensorrt"
holds 'TensorRT cache' "$work/body" '^image: 3[bc][0-9a-f]{6}$'
ask "$url/v1/jobs/$id/calibration?format=ort"
holds 'ONNX Runtime table' "$work/body" '"CLS": "TensorsData"'
ask "$url/v1/jobs/$id/calibration?format=aimet"
holds 'AIMET encodings' "$work/body" '"version": "0.6.1"'
# That run's table as the scales of another: the same artifact.
ask "$url/v1/jobs/$id/artifacts/calibration.json"
cp "$work/body" "$work/table.json"
ask -F "config=$config;type=application/json" "${parts[@]}" -F "table=@$work/table.json" "$url/v1/jobs"
same 'submit with a table' 201 "$status"
tabled=$(sed -nE 's/^\{"id":"([^"]*)".*/\1/p' "$work/body")
await "$tabled"
same 'the job with a table ended' succeeded "$state"
ask "$url/v1/jobs/$tabled/artifacts/model.qdq.onnx"
same 'the same artifact' "$(sha256sum < "$work/artifact")" "$(sha256sum < "$work/body")"
ask -X DELETE "$url/v1/jobs/$tabled"
printf 'TRT-8501-EntropyCalibration2\nimage: 7fc00000\n' > "$work/table.cache"
ask -F "config=$config;type=application/json" "${parts[@]}" -F "table=@$work/table.cache" "$url/v1/jobs"
same 'a bad table' 422 "$status"
holds 'its line and value' "$work/body" 'line 2: scale 7fc00000 is -?nan'
ask "$url/v1/jobs/$id/calibration?format=xml"
same 'unknown format of the table' 400 "$status"
holds 'what is allowed' "$work/body" "allowed: json, csv, ncnn, tensorrt, ort, aimet"
ask "$url/v1/jobs/$id/layers"
holds layers "$work/body" '"precision":"int8"'
ask "$url/metrics"
holds 'jobs are counted' "$work/body" '^quantd_jobs\{state="succeeded"\} 1'
ask -X POST "$url/v1/jobs/$id/cancel"
same 'cancel after the end' 409 "$status"

# The 31st of 40 samples holds a NaN: found by the first pass, not by the check at submission.
{
    printf '\223NUMPY\1\0\166\0%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (40, 1, 28, 28), }"
    head -c $((30 * 784 * 4)) /dev/zero
    printf '\0\0\300\177'
    head -c $((10 * 784 * 4 - 4)) /dev/zero
} > "$work/nan.npy"
ask -F "model=@$model" -F "calibration=@$work/nan.npy" "$url/v1/jobs"
bad=$(sed -nE 's/^\{"id":"([^"]*)".*/\1/p' "$work/body")
await "$bad"
same 'a job with NaN in its data' failed "$state"
holds 'which sample' "$work/body" 'sample 30.*NaN|NaN.*sample 30'
holds 'who is to blame' "$work/body" '"class":"user"'
ask "$url/v1/jobs?state=failed"
holds 'list by state' "$work/body" "\"id\":\"$bad\""
ask -X DELETE "$url/v1/jobs/$bad"
same delete 204 "$status"
ask "$url/v1/jobs/$bad"
same 'it is gone' 404 "$status"

# What was accepted survives the hardest end.
ask "${parts[@]}" "$url/v1/jobs"
last=$(sed -nE 's/^\{"id":"([^"]*)".*/\1/p' "$work/body")
end KILL 2> /dev/null
start
ask "$url/v1/jobs/$id/artifacts/model.qdq.onnx"
same 'artifact after SIGKILL' "$(sha256sum < "$work/artifact")" "$(sha256sum < "$work/body")"
await "$last"
same 'the job of the former run' succeeded "$state"
end TERM
same 'exit code' 0 "$rc"
report
