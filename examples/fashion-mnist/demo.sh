#!/bin/bash
# Quantizes the Fashion-MNIST example through the service, as `make demo` does: starts the daemon
# on a free loopback port, submits a job with curl, waits, downloads the INT8 model, prints the
# report (accuracy on all 10,000 test images in f32 and INT8, sizes, worst layers, times).
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
sets=/usr/share/datasets/fashion-mnist
work=$build/demo-data
model=examples/fashion-mnist/model.onnx
n_calibration=500
mkdir -p "$work/input"
[ -r $sets/t10k-images-idx3-ubyte.gz ] || {
    echo "demo: $sets is missing (Debian: dataset-fashion-mnist)" >&2
    exit 1
}

# The first 500 training images as an IDX file of their own: magic, count 500 (0x1f4), 28, 28.
calibration=$work/input/calibration-500-idx3-ubyte
{
    printf '\0\0\010\003\0\0\001\364\0\0\0\034\0\0\0\034'
    # head closes the pipe early, which ends zcat by SIGPIPE: not a failure here.
    (zcat $sets/train-images-idx3-ubyte.gz || true) 2> /dev/null |
        tail -c +17 2> /dev/null | head -c $((n_calibration * 784)) || true
} > "$calibration"
size=$(stat -c %s "$calibration")
[ "$size" = $((16 + n_calibration * 784)) ] || {
    echo "demo: $calibration has $size bytes instead of $((16 + n_calibration * 784))" >&2
    exit 1
}

"$build/quantd" serve --listen 127.0.0.1:0 --data "$work/state" > "$work/daemon.out" 2> "$work/daemon.log" &
pid=$!
stop() {
    kill "$pid" 2> /dev/null || return 0
    for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || return 0; sleep 0.1; done
    kill -9 "$pid" 2> /dev/null || true
}
trap stop EXIT
url=
for _ in $(seq 100); do
    url=$(grep -om1 'http://127\.0\.0\.1:[0-9]*' "$work/daemon.out" || true)
    [ -n "$url" ] && break
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
done
[ -n "$url" ] || { echo "demo: the daemon did not start; $work/daemon.log says:" >&2
                   tail -n 20 "$work/daemon.log" >&2; exit 1; }

config='{"name":"fashion-mnist","preprocess":{"scale":0.00392156862745098}}'
inputs=("$model" "$calibration" "$sets/t10k-images-idx3-ubyte.gz" "$sets/t10k-labels-idx1-ubyte.gz")
key=$({ echo "$config"; sha256sum "${inputs[@]}" "$build/quantd"; } | sha256sum | cut -c1-32)
field() { grep -oE "\"$1\": *\"[^\"]*\"" | head -n1 | sed -E 's/.*: *"(.*)"/\1/'; }
show() { printf '+'; printf ' %q' "$@"; echo; }
submit=(curl -sS --fail-with-body --max-time 120 -H "Idempotency-Key: $key"
    -F "config=$config;type=application/json" -F "model=@${inputs[0]}"
    -F "calibration=@${inputs[1]}" -F "validation=@${inputs[2]}" -F "labels=@${inputs[3]}"
    "$url/v1/jobs")
show "${submit[@]}"
job=$("${submit[@]}") || { echo "demo: refused: $job" >&2; exit 1; }
id=$(field id <<< "$job")
[ -n "$id" ] || { echo "demo: the answer names no job: $job" >&2; exit 1; }

state=$(field state <<< "$job")
deadline=$((SECONDS + 600)) shown=
while [[ $state != succeeded && $state != failed && $state != canceled ]]; do
    [ $SECONDS -lt $deadline ] || { echo "demo: job $id did not end in 600 s" >&2; exit 1; }
    job=$(curl -sS --fail-with-body --max-time 30 "$url/v1/jobs/$id?wait=2s")
    state=$(field state <<< "$job")
    phase=$(field phase <<< "$job")
    [ "$state $phase" = "$shown" ] || echo "  $id: $state $phase"
    shown="$state $phase"
done
[ "$state" = succeeded ] || { echo "demo: job $id $state: $job" >&2; exit 1; }

out=$work/model.qdq.onnx
fetch=(curl -sS --fail-with-body --max-time 60 -o "$out" "$url/v1/jobs/$id/artifacts/model.qdq.onnx")
show "${fetch[@]}"
"${fetch[@]}"
echo "size: $(stat -c %s "$model") bytes f32 → $(stat -c %s "$out") bytes INT8 ($out)"
report=(curl -sS --fail-with-body --max-time 30 "$url/v1/jobs/$id/report?format=text")
show "${report[@]}"
"${report[@]}"
