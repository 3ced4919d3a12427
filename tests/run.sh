#!/usr/bin/env bash
# Installs what the demo and its tests need into .venv and node_modules, checks the style of all files, runs the tests.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: tests/run.sh [pytest arguments]

    tests/run.sh                          everything
    tests/run.sh tests/test_install.py    one file
    tests/run.sh -k native -n 0           one subject, one test at a time

Environment: TDENGINE_DSN      run the tests that make sense there against this TDengine, in databases of their own
             PYTEST_PROCESSES  how many tests run at once (default: 6, which mostly wait, or one a core if there are more)
EOF
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

install_packages() {
    local log=.logs/install-tests.log checksum
    checksum=$(cksum <tests/requirements.txt)
    # install.sh makes .venv anew when it is broken: then our stamp is gone, too
    if [[ -f .venv/.stamp-tests && "$(<.venv/.stamp-tests)" == "$checksum" ]]; then
        return
    fi
    say "installing the packages of tests/requirements.txt into .venv"
    PIP_CACHE_DIR=${PIP_CACHE_DIR:-$PWD/.cache/pip} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-30} \
        .venv/bin/python -m pip install --no-input --only-binary=:all: -r tests/requirements.txt >"$log" 2>&1 ||
        die "pip can't install tests/requirements.txt: $(tail -n 1 "$log") (all of it: $log)"
    printf '%s\n' "$checksum" >.venv/.stamp-tests
}

# The page's tests drive a real Chromium: the system's own, as Playwright's needs a download that not every network allows.
install_chromium() {
    local log=.logs/install-tests.log name
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null; then return; fi
    done
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "installing Debian's chromium"
        if { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends chromium; } \
            >"$log" 2>&1; then
            return
        fi
        die "apt-get can't install chromium: $(tail -n 1 "$log") (all of it: $log)"
    fi
    die "no chromium on PATH, which the page's tests need: install it (Debian, Ubuntu: apt install chromium)"
}

# The Node pair and its linter, where Node is there; its tests are skipped where it isn't.
install_node() {
    local log=.logs/install-tests.log
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        say "no Node.js on PATH: the tests of node/ are skipped"
        return
    fi
    if [[ ! -x node/node_modules/.bin/biome || node/package-lock.json -nt node/node_modules/.package-lock.json ]]; then
        say "installing the packages of node/package-lock.json into node/node_modules"
        npm ci --prefix node --no-audit --no-fund >"$log" 2>&1 ||
            die "npm can't install the packages of node/: $(grep -m 1 'npm error' "$log") (all of it: $log)"
    fi
    (cd node && node_modules/.bin/biome check --error-on-warnings .)
}

shell_scripts() {
    find . \( -name .venv -o -name node_modules -o -name .cache -o -name .git -o -name tdengine-client \) -prune \
        -o -type f \( -name '*.sh' -o -path './.ci/run' \) -print0
}

main() {
    local processes status=0
    if [[ ${1:-} == --help || ${1:-} == -h ]]; then
        usage
        exit 0
    fi
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    ./install.sh
    install_packages
    install_chromium
    .venv/bin/python -m ruff check .
    .venv/bin/python -m ruff format --check .
    install_node
    shell_scripts | xargs -0 .venv/bin/shellcheck
    processes=$(.venv/bin/python -c 'import os; print(max(6, os.cpu_count() or 1))')
    .venv/bin/python -m pytest -n "${PYTEST_PROCESSES:-$processes}" --dist loadgroup "$@" || status=$?
    [[ $status == 1 ]] || exit "$status"
    # Many tests wait for something to happen in time, for which a machine that runs several at once may be too slow.
    say "again, one at a time: the tests that failed while others ran"
    exec .venv/bin/python -m pytest -n 0 --last-failed --last-failed-no-failures none "$@"
}

main "$@"
