#!/usr/bin/env bash
# Prints the table of measures, each figure beside its bound, as Markdown on standard output; progress goes to standard
# error. Installs what is missing into this project's folder, and touches nothing outside of it but temporary files.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: benchmarks/run.sh [--quick] [--dsn DSN]

Runs every benchmark and prints a table of the figures beside their bounds.

  --quick    shorter windows of measuring: under 3 minutes in all instead of about 10
  --dsn DSN  measure against this TDengine, in databases named benchmark_... that are dropped afterwards
             (default: $TDENGINE_DSN, else the stand-in; with a password better in TDENGINE_DSN than here)
  --help     this text

Exit status: 0 when all was measured, also when a bound is missed (the table says so); 2 for unusable arguments;
1 when something could not be measured.
USAGE
}

main() {
    local quick=""
    while [ $# -gt 0 ]; do
        case "$1" in
            --quick) quick=yes ;;
            --dsn)
                if [ $# -lt 2 ] || [ -z "$2" ]; then
                    echo "run.sh: --dsn needs a DSN such as ws://root:taosdata@localhost:6041 (--help tells more)" >&2
                    exit 2
                fi
                export TDENGINE_DSN=$2
                shift
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            *)
                echo "run.sh: unknown argument '$1' (--help tells more)" >&2
                exit 2
                ;;
        esac
        shift
    done

    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    local python=.venv/bin/python
    if [ ! -x "$python" ]; then
        ./install.sh >&2
    fi
    if ! "$python" -c "import playwright, pyarrow" 2>/dev/null; then
        "$python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt >&2
    fi

    local failed=0 where="" output status name arguments
    while read -r name arguments; do
        if [ -z "$quick" ]; then
            arguments=""
        fi
        echo "$name ..." >&2
        status=0
        # shellcheck disable=SC2086  # arguments are several words, written below
        output=$("$python" "benchmarks/$name.py" $arguments </dev/null) || status=$?
        if [ -z "$where" ] && [[ $output == machine:* ]]; then
            where=yes
            printf '%s\n\n' "$(sed -n '1,2s/$/  /p' <<<"$output")"
            printf '| measure | figure | bound | |\n|---|---|---|---|\n'
        fi
        grep '^|' <<<"$output" || true
        if [ "$status" -ne 0 ]; then
            failed=1
            echo "| $name | could not be measured | | **failed** |"
        fi
    done <<'SCRIPTS'
server_share --seconds 4
viewers --seconds 2 --steps 150,500
age --seconds 4
source --seconds 4
producer_speed --rows 500000
producer_beat --seconds 5
stand_in --batches 20 --seconds 2
chain_share --seconds 4
start --times 1
page --times 2
limit --seconds 2
SCRIPTS
    exit "$failed"
}

main "$@"
