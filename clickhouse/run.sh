#!/usr/bin/env bash
# The whole demo with ClickHouse in one command: installs what is missing into .venv here, starts producer, server and,
# without a ClickHouse, its engine in process; prints the page's address and one line a second. Ctrl-C, or the end of any
# part, ends all of them.
set -euo pipefail

rows_limit_s=60   # until rows flow
engine_limit_s=60 # until the embedded engine listens
pip_limit_s=900   # for one run of pip
npm_limit_s=300   # for one run of npm
usual_limit=20000 # rows in the table: 20 s at the default pace, so that charts of prices have a history
most_rows=100000  # of --history without --limit

port=8080 docker='' install=yes only_install='' limit='' rows='' interval='' history=''
clickhouse_port=${CLICKHOUSE_PORT:-8123}
python=.venv/bin/python
names=() pids=() # of the parts that run
engine='' child='' running='' errors=2

usage() {
    cat <<'EOF'
usage: ./run.sh [--dataset stocks] [--port 8080] [--docker] [--install] [--no-install]
                [--history TIME] [--limit N] [--rows N] [--interval MS] [--help]

  --dataset D    stocks, the only one here
  --port P       where the page is: http://localhost:P/ (default 8080)
  --docker       ClickHouse in Docker, started by docker.sh; it goes on when the demo ends
  --install      only installs what is missing (chdb alone takes 530 MB)
  --no-install   don't look whether everything is installed
  --history TIME show what is stored of so long before the start, as 30s, 10m, 2h or 1d
  --limit N      rows that the Perspective table holds, the newest (default 20000; with --history what this pace
                 makes in that time, at most 100000)
  --rows N       rows a batch (default 250)
  --interval MS  between batches, and between polls (default 250)

ClickHouse is, in this order: the one that CLICKHOUSE_DSN names, one in Docker with --docker, one that answers on
localhost:8123, or its engine in process (embedded.py), its data in .data. CLICKHOUSE_PORT is used instead of 8123.
The page's packages come from node_modules above, made when npm is there, or else from the CDN.
Logs are in .logs. Stop with Ctrl-C.
EOF
}

# true: the output may have been closed by its reader, which must not end us before the parts
say() { printf '%s\n' "$*" 2>/dev/null || true; }

die() {
    printf 'run.sh: %s\n' "$*" >&2
    exit 1
}

unusable() {
    printf 'run.sh: %s (--help tells more)\n' "$*" >&2
    exit 2
}

# $2, the value of the flag $1, must be a whole number from $3 to $4.
whole_number() {
    if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        unusable "$1: '$2' is not a whole number from $3 to $4"
    fi
}

