#!/usr/bin/env bash
# The whole demo in one command: installs what is missing, starts producer, server and, without a TDengine, the stand-in
# for it; prints the page's address and one line a second. Ctrl-C, or the end of any part, ends all of them.
set -euo pipefail

rows_limit_s=60    # until rows flow
standin_limit_s=30 # until the stand-in listens

# of rows in a Perspective table: 20 s at the default pace, so that prices over time have a history. The grid's viewer then
# costs the server a sixth of a core; with 60,000 it would be half of one, with 1,000 a chart's history is one second.
usual_rows=20000
most_rows=60000 # of a --history without --limit
dataset=stocks port=8080 docker='' node='' install=yes limit='' rows='' interval='' source='' history=''
tdengine_port=${TDENGINE_PORT:-6041}
python=.venv/bin/python
names=() pids=() # of the parts that run
standin='' child='' running='' errors=2

usage() {
    cat <<'EOF'
usage: ./run.sh [--dataset stocks|meters|all] [--port 8080] [--docker] [--node] [--no-install]
                [--subscribe] [--history TIME] [--limit N] [--rows N] [--interval MS] [--help]

  --dataset D    which data: stocks (default), meters, or all, both
  --port P       where the page is: http://localhost:P/ (default 8080)
  --docker       TDengine in Docker, started by docker.sh; it goes on when the demo ends
  --node         producer and server in Node.js (node/) instead of Python, with the same data and the same page
  --no-install   don't look whether everything is installed
  --subscribe    TDengine pushes rows to the server, instead of being polled for them
  --history TIME show what is stored of so long before the start, as 30s, 10m, 2h or 1d
  --limit N      rows that a Perspective table holds, the newest (default 20000; with --history what this pace
                 makes in that time, at most 60000)
  --rows N       rows a batch (default 250)
  --interval MS  between batches, and between polls (default 250)

TDengine is, in this order: the one that TDENGINE_DSN names, one in Docker with --docker, one that answers on
localhost:6041, or the stand-in that comes with the demo, its data in .data. TDENGINE_PORT is used instead of 6041.
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
            --docker | --node | --no-install | --subscribe)
                [[ $1 == "$flag" ]] || unusable "$flag takes no value"
                case $flag in
                    --docker) docker=yes ;;
                    --node) node=yes ;;
                    --no-install) install='' ;;
                    --subscribe) source=subscribe ;;
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
                        [[ $value == stocks || $value == meters || $value == all ]] ||
                            unusable "--dataset: '$value' is not stocks, meters or all"
                        dataset=$value
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
    whole_number TDENGINE_PORT "$tdengine_port" 1 65535
    [[ -z $node || -z $source$history ]] || unusable "--node polls, without --subscribe and --history"
}

