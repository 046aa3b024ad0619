#!/bin/bash
# SIGKILL of the daemon and of a job's process in each phase: nothing is lost, the job ends as it
# should. Short phases are held open by a program around the worker that reports the phase, waits
# until the daemon is gone, and at the next start is the worker itself; the long ones are also
# met in the worker's own run.
# usage: tests/integration/test_kill.sh [BINARY]
set -uo pipefail
name=test_kill
binary=$(realpath "${1:-build/quantd}")
model=examples/fashion-mnist/model.onnx
. "$(dirname "$0")/../lib/service.sh"

cat > "$work/worker" << END
#!/bin/bash
# The frame's text and, when it is held, the phase come from files of the test. A check of a
# submission begins with its own folder's name and goes through.
case \$PWD in */check-*) exec "$binary" "\$@" ;; esac
if [ -s "$work/phase" ]; then
    frame="{\"type\":\"phase\",\"phase\":\"\$(cat "$work/phase")\"}"
    : > "$work/phase"
    printf "\\\\x\$(printf %x \${#frame})\\0\\0\\0%s" "\$frame" >&3
    cat <&3 > /dev/null # until the daemon's end is closed
    exit 1
fi
exec "$binary" "\$@"
END
chmod +x "$work/worker"
: > "$work/phase"
grey_images 40 > "$work/images"
parts=(-F "model=@$model" -F "calibration=@$work/images")
# submit ARGUMENTS of curl: $job
submit() {
    ask "$@" "$url/v1/jobs"
    same 'submit' 201 "$status"
    job=$(text id)
}
attempt() { grep -oE '"attempt":[0-9]+' "$work/body" | head -n1 | cut -d: -f2; }
# child: the daemon's job process. From /proc: a bare Debian has neither pgrep nor ps.
child() {
    local stat
    for stat in /proc/[0-9]*/stat; do
        # "PID (name) state PPID …", where the name may hold anything but a line's end.
        sed -nE "s/^([0-9]+) \(.*\) [A-Z] $pid .*/\1/p" "$stat" 2> /dev/null
    done | head -n1
}

# A file too small for its stream's buffer is written when it is closed: no room for a byte is left.
cat > "$work/cramped" << END
#!/bin/bash
trap '' XFSZ
case \$PWD in */check-*) ;; *) ulimit -f 0 ;; esac
exec "$binary" "\$@"
END
chmod +x "$work/cramped"
start --worker-program "$work/cramped"
submit -F 'config={"mode":"weight_only"}' -F model=@tests/fuzz/corpus/model/conv_net.onnx
for _ in $(seq 100); do
    ask "$url/v1/jobs/$job"
    grep -q '"message":' "$work/body" && break
    sleep 0.1
done
holds 'the cause of a file that cannot be written' "$work/body" "write 'model.qdq.onnx': File too large"
ask -X POST "$url/v1/jobs/$job/cancel"
end TERM

start --worker-program "$work/worker"
submit "${parts[@]}"
await "$job"
same 'undisturbed' succeeded "$state"
ask "$url/v1/jobs/$job/artifacts/model.qdq.onnx"
sha256sum < "$work/body" > "$work/wanted"

for phase in validating folding weights pass1 pass2 searching exporting verifying; do
    echo $phase > "$work/phase"
    submit "${parts[@]}"
    await_phase "$job" $phase || fail "the job did not come to $phase"
    end KILL
    start --worker-program "$work/worker"
    await "$job"
    same "daemon killed in $phase: state" succeeded "$state"
    same "daemon killed in $phase: attempt" 2 "$(attempt)"
    ask "$url/v1/jobs/$job/artifacts/model.qdq.onnx"
    same "daemon killed in $phase: artifact" "$(cat "$work/wanted")" "$(sha256sum < "$work/body")"

    echo $phase > "$work/phase"
    submit "${parts[@]}"
    await_phase "$job" $phase || fail "the job did not come to $phase"
    kill -KILL "$(child)"
    await "$job"
    same "process killed in $phase: state" failed "$state"
    holds "process killed in $phase: why" "$work/body" '"class":"resource".*SIGKILL|SIGKILL.*"class":"resource"'
    ask -X POST "$url/v1/jobs/$job/retry"
    await "$job"
    same "process killed in $phase: retry" succeeded "$state"
done

# The worker's own run, long enough to be met in the phases that read samples.
grey_images 1000 | tail -c +17 > "$work/thousand"
{
    printf '\0\0\010\003\0\0\076\200\0\0\0\034\0\0\0\034' # 16,000
    for i in $(seq 16); do cat "$work/thousand"; done
} > "$work/many"
parts=(-F 'config={"calibration":{"calibrator":"js","inference":"quantized"}}' -F "model=@$model"
       -F "calibration=@$work/many")
for phase in pass1 pass2 verifying; do
    submit "${parts[@]}"
    await_phase "$job" $phase 100 || fail "the run did not come to $phase"
    end KILL
    start --worker-program "$work/worker"
    await "$job" 100
    same "run killed in $phase: state" succeeded "$state"
    same "run killed in $phase: attempt" 2 "$(attempt)"
    ask "$url/v1/jobs/$job/artifacts/model.qdq.onnx"
    [ -s "$work/many_wanted" ] || sha256sum < "$work/body" > "$work/many_wanted"
    same "run killed in $phase: artifact" "$(cat "$work/many_wanted")" "$(sha256sum < "$work/body")"
done
submit "${parts[@]}"
await_phase "$job" pass1 || fail "the run did not come to pass1"
ask -X POST "$url/v1/jobs/$job/cancel"
same 'cancel a running one' 202 "$status"
await "$job"
same 'canceled' canceled "$state"

# While a submission is checked there is no job yet; its files go at the next start or later.
same 'scratch folders left' 0 "$(find "$work/data/scratch" -mindepth 1 | wc -l)"
same 'temporary files left' 0 "$(find "$work/data/blobs/tmp" -type f | wc -l)"
end TERM
same 'exit code' 0 "$rc"
report
