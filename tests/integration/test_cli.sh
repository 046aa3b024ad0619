#!/bin/bash
# The offline subcommands as somebody at a terminal uses them: exit codes (0, 1 failed, 2 usage,
# 3 bad input), messages, files, and nothing left behind by a failure.
# usage: tests/integration/test_cli.sh [BINARY]
set -uo pipefail
binary=${1:-build/quantd}
nets=tests/fuzz/corpus/model
example=examples/fashion-mnist/model.onnx
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
passed=0

fail() {
    echo "test_cli: $1" >&2
    head -c 1000 "$work/err" >&2
    failed=$((failed + 1))
}
# expect CODE REGEX ARGUMENTS…: exit code, and the regular expression in what it printed
expect() {
    local code=$1 regex=$2 rc=0
    shift 2
    timeout 30 "$binary" "$@" > "$work/out" 2> "$work/err" || rc=$?
    if [ $rc != "$code" ]; then
        fail "quantd $*: exit code $rc, not $code"
    elif [ -n "$regex" ] && ! grep -qE -- "$regex" "$work/out" "$work/err"; then
        fail "quantd $*: nothing printed matches /$regex/"
    else
        passed=$((passed + 1))
    fi
}
same() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else fail "$1: wanted '$2', got '$3'"; fi
}
absent() {
    if [ ! -e "$1" ]; then passed=$((passed + 1)); else fail "'$1' was left behind"; fi
}
# npy FILE SHAPE VALUE…: f32; values by name, so that no tool for binary data is needed
npy() {
    local file=$1 text value
    text="{'descr': '<f4', 'fortran_order': False, 'shape': $2, }"
    shift 2
    {
        printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$text"
        for value in "$@"; do
            case $value in
                0) printf '\0\0\0\0' ;;
                1) printf '\0\0\x80\x3f' ;;
                2) printf '\0\0\0\x40' ;;
                4) printf '\0\0\x80\x40' ;;
                nan) printf '\0\0\xc0\x7f' ;;
                inf) printf '\0\0\x80\x7f' ;;
            esac
        done
    } > "$file"
}
# The values of a .npy file with a header of 128 bytes.
values() { tail -c +129 "$1" | od -An -tf4 -v | xargs; }

# --- usage
expect 2 'usage: quantd SUBCOMMAND'
expect 2 'unknown subcommand|usage: quantd SUBCOMMAND' frobnicate
expect 0 'quantize +quantize a model' help
expect 0 '^quantd [0-9]' version
for command in quantize run inspect; do
    expect 2 "usage: quantd $command" $command
    expect 2 'unrecognized option|usage' $command --frobnicate
done
for command in quantize run inspect statistics; do
    expect 0 "usage: quantd $command" $command --help
    same "$command --help: on stdout" 1 "$(grep -c "^usage: quantd $command" "$work/out")"
done
expect 0 '--event-heartbeat' serve --help
expect 2 'usage: quantd inspect' inspect $example extra
expect 2 'usage: quantd run' run $example --input x.npy
expect 2 'usage: quantd run' run $example --input x.npy --output y.npy --engine f16
expect 2 'usage: quantd run' run $example --input x.npy --output y.npy --isa sse
expect 2 'usage: quantd run' run $example more --input x.npy --output y.npy
expect 2 'usage: quantd quantize' quantize $example --calibration x.npy
expect 2 'usage: quantd quantize' quantize $example --output "$work/none"
expect 2 "--threads is '0', allowed: 1 to" quantize $example --calibration x --output "$work/none" --threads 0
expect 2 "--threads is '2x'" quantize $example --calibration x --output "$work/none" --threads 2x
absent "$work/none"