parse_arguments() {
    local flag value
    while (($#)); do
        flag=${1%%=*}
        case $flag in
            -h | --help) usage && exit 0 ;;
            --docker | --install | --no-install)
                [[ $1 == "$flag" ]] || unusable "$flag takes no value"
                case $flag in
                    --docker) docker=yes ;;
                    --install) only_install=yes ;;
                    --no-install) install='' ;;
                esac
                ;;
            --dataset | --port | --history | --limit | --rows | --interval)
                if [[ $1 == *=* ]]; then
                    value=${1#*=}
                else
                    (($# > 1)) || unusable "$flag needs a value"
                    value=$2
                    shift
                fi
                case $flag in
                    --dataset)
                        [[ $value == stocks ]] || unusable "--dataset: '$value' is not stocks, the only one here"
                        ;;
                    --port) whole_number "$flag" "$value" 1 65535 && port=$((10#$value)) ;;
                    --history)
                        [[ $value =~ ^[0-9]{1,6}[smhd]$ && $((10#${value%[smhd]})) != 0 ]] ||
                            unusable "--history: '$value' is not a time such as 30s, 10m, 2h or 1d"
                        history=$value
                        ;;
                    --limit) whole_number "$flag" "$value" 1 100000000 && limit=$value ;;
                    --rows) whole_number "$flag" "$value" 1 100000000 && rows=$value ;;
                    --interval) whole_number "$flag" "$value" 10 60000 && interval=$value ;;
                esac
                ;;
            *) unusable "unknown argument: $1" ;;
        esac
        shift
    done
    whole_number CLICKHOUSE_PORT "$clickhouse_port" 1 65535
    [[ -z $only_install || -n $install ]] || unusable "--install and --no-install contradict each other"
}

# The rows that the producer makes in the time of --history, from usual_limit to most_rows.
rows_of_history() {
    local seconds=$((10#${history%[smhd]})) found
    case $history in
        *m) seconds=$((seconds * 60)) ;;
        *h) seconds=$((seconds * 3600)) ;;
        *d) seconds=$((seconds * 86400)) ;;
    esac
    found=$((seconds * 1000 * 10#${rows:-250} / 10#${interval:-250}))
    ((found >= usual_limit)) || found=$usual_limit
    ((found <= most_rows)) || found=$most_rows
    printf '%s' "$found"
}

answers() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Runs a command as a child that a signal to us ends at once; for one in the foreground bash would wait first.
run() {
    local status=0
    "$@" &
    child=$!
    wait "$child" || status=$?
    child=''
    return "$status"
}

# Runs a command for at most $1 seconds, with Python's alarm: timeout(1) isn't everywhere. Its output goes into the file $2.
limited() {
    run "$python" -c 'import os, signal, sys; signal.alarm(int(sys.argv[1])); os.execvp(sys.argv[2], sys.argv[2:])' \
        "$1" "${@:3}" >"$2" 2>&1
}

# What is told of a failure whose output is in the file $1.
reason() {
    if grep -qE 'NewConnectionError|ConnectTimeout|name resolution' "$1"; then
        printf 'no connection to the package index (offline? behind a proxy: set HTTPS_PROXY)'
    else
        { grep -E '^ERROR' "$1" || cat "$1"; } | tail -n 1
    fi
}

# Makes .venv with exactly the packages of requirements.txt; a broken one is made anew.
install_packages() {
    local checksum log=.logs/install.log name python3=''
    checksum=$(cksum <requirements.txt)
    if [[ -f .venv/.stamp && "$(<.venv/.stamp)" == "$checksum" ]]; then
        if "$python" -c 'from clickhouse_connect import get_client; import numpy, perspective, tornado.web, importlib.util as i; i.find_spec("chdb").loader' \
            2>/dev/null; then
            return
        fi
        say "making .venv anew: its Python or its packages do not run any more"
        rm -rf .venv
    fi
    for name in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python3=$name
            break
        fi
    done
    [[ -n $python3 ]] || die "${PYTHON:-python3} is no Python 3.11 or newer: PYTHON=/path/to/python3.11 ./run.sh"
    say "installing the packages of requirements.txt into $PWD/.venv (530 MB, most of it ClickHouse's engine)"
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        rm -rf .venv
        run "$python3" -m venv .venv >"$log" 2>&1 || die "can't make .venv: $(reason "$log") (Debian, Ubuntu: apt install python3-venv)"
    fi
    rm -f .venv/.stamp
    # no copy of 200 MB in a cache outside this folder, unless one is named
    [[ -n ${PIP_CACHE_DIR:-} ]] || export PIP_NO_CACHE_DIR=1
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-30} \
        limited "$pip_limit_s" "$log" "$python" -m pip install --no-input --only-binary=:all: -r requirements.txt ||
        die "pip can't install requirements.txt: $(reason "$log") (all of it: $PWD/$log)"
    printf '%s\n' "$checksum" >.venv/.stamp
}

# The page's packages into node_modules above. Without npm or a network the page takes them from the CDN.
install_viewer() {
    if [[ -d ../node_modules || ! -f ../package-lock.json ]] || ! command -v npm >/dev/null; then return; fi
    say "installing the viewer's packages of package-lock.json into node_modules above"
    if npm_config_cache=${npm_config_cache:-$PWD/../.cache/npm} limited "$npm_limit_s" .logs/npm.log \
        npm ci --prefix .. --ignore-scripts --no-audit --no-fund --no-update-notifier --fetch-retries=1 --fetch-timeout=30000; then
        cksum <../package-lock.json >../node_modules/.stamp
    else
        rm -rf ../node_modules # half of the packages would be worse than none
        say "npm can't install the viewer's packages (see .logs/npm.log): the page will take them from the CDN"
    fi
}

# Prints the version of the ClickHouse that $1 names. Status 2: no usable DSN, 3: user or password refused, 4: no answer.
# shellcheck disable=SC2317,SC2329 # called by run
ask_clickhouse() {
    # exec: so that the child to end is Python itself
    CLICKHOUSE_DSN=$1 exec "$python" - <<'EOF'
import logging, os, signal, sys

logging.disable()
from clickhouse_connect.driver.exceptions import ClickHouseError

from producer import connect, one_line, split_dsn

signal.alarm(15)
try:
    dsn = split_dsn(os.environ["CLICKHOUSE_DSN"], None)[0]
except ValueError:
    sys.exit(2)
try:
    print(connect(dsn).server_version)
except (ClickHouseError, OSError) as error:
    print(one_line(error))
    sys.exit(3 if getattr(error, "code", None) in (192, 193, 194, 195, 497, 516) else 4)
except ValueError:
    sys.exit(2)
EOF
}

# Asks the ClickHouse at $1, sets answer and status.
ask() {
    status=0
    run ask_clickhouse "$1" >.logs/ask.txt 2>&1 || status=$?
    answer=$(tail -n 1 .logs/ask.txt)
    case $status in
        0 | 2 | 3 | 4) ;;
        142) status=4 answer="no answer within 15 s" ;; # SIGALRM
        *) die "$python can't use clickhouse-connect ($answer): run ./run.sh without --no-install" ;;
    esac
}

