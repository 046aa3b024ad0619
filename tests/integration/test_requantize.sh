#!/bin/bash
# Another network from a job's statistics, over HTTP: nothing is calibrated again, the bytes are
# those of a run with calibration. usage: tests/integration/test_requantize.sh [BINARY]
set -uo pipefail
export LC_ALL=C
name=test_requantize
binary=${1:-build/quantd}
model=examples/fashion-mnist/model.onnx
. "$(dirname "$0")/../lib/service.sh"

grey_images 40 > "$work/images"
scale='"preprocess":{"scale":0.00392156862745098}'
# config JSON: the form field of a configuration
config() { echo "config=$1;type=application/json"; }
# submit CONFIG: id of the job, which has ended, in $id
submit() {
    ask -F "$(config "$1")" -F "model=@$model" -F "calibration=@$work/images" "$url/v1/jobs"
    same "submit $1" 201 "$status"
    id=$(text id)
    await "$id"
    same "state of $1" succeeded "$state"
}
# requantize JOB BODY ARGUMENTS of curl
requantize() { ask -H 'Content-Type: application/json' --data-binary "$2" "${@:3}" "$url/v1/jobs/$1/requantize"; }
# file JOB NAME: its sha256
file() { curl -sS --max-time 20 "$url/v1/jobs/$1/artifacts/$2" | sha256sum | cut -d' ' -f1; }

start
submit "{\"name\":\"net\",\"calibration\":{\"calibrator\":\"mse\"},$scale}"
origin=$id
kl='{"calibration":{"calibrator":"kl"},"exclude":{"types":["MaxPool"]},"activations":{"scheme":"symmetric"}}'
submit "{\"name\":\"net\",\"exclude\":{\"types\":[\"MaxPool\"]},\"activations\":{\"scheme\":\"symmetric\"},\"calibration\":{\"calibrator\":\"kl\"},$scale}"
whole=$id

# ---- the new job --------------------------------------------------------------------------------
requantize "$origin" "$kl" -H 'Idempotency-Key: once'
same 'created' 201 "$status"
derived=$(text id)
holds 'where it is' "$work/head" "^Location: /v1/jobs/$derived"
holds 'its origin' "$work/body" "\"derived_from\":\"$origin\""
holds 'what the body has' "$work/body" '"config":\{.*"calibrator":"kl"'
holds 'what the former job has' "$work/body" '"config":\{.*"scale":0\.0039'
requantize "$origin" "$kl" -H 'Idempotency-Key: once'
same 'the same key' "200 $derived" "$status $(text id)"
requantize "$origin" '{}' -H 'Idempotency-Key: once'
same 'the same key, another body' 422 "$status"
holds 'its code' "$work/body" '"code":"idempotency_key_reused"'
requantize "$whole" "$kl" -H 'Idempotency-Key: once'
same 'the same key, another job' 422 "$status"
await "$derived"
same 'state' succeeded "$state"
same 'name and version' 'net 3' "$(text name) $(grep -oE '"version":[0-9]+' "$work/body" | cut -d: -f2)"
holds 'verified on the held back samples' "$work/body" '"verification_held_back":true'
ask "$url/v1/jobs/$derived/events?after=0"
same 'nothing was calibrated' 0 "$(grep -c '"phase":"pass[12]"' "$work/body")"
same 'the bytes of a run with calibration' "$(file "$whole" model.qdq.onnx)" "$(file "$derived" model.qdq.onnx)"
same 'and its table' "$(file "$whole" calibration.csv)" "$(file "$derived" calibration.csv)"
same 'the statistics go on' "$(file "$origin" statistics.qds)" "$(file "$derived" statistics.qds)"
ask "$url/v1/jobs/$origin"
holds 'the former job has no origin' "$work/body" '"derived_from":null'

# ---- from the new job again, by null back to the defaults ---------------------------------------
ask -X POST "$url/v1/jobs/$derived/requantize"
same 'without a body' 201 "$status"
again=$(text id)
requantize "$derived" '{"name":"other","calibration":null,"exclude":{"types":null},"activations":null}' \
    -H 'Content-Type: application/merge-patch+json'