# --- inspect
expect 0 '^model .*, IR [0-9]+, opset [0-9]+' inspect $example
expect 0 '^input .* f32\[N,1,28,28\]$' inspect $example
expect 0 '^not quantized yet$' inspect $example
expect 0 '^carries QuantizeLinear already$' inspect $nets/qdq_net.onnx
expect 0 '^output m f32\[\]$' inspect $nets/batch_net.onnx
expect 3 "quantd inspect: open '.*none.onnx': No such file" inspect "$work/none.onnx"
expect 3 'is not a regular file' inspect "$work"
printf 'this is no model' > "$work/text.onnx"
expect 3 'quantd inspect: ' inspect "$work/text.onnx"
: > "$work/empty.onnx"
expect 3 'quantd inspect: ' inspect "$work/empty.onnx"
head -c 5000 $example > "$work/cut.onnx"
expect 3 'quantd inspect: ' inspect "$work/cut.onnx"

# --- run
npy "$work/x.npy" '(3, 2)' 0 1 2 4 1 1
expect 3 '2 outputs: --output must be .npz' run $nets/split_net.onnx --input "$work/x.npy" --output "$work/lr.npy"
absent "$work/lr.npy"
expect 0 '' run $nets/split_net.onnx --input "$work/x.npy" --output "$work/lr.npz"
expect 0 '' run $nets/pair_net.onnx --input "$work/lr.npz" --output "$work/y.npy"
same 'arrays are matched by name: 3x - x' '0 2 4 8 2 2' "$(values "$work/y.npy")"
expect 3 "'?[lr]'?" run $nets/pair_net.onnx --input "$work/x.npy" --output "$work/z.npy"
npy "$work/wide.npy" '(2, 3)' 0 1 2 4 1 1
expect 3 '\[2, ?3\].*\[.*2\]' run $nets/split_net.onnx --input "$work/wide.npy" --output "$work/z.npz"
npy "$work/nan.npy" '(2, 2)' 0 1 2 nan
expect 3 "sample 1.*nan|nan.*sample 1|NaN.*sample 1|sample 1.*NaN" run $nets/split_net.onnx --input "$work/nan.npy" --output "$work/z.npz"
npy "$work/inf.npy" '(1, 2)' inf 0
expect 3 "[Ii]nf" run $nets/split_net.onnx --input "$work/inf.npy" --output "$work/z.npz"
npy "$work/short.npy" '(3, 2)' 0 1 2 4 1
expect 3 'short.npy' run $nets/split_net.onnx --input "$work/short.npy" --output "$work/z.npz"
expect 3 'No such file' run $nets/split_net.onnx --input "$work/none.npy" --output "$work/z.npz"
expect 3 "first axis of output 'y' is not the sample" run $nets/batch_net.onnx --input "$work/x.npy" --output "$work/z.npz"
expect 3 'not quantized' run $nets/split_net.onnx --engine int8 --input "$work/x.npy" --output "$work/z.npz"
absent "$work/z.npy"
absent "$work/z.npz"
expect 1 'cannot write: .*none/z.npz' run $nets/split_net.onnx --input "$work/x.npy" --output "$work/none/z.npz"
expect 1 'No such file|Not a directory' run $nets/pair_net.onnx --input "$work/lr.npz" --output "$work/x.npy/z.npy"
# A failure in the middle leaves what stood under the name.
npy "$work/pair_nan.npy" '(3, 2)' 0 1 2 4 1 nan
cp "$work/y.npy" "$work/kept.npy"
expect 3 'sample 2' run $nets/relu_net.onnx --input "$work/pair_nan.npy" --output "$work/kept.npy"
same 'the former file stays' "$(sha256sum < "$work/y.npy")" "$(sha256sum < "$work/kept.npy")"
# The input may be the output.
cp "$work/x.npy" "$work/both.npy"
expect 0 '' run $nets/relu_net.onnx --input "$work/both.npy" --output "$work/both.npy"
absent "$work/both.npy.tmp"
absent "$work/kept.npy.tmp"
same 'input and output in one file' '0 1 2 4 1 1' "$(values "$work/both.npy")"

