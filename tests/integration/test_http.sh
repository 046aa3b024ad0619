#!/bin/bash
# Starts the real daemon on a free loopback port and checks what clients see, with deadlines.
# usage: tests/integration/test_http.sh [BINARY]
set -uo pipefail
binary=${1:-build/quantd}
work=$(mktemp -d)
pid=
failed=0
passed=0

stop() {
    if [ -n "$pid" ]; then kill -KILL "$pid" 2> /dev/null; wait "$pid" 2> /dev/null; fi
    rm -rf "$work"
}
trap stop EXIT

fail() {
    echo "test_http: $1" >&2
    failed=$((failed + 1))
}
# same NAME WANTED GOT
same() {
    if [ "$2" = "$3" ]; then passed=$((passed + 1)); else fail "$1: wanted '$2', got '$3'"; fi
}
# holds NAME FILE REGEX
holds() {
    if grep -qiE -- "$3" "$2"; then
        passed=$((passed + 1))
    else
        fail "$1: no /$3/ in:"
        head -c 2000 "$2" >&2
    fi
}
# ask ARGUMENTS of curl: status in $status, headers in $work/head, body in $work/body
ask() {
    : > "$work/body"
    status=$(curl -sS --max-time 10 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@" 2> "$work/curl")
}
# raw TEXT: bytes to the server, what comes back in $work/body
raw() {
    exec 3<> "/dev/tcp/127.0.0.1/$port" || return
    # One write: printf would write line by line, and get SIGPIPE from an early answer.
    printf '%b' "$1" > "$work/request"
    cat "$work/request" >&3
    timeout "${2:-5}" cat <&3 > "$work/body"
    raw_rc=$?
    exec 3>&-
}
start() {
    : > "$work/out"
    "$binary" serve --listen 127.0.0.1:0 --data "$work/data" "$@" > "$work/out" 2> "$work/log" &
    pid=$!
    url=
    for _ in $(seq 100); do
        url=$(sed -nE '1s/^quantd listening on (http:.*)$/\1/p' "$work/out")
        [ -n "$url" ] && break
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    [ -n "$url" ] || { fail "the daemon did not start"; cat "$work/log" >&2; exit 1; }
    port=${url##*:}
}
# ended SECONDS: waits for the daemon, its exit code in $rc ("late" when it had to be killed)
ended() {
    for _ in $(seq $(($1 * 10))); do
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    if kill -0 "$pid" 2> /dev/null; then
        kill -KILL "$pid"
        wait "$pid" 2> /dev/null
        rc=late
    else
        wait "$pid"
        rc=$?
    fi
    pid=
}

test_operations() {
    ask "$url/livez"
    same livez 200 "$status"
    same 'livez body' ok "$(cat "$work/body")"
    holds 'request id' "$work/head" '^x-request-id: [0-9a-f]{32}'
    ask "$url/readyz?verbose"
    same readyz 200 "$status"
    holds 'readyz lists its checks' "$work/body" '^\[\+\] data'
    ask "$url/metrics"
    holds metrics "$work/body" '^quantd_http_requests_total\{class="2xx"\} [1-9]'
    ask "$url/v1/info"
    holds info "$work/body" '"name":"quantd"'
    ask "$url/openapi.json"
    same openapi 200 "$status"
    holds openapi "$work/body" '"openapi": "3\.1'
    same 'the document has the paths of the code' \
        "$(grep -ohE '\.pattern = "[^"]+"' api/*.c | cut -d'"' -f2 | sort -u)" \
        "$(sed -nE 's/^  "(\/[^"]*)": \{$/\1/p' "$work/body" | sort -u)"
    ask -H 'X-Request-Id: build-17.a' -H 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' "$url/livez"
    holds 'request id of the client' "$work/head" '^x-request-id: build-17\.a'
    holds traceparent "$work/head" '^traceparent: 00-0af7'
    ask -H 'X-Request-Id: a b"c' "$url/livez"
    holds 'malformed request id is replaced' "$work/head" '^x-request-id: [0-9a-f]{32}'
}

test_problems() {
    ask "$url/v1/nothing"
    same 'unknown path' 404 "$status"
    holds 'problem type' "$work/head" '^content-type: application/problem\+json'
    for field in type title status detail instance code request_id errors; do
        holds "problem has $field" "$work/body" "\"$field\":"
    done
    holds 'problem code' "$work/body" '"code":"not_found"'
    ask -X DELETE "$url/livez"
    same 'wrong method' 405 "$status"
    holds Allow "$work/head" '^allow: GET, HEAD, OPTIONS'
    ask -X OPTIONS "$url/livez"
    same OPTIONS 204 "$status"
    holds 'OPTIONS Allow' "$work/head" '^allow: GET, HEAD, OPTIONS'
    ask -I "$url/livez"
    same HEAD 200 "$status"
    holds 'HEAD has the length' "$work/head" '^content-length: 3'
    ask "$url/livez?colour=blue"
    same 'unknown query parameter' 400 "$status"
    holds 'it is named' "$work/body" "unknown query parameter 'colour'"
    ask "$url/readyz?verbose=maybe"
    same 'bad flag' 400 "$status"
    ask "$url/readyz?verbose=1&verbose=1"
    same 'repeated parameter' 400 "$status"
    ask -X GET --data-binary x "$url/livez"
    same 'a body where none is taken' 413 "$status"
    for path in /%00 /%2e%ff /%0a /%zz /%4 /a%; do
        ask "$url$path"
        same "path $path" 400 "$status"
    done
    # A slash that is data: one segment, so not the file of the folder.
    ask "$url/dashboard%2Findex.html"
    same 'encoded slash is no separator' 404 "$status"
    ask --path-as-is "$url/dashboard/..%2fopenapi.json"
    same 'no way out of the dashboard' 404 "$status"
    same 'errors keep the connection' '1 0 ' "$(curl -sS --max-time 5 -o "$work/body" \
        -o "$work/body" -w '%{num_connects} ' "$url/nope" "$url/livez")"
}

test_content() {
    ask "$url/"
    same dashboard 200 "$status"
    holds 'strict policy' "$work/head" "^content-security-policy: default-src 'none'; script-src 'self'"
    same 'no inline script or style' 0 "$(grep -cE '<script>|<style>|style=|onclick' "$work/body")"
    cp "$work/body" "$work/whole"
    etag=$(sed -nE 's/^etag: (.*)\r$/\1/Ip' "$work/head")
    same 'ETag is the hash of the bytes' "\"sha256:$(sha256sum "$work/whole" | cut -d' ' -f1)\"" "$etag"
    size=$(stat -c %s "$work/whole")
    ask -H 'Range: bytes=10-19' "$url/"
    same range 206 "$status"
    same 'bytes of the range' "$(head -c 20 "$work/whole" | tail -c 10 | sha256sum)" "$(sha256sum < "$work/body")"
    holds Content-Range "$work/head" "^content-range: bytes 10-19/$size"
    ask -H 'Range: bytes=-7' "$url/"
    same 'suffix of the bytes' "$(tail -c 7 "$work/whole" | sha256sum)" "$(sha256sum < "$work/body")"
    ask -H "Range: bytes=$size-" "$url/"
    same 'range past the end' 416 "$status"
    holds 'size is told' "$work/head" "^content-range: bytes \*/$size"
    ask -H 'Range: bytes=0-1' -H 'If-Range: "other"' "$url/"
    same 'If-Range of other bytes' 200 "$status"
    ask -H 'Range: bytes=0-1' -H "If-Range: $etag" "$url/"
    same 'If-Range of these bytes' 206 "$status"
    ask -H "If-None-Match: \"x\", W/$etag" "$url/"
    same If-None-Match 304 "$status"
    for link in $(grep -oE '(href|src)="/[^"?]*' "$work/whole" | sed 's/.*"//'); do
        ask "$url$link"
        same "link $link" 200 "$status"
    done
    ask "$url/dashboard/app.js"
    cp "$work/body" "$work/modules"
    holds 'type of a module' "$work/head" '^content-type: text/javascript'
    for module in $(grep -ohE 'from "\./[a-z]+\.js"' "$work/modules" | cut -d/ -f2 | tr -d '"'); do
        ask "$url/dashboard/$module"
        same "module $module" 200 "$status"
        cat "$work/body" >> "$work/modules"
    done
    for module in $(grep -ohE 'from "\./[a-z]+\.js"' "$work/modules" | cut -d/ -f2 | tr -d '"' | sort -u); do
        ask "$url/dashboard/$module"
        same "imported module $module" 200 "$status"
    done
    # Names come from uploaded files: nothing may parse them as HTML or run them.
    same 'texts become text nodes' 0 "$(grep -cE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setAttribute\("on' "$work/modules")"
}

test_strictness() {
    local get='GET /livez HTTP/1.1\r\nHost: x\r\n'
    raw "${get}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"
    holds 'two Content-Length' "$work/body" '^HTTP/1.1 400 '
    holds 'the connection is closed' "$work/body" '^connection: close'
    same 'the connection ended' 0 "$raw_rc"
    raw "${get}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    holds 'length beside encoding' "$work/body" '^HTTP/1.1 400 '
    raw "${get}Content-Length : 0\r\n\r\n"
    holds 'space before the colon' "$work/body" '^HTTP/1.1 400 '
    raw "${get}Host: y\r\n\r\n"
    holds 'two Host' "$work/body" '^HTTP/1.1 400 '
    raw "${get}X: $(printf 'a%.0s' $(seq 17000))\r\n\r\n"
    holds 'header fields too large' "$work/body" '^HTTP/1.1 431 '
    ask "$url/livez"
    same 'alive afterwards' 200 "$status"
}

# A body that is refused before its end, which may never come: the answer comes at once, and then
# the end of the connection.
test_refused_bodies() {
    local post='POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n'
    local form='Content-Type: multipart/form-data; boundary=bound\r\n\r\n'
    local part='--bound\r\nContent-Disposition: form-data; name='
    raw "${post}Content-Type: text/plain\r\n\r\n5\r\nhello\r\n"
    holds 'wrong type' "$work/body" '^HTTP/1.1 415 '
    same 'wrong type: the connection ended' 0 "$raw_rc"
    raw "POST /v1/jobs/x/cancel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    holds 'a chunked body where none is taken' "$work/body" '^HTTP/1.1 413 '
    same 'no body taken: the connection ended' 0 "$raw_rc"
    raw "$post$form$(printf '%x' 62)\r\n$part\"colour\"\r\n\r\nblue\r\n"
    holds 'unknown part in a body without end' "$work/body" '^HTTP/1.1 400 '
    holds 'it is named in a problem document' "$work/body" '"code":"invalid".*"pointer":"colour"'
    holds 'it says that it closes' "$work/body" '^connection: close'
    same 'unknown part: the connection ended' 0 "$raw_rc"
    printf -- "$part\"model\"\r\n\r\n" > "$work/start"
    (cat "$work/start"; cat /dev/zero) 2> "$work/pipe" |
        curl -sS --max-time 6 -T - -X POST -H 'Content-Type: multipart/form-data; boundary=bound' \
            -w '%{http_code}' -o "$work/body2" "$url/v1/jobs" > "$work/status2" 2> "$work/curl"
    same 'too large and endless' 413 "$(cat "$work/status2")"
    holds 'too large: the problem' "$work/body2" '"code":"limit_exceeded"'
    { printf "$post$form$(printf '%x' $((57 + 1500000)))\r\n"
      cat "$work/start"
      head -c 1500000 /dev/zero; } > "$work/request"
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    cat "$work/request" >&3
    timeout 5 cat <&3 > "$work/body"
    same 'too large and silent: the connection ended' 0 $?
    exec 3>&-
    holds 'too large and silent' "$work/body" '^HTTP/1.1 413 '
    # A client that reads nothing before it has sent everything gets its answer, too.
    { printf "$post$form$(printf '%x' $((58 + 3000000)))\r\n$part\"colour\"\r\n\r\n"
      head -c 3000000 /dev/zero
      printf '\r\n0\r\n\r\n'; } > "$work/request"
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    cat "$work/request" >&3
    timeout 5 cat <&3 > "$work/body"
    exec 3>&-
    holds 'answer after the whole body' "$work/body" '^HTTP/1.1 400 '
    # So does one that is refused by its headers and sends its body late.
    head -c 300000 /dev/zero > "$work/request"
    for line in 'POST /v1/jobs HTTP/1.1\r\nIdempotency-Key: a b:400' 'PUT /v1/jobs HTTP/1.1:405' \
        'POST /v1/nothing HTTP/1.1:404' 'POST /v1/jobs HTTP/1.1\r\nOrigin: http://evil.example:403'; do
        exec 3<> "/dev/tcp/127.0.0.1/$port"
        printf '%b' "${line%:*}\r\nHost: x\r\nContent-Length: 300000\r\n${form%\\r\\n}\r\n" >&3
        sleep 0.2
        cat "$work/request" >&3 2> "$work/pipe"
        same "the body of ${line%% HTTP*} is taken" 0 $?
        timeout 5 cat <&3 > "$work/body"
        exec 3>&-
        holds "answer after the body of ${line%% HTTP*}" "$work/body" "^HTTP/1.1 ${line##*:} "
    done
    ask -X PUT -H 'Transfer-Encoding: chunked' -d 'x' "$url/v1/jobs"
    same 'no such method' 405 "$status"
    holds 'those that are' "$work/head" '^allow: .*POST'
    ask "$url/livez"
    same 'alive after refusals' 200 "$status"
}

# A page of another site can make a browser send these; programs send no such header.
test_origin() {
    ask -X POST -H 'Sec-Fetch-Site: cross-site' "$url/v1/jobs/x/cancel"
    same 'another site' 403 "$status"
    holds 'its code' "$work/body" '"code":"cross_origin"'
    ask -H 'Origin: http://evil.example' -F model=x "$url/v1/jobs"
    same 'a form of another origin' 403 "$status"
    ask -X DELETE -H 'Origin: null' "$url/v1/jobs/x"
    same 'an origin without a name' 403 "$status"
    ask -X POST -H "Origin: $url" "$url/v1/jobs/x/cancel"
    same 'our own page' 404 "$status"
    ask -X POST -H 'Sec-Fetch-Site: same-origin' -H 'Origin: http://proxy' "$url/v1/jobs/x/cancel"
    same 'our own page behind a proxy' 404 "$status"
    ask -H 'Host: evil.example' "$url/v1/jobs"
    same 'a name that points here' 403 "$status"
    holds 'its code' "$work/body" '"code":"unknown_host"'
    ask -H 'Origin: http://evil.example' "$url/livez"
    same 'reading is left to the browser' 200 "$status"
    same 'no other origin may read' 0 "$(grep -ci '^access-control' "$work/head")"
}

# The same key while the first request still arrives; later it is free again.
test_idempotency() {
    local form='Content-Type: multipart/form-data; boundary=bound\r\n'
    exec 4<> "/dev/tcp/127.0.0.1/$port"
    printf "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nIdempotency-Key: \"k-1\"\r\nContent-Length: 1000\r\n$form\r\n--bound\r\n" >&4
    for _ in $(seq 50); do
        ask -H 'Idempotency-Key: k-1' -F model=x "$url/v1/jobs"
        [ "$status" = 409 ] && break
        sleep 0.1
    done
    same 'same key while the first is under way' 409 "$status"
    holds 'its code' "$work/body" '"code":"idempotency_in_progress"'
    ask -H 'Idempotency-Key: k-2' -F model=x "$url/v1/jobs"
    same 'another key' 400 "$status"
    ask -F model=x "$url/v1/jobs"
    same 'no key' 400 "$status"
    exec 4>&-
    for _ in $(seq 50); do
        ask -H 'Idempotency-Key: k-1' -F model=x "$url/v1/jobs"
        [ "$status" = 400 ] && break
        sleep 0.1
    done
    same 'the first one is gone' 400 "$status"
    ask -H 'Idempotency-Key: a b' -H 'Expect: 100-continue' -F model=x "$url/v1/jobs"
    same 'a bad key is refused at the headers' 400 "$status"
}

test_slow() {
    start --header-timeout 1 --body-max 1M
    test_refused_bodies
    local begin=$SECONDS
    # One byte now and then is activity, yet the header must be complete in time.
    (exec 3<> "/dev/tcp/127.0.0.1/$port"
     trap '' PIPE
     for _ in $(seq 20); do printf 'G' >&3 || break; sleep 0.3; done) 2> /dev/null &
    local drip=$!
    raw 'GET /livez HTTP/1.1\r\nHo' 8
    same 'a slow header is cut' 0 "$raw_rc"
    [ $((SECONDS - begin)) -le 6 ] || fail "the slow header was cut after $((SECONDS - begin)) s"
    wait "$drip"
    ask "$url/metrics"
    holds 'slow connections are counted' "$work/body" '^quantd_http_slow_connections_closed_total [1-9]'
    kill -INT "$pid"
    ended 10
    same 'exit code after SIGINT' 0 "$rc"
}

test_command_line() {
    timeout 10 "$binary" frobnicate 2> "$work/usage"
    same 'unknown subcommand' 2 $?
    holds 'the list' "$work/usage" '^  serve '
    timeout 10 "$binary" > /dev/null 2>&1
    same 'no subcommand' 2 $?
    timeout 10 "$binary" serve --colour blue 2> "$work/usage"
    same 'unknown flag' 2 $?
    timeout 10 "$binary" serve --listen 0.0.0.0:0 --data "$work/data" 2> "$work/usage"
    same 'address beyond loopback' 3 $?
    timeout 10 env QUANTD_COLOUR=blue "$binary" serve 2> "$work/usage"
    same 'unknown environment setting' 3 $?
    timeout 10 "$binary" serve --listen "127.0.0.1:$port" --data "$work/other" > /dev/null 2> "$work/usage"
    same 'port in use' 1 $?
    holds 'it is named' "$work/usage" "$port"
    same version 0 "$(timeout 10 "$binary" version > "$work/usage"; echo $?)"
    holds version "$work/usage" '^quantd [0-9]'
    same help 0 "$(timeout 10 "$binary" help > "$work/usage"; echo $?)"
    holds 'help lists settings' "$work/usage" 'QUANTD_DRAIN_TIMEOUT'
}

start
test_operations
test_problems
test_content
test_strictness
test_origin
test_idempotency
test_command_line
kill -TERM "$pid"
ended 10
same 'exit code after SIGTERM' 0 "$rc"
holds 'access log' "$work/log" '"message":"request".*"path":"/livez","route":"/livez","status":200'
same 'log lines are JSON' 0 "$(grep -cvE '^\{.*\}$' "$work/log")"
test_slow
echo "test_http: $passed checks passed, $failed failed"
[ "$failed" = 0 ]
