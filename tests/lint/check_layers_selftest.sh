#!/bin/bash
# A planted violation must be found, else check_layers.sh checks nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{daemon,api,store,worker,quantcore/graph,quantcore/base}
echo '#include "quantcore/base/qd_base.h"' >"$tmp/quantcore/graph/good.h"
"$here/check_layers.sh" "$tmp" >/dev/null
for line in '#include "store/store.h"' '#include <sqlite3.h>' '#  include "quantcore/exec/exec.h"'; do
    echo "$line" >"$tmp/quantcore/graph/bad.h"
    if "$here/check_layers.sh" "$tmp" >/dev/null; then
        echo "not found: $line"
        exit 1
    fi
done
rm "$tmp/quantcore/graph/bad.h"
mkdir "$tmp/quantcore/new"
echo '#include "quantcore/base/qd_base.h"' >"$tmp/quantcore/new/x.h"
if "$here/check_layers.sh" "$tmp" >/dev/null; then
    echo 'a folder without a row was accepted'
    exit 1
fi
