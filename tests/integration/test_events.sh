#!/bin/bash
# Server-sent events and models of the real daemon on a free loopback port: a job of the example
# network is followed, streams are resumed, cut, refused and drained. Every wait has a deadline.
# usage: tests/integration/test_events.sh [BINARY]
set -uo pipefail
binary=${1:-build/quantd}
work=$(mktemp -d)
pid=
failed=0
passed=0

finish() {
    if [ -n "$pid" ]; then kill -KILL "$pid" 2> /dev/null; wait "$pid" 2> /dev/null; fi
    rm -rf "$work"
}
trap finish EXIT

same() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); return; fi
    echo "test_events: $1: wanted '$2', got '$3'" >&2
    failed=$((failed + 1))
}
holds() {
    if grep -qE -- "$3" "$2"; then passed=$((passed + 1)); return; fi
    echo "test_events: $1: no /$3/ in:" >&2
    head -c 2000 "$2" >&2
    failed=$((failed + 1))
}
ask() {
    : > "$work/body"
    status=$(curl -sS --max-time 40 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@" 2> "$work/curl")
}
gauge() { curl -sS --max-time 5 "$url/metrics" | sed -nE "s/^$1 //p"; }
# reach SECONDS NAME VALUE: waits until a metric has the value
reach() {
    local value=
    for _ in $(seq $(($1 * 10))); do
        value=$(gauge "$2")
        [ "$value" = "$3" ] && break
        sleep 0.1
    done
    same "$2" "$3" "$value"
}
# submit NAME: id of the job in $id
submit() {
    ask -F "config={\"name\":\"$1\",\"preprocess\":{\"scale\":0.00392156862745098}};type=application/json" \
        -F model=@examples/fashion-mnist/model.onnx -F "calibration=@$work/images" "$url/v1/jobs"
    same "submit $1" 201 "$status"
    id=$(sed -nE 's/^\{"id":"([^"]*)".*/\1/p' "$work/body")
}
# ids FILE: the ids of a stream on one line
ids() { sed -nE 's/^id: ([0-9]+)$/\1/p' "$1" | tr '\n' ' '; }

# 40 grey images of 28x28 in IDX form, by a rule.
{
    printf '\0\0\010\003\0\0\0\050\0\0\0\034\0\0\0\034'
    awk 'BEGIN { for (i = 0; i < 40 * 784; i++) printf "%c", 32 + (i * 7919 + int(i / 784) * 31) % 90 }'
} > "$work/images"

"$binary" serve --listen 127.0.0.1:0 --data "$work/data" --min-free 1M --connections-max 12 \
    --event-heartbeat 1 > "$work/out" 2> "$work/log" &
pid=$!
url=
for _ in $(seq 100); do
    url=$(sed -nE '1s/^quantd listening on (http:.*)$/\1/p' "$work/out")
    [ -n "$url" ] && break
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
done
[ -n "$url" ] || { echo 'test_events: the daemon did not start' >&2; cat "$work/log" >&2; exit 1; }

# --- the stream of a job ------------------------------------------------------------------------
curl -sSN --max-time 60 "$url/v1/events" > "$work/all" &
all=$!
reach 5 quantd_http_event_streams 1
submit example
timeout 60 curl -sSN -D "$work/head" "$url/v1/jobs/$id/events" > "$work/job"
same 'the stream of a job ends with the job' 0 $?
holds 'type of a stream' "$work/head" '^Content-Type: text/event-stream'
holds 'nothing is cached' "$work/head" '^Cache-Control: no-store'
same 'first and last event' 'job.queued job.succeeded' \
    "$(sed -nE 's/^event: //p' "$work/job" | sed -n '1p;$p' | tr '\n' ' ' | sed 's/ $//')"
same 'ids ascend' "$(ids "$work/job" | tr ' ' '\n' | sort -nu | tr '\n' ' ' | sed 's/^ //')" "$(ids "$work/job")"
holds 'phases are told' "$work/job" '^data: .*"phase":"pass1"'
holds 'progress is told' "$work/job" '^data: .*"progress":\{"fraction":'
same 'progress has no id' 0 "$(grep -B1 '^event: job.progress' "$work/job" | grep -c '^id:')"
same 'nothing but fields' 0 "$(grep -cvE '^((id|event|data|retry): .*|: heartbeat|)$' "$work/job")"
for _ in $(seq 50); do [ "$(ids "$work/all")" = "$(ids "$work/job")" ] && break; sleep 0.1; done
same 'all events hold those of the job' "$(ids "$work/job")" "$(ids "$work/all")"

# --- resume -------------------------------------------------------------------------------------
read -ra events <<< "$(ids "$work/job")"
[ ${#events[@]} -ge 5 ] || { echo "test_events: ${#events[@]} events are too few" >&2; exit 1; }
first=${events[0]} second=${events[1]} last=${events[-1]}
ask -H "Last-Event-ID: $first" "$url/v1/jobs/$id/events"
same 'resumed by header' "$(ids "$work/job" | sed "s/^$first //")" "$(ids "$work/body")"
ask "$url/v1/jobs/$id/events?after=$second"
same 'resumed by query' "$(ids "$work/job" | sed "s/^$first $second //")" "$(ids "$work/body")"
ask -H "Last-Event-ID: $second" "$url/v1/jobs/$id/events?after=0"
same 'the header is newer' "$(ids "$work/job" | sed "s/^$first $second //")" "$(ids "$work/body")"
for at in "$last" 999999; do
    ask -H "Last-Event-ID: $at" "$url/v1/jobs/$id/events"
    same "nothing follows $at" 204 "$status"
done
for at in x -1 1x 99999999999999999999; do
    ask "$url/v1/jobs/$id/events?after=$at"
    same "id '$at'" 400 "$status"
done
ask "$url/v1/jobs/j_none/events"
same 'events of no job' 404 "$status"
ask -I "$url/v1/jobs/$id/events"
same HEAD 200 "$status"
timeout 2 curl -sSN "$url/v1/events?after=0" > "$work/body"
same 'all from the beginning' "$(ids "$work/job")" "$(ids "$work/body")"

# --- silence, limits, clients that vanish -------------------------------------------------------
for _ in $(seq 50); do grep -q '^: heartbeat' "$work/all" && break; sleep 0.1; done
holds 'a silent stream has a heartbeat' "$work/all" '^: heartbeat$'
kill "$all"
wait "$all" 2> /dev/null
reach 5 quantd_http_event_streams 0
streams=()
for _ in 1 2 3 4 5 6; do
    curl -sSN --max-time 30 "$url/v1/events" > "$work/one" &
    streams+=($!)
done
reach 5 quantd_http_event_streams 6
ask "$url/v1/events"
same 'one stream too many' 503 "$status"
holds 'its code' "$work/body" '"code":"too_many_streams"'
holds 'when to come again' "$work/head" '^Retry-After: [0-9]'
kill "${streams[@]}"
wait "${streams[@]}" 2> /dev/null
reach 6 quantd_http_event_streams 0

# --- models -------------------------------------------------------------------------------------
model=$url/v1/models/example
ask "$url/v1/models"
holds 'models are listed' "$work/body" '^\{"data":\[\{"name":"example","newest":1,"latest":1,"n_versions":1,'
submit example
second=$id
ask "$url/v1/jobs/$second/events"
ask "$model"
holds 'a second job is a second version' "$work/body" '"newest":2,"latest":2,"n_versions":2'
ask "$model/versions?limit=1"
holds 'versions by page' "$work/body" '"version":2,.*"next_cursor":"2","has_more":true'
ask "$model/versions?cursor=2"
holds 'the next page' "$work/body" '"version":1,.*"next_cursor":null,"has_more":false'
ask "$url/v1/jobs?limit=1&state=succeeded,failed&created_after=2020-01-01T00:00:00%2B02:00"
holds 'a page of jobs' "$work/body" "\"id\":\"$second\".*\"has_more\":true"
next=$(sed -nE 's/^Link: <(.*)>; rel="next".*$/\1/p' "$work/head")
ask "$url/v1/jobs?cursor=abc"
same 'no cursor' 400 "$status"
holds 'no cursor: told' "$work/body" "'cursor' is 'abc', not the next_cursor of a page"
ask "$url/v1/jobs?cursor=j_00000000000000000000000000"
same 'the cursor of a job that is gone' 200 "$status"
ask "$url/v1/jobs?limit=1&state=succeeded,failed&created_after=2020-01-01T00:00:00%2B02:00"
holds 'the link keeps the query' "$work/head" '^Link: </v1/jobs\?limit=1&state=succeeded%2Cfailed&created_after=2020-01-01T00%3A00%3A00%2B02%3A00&cursor=j_'
ask "$url$next"
holds 'the link is the next page' "$work/body" '"has_more":false'
same 'the last page has no link' 0 "$(grep -c '^Link:' "$work/head")"
ask "$url/v1/jobs?created_after=2099-01-01T00:00:00Z"
holds 'no job of the future' "$work/body" '^\{"data":\[\]'
ask "$url/v1/jobs?created_after=yesterday"
same 'no time' 400 "$status"
ask "$model/latest"
holds 'latest names its job' "$work/body" "\"version\":2,\"job_id\":\"$second\",\"passed\":true"
holds 'and its files' "$work/body" '"artifacts":\[.*"name":"model.qdq.onnx","sha256":"[0-9a-f]{64}"'
ask "$model/latest/artifacts/model.qdq.onnx"
same 'artifact of latest' 200 "$status"
sum=$(sha256sum < "$work/body" | cut -d' ' -f1)
holds 'its hash is its ETag' "$work/head" "^ETag: \"sha256:$sum\""
holds 'latest may move' "$work/head" '^Cache-Control: private, no-cache'
holds 'where it stays' "$work/head" '^Content-Location: /v1/models/example/versions/2/artifacts/model\.qdq\.onnx'
cp "$work/body" "$work/artifact"
ask -H "If-None-Match: \"sha256:$sum\"" "$model/latest/artifacts/model.qdq.onnx"
same 'it has not moved' 304 "$status"
ask -r 100-199 "$model/versions/2/artifacts/model.qdq.onnx"
same 'part of a version' "206 $(tail -c +101 "$work/artifact" | head -c 100 | sha256sum)" "$status $(sha256sum < "$work/body")"
holds 'a version never changes' "$work/head" '^Cache-Control: .*immutable'
ask -I "$model/latest/artifacts/model.qdq.onnx"
same 'HEAD of an artifact' 200 "$status"
holds 'HEAD has its size' "$work/head" "^Content-Length: $(stat -c %s "$work/artifact")"
for path in none none/latest none/latest/artifacts/x example/versions/9 example/latest/artifacts/x \
    example/versions/1/artifacts/..%2fx none/versions; do
    ask "$url/v1/models/$path"
    same "no $path" 404 "$status"
done
ask "$model/versions/x"
same 'no number' 400 "$status"
ask -X DELETE "$url/v1/jobs/$second"
timeout 2 curl -sSN "$url/v1/events?after=$last" > "$work/body"
same 'of a deleted job one event stays' job.deleted "$(sed -nE 's/^event: //p' "$work/body")"
ask "$model/latest"
holds 'latest goes back' "$work/body" '"version":1,'

# --- the end ------------------------------------------------------------------------------------
# The stream that was cut above is still counted until its next heartbeat fails.
reach 5 quantd_http_event_streams 0
curl -sSN --max-time 30 "$url/v1/events" > "$work/all" &
all=$!
reach 5 quantd_http_event_streams 1
kill -TERM "$pid"
for _ in $(seq 100); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
wait "$all"
same 'a drained stream ends in order' 0 $?
kill -0 "$pid" 2> /dev/null && { echo 'test_events: the daemon did not end' >&2; exit 1; }
wait "$pid"
same 'exit code' 0 $?
pid=
echo "test_events: $passed checks passed, $failed failed"
[ "$failed" = 0 ]
