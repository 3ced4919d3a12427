#!/bin/sh
# Installs what the demo needs into venv/ in this folder, at the exact versions of requirements.txt. Touches nothing outside
# this folder, and no venv/ that it has not made itself. ./install.sh --help shows what else it can fetch.
set -eu
trap 'exit 0' INT TERM HUP
cd "$(dirname "$(readlink -f "$0")")"
. bridge/launch/python.sh
find_python install.sh
hand_over -m bridge.launch.install "$@"