# --- quantize
# images FILE COUNT: grey images of 28x28 in IDX form, an even spread of values by a rule
images() {
    {
        printf "\\0\\0\\010\\003\\0\\0\\0\\$(printf %o "$2")\\0\\0\\0\\034\\0\\0\\0\\034"
        LC_ALL=C awk -v n="$2" 'BEGIN { for (i = 0; i < n * 784; i++) printf "%c", 32 + (i * 7919 + int(i / 784) * 31) % 90 }'
    } > "$1"
}
images "$work/images" 20
images "$work/more" 5
printf '\0\0\010\001\0\0\0\005\0\1\2\3\4' > "$work/labels"
echo '{"preprocess":{"scale":0.00392156862745098}}' > "$work/job.json"
out="$work/results"
quantize=(quantize $example --config "$work/job.json" --calibration "$work/images" --output "$out")
expect 0 'calibrated on 16 samples, verified on 4 held back' "${quantize[@]}"
same files 'SHA256SUMS calibration.csv calibration.json model.qdq.onnx report.json statistics.qds' "$(LC_ALL=C ls -A "$out" | xargs)"
same 'SHA256SUMS hold' 0 "$(cd "$out" && sha256sum --quiet -c SHA256SUMS > /dev/null 2>&1; echo $?)"
same 'SHA256SUMS hold every file' 5 "$(wc -l < "$out/SHA256SUMS")"
expect 0 '^carries QuantizeLinear already$' inspect "$out/model.qdq.onnx"
first=$(sha256sum < "$out/model.qdq.onnx")
echo old > "$out/report.json"
expect 0 'verified on 5 given for it' "${quantize[@]}" --validation "$work/more" --labels "$work/labels"
expect 0 'accuracy +f32' "${quantize[@]}" --validation "$work/more" --labels "$work/labels"
printf '\0\0\010\001\0\0\0\031' > "$work/all-labels"
printf '%025d' 0 | tr 0 '\003' >> "$work/all-labels"
expect 0 'accuracy +f32' "${quantize[@]}" --calibration "$work/more" --labels "$work/all-labels"
expect 0 'verified on 25 given' "${quantize[@]}" --validation "$work/more" --validation "$work/images" --labels "$work/all-labels"
printf "1\n2\n" > "$work/labels.txt"
expect 3 "labels: begins with 310a320a, neither .npy nor IDX" "${quantize[@]}" --labels "$work/labels.txt"
expect 3 'labels have shape \[25\], the data has 20 samples' "${quantize[@]}" --labels "$work/all-labels"
echo '{"mode":"weight_only"}' > "$work/only.json"
expect 3 'labels are given without samples' quantize $example --config "$work/only.json" --labels "$work/labels" --output "$out"
images "$work/single" 1
expect 3 "create folder '$work/none/there'" quantize $example --calibration "$work/nodata" --output "$work/none/there"
expect 3 "nodata: cannot open|nodata: No such|open .*nodata" quantize $example --calibration "$work/nodata" --output "$work/fresh"
absent "$work/fresh"
expect 1 "write to '$work/single': Not a directory" quantize $example --calibration "$work/nodata" --output "$work/single"
expect 3 'is a folder; its files go into a tar or zip' quantize $example --calibration "$work" --output "$work/fresh"
echo '{,}' > "$work/broken.json"
expect 3 'broken.json: the configuration is not JSON' quantize $example --config "$work/broken.json" --calibration "$work/images" --output "$work/fresh"
absent "$work/fresh"
expect 0 'calibrated on 1 samples, verified on 1 that calibrated too' quantize $example --config "$work/job.json" --calibration "$work/single" --output "$out"
images "$work/images49" 49
echo '{"preprocess":{"scale":0.00392156862745098},"calibration":{"holdout":0}}' > "$work/holdout.json"
expect 0 'calibrated on 48 samples, verified on 1 held back' quantize $example --config "$work/holdout.json" --calibration "$work/images49" --output "$out"
cp "$out/statistics.qds" "$work/statistics.qds"
expect 0 'calibrated on 48 samples, not verified: no samples' quantize $example --config "$work/job.json" --statistics "$work/statistics.qds" --output "$out"
same 'old files are replaced' 0 "$(cd "$out" && sha256sum --quiet -c SHA256SUMS > /dev/null 2>&1; echo $?)"
expect 0 'calibrated on 16 ' "${quantize[@]}" --threads 1
same 'the same bytes again' "$first" "$(sha256sum < "$out/model.qdq.onnx")"
expect 0 'calibrated on 20 ' "${quantize[@]}" --calibration "$work/more"

