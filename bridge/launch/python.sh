# shellcheck shell=sh
# Sourced by run.sh, install.sh and docker.sh, in the project's folder: finds a Python and hands over to it.

# Sets python to $PYTHON, or to the first suitable Python on PATH. $1: the script's name, for the message.
find_python() {
    script=$1 refused='' python=''
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.14 python3.13 python3.12 python3.11; fi
    for name in "$@"; do
        if ! found=$(command -v "$name"); then
            [ -z "${PYTHON:-}" ] || refused="there is no $name; "
            continue
        fi
        why=$("$found" bridge/launch/python_check.py 2>/dev/null) || why='does not run'
        if [ -z "$why" ]; then
            python=$found
            return
        fi
        refused="$refused$found $why; "
    done
    echo "$script: no suitable Python (${refused}3.11 or newer is needed): install one, or name it with PYTHON=/path/to/python3" >&2
    exit 1
}

# Replaces this shell by Python, which leaves no bytecode for --clean to find. Signals wait until Python can handle them,
# where env can do that.
hand_over() {
    if env --block-signal=INT true 2>/dev/null; then
        exec env --block-signal=INT --block-signal=TERM --block-signal=HUP "$python" -B "$@"
    fi
    exec "$python" -B "$@"
}
