#!/bin/sh
# The whole demo with ClickHouse in one command: installs what is missing into venv/ in this folder, starts producer, server
# and, without a ClickHouse, its engine in process; prints the page's address and one line a second. Ctrl-C, or the end of
# any of them, ends all.
set -eu
trap 'exit 0' INT TERM HUP
cd "$(dirname "$(readlink -f "$0")")/.."
. bridge/launch/python.sh
python=clickhouse/venv/bin/python
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || find_python run.sh
hand_over -m clickhouse.launch "$@"