same 'with null' 201 "$status"
back=$(text id)
await "$again"
same 'nothing changed: the same bytes' "$(file "$derived" model.qdq.onnx)" "$(file "$again" model.qdq.onnx)"
await "$back"
same 'a name of its own' other "$(text name)"
same 'the defaults: the bytes of the first job' "$(file "$origin" model.qdq.onnx)" "$(file "$back" model.qdq.onnx)"

# ---- refusals -----------------------------------------------------------------------------------
# refused WHAT STATUS REGEX JOB BODY ARGUMENTS
refused() {
    requantize "$4" "$5" "${@:6}"
    same "$1: status" "$2" "$status"
    holds "$1: detail" "$work/body" "$3"
}
refused 'no such job' 404 'no job' j_none '{}'
refused 'not JSON' 400 'not JSON' "$origin" '{'
refused 'no object' 422 'must be a JSON object' "$origin" '[1]'
refused 'unknown field' 422 '"pointer":"/calibration/calibrater"' "$origin" '{"calibration":{"calibrater":"kl"}}'
refused 'unknown word' 422 'allowed: [a-z, ]*mse.*"pointer":"/calibration/calibrator"' "$origin" '{"calibration":{"calibrator":"x"}}'
refused 'out of range' 422 '"pointer":"/calibration/bins"' "$origin" '{"calibration":{"bins":4}}'
refused 'no section' 422 '"pointer":"/gate"' "$origin" '{"gate":1}'
refused 'unknown node' 422 'no-such-node' "$origin" '{"exclude":{"nodes":["no-such-node"]}}'
refused 'another preprocessing' 422 '"pointer":"/preprocess"' "$origin" '{"preprocess":{"scale":1}}'
refused 'other samples' 422 '/calibration/holdout is 0.5, the statistics were taken with 0.2' "$origin" '{"calibration":{"holdout":0.5}}'
refused 'tails' 422 '"pointer":"/calibration/tail_length"' "$origin" '{"calibration":{"tail_length":9}}'
ask -X POST "$url/v1/jobs/$origin/requantize?dryrun=true"
same 'unknown query' 400 "$status"
ask -d 'a=b' "$url/v1/jobs/$origin/requantize"
same 'a form' 415 "$status"
head -c 65537 /dev/zero | tr '\0' ' ' > "$work/large"
requantize "$origin" "@$work/large"
same 'too large' 413 "$status"
ask "$url/v1/jobs/$origin/requantize"
same 'GET' 405 "$status"
ask -H 'Content-Type: application/json' -d '{"calibration":{"calibrator":"js"}}' \
    "$url/v1/jobs/$origin/requantize?dry_run=true"
same 'dry run' 200 "$status"
holds 'dry run: merged' "$work/body" '"dry_run":true,"name":"net",.*"calibrator":"js".*"check":\{'
ask -F "$(config '{"name":"wo","mode":"weight_only"}')" -F "model=@$model" "$url/v1/jobs"
id=$(text id)
await "$id"
refused 'a job without statistics' 409 '"code":"no_statistics"' "$id" '{}'

