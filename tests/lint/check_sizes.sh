#!/bin/bash
# Files above 900 lines and functions above 100 are errors; above 600 and 60 they are named.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
find daemon api store worker quantcore tests -name '*.[ch]' | sort | xargs awk '
    FNR == 1 { if (file != "") end_file(); file = FILENAME; start = 0 }
    { lines = FNR }
    /^[a-z].*\(/ && !/;$/ { name = $0 }
    /^\{/ { start = FNR }
    /^\}/ && start {
        n = FNR - start
        if (n > 100) { printf "%s:%d: function of %d lines: %s\n", file, start, n, name; bad = 1 }
        else if (n > 60) printf "note: %s:%d: function of %d lines: %s\n", file, start, n, name
        start = 0
    }
    function end_file() {
        if (lines > 900) { printf "%s: %d lines\n", file, lines; bad = 1 }
        else if (lines > 600) printf "note: %s: %d lines\n", file, lines
    }
    END { end_file(); exit bad }'
