#!/bin/sh
# Installs what is missing of the Debian packages that building and testing need (Debian 12, 13).
# Nothing missing: says nothing and changes nothing. `make DEPS=no …` never calls this script.
# --fuzz: what `make fuzz` needs as well, clang with its sanitizers and libFuzzer.
# --arm64: what `make check-neon` needs as well, a cross compiler and an emulator.
set -eu

packages="gcc libc6-dev make pkg-config libmicrohttpd-dev libjansson-dev libuv1-dev libsqlite3-dev
    libprotobuf-c-dev protobuf-c-compiler libonnx-dev libonnx-testdata libarchive-dev
    libjpeg62-turbo-dev libpng-dev zlib1g-dev nettle-dev check curl ca-certificates
    dataset-fashion-mnist"
case ${1:-} in
    '') ;;
    --fuzz) packages="$packages clang libclang-rt-dev" ;;
    --arm64) packages="$packages gcc-aarch64-linux-gnu qemu-user" ;;
    *) echo "usage: install-deps.sh [--fuzz|--arm64]" >&2; exit 2 ;;
esac

if ! command -v dpkg-query > /dev/null; then
    echo "install-deps: not a Debian system; install the equivalents of:" $packages >&2
    echo "install-deps: then build with DEPS=no" >&2
    exit 1
fi

# pkgconf provides pkg-config in Debian 13, so a tool counts as present when it can be run.
missing=
for p in $packages; do
    case $p in
        gcc | make | pkg-config | curl) command -v "$p" > /dev/null && continue ;;
    esac
    status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2> /dev/null || true)
    [ "$status" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo > /dev/null; then
        echo "install-deps: missing:$missing" >&2
        echo "install-deps: neither root nor sudo; run as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "install-deps: installing$missing"
install_all() {
    # shellcheck disable=SC2086 # one word a package
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends $missing < /dev/null
}
# Lists may be absent or too old to find the files: refresh them only then.
# shellcheck disable=SC2086
if ! apt-cache show $missing > /dev/null 2>&1 || ! install_all; then
    $as_root apt-get update -qq
    install_all
fi
