#!/bin/bash
# Proves README's two commands on a bare Debian: a minimal system by debootstrap, git and make
# added, the project cloned into it, `make demo` and `make check` run there as root.
# usage: tests/lib/check_fresh.sh SUITE…    (as root; mirror, proxy and certificates are read from
# this machine's own apt configuration when it runs, nothing of it is kept)
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/lib/mirror.sh
here=$PWD
[ "$(id -u)" = 0 ] || { echo "check-fresh: must be root (chroot)" >&2; exit 1; }
command -v debootstrap >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
}

root=
cleanup() {
    [ -n "$root" ] || return 0
    for m in proc dev/shm dev; do
        ! mountpoint -q "$root/$m" || umount -l "$root/$m"
    done
    rm -rf --one-file-system "$root"
    root=
}
trap cleanup EXIT

# apt inside takes the settings that apt outside has.
copy_settings() {
    cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
    apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv4)' >"$root/etc/apt/apt.conf.d/90host" || true
    if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
        mkdir -p "$root/etc/ssl/certs"
        cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
}

inside() {
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        http_proxy="${http_proxy-}" https_proxy="${https_proxy-}" no_proxy="${no_proxy-}" \
        /bin/bash -c "$1"
}

check_suite() {
    local suite=$1 start
    root=$(mktemp -d /var/tmp/quantd-fresh.XXXXXX)
    start=$SECONDS
    debootstrap --variant=minbase "$suite" "$root" "$(mirror)" >"$here/build/fresh-$suite.log" 2>&1 ||
        { tail -5 "$here/build/fresh-$suite.log" >&2; return 1; }
    copy_settings
    mount --bind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/dev/shm"
    mount -t proc proc "$root/proc"
    inside 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git make >/dev/null' >>"$here/build/fresh-$suite.log" 2>&1
    echo "check-fresh $suite: bare system with git and make in $((SECONDS - start)) s"
    git clone -q "$here" "$root/root/quantd"
    for command in demo check; do
        start=$SECONDS
        if ! inside "cd /root/quantd && make -j2 $command" >"$here/build/fresh-$suite-$command.log" 2>&1; then
            echo "check-fresh $suite: make $command FAILED" >&2
            tail -25 "$here/build/fresh-$suite-$command.log" >&2
            return 1
        fi
        echo "check-fresh $suite: make $command passed in $((SECONDS - start)) s"
    done
    cleanup
}

mkdir -p build
for suite in "$@"; do
    check_suite "$suite"
done
