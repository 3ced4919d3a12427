#!/bin/sh
# TDengine in Docker, as ../docker.sh starts it; it knows the flags.
set -eu
exec sh "$(dirname "$(readlink -f "$0")")/../docker.sh" "$@"
