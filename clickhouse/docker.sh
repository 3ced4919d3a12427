#!/bin/sh
# Starts ClickHouse in Docker (or Podman's docker) and waits until it answers a query. One port, on 127.0.0.1 only; the
# data is in a volume that outlives the container. Writes nothing outside that, .logs and .password in this folder.
set -eu
trap 'exit 0' INT TERM HUP
CALLED_FROM=$PWD && export CALLED_FROM
cd "$(dirname "$(readlink -f "$0")")/.."
. bridge/launch/python.sh
find_python docker.sh
hand_over -m clickhouse.container "$@"
