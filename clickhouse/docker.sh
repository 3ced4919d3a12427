#!/usr/bin/env bash
# Starts ClickHouse in Docker (or Podman's docker) and waits until it answers a query. One port, on 127.0.0.1 only; the
# data is in a volume that outlives the container. Writes nothing outside that, .logs and .password in this folder.
set -euo pipefail

image=${CLICKHOUSE_IMAGE:-clickhouse/clickhouse-server:26.9.6.6}
container=clickhouse-perspective
volume=clickhouse-perspective-data
port=${CLICKHOUSE_PORT:-8123}
health_limit_s=${CLICKHOUSE_WAIT_S:-60}
pull_limit_s=1800
password_file=.password # for user default, made at the first start
log=
child=

usage() {
    cat <<EOF
usage: ./docker.sh [--benchmark] [--no-pull] [--data FOLDER] [--stop] [--help]

Starts ClickHouse ($image) as container $container, with port $port on 127.0.0.1,
waits until a query is answered, and leaves it running. What runs already is left as it is.
The password of its user default is in $password_file here, which only you can read.

  --benchmark    then fills table test.trades (replacing it) with a million rows
  --no-pull      takes only an image that is here already
  --data FOLDER  keeps the data there instead of in the volume $volume
  --stop         stops and removes the container; the data stays

Environment: CLICKHOUSE_IMAGE   another image, with its exact version
             CLICKHOUSE_PORT    another port than 8123
             CLICKHOUSE_WAIT_S  seconds until ClickHouse must answer (default 60)

Ends with status 3 when Docker is not there, 4 when its daemon is not running, 5 without permission, 6 when a port is
taken, 7 without network, 8 without the image, 9 when a container of this name is another one, 10 when no query is
answered, 2 for unusable arguments, and 1 for anything else.
EOF
}

say() { printf '%s\n' "$*"; }

# Ends with status $1 and one line.
die() {
    local status=$1
    shift
    printf 'docker.sh: %s\n' "$*" >&2
    exit "$status"
}

unusable() {
    printf 'docker.sh: %s (--help tells more)\n' "$*" >&2
    exit 2
}

# Runs docker with the arguments from $2 on for at most $1 seconds, its output in the log, so that a signal ends it at once.
docker_within() {
    local limit=$1 started=$SECONDS status=0
    shift
    docker "$@" >"$log" 2>&1 </dev/null &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        if ((SECONDS - started >= limit)); then
            kill -KILL "$child" 2>/dev/null || true
            wait "$child" 2>/dev/null || true
            child=
            say "docker $1 took longer than $limit s" >"$log"
            return 1
        fi
        sleep 0.05
    done
    wait "$child" || status=$?
    child=
    return "$status"
}

# Ends with one line for what docker has just said in the log; $1: what failed.
die_of_docker() {
    local said
    said=$(<"$log")
    shopt -s nocasematch
    case $said in
        *"permission denied"*"daemon"* | *"permission denied"*"docker.sock"* | *"permission denied"*"podman.sock"*)
            die 5 "no permission to use Docker: sudo usermod -aG docker \"\$USER\" and log in again, or sudo ./docker.sh" ;;
        *"cannot connect to the docker daemon"* | *"is the docker daemon running"* | *"failed to connect to the docker api"* | \
            *"error during connect"* | *"cannot connect to podman"* | *"unable to connect to podman"*)
            die 4 "the Docker daemon is not running: start it (sudo systemctl start docker, or Docker Desktop)" ;;
        *"port is already allocated"* | *"address already in use"* | *"ports are not available"* | *"bind for "*" failed"*)
            die 6 "port $port is taken: end what listens there, or CLICKHOUSE_PORT=8124 ./docker.sh" ;;
        *"manifest unknown"* | *"manifest for "*"not found"* | *"pull access denied"* | *"repository does not exist"* | \
            *"invalid reference"*)
            die 8 "there is no image $image: correct CLICKHOUSE_IMAGE" ;;
        *"no such host"* | *"dial tcp"* | *"i/o timeout"* | *"network is unreachable"* | *"connection refused"* | \
            *"TLS handshake"* | *"request canceled"* | *"name resolution"*)
            die 7 "can't $1: no network, or the registry does not answer ($(tail -n 1 "$log"))" ;;
        *"no space left"*) die 1 "can't $1: no space left on the disk (docker system df tells what takes it)" ;;
        *"is already in use"*) die 9 "can't $1: a container named $container is there already: ./docker.sh --stop removes it" ;;
    esac
    die 1 "can't $1: ${said##*$'\n'}"
}

