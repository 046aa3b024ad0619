#!/bin/bash
# Enforces the direction of includes of CONTRIBUTING.md: folder -> what it may include.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

base='quantcore/base'
graph="$base quantcore/affine quantcore/graph"
exec="$graph quantcore/kernels quantcore/exec quantcore/integer"
passes="$exec quantcore/passes"
calib="$passes quantcore/calib quantcore/quant"
verify="$calib quantcore/verify"
core="$verify quantcore/report quantcore/data quantcore/onnx"
declare -A allowed=(
    [quantcore/base]="$base"
    [quantcore/affine]="$base quantcore/affine"
    [quantcore/kernels]="$base quantcore/affine quantcore/kernels"
    [quantcore/graph]="$graph"
    [quantcore/data]="$base quantcore/data"
    [quantcore/onnx]="$graph quantcore/onnx"
    [quantcore/exec]="$exec"
    [quantcore/integer]="$exec"
    [quantcore/passes]="$passes"
    [quantcore/calib]="$calib"
    [quantcore/quant]="$calib"
    [quantcore/verify]="$verify"
    [quantcore/report]="$verify quantcore/report"
    [quantcore]="$core quantcore/quantcore.h quantcore/qc_model.h quantcore/qc_feed.h quantcore/qc_pipeline.h"
    [store]="$base store"
    [worker]="$base store worker quantcore/quantcore.h quantcore/data/reader.h quantcore/kernels/qc_kernels.h"
    [api]="$base store worker api quantcore/quantcore.h"
    [daemon]="$base store worker api daemon quantcore/quantcore.h quantcore/data"
)
declare -A home=(
    [microhttpd.h]='api' [sqlite3.h]='store' [uv.h]='worker daemon'
    [jansson.h]='api worker daemon' [onnx/onnx.pb-c.h]='quantcore/onnx'
    [protobuf-c/protobuf-c.h]='quantcore/onnx' [archive.h]='quantcore/data'
    [archive_entry.h]='quantcore/data' [jpeglib.h]='quantcore/data' [png.h]='quantcore/data'
    [zlib.h]='quantcore/data' [nettle/sha2.h]='store worker daemon api'
)

bad=0
complain() {
    echo "$1: includes $2, which $3 may not"
    bad=1
}
while IFS=: read -r file include; do
    folder=$(dirname "$file")
    if [ -z "${allowed[$folder]+x}" ]; then
        echo "$file: folder $folder has no row in the table of layers"
        bad=1
        continue
    fi
    case "$include" in
    quantcore/* | store/* | worker/* | api/* | daemon/*)
        ok=no
        for prefix in ${allowed[$folder]}; do
            case "$include" in
            "$prefix" | "$prefix"/*) ok=yes ;;
            esac
        done
        [ $ok = yes ] || complain "$file" "$include" "$folder"
        ;;
    *)
        if [ -n "${home[$include]+x}" ]; then
            case " ${home[$include]} " in
            *" $folder "*) ;;
            *) complain "$file" "$include" "$folder" ;;
            esac
        fi
        ;;
    esac
done < <(
    grep -rnoE '^ *# *include *["<][^">]+' --include='*.[ch]' daemon api store worker quantcore |
        sed -E 's/^([^:]+):[0-9]+: *# *include *["<]/\1:/')
exit $bad