# --- statistics: parts add up to the whole, and take the place of calibration
part=(quantize $example --config "$work/job.json" --validation "$work/more")
expect 0 '' "${part[@]}" --calibration "$work/images" --output "$work/part1"
expect 0 '' "${part[@]}" --calibration "$work/more" --output "$work/part2" --threads 1
expect 0 'calibrated on 25 ' "${part[@]}" --calibration "$work/images" --calibration "$work/more" --output "$work/whole"
merged="$work/merged.qds"
expect 0 ', 25 samples, ' statistics merge "$work/part2/statistics.qds" "$work/part1/statistics.qds" --output "$merged"
same 'merged statistics' "$(sha256sum < "$work/whole/statistics.qds")" "$(sha256sum < "$merged")"
expect 0 'calibrated on 25 ' quantize $example --statistics "$merged" --output "$work/derived"
same 'artifact from statistics' "$(sha256sum < "$work/whole/model.qdq.onnx")" "$(sha256sum < "$work/derived/model.qdq.onnx")"
echo '{"calibration":{"calibrator":"minmax"},"preprocess":{"scale":0.00392156862745098}}' > "$work/minmax.json"
expect 0 'verified on 5 given' "${part[@]}" --config "$work/minmax.json" --statistics "$merged" --output "$work/derived"
expect 0 '' "${part[@]}" --config "$work/minmax.json" --calibration "$work/images" --calibration "$work/more" --output "$work/whole"
same 'another calibrator' "$(sha256sum < "$work/whole/model.qdq.onnx")" "$(sha256sum < "$work/derived/model.qdq.onnx")"
expect 3 'statistics are of another model' quantize $nets/relu_net.onnx --statistics "$merged" --output "$work/none"
absent "$work/none"
head -c 9000 "$merged" > "$work/short.qds"
expect 3 'ends early' quantize $example --statistics "$work/short.qds" --output "$work/none"
expect 3 'statistics 2 of 2: .*ends early' statistics merge "$merged" "$work/short.qds" --output "$work/none"
absent "$work/none"
expect 0 '^model sha256:[0-9a-f]{64}, 25 samples, ' statistics show "$merged"
expect 2 'usage' statistics merge "$merged"
expect 2 'usage' statistics

echo '{"calibration":{"moments":"second"}}' > "$work/moments.json"
for k in part1 part2 whole; do
    case $k in part1) d=(--calibration "$work/images") ;; part2) d=(--calibration "$work/more") ;; *) d=(--calibration "$work/images" --calibration "$work/more") ;; esac
    expect 0 '' quantize $example --config "$work/moments.json" --validation "$work/more" "${d[@]}" --output "$work/$k"
done
expect 0 '' statistics merge "$work/part2/statistics.qds" "$work/part1/statistics.qds" --output "$work/merged2.qds"
same 'merged second moments' "$(sha256sum < "$work/whole/statistics.qds")" "$(sha256sum < "$work/merged2.qds")"
expect 3 'second moments of' statistics merge "$merged" "$work/merged2.qds" --output "$work/none"