# A random password, made once: a container keeps the one that it was made with.
make_password() {
    if [[ ! -s $password_file ]]; then
        (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$password_file")
    fi
    chmod 600 "$password_file"
    CLICKHOUSE_PASSWORD=$(<"$password_file")
    export CLICKHOUSE_PASSWORD # docker takes it from here: no command line shows it
}

# The answer of a ClickHouse on our port to the query $1, within $2 seconds; an error's text, or nothing.
query() {
    python3 - "$port" "$1" "$2" 2>/dev/null <<'EOF' || true
import os, sys, urllib.error, urllib.request

headers = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": os.environ["CLICKHOUSE_PASSWORD"]}
request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/", sys.argv[2].encode(), headers)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    print(opener.open(request, timeout=float(sys.argv[3])).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
EOF
}

# Waits until ClickHouse answers; sets version.
wait_for_health() {
    local answer started=$SECONDS
    while true; do
        answer=$(query 'SELECT version()' 3)
        if [[ $answer =~ ^[0-9]+\.[0-9.]+$ ]]; then
            version=$answer
            return
        elif [[ $answer == *AUTHENTICATION_FAILED* || $answer == *REQUIRED_PASSWORD* ]]; then
            die 10 "ClickHouse answers, but refuses the password in $password_file: give the scripts" \
                "CLICKHOUSE_DSN=clickhouse://USER:PASSWORD@localhost:$port"
        fi
        if docker_within 30 inspect --format '{{.State.Status}}' "$container" && grep -qE 'exited|dead' "$log"; then
            die_with_logs "the container has ended before ClickHouse answered on port $port"
        fi
        ((SECONDS - started < health_limit_s)) ||
            die_with_logs "ClickHouse does not answer a query on port $port within $health_limit_s s (CLICKHOUSE_WAIT_S)"
        sleep 0.5
    done
}

die_with_logs() {
    printf 'docker.sh: %s; the end of its log:\n' "$*" >&2
    docker_within 30 logs --tail 15 "$container" || true
    cat "$log" >&2
    exit 10
}

# Podman asks which registry is meant, unless the image's name says it.
name_registry() {
    local first=${image%%/*}
    docker_within 30 --version || true
    if grep -qi podman "$log" && [[ $image != */* || $first != *[.:]* && $first != localhost ]]; then
        image=docker.io/$image
    fi
}