# The rows that one producer makes in the time of --history, from usual_rows to most_rows.
rows_of_history() {
    local seconds=$((10#${history%[smhd]})) found
    case $history in
        *m) seconds=$((seconds * 60)) ;;
        *h) seconds=$((seconds * 3600)) ;;
        *d) seconds=$((seconds * 86400)) ;;
    esac
    found=$((seconds * 1000 * 10#${rows:-250} / 10#${interval:-250}))
    ((found >= usual_rows)) || found=$usual_rows
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

# Prints the version of the TDengine that $1 names. Status 2: no usable DSN, 3: user or password refused, 4: no answer.
# shellcheck disable=SC2317,SC2329 # called by run
ask_tdengine() {
    # exec: so that the child to end is Python itself
    TDENGINE_DSN=$1 exec "$python" - <<'EOF'
import os, re, signal, ssl, sys, urllib.parse

import taosws

signal.alarm(6)  # a call that hangs holds the interpreter lock: the kernel ends us
try:
    parts = urllib.parse.urlsplit(os.environ["TDENGINE_DSN"])
    usable = parts.scheme in ("ws", "wss", "http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.path
except ValueError:
    usable = False
if not usable:
    sys.exit(2)
limits = {"read_timeout": 4, "conn_timeout": 4, "conn_retries": 1, "retry_backoff_ms": 100, "retry_backoff_max_ms": 200}
given = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
if parts.scheme in ("wss", "https"):
    if given.get("tls_mode") == "none":
        del given["tls_mode"]
    else:
        given = {"tls_mode": "verify_identity", "tls_ca": ssl.get_default_verify_paths().cafile or ""} | given
try:
    # without the database, which the producer makes when it is missing
    connection = taosws.connect(parts._replace(path="", query=urllib.parse.urlencode(limits | given)).geturl())
    print([row[0] for row in connection.query("SELECT SERVER_VERSION()")][0])
except taosws.Error as error:
    text = str(error)
    for secret in filter(None, [parts.password, urllib.parse.unquote(parts.password or ""), given.get("token")]):
        text = text.replace(secret, "***")
    print(" ".join(text.split()))
    sys.exit(3 if re.search("0x0357|0x0351", text) else 4)
EOF
}

# Asks the TDengine at $1, sets answer and status.
ask() {
    status=0
    run ask_tdengine "$1" >.logs/ask.txt 2>&1 || status=$?
    answer=$(tail -n 1 .logs/ask.txt)
    case $status in
        0) [[ $answer != [0-9]* ]] || answer="TDengine $answer" ;;
        2 | 3 | 4) ;;
        142) status=4 answer="no answer within 6 s" ;; # SIGALRM
        *) die "$python can't use taosws ($answer): run ./install.sh" ;;
    esac
}

# TDENGINE_DSN for the parts, and one line that says what it is; starts the stand-in when there is no TDengine.
choose_tdengine() {
    local answer status server
    if [[ -n ${TDENGINE_DSN:-} ]]; then
        server=$(sed -E 's#^([a-z]+://)([^/?]*@)?([^/?]*).*#\1\3#' <<<"$TDENGINE_DSN")
        ask "$TDENGINE_DSN"
        case $status in
            0) say "using $answer at $server (TDENGINE_DSN)" ;;
            2) unusable "TDENGINE_DSN: one looks like ws://USER:PASSWORD@HOST:6041 (special characters as %XX)" ;;
            3) die "$server refuses the user or password in TDENGINE_DSN ($answer): correct TDENGINE_DSN" ;;
            *) die "no TDengine answers at $server ($answer): start it, correct TDENGINE_DSN, or unset TDENGINE_DSN for the stand-in" ;;
        esac
        return
    fi
    if [[ -n $docker ]]; then
        run ./docker.sh || exit 1
        export TDENGINE_DSN=ws://root:taosdata@localhost:$tdengine_port
        say "using TDengine in Docker on port $tdengine_port (./docker.sh --stop ends it)"
        return
    fi
    ask "ws://root:taosdata@localhost:$tdengine_port"
    case $status in
        0)
            export TDENGINE_DSN=ws://root:taosdata@localhost:$tdengine_port
            say "using $answer, which answers on localhost:$tdengine_port"
            return
            ;;
        3) die "the TDengine on localhost:$tdengine_port refuses root with password taosdata: TDENGINE_DSN=ws://USER:PASSWORD@localhost:$tdengine_port ./run.sh" ;;
    esac
    start_standin
}

# Starts the stand-in on TDengine's port, or on a free one when something else has that.
start_standin() {
    local why="no TDengine answers on localhost:$tdengine_port" standin_port=$tdengine_port started=$SECONDS
    if answers localhost "$tdengine_port"; then
        standin_port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        why="port $tdengine_port is taken by something that is no TDengine"
    fi
    say "using the stand-in for TDengine on port $standin_port ($why)"
    start stand-in "$python" -m embedded --port "$standin_port" --data .data
    standin=${pids[0]}
    until answers 127.0.0.1 "$standin_port"; do
        kill -0 "$standin" 2>/dev/null || report_end_of 0
        ((SECONDS - started < standin_limit_s)) || die "the stand-in does not listen after $standin_limit_s s: see .logs/stand-in.log"
        sleep 0.05
    done
    export TDENGINE_DSN=ws://root:taosdata@127.0.0.1:$standin_port
}