# --- without histograms: the same artifact, statistics that know less and say so
bare() { # NAME CALIBRATOR HISTOGRAMS ARGUMENTS: an artifact in $work/NAME
    echo "{\"calibration\":{$2,\"holdout\":0,\"histograms\":$3},\"preprocess\":{\"scale\":0.00392156862745098}}" > "$work/$1.json"
    expect "${code:-0}" "${wanted:-}" quantize $example --config "$work/$1.json" --validation "$work/more" --output "$work/$1" "${@:4}"
}
all=(--calibration "$work/images" --calibration "$work/more")
tails='"calibrator":"percentile","max_percentile":0.999,"tail_length":500'
bare counted '"calibrator":"minmax"' true "${all[@]}"
bare minmax '"calibrator":"minmax"' false "${all[@]}"
same 'minmax without histograms' "$(sha256sum < "$work/counted/model.qdq.onnx")" "$(sha256sum < "$work/minmax/model.qdq.onnx")"
bare counted "$tails" true "${all[@]}"
bare whole "$tails" false "${all[@]}" --threads 1
same 'percentile without histograms' "$(sha256sum < "$work/counted/model.qdq.onnx")" "$(sha256sum < "$work/whole/model.qdq.onnx")"
same 'a share that nobody counted: json' 1 "$(grep -c '"clipped_share": null' "$work/whole/calibration.json" | awk '{ print ($1 > 0) }')"
same 'and csv' 1 "$(grep -c ',.$' "$work/whole/calibration.csv" | awk '{ print ($1 > 0) }')"
bare again '"calibrator":"minmax"' true "${all[@]}" --table "$work/whole/calibration.json"
same 'its own table' "$(sha256sum < "$work/whole/model.qdq.onnx")" "$(sha256sum < "$work/again/model.qdq.onnx")"
bare part1 "$tails" false --calibration "$work/images"
bare part2 "$tails" false --calibration "$work/more"
expect 0 ', 25 samples, [0-9]+ tensors without histograms' statistics merge "$work/part2/statistics.qds" "$work/part1/statistics.qds" --output "$work/bare.qds"
same 'merged statistics without histograms' "$(sha256sum < "$work/whole/statistics.qds")" "$(sha256sum < "$work/bare.qds")"
bare derived "$tails" false --statistics "$work/bare.qds"
same 'an artifact from them' "$(sha256sum < "$work/whole/model.qdq.onnx")" "$(sha256sum < "$work/derived/model.qdq.onnx")"
code=3 wanted="statistics of '.*' with a histogram and without one do not merge"
expect 3 "$wanted" statistics merge "$work/bare.qds" "$work/counted/statistics.qds" --output "$work/none"
expect 3 "$wanted" statistics merge "$work/counted/statistics.qds" "$work/bare.qds" --output "$work/none"
wanted="calibrator 'kl' needs histograms, tensor '.*' has none" bare refused '"calibrator":"kl"' true --statistics "$work/bare.qds"
wanted="percentile 0.9 needs the [0-9]+ largest of the [0-9]+ values of '.*', 500 are kept" bare refused '"calibrator":"percentile","max_percentile":0.9' false --statistics "$work/bare.qds"
wanted="histograms is false and calibrator is 'mse'" bare refused '"calibrator":["minmax","mse"]' false "${all[@]}"
wanted="histograms is false and calibrator is 'auto'" bare refused '"calibrator":"auto"' false --statistics "$work/bare.qds"
wanted='histograms is false: percentile 0.6 needs' bare refused '"calibrator":"percentile","max_percentile":0.6' false "${all[@]}"
absent "$work/none"
absent "$work/refused"
unset code wanted