# CLICKHOUSE_DSN for the parts, and one line that says what it is; starts the embedded engine when there is no ClickHouse.
choose_clickhouse() {
    local answer status server
    if [[ -n ${CLICKHOUSE_DSN:-} ]]; then
        server=$(sed -E 's#^([a-z+]+://)([^/?]*@)?([^/?]*).*#\1\3#' <<<"$CLICKHOUSE_DSN")
        ask "$CLICKHOUSE_DSN"
        case $status in
            0) say "using ClickHouse $answer at $server (CLICKHOUSE_DSN)" ;;
            2) unusable "CLICKHOUSE_DSN: one looks like clickhouse://USER:PASSWORD@HOST:8123 (special characters as %XX)" ;;
            3) die "$server refuses the user or password in CLICKHOUSE_DSN ($answer): correct CLICKHOUSE_DSN" ;;
            *) die "no ClickHouse answers at $server ($answer): start it, correct CLICKHOUSE_DSN, or unset it for the embedded engine" ;;
        esac
        return
    fi
    if [[ -n $docker ]]; then
        run ./docker.sh || exit 1
        CLICKHOUSE_DSN=clickhouse://default:$(<.password)@localhost:$clickhouse_port
        export CLICKHOUSE_DSN
        say "using ClickHouse in Docker on port $clickhouse_port (./docker.sh --stop ends it)"
        return
    fi
    if answers localhost "$clickhouse_port"; then
        export CLICKHOUSE_DSN=clickhouse://default@localhost:$clickhouse_port
        ask "$CLICKHOUSE_DSN"
        if [[ $status == 3 && -s .password ]]; then # the one that docker.sh has started
            CLICKHOUSE_DSN=clickhouse://default:$(<.password)@localhost:$clickhouse_port
            ask "$CLICKHOUSE_DSN"
        fi
        case $status in
            0)
                say "using ClickHouse $answer, which answers on localhost:$clickhouse_port"
                return
                ;;
            3) die "the ClickHouse on localhost:$clickhouse_port refuses default without a password: CLICKHOUSE_DSN=clickhouse://USER:PASSWORD@localhost:$clickhouse_port ./run.sh" ;;
        esac
    fi
    start_engine
}

# Starts the embedded engine on ClickHouse's port, or on a free one when something else has that.
start_engine() {
    local why="no ClickHouse answers on localhost:$clickhouse_port" engine_port=$clickhouse_port started=$SECONDS
    if answers localhost "$clickhouse_port" || answers 127.0.0.1 "$clickhouse_port"; then
        engine_port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        why="port $clickhouse_port is taken by something that is no ClickHouse"
    fi
    say "using ClickHouse's engine in process on port $engine_port ($why)"
    start embedded embedded.py --port "$engine_port" --data .data
    engine=${pids[0]}
    until answers 127.0.0.1 "$engine_port"; do
        kill -0 "$engine" 2>/dev/null || report_end_of 0
        ((SECONDS - started < engine_limit_s)) || die "the embedded engine does not listen after $engine_limit_s s: see .logs/embedded.log"
        sleep 0.05
    done
    export CLICKHOUSE_DSN=clickhouse://default@127.0.0.1:$engine_port
}

# Starts Python with the arguments from $2 on as the part named $1.
start() {
    # in a process group of its own: Ctrl-C must not reach the engine before the producer has sent its last rows
    "$python" -c 'import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])' "$python" "${@:2}" \
        >".logs/$1.log" 2>&1 </dev/null &
    pids+=("$!")
    names+=("$1")
}

start_parts() {
    start producer producer.py ${rows:+--rows "$rows"} ${interval:+--interval "$interval"}
    if [[ -n $history && -z $limit ]]; then limit=$(rows_of_history); fi
    start perspective_server perspective_server.py --port "$port" --limit "${limit:-$usual_limit}" \
        ${history:+--history "$history"} ${interval:+--interval "$interval"}
}

