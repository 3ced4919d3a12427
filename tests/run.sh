#!/bin/sh
# Installs what the demo and its tests need into venv/ and node_modules/, checks the style of all files, runs the tests.
set -eu

usage() {
    cat <<'TEXT'
usage: tests/run.sh [--quick] [pytest arguments]

    tests/run.sh                          everything
    tests/run.sh --quick                  style, and what takes no longer than a minute and a half
    tests/run.sh tests/test_install.py    one file
    tests/run.sh -k native -n 0           one subject, one test at a time

Environment: TDENGINE_DSN      run the tests that make sense there against this TDengine, in databases of their own
             PYTEST_PROCESSES  how many tests run at once (default: four more than there are cores)
TEXT
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

log=.logs/install-tests # .pip, .npm and .apt
python=venv/bin/python
# Parts alone, the scripts' flags and errors, and the shortest way through all of it
quick='tests/test_scripts.py tests/test_requests.py tests/test_view_config.py tests/test_expressions.py tests/test_stand_in_sql.py'
quick="$quick tests/test_deploy.py"
quick="$quick tests/test_run.py::test_stocks_flow_and_ctrl_c_ends_everything tests/test_run.py::test_invalid_arguments"
quick="$quick tests/test_page.py::test_the_first_view_is_the_grouped_grid_and_its_numbers_change"

install_packages() {
    checksum=$(cat tests/requirements.txt clickhouse/requirements.txt | cksum)
    # install.sh empties venv when it is broken: then our stamp is gone, too
    if [ "$(cat venv/.stamp-tests 2>/dev/null)" = "$checksum" ]; then return; fi
    say "installing the packages of tests/requirements.txt and clickhouse/requirements.txt into venv"
    PIP_CACHE_DIR=${PIP_CACHE_DIR:-$PWD/.cache/pip} PIP_DISABLE_PIP_VERSION_CHECK=1 \
        PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-30} \
        $python -m pip install --no-input --only-binary=:all: -r tests/requirements.txt \
        -r clickhouse/requirements.txt >"$log.pip" 2>&1 ||
        die "pip can't install the tests' packages: $(tail -n 1 "$log.pip") (all of it: $log.pip)"
    printf '%s\n' "$checksum" >venv/.stamp-tests
}

has_program() {
    for name in "$@"; do
        if PATH=$PATH:/usr/sbin command -v "$name" >/dev/null; then return; fi
    done
    return 1
}

has_browser() { has_program chromium chromium-browser google-chrome; }

# One for each Debian package that is not there: its name, and what needs it.
missing_programs() {
    has_browser || echo "chromium the page's tests need it"
    has_program firefox-esr || echo "firefox-esr the page's tests in Firefox are skipped"
    has_program Xvfb || echo "xvfb the page's tests in Firefox are skipped"
    has_program nginx || echo "nginx-light the test of deploy/nginx.conf is skipped"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@" >>"$log.apt" 2>&1
}

# shellcheck disable=SC2086 # several words
install_programs() {
    packages=$(missing_programs | cut -d ' ' -f 1)
    if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing Debian's" $packages
        apt-get -q update >"$log.apt" 2>&1 || true # what is in the lists already may do
        # one that is unknown here must not keep the others away
        apt_install $packages || for package in $packages; do
            apt_install "$package" || say "apt-get can't install $package: $(tail -n 1 "$log.apt") (all of it: $log.apt)"
        done
    fi
    missing_programs | while read -r package needs; do
        say "no $package: $needs (Debian, Ubuntu: apt install $package)"
    done
    has_browser
}

has_node() { command -v node >/dev/null && command -v npm >/dev/null; }

# The Node pair, and the page's modules, where Node is there; their tests are skipped where it isn't.
install_node() {
    if ! has_node; then
        say "no Node.js on PATH: the tests of node/ and viewer/ are skipped"
        return
    fi
    if [ ! -x node/node_modules/.bin/biome ] || [ -n "$(find node/package-lock.json -newer node/node_modules/.package-lock.json)" ]; then
        say "installing the packages of node/package-lock.json into node/node_modules"
        npm ci --prefix node --no-audit --no-fund >"$log.npm" 2>&1 ||
            die "npm can't install the packages of node/: $(grep -m 1 'npm error' "$log.npm") (all of it: $log.npm)"
    fi
}

# Python's, Node's and Debian's packages, all at once: each of them mostly waits.
install_all() {
    mkdir -p .logs
    install_programs &
    programs=$!
    install_node &
    node=$!
    trap 'wait; exit 130' INT # half of a package would be worse
    status=0
    (./install.sh && install_packages) || status=1
    wait "$programs" || status=1
    wait "$node" || status=1
    trap - INT
    return "$status"
}

check_style() {
    if has_node; then
        for folder in node viewer; do
            (cd "$folder" && ../node/node_modules/.bin/biome check --error-on-warnings .)
        done
    fi
    $python -m ruff check .
    $python -m ruff format --check .
    find . \( -name venv -o -name node_modules -o -name '.[a-bd-z]*' -o -name 'tdengine-*' \) -prune \
        -o -type f \( -name '*.sh' -o -path './.ci/run' \) -exec venv/bin/shellcheck {} +
}

main() {
    case ${1:-} in
        -h | --help) usage && exit 0 ;;
        --quick)
            shift
            # shellcheck disable=SC2086 # several words
            set -- $quick "$@"
            ;;
    esac
    cd "$(dirname "$(readlink -f "$0")")/.."
    install_all
    check_style
    unset PYTHONDONTWRITEBYTECODE # or each of thousands of processes compiles the project again
    $python -m compileall -q bridge clickhouse embedded -x venv # run.sh's Python leaves none behind
    processes=$($python -c 'import os; print((os.cpu_count() or 1) + 4)')
    status=0
    $python -m pytest -n "${PYTEST_PROCESSES:-$processes}" --no-loadscope-reorder "$@" || status=$?
    [ "$status" = 1 ] || exit "$status"
    # Many tests wait for something to happen in time, for which a machine that runs several at once may be too slow.
    failed=$($python -m pytest -n 0 --last-failed --last-failed-no-failures none --collect-only -q "$@" | grep '::' || true)
    say "again, one at a time: the tests that failed while others ran"
    $python -m pytest -n 0 --last-failed --last-failed-no-failures none "$@" || exit $?
    say "PASSED ONLY AT THE SECOND TRY, ALONE:" "$failed"
}

main "$@"