# --- several configurations: the best is kept, and is what it is alone
echo '{"calibration":{"calibrator":["minmax","js","mse"]},"weights":{"range":["narrow","full"]}}' > "$work/grid.json"
grid=(quantize $example --config "$work/grid.json" --validation "$work/more" --output "$work/grid")
expect 0 '6 of 6 configurations were tried' "${grid[@]}" --calibration "$work/images"
chosen=$(sed -nE "s/^\* (range=[a-z]+, calibrator=[a-z]+) .*/\1/p" "$work/out")
same 'the best is the largest' "$chosen" "$(grep -E '^[* ] range=' "$work/out" | sed -E 's/^. (range=[a-z]+, calibrator=[a-z]+) +([0-9.]+) dB.*/\2 \1/' | sort -rn -s -k1,1 | head -n1 | cut -d' ' -f2-)"
winner=$(sha256sum < "$work/grid/model.qdq.onnx")
echo "{\"calibration\":{\"calibrator\":\"${chosen##*=}\"},\"weights\":{\"range\":\"$(echo "$chosen" | sed -E 's/range=([a-z]+),.*/\1/')\"}}" > "$work/one.json"
expect 0 '' quantize $example --config "$work/one.json" --statistics "$work/grid/statistics.qds" --output "$work/one"
same 'the winner alone' "$winner" "$(sha256sum < "$work/one/model.qdq.onnx")"
sed 's/}$/,"grid":{"deadline_s":0.000001}}/' "$work/grid.json" > "$work/hurry.json"
expect 0 '1 of 6 configurations were tried before the deadline' "${grid[@]}" --config "$work/hurry.json" --calibration "$work/images"
expect 3 'choose among 6 configurations takes samples' quantize $example --config "$work/grid.json" --statistics "$merged" --output "$work/none"
echo '{"calibration":{"calibrator":"auto"}}' > "$work/auto.json"
expect 0 '4 of 4 configurations' "${grid[@]}" --config "$work/auto.json" --statistics "$merged"
# A table wins over each of them; weights alone differ.
echo '{"weights":{"range":["narrow","full"]}}' > "$work/ranges.json"
expect 0 '2 of 2 configurations' "${grid[@]}" --config "$work/ranges.json" --calibration "$work/images" --table "$work/one/calibration.json"
same 'the scales of the table' "$(grep -oE '"(scale|zero_point)": [^,]*' "$work/one/calibration.json" | sha256sum)" "$(grep -oE '"(scale|zero_point)": [^,]*' "$work/grid/calibration.json" | sha256sum)"

# A failed gate is a failure whose report and artifact can be looked at.
echo '{"preprocess":{"scale":0.00392156862745098},"gate":{"min_sqnr_db":99}}' > "$work/gate.json"
expect 1 'gate|99' quantize $example --config "$work/gate.json" --calibration "$work/images" --output "$work/gate"
same 'report of a failed gate' 0 "$(cd "$work/gate" && sha256sum --quiet -c SHA256SUMS > /dev/null 2>&1; echo $?)"

# Bad input: exit code 3, the value and its name, no folder.
none=(--output "$work/none")
good=(--calibration "$work/images")
echo '{"nam":"x"}' > "$work/bad.json"
expect 3 "bad.json: .*'?/?nam" quantize $example --config "$work/bad.json" "${good[@]}" "${none[@]}"
echo '{' > "$work/broken.json"
expect 3 'quantd quantize: ' quantize $example --config "$work/broken.json" "${good[@]}" "${none[@]}"
expect 3 'No such file' quantize $example --config "$work/none.json" "${good[@]}" "${none[@]}"
expect 3 'No such file' quantize "$work/none.onnx" "${good[@]}" "${none[@]}"
expect 3 'No such file' quantize $example --calibration "$work/none.npy" "${none[@]}"
expect 3 'No such file' quantize $example "${good[@]}" --validation "$work/more" --labels "$work/nolabels" "${none[@]}"
expect 3 'labels have shape \[5\]' quantize $example "${good[@]}" --validation "$work/images" --labels "$work/labels" "${none[@]}"
expect 3 'quantd quantize: ' quantize "$work/text.onnx" "${good[@]}" "${none[@]}"
expect 3 'text.onnx' quantize $example --calibration "$work/text.onnx" "${none[@]}"
expect 3 '\[3, ?2\].*28' quantize $example --calibration "$work/x.npy" "${none[@]}"
expect 3 'nan.npy.*sample 1.*NaN' quantize $nets/split_net.onnx --calibration "$work/nan.npy" "${none[@]}"
absent "$work/none"

# The place is no folder, is not there, or has a folder where a file goes: no pieces.
expect 1 "quantd quantize: .*x.npy" "${quantize[@]}" --output "$work/x.npy"
expect 3 "quantd quantize: create folder '.*none/none'" "${quantize[@]}" --output "$work/none/none"
mkdir -p "$work/clash/report.json/full"
expect 1 "quantd quantize: .*report.json" "${quantize[@]}" --output "$work/clash"
same 'what was there stays alone' report.json "$(ls -A "$work/clash")"

echo "test_cli: $passed checks passed, $failed failed"
[ "$failed" = 0 ]