# ---- statistics in a submission -----------------------------------------------------------------
curl -sS --max-time 20 -o "$work/statistics.qds" "$url/v1/jobs/$origin/artifacts/statistics.qds"
ask -F "$(config "{\"name\":\"sent\",$scale}")" -F "model=@$model" -F "statistics=@$work/statistics.qds" "$url/v1/jobs"
same 'statistics in the place of calibration' 201 "$status"
id=$(text id)
await "$id"
same 'their job' succeeded "$state"
holds 'it verified nothing' "$work/body" '"n_verification":0'
same 'its bytes' "$(file "$origin" model.qdq.onnx)" "$(file "$id" model.qdq.onnx)"
requantize "$id" '{"calibration":{"calibrator":"kl"},"exclude":{"types":["MaxPool"]},"activations":{"scheme":"symmetric"}}'
id=$(text id)
await "$id"
same 'requantized' "$(file "$whole" model.qdq.onnx)" "$(file "$id" model.qdq.onnx)"
ask -F "model=@$model" -F "statistics=@$work/images" "$url/v1/jobs"
same 'something else as statistics' 422 "$status"
holds 'it says so' "$work/body" 'statistics'
curl -sS --max-time 20 -o "$work/other.onnx" "$url/v1/jobs/$origin/artifacts/model.qdq.onnx"
ask -F "model=@$work/other.onnx" -F "statistics=@$work/statistics.qds" "$url/v1/jobs"
same 'statistics of another model' 422 "$status"
holds 'it says which' "$work/body" 'statistics are of another model: it begins with sha256 [0-9a-f]{8}'
blobs=$(count_blobs)
ask -F "model=@$model" "$url/v1/jobs"
same 'neither calibration nor statistics' 400 "$status"
holds 'both are named' "$work/body" "'calibration' is missing, or 'statistics' of another run"
same 'refused submissions leave nothing' "$blobs" "$(count_blobs)"

# ---- statistics without histograms ----------------------------------------------------------------
submit "{\"name\":\"bare\",\"calibration\":{\"calibrator\":\"minmax\",\"histograms\":false,\"tail_length\":300},$scale}"
bare=$id
requantize "$origin" '{"name":"counted","calibration":{"calibrator":"minmax"}}'
id=$(text id)
await "$id"
same 'minmax without histograms: the same bytes' "$(file "$id" model.qdq.onnx)" "$(file "$bare" model.qdq.onnx)"
refused 'kl' 422 "histograms is false and calibrator is 'kl'.*\"pointer\":\"/calibration/histograms\"" "$bare" '{"calibration":{"calibrator":"kl"}}'
refused 'histograms' 422 '/calibration/histograms is true, the statistics were taken with false' "$bare" '{"calibration":{"histograms":null}}'
refused 'a percentile beyond the tails' 422 'percentile 0.9 needs the [0-9]+ largest.*300 are kept' "$bare" '{"calibration":{"calibrator":"percentile","max_percentile":0.9}}'
requantize "$bare" '{"calibration":{"calibrator":"percentile","max_percentile":0.9995}}'
id=$(text id)
await "$id"
same 'a percentile within them' succeeded "$state"
ask "$url/v1/jobs/$id/calibration"
holds 'a share that nobody counted' "$work/body" '"saturated":null'
curl -sS --max-time 20 -o "$work/bare.qds" "$url/v1/jobs/$bare/artifacts/statistics.qds"
ask -F "$(config "{\"name\":\"sent\",$scale}")" -F "model=@$model" -F "statistics=@$work/bare.qds" "$url/v1/jobs"
same 'sent for mse' 422 "$status"
holds 'it names the tensor' "$work/body" "statistics without histograms: calibrator 'mse' needs histograms, tensor '"

# ---- below a gate: it succeeds, and is never the latest -------------------------------------------
requantize "$origin" '{"name":"gated","gate":{"min_sqnr_db":99}}'
id=$(text id)
await "$id"
same 'below its gate' succeeded "$state"
holds 'it says that' "$work/body" '"gate_passed":false'
ask "$url/v1/models/gated"
holds 'a version, no latest' "$work/body" '"newest":1,"latest":null'
ask "$url/v1/models/gated/versions/1"
holds 'the version' "$work/body" '"passed":false'
ask "$url/v1/models/gated/latest"
same 'latest' 404 "$status"

# ---- the former job goes, what derives from it stays ----------------------------------------------
ask -X DELETE "$url/v1/jobs/$origin"
same 'deleted' 204 "$status"
ask "$url/v1/jobs/$derived"
holds 'its id stays' "$work/body" "\"derived_from\":\"$origin\""
ask -X POST "$url/v1/jobs/$derived/requantize"
id=$(text id)
await "$id"
same 'its statistics stay' succeeded "$state"
end TERM
report