# Makes the container run: a new one, or the one of ours that is there already.
start_container() {
    local settings="$port ${data:-$volume}" state='' there='' theirs=''
    if docker_within 30 inspect --type container \
        --format '{{.State.Status}}|{{.Config.Image}}|{{index .Config.Labels "demo-settings"}}' "$container"; then
        IFS='|' read -r state there theirs < <(tail -n 1 "$log") || true # Podman's docker first says that it is Podman
    fi
    if [[ -n $state ]]; then
        [[ -z $there || ${there#docker.io/} == "${image#docker.io/}" ]] ||
            die 9 "container $container is there with another image, $there: ./docker.sh --stop removes it (the data stays)"
        [[ -z $theirs || $theirs == "$settings" ]] ||
            die 9 "container $container is there with other settings ($theirs, not $settings: port, data): ./docker.sh" \
                "--stop removes it (the data stays)"
        if [[ $state == running ]]; then
            say "container $container runs already"
        else
            say "starting container $container again"
            docker_within 60 start "$container" || die_of_docker "start container $container"
        fi
        return
    fi
    get_image
    say "starting $image as container $container"
    # the image's own limit of open files is for servers that need more than most machines give
    if ! docker_within 120 run --detach --name "$container" --label "demo-settings=$settings" --ulimit nofile=65536:65536 \
        --env CLICKHOUSE_USER=default --env CLICKHOUSE_PASSWORD --publish "127.0.0.1:$port:8123" \
        --volume "${data:-$volume}:/var/lib/clickhouse" "$image"; then
        local said
        said=$(<"$log")
        docker_within 30 rm --force "$container" || true # Docker leaves it when it can't be started
        say "$said" >"$log"
        die_of_docker "start $image"
    fi
}

get_image() {
    if [[ -z $pull ]]; then
        docker_within 30 image inspect "$image" || die 8 "image $image is not here: leave out --no-pull"
        return
    fi
    say "pulling $image (some hundred MB the first time)"
    if ! docker_within "$pull_limit_s" pull --quiet "$image"; then
        local said
        said=$(<"$log")
        if docker_within 30 image inspect "$image"; then
            say "can't pull it now: taking the one that is here"
        else
            say "$said" >"$log"
            die_of_docker "pull $image"
        fi
    fi
}

stop_container() {
    if ! docker_within 30 inspect --type container "$container"; then
        say "there is no container $container"
        return
    fi
    docker_within 60 stop -t 20 "$container" || die_of_docker "stop container $container"
    docker_within 60 rm "$container" || die_of_docker "remove container $container"
    say "container $container is removed; its data stays (docker volume rm $volume removes that, too)"
}

benchmark() {
    local sql answer
    say "filling table test.trades with 1,000,000 rows"
    for sql in 'CREATE DATABASE IF NOT EXISTS test' 'DROP TABLE IF EXISTS test.trades SYNC' \
        'CREATE TABLE test.trades ENGINE = MergeTree ORDER BY timestamp AS
         SELECT now64(9) - toIntervalMillisecond(number) AS timestamp, rand() % 13 AS ticker, 400 * rand() / 4294967295 AS price
         FROM numbers(1000000)'; do
        answer=$(query "$sql" 300)
        [[ -z $answer ]] || die 1 "can't fill test.trades: ${answer%%$'\n'*}"
    done
    answer=$(query 'SELECT count() FROM test.trades' 60)
    [[ $answer == 1000000 ]] || die 1 "test.trades has ${answer:-no} rows instead of 1000000"
    say "table test.trades is filled; look at it with"
    say "    docker exec -it $container clickhouse-client --ask-password --query 'SELECT ticker, count(), avg(price) FROM test.trades GROUP BY ticker'"
}

main() {
    local benchmark='' pull=yes stop='' data='' version=''
    while (($#)); do
        case $1 in
            --benchmark) benchmark=yes ;;
            --no-pull) pull='' ;;
            --stop) stop=yes ;;
            --data | --data=*)
                if [[ $1 == --data=* ]]; then
                    data=${1#*=}
                else
                    data=${2-}
                    shift $(($# > 1))
                fi
                [[ -n $data ]] || unusable "--data needs a folder"
                [[ $data != *[:\|]* ]] || unusable "--data: Docker takes no folder with : or | in its name"
                ;;
            -h | --help) usage && exit 0 ;;
            *) unusable "unknown argument: $1" ;;
        esac
        shift
    done
    [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || unusable "CLICKHOUSE_PORT: '$port' is not a port"
    [[ $health_limit_s =~ ^[0-9]{1,5}$ ]] || unusable "CLICKHOUSE_WAIT_S: '$health_limit_s' is not a number of seconds"
    command -v docker >/dev/null ||
        die 3 "Docker is not installed, or not on PATH: install Docker or Podman's docker, or use the embedded" \
            "engine (./run.sh)"
    if [[ -n $data && -z $stop ]]; then
        data=$({ mkdir -p "$data" && cd "$data" && pwd; } 2>/dev/null) || die 1 "--data: can't make this folder"
    fi
    cd "$(dirname "${BASH_SOURCE[0]}")"
    mkdir -p .logs 2>/dev/null || die 1 "can't write into $PWD"
    log=.logs/docker.$$
    trap 'rm -f "$log"' EXIT
    trap '[[ -z $child ]] || kill "$child" 2>/dev/null; printf "docker.sh: interrupted\n" >&2; exit 1' INT TERM HUP
    docker_within 30 info || die_of_docker "reach the Docker daemon"
    if [[ -n $stop ]]; then
        stop_container
        return
    fi
    command -v python3 >/dev/null || die 1 "python3 is not installed, or not on PATH"
    make_password
    name_registry
    start_container
    wait_for_health
    [[ -z $benchmark ]] || benchmark
    say "ClickHouse ${version:+$version }answers at clickhouse://default@localhost:$port (--password-file $PWD/$password_file)," \
        "its data is in ${data:-volume $volume};" \
        "./docker.sh --stop ends it"
}

main "$@"