# Starts the command from $2 on as the part named $1.
start() {
    # in a process group of its own: Ctrl-C must not reach the stand-in before the producer has sent its last rows
    "$python" -c 'import os, sys; os.setpgid(0, 0); os.execvp(sys.argv[1], sys.argv[1:])' "${@:2}" \
        >".logs/$1.log" 2>&1 </dev/null &
    pids+=("$!")
    names+=("$1")
}

start_parts() {
    local each producer=("$python" producer.py) server=("$python" perspective_server.py)
    if [[ -n $node ]]; then
        producer=(node node/producer.js) server=(node node/server.js)
    fi
    for each in stocks meters; do
        [[ $dataset != "$each" && $dataset != all ]] || start "producer-$each" "${producer[@]}" --dataset "$each" \
            ${rows:+--rows "$rows"} ${interval:+--interval "$interval"}
    done
    if [[ -z $limit && -n $history ]]; then limit=$(rows_of_history); fi
    start perspective_server "${server[@]}" --dataset "$dataset" --port "$port" \
        ${source:+--source "$source"} ${history:+--history "$history"} \
        --limit "${limit:-$usual_rows}" ${interval:+--interval "$interval"}
}

# Node 20 or newer, and the packages of node/, installed unless --no-install is given.
prepare_node() {
    local log=.logs/install-node.log version
    version=$(node --version 2>/dev/null) || die "--node needs Node.js 20 or newer, and there is no node on PATH"
    version=${version#v}
    ((${version%%.*} >= 20)) || die "--node needs Node.js 20 or newer, this is $version"
    # npm writes .package-lock.json when it is done
    if [[ node/node_modules/.package-lock.json -nt node/package-lock.json ]]; then return; fi
    [[ -n $install ]] || die "no packages in node/node_modules: (cd node && npm ci), or leave out --no-install"
    command -v npm >/dev/null || die "--node needs npm, which comes with Node.js, for the packages of node/"
    say "installing the packages of node/package-lock.json into node/node_modules"
    run npm ci --prefix node --omit=dev --no-audit --no-fund >"$log" 2>&1 ||
        die "npm can't install the packages of node/: $(grep -m 1 'npm error' "$log") (all of it: $log)"
}

# Waits until rows flow, prints the page's address, and one line a second.
show() {
    exec "$python" -u - "$port" "$rows_limit_s" <<'EOF'
import http.client, json, signal, sys, time

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal comes to us too; run.sh ends us

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

# Ends all that runs within 5 s: the stand-in last, because the producer still sends what it has.
# shellcheck disable=SC2317,SC2329 # called at exit
stop_all() {
    local pid name others=() last=() left=40
    trap '' INT TERM HUP
    set +e
    exec 2>/dev/null
    # $!, too: a signal may come before what was just started is in our lists
    for pid in "${pids[@]-}" "$child" "${!-}"; do
        if [[ -n $standin && $pid == "$standin" ]]; then
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
        [[ $name != producer-* ]] || say "$name: $(tail -n 1 ".logs/$name.log")"
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
    if answers 127.0.0.1 "$port" || answers localhost "$port"; then
        die "port $port is taken: end what listens there, or choose another with --port"
    fi
    trap stop_all EXIT
    trap 'exit 0' INT TERM HUP
    trap '' PIPE
    if [[ -n $install ]]; then
        run ./install.sh || exit 1
    fi
    [[ -x $python ]] || die "no $python: run ./install.sh, or leave out --no-install"
    [[ -z $node ]] || prepare_node
    choose_tdengine
    start_parts
    running=yes
    watch
}

main "$@"