# Waits until rows flow, prints the page's address, and one line a second.
show() {
    exec "$python" -u - "$port" "$rows_limit_s" <<'EOF'
import http.client, json, signal, sys, time

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to run.sh, too, which ends us

port, limit_s = map(int, sys.argv[1:])


def health():
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return {"status": "silent", "tables": {}}
    finally:
        connection.close()


deadline = time.monotonic() + limit_s
while (state := health())["status"] != "ok":
    if time.monotonic() > deadline:
        why = next(filter(None, (table.get("error") for table in state["tables"].values())), state["status"])
        sys.exit(f"run.sh: no rows after {limit_s} s ({why}): see the logs in .logs")
    time.sleep(0.1)
try:
    print(f"page at http://localhost:{port}/")
    while True:
        time.sleep(1)
        state = health()
        pace = sum(table["rows_per_s"] for table in state["tables"].values())
        rows = sum(table["rows"] for table in state["tables"].values())
        away = "" if state["status"] == "ok" else f" (the server is {state['status']})"
        print(f"{pace:,.1f} rows/s, {rows:,} rows in all{away}")
except BrokenPipeError:
    sys.stderr.write("run.sh: nobody reads the output any more: ending\n")
    sys.stdout = None
    sys.exit(1)
EOF
}

# Ends the program because the part with index $1 has ended: one line, and the part's last ones.
report_end_of() {
    local status=0 name=${names[$1]}
    wait "${pids[$1]}" || status=$?
    printf 'run.sh: %s has ended with status %s; the end of .logs/%s.log:\n' "$name" "$status" "$name" >&"$errors"
    tail -n 8 ".logs/$name.log" >&"$errors"
    exit 1
}

# Until one of the parts ends, or a signal comes.
watch() {
    local index dead=''
    # from here on bash would tell of killed parts in words of its own
    exec 3>&2 2>/dev/null
    errors=3
    show 2>&3 &
    child=$!
    while [[ -z $dead ]] && kill -0 "$child"; do
        for index in "${!pids[@]}"; do
            kill -0 "${pids[index]}" || dead=$index
        done
        sleep 0.2 || true
    done
    [[ -z $dead ]] || report_end_of "$dead"
    exit 1 # show has said why
}

# shellcheck disable=SC2317,SC2329 # called by stop_all
any_alive() {
    local pid
    for pid in "$@"; do
        if kill -0 "$pid"; then return 0; fi
    done
    return 1
}

# Ends all that runs within 5 s: the engine last, because the producer still sends what it has.
# shellcheck disable=SC2317,SC2329 # called at exit
stop_all() {
    local pid name others=() last=() left=40
    trap '' INT TERM HUP
    set +e
    exec 2>/dev/null
    # $!, too: a signal may come before what was just started is in our lists
    for pid in "${pids[@]-}" "$child" "${!-}"; do
        if [[ -n $engine && $pid == "$engine" ]]; then
            last=("$pid")
        elif [[ -n $pid ]]; then
            others+=("$pid")
        fi
    done
    kill "${others[@]-}"
    while any_alive "${others[@]-}" && ((left-- > 0)); do sleep 0.1; done
    kill "${last[@]-}"
    while any_alive "${last[@]-}" && ((left-- > -5)); do sleep 0.1; done
    for pid in "${others[@]-}" "${last[@]-}"; do
        kill -KILL -- "-$pid" "$pid" # its process group, too: with what it has started itself
    done
    [[ -n $running ]] || return
    for name in "${names[@]}"; do
        [[ $name != producer ]] || say "$name: $(tail -n 1 ".logs/$name.log")"
    done
}

main() {
    # A script's background job starts with SIGINT ignored, and bash can't undo that; Python can, and starts us again.
    if [[ "$(trap -p INT)" == "trap -- '' SIGINT" && -z ${RUN_SH_STARTED_AGAIN:-} ]] && python3 -c '' 2>/dev/null; then
        RUN_SH_STARTED_AGAIN=yes exec python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$BASH" "${BASH_SOURCE[0]}" "$@"
    fi
    parse_arguments "$@"
    cd "$(dirname "${BASH_SOURCE[0]}")"
    mkdir -p .logs 2>/dev/null || die "can't write into $PWD"
    if [[ -z $only_install ]] && { answers 127.0.0.1 "$port" || answers localhost "$port"; }; then
        die "port $port is taken: end what listens there, or choose another with --port"
    fi
    trap stop_all EXIT
    trap 'exit 0' INT TERM HUP
    trap '' PIPE
    if [[ -n $install ]]; then
        install_packages
        install_viewer
    fi
    [[ -z $only_install ]] || exit 0
    [[ -x $python ]] || die "no $python: leave out --no-install"
    choose_clickhouse
    start_parts
    running=yes
    watch
}

main "$@"
