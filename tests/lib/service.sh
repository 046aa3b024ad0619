# Sourced by tests of the service: starts the real daemon on a free loopback port, asks it with
# curl, counts what held. Every wait has a deadline.
# The sourcing script sets `name` (of the test) and `binary`; it gets a folder $work that goes
# with the shell.
work=$(mktemp -d)
pid=
failed=0
passed=0

finish() {
    if [ -n "$pid" ]; then kill -KILL "$pid" 2> /dev/null; wait "$pid" 2> /dev/null; fi
    chmod -R u+w "$work"
    rm -rf "$work"
}
trap finish EXIT

fail() {
    echo "$name: $1" >&2
    failed=$((failed + 1))
}
# same WHAT WANTED GOT
same() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); return; fi
    fail "$1: wanted '$2', got '$3'"
    head -c 1000 "$work/body" >&2
}
# holds WHAT FILE REGEX
holds() {
    if grep -qiE -- "$3" "$2"; then passed=$((passed + 1)); return; fi
    fail "$1: no /$3/ in:"
    head -c 2000 "$2" >&2
}
# ask ARGUMENTS of curl: status in $status, headers in $work/head, body in $work/body
ask() {
    : > "$work/body"
    status=$(curl -sS --max-time 40 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@" 2> "$work/curl")
}
# text NAME: the first member of this name in the answer
text() { grep -oE "\"$1\":\"[^\"]*\"" "$work/body" | head -n1 | sed -E 's/^"[^"]*":"(.*)"$/\1/'; }
# start ARGUMENTS of serve: $pid, $url
start() {
    : > "$work/out"
    "$binary" serve --listen 127.0.0.1:0 --data "$work/data" --min-free 1M "$@" > "$work/out" 2>> "$work/log" &
    pid=$!
    url=
    for _ in $(seq 100); do
        url=$(sed -nE '1s/^quantd listening on (http:.*)$/\1/p' "$work/out")
        [ -n "$url" ] && return
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    echo "$name: the daemon did not start" >&2
    cat "$work/log" >&2
    exit 1
}
# end SIGNAL: exit code in $rc
end() {
    [ "$1" = KILL ] && disown "$pid" # the shell need not tell
    kill "-$1" "$pid"
    for _ in $(seq 150); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -0 "$pid" 2> /dev/null && { echo "$name: the daemon did not end" >&2; exit 1; }
    wait "$pid" 2> /dev/null
    rc=$?
    pid=
}
# await JOB [SECONDS]: its final state in $state
await() {
    local deadline=$((SECONDS + ${2:-60}))
    state=queued
    while [ $SECONDS -lt $deadline ]; do
        ask "$url/v1/jobs/$1?wait=5s"
        state=$(text state)
        case $state in succeeded | failed | canceled) return ;; esac
        sleep 0.1
    done
}
# await_phase JOB PHASE [SECONDS]: 0 when it was seen
await_phase() {
    local deadline=$((SECONDS + ${3:-20}))
    while [ $SECONDS -lt $deadline ]; do
        ask "$url/v1/jobs/$1"
        [ "$(text phase)" = "$2" ] && return
        case $(text state) in succeeded | failed | canceled) return 1 ;; esac
        sleep 0.01
    done
    return 1
}
# grey_images N: IDX bytes of N images of 28x28 with an even spread of values by a rule, so that
# every run has the same bytes
grey_images() {
    printf "\0\0\010\003\\x$(printf %x $(($1 >> 24)))\\x$(printf %x $(($1 >> 16 & 255)))\\x$(printf %x $(($1 >> 8 & 255)))\\x$(printf %x $(($1 & 255)))\0\0\0\034\0\0\0\034"
    awk -v n="$1" 'BEGIN { for (i = 0; i < n * 784; i++) printf "%c", 32 + (i * 7919 + int(i / 784) * 31) % 90 }'
}
# count_blobs: regular files below the blob folder
count_blobs() { find "$work/data/blobs" -type f | wc -l; }
# report: the last line; the script's status
report() {
    echo "$name: $passed checks passed, $failed failed"
    [ "$failed" = 0 ]
}
