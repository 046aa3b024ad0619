#!/bin/bash
# quantd on 64-bit ARM: built by the cross compiler, run in qemu. All unit tests, then one job whose
# artifact must be this machine's to the byte, with NEON and, on a CPU without dot product, in
# plain C. usage: tests/lib/check_neon.sh BUILD    (BUILD/quantd is there, the compiler too)
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/lib/mirror.sh
build=$1 arm=$1/arm64
root=$(realpath -m "$arm")/sysroot
[ "$(uname -m)" != aarch64 ] || { echo 'check-neon: this is an ARM, make check has run it all'; exit 0; }

# apt with a state of its own below the build folder: packages of another architecture are
# unpacked there, this machine's own stay as they are.
arm64_apt() {
    apt-get -qq -o Dir::State="$1" -o Dir::State::lists="$1/lists" -o Dir::State::status="$1/status" \
        -o Dir::Cache="$1/cache" -o Dir::Etc::sourcelist="$1/sources.list" \
        -o Dir::Etc::sourceparts=- -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Acquire::Languages=none "${@:2}"
}

make_sysroot() {
    local apt=$arm/apt suite keys=/usr/share/keyrings/debian-archive-keyring.gpg
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    rm -rf "$apt" "$root"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$root"
    apt=$(realpath "$apt")
    : >"$apt/status"
    echo "deb [signed-by=$keys] $(mirror) $suite main" >"$apt/sources.list"
    arm64_apt "$apt" update
    arm64_apt "$apt" -y --download-only install libc6-dev check libmicrohttpd-dev libjansson-dev \
        libsqlite3-dev libuv1-dev libprotobuf-c-dev libarchive-dev libjpeg62-turbo-dev libpng-dev \
        zlib1g-dev nettle-dev
    # Where / has lib as a link into usr, the packages' files in /lib belong there as well.
    mkdir -p "$root/usr/lib" && ln -s usr/lib "$root/lib"
    for deb in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"
    done
    rm -rf "$apt"
    touch "$root/complete"
}

same() { # name of a run, qemu's CPU, the instruction set that it must have used
    local out=$arm/out-$1
    QEMU_CPU=$2 timeout 120 qemu-aarch64 "$arm/quantd" "${job[@]}" --output "$out" >/dev/null
    grep -q "\"isa\": *\"$3\"" "$out/report.json" || { echo "check-neon: $1 is not $3" >&2; exit 1; }
    for f in model.qdq.onnx calibration.json statistics.qds; do
        cmp "$arm/out-here/$f" "$out/$f" || { echo "check-neon: $1 differs" >&2; exit 1; }
    done
}

[ -e "$root/complete" ] || make_sysroot
export PKG_CONFIG_SYSROOT_DIR=$root QEMU_LD_PREFIX=$root
export PKG_CONFIG_LIBDIR=$root/usr/lib/aarch64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig
make -s -j2 DEPS=no BUILD="$arm" CC="aarch64-linux-gnu-gcc --sysroot=$root" "$arm/quantd" "$arm/run_tests"
export -n PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR

CK_EXCLUDE_TAGS=starts_itself CK_TIMEOUT_MULTIPLIER=10 qemu-aarch64 "$arm/run_tests"

data=/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz
echo '{"preprocess":{"scale":0.0039215686},"calibration":{"max_samples":30}}' >"$arm/job.json"
job=(quantize examples/fashion-mnist/model.onnx --calibration "$data" --config "$arm/job.json" --threads 1)
timeout 60 "$build/quantd" "${job[@]}" --output "$arm/out-here" >/dev/null
same neon max neon
same plain cortex-a53 ref
echo 'check-neon: NEON and plain C give the artifact of this machine'
