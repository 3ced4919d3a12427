#!/usr/bin/env bash
# Starts TDengine in Docker (or Podman's docker) and waits until it answers a query. Ports on 127.0.0.1 only; the data is
# in a volume that outlives the container. Writes nothing outside that and .logs in this folder.
set -euo pipefail

# install.sh --native fetches the client driver of the same version
image=${TDENGINE_IMAGE:-tdengine/tsdb:3.3.7.0}
container=tdengine-perspective
volume=tdengine-perspective-data
port=${TDENGINE_PORT:-6041}
health_limit_s=${TDENGINE_WAIT_S:-60}
pull_limit_s=1800
log=
child=

usage() {
    cat <<EOF
usage: ./docker.sh [--benchmark] [--no-pull] [--data FOLDER] [--native] [--stop] [--help]

Starts TDengine ($image) as container $container, with port $port on 127.0.0.1,
waits until a query is answered, and leaves it running. What runs already is left as it is.

  --benchmark    then fills its database test (replacing it) with a million rows, by taosBenchmark
  --no-pull      takes only an image that is here already
  --data FOLDER  keeps the data there instead of in the volume $volume
  --native       opens port 6030, too, for native client drivers (./install.sh --native)
  --stop         stops and removes the container; the data stays

Environment: TDENGINE_IMAGE   another image, with its exact version
             TDENGINE_PORT    another port than 6041
             TDENGINE_WAIT_S  seconds until TDengine must answer (default 60)

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
            die 6 "port $port${native:+ or 6030} is taken: end what listens there, or TDENGINE_PORT=6042 ./docker.sh" ;;
        *"manifest unknown"* | *"manifest for "*"not found"* | *"pull access denied"* | *"repository does not exist"* | \
            *"invalid reference"*)
            die 8 "there is no image $image: correct TDENGINE_IMAGE" ;;
        *"no such host"* | *"dial tcp"* | *"i/o timeout"* | *"network is unreachable"* | *"connection refused"* | \
            *"TLS handshake"* | *"request canceled"* | *"name resolution"*)
            die 7 "can't $1: no network, or the registry does not answer ($(tail -n 1 "$log"))" ;;
        *"no space left"*) die 1 "can't $1: no space left on the disk (docker system df tells what takes it)" ;;
        *"is already in use"*) die 9 "can't $1: a container named $container is there already: ./docker.sh --stop removes it" ;;
    esac
    die 1 "can't $1: ${said##*$'\n'}"
}

# The answer of a TDengine on our port to a real query, or nothing.
query() {
    local sql='SELECT SERVER_VERSION()' url=http://127.0.0.1:$port/rest/sql
    if command -v curl >/dev/null; then
        curl --silent --noproxy '*' --max-time 3 --user root:taosdata --data "$sql" "$url" || true
    else
        python3 - "$url" "$sql" 2>/dev/null <<'EOF' || true
import sys, urllib.error, urllib.request

request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"Authorization": "Basic cm9vdDp0YW9zZGF0YQ=="})
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    print(opener.open(request, timeout=3).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
EOF
    fi
}

# Waits until TDengine answers; sets version.
wait_for_health() {
    local answer started=$SECONDS
    while true; do
        answer=$(query)
        if [[ $answer =~ \"code\":\ *0[,}] ]]; then
            version=$(sed -nE 's/.*"data": *\[\[ *"([^"]*)".*/\1/p' <<<"$answer")
            return
        elif [[ $answer =~ \"code\":\ *855[,}] ]]; then # 0x0357
            die 10 "TDengine answers, but refuses root with password taosdata: give the scripts" \
                "TDENGINE_DSN=ws://USER:PASSWORD@localhost:$port"
        fi
        if docker_within 30 inspect --format '{{.State.Status}}' "$container" && grep -qE 'exited|dead' "$log"; then
            die_with_logs "the container has ended before TDengine answered on port $port"
        fi
        ((SECONDS - started < health_limit_s)) ||
            die_with_logs "TDengine does not answer a query on port $port within $health_limit_s s (TDENGINE_WAIT_S)"
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
    local settings="$port ${data:-$volume} ${native:-no}" state='' there='' theirs=''
    if docker_within 30 inspect --type container \
        --format '{{.State.Status}}|{{.Config.Image}}|{{index .Config.Labels "demo-settings"}}' "$container"; then
        IFS='|' read -r state there theirs < <(tail -n 1 "$log") || true # Podman's docker first says that it is Podman
    fi
    if [[ -n $state ]]; then
        [[ -z $there || ${there#docker.io/} == "${image#docker.io/}" ]] ||
            die 9 "container $container is there with another image, $there: ./docker.sh --stop removes it (the data stays)"
        [[ -z $theirs || $theirs == "$settings" ]] ||
            die 9 "container $container is there with other settings ($theirs, not $settings: port, data, native): ./docker.sh" \
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
    # TAOS_FQDN: the name under which TDengine's data and native clients know it must be the same in every new container
    if ! docker_within 120 run --detach --name "$container" --label "demo-settings=$settings" --env TAOS_FQDN=localhost \
        --publish "127.0.0.1:$port:6041" ${native:+--publish 127.0.0.1:6030:6030} \
        --volume "${data:-$volume}:/var/lib/taos" "$image"; then
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
    say "taosBenchmark fills supertable meters of database test with 1,000,000 rows in 1,000 subtables"
    docker_within 900 exec "$container" taosBenchmark -y -d test -t 1000 -n 1000 || die_of_docker "run taosBenchmark"
    tail -n 3 "$log"
    cat <<EOF
database test, supertable meters; look at it with
    docker exec $container taos -s 'SELECT location, COUNT(*), AVG(voltage) FROM test.meters GROUP BY location'
EOF
}

main() {
    local benchmark='' pull=yes stop='' data='' native='' version=''
    while (($#)); do
        case $1 in
            --benchmark) benchmark=yes ;;
            --no-pull) pull='' ;;
            --native) native=yes ;;
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
    [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || unusable "TDENGINE_PORT: '$port' is not a port"
    [[ $health_limit_s =~ ^[0-9]{1,5}$ ]] || unusable "TDENGINE_WAIT_S: '$health_limit_s' is not a number of seconds"
    command -v docker >/dev/null ||
        die 3 "Docker is not installed, or not on PATH: install Docker or Podman's docker, or use the stand-in" \
            "(python -m embedded)"
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
    name_registry
    start_container
    wait_for_health
    [[ -z $benchmark ]] || benchmark
    say "TDengine ${version:+$version }answers at ws://root:taosdata@localhost:$port, its data is in ${data:-volume $volume};" \
        "./docker.sh --stop ends it"
}

main "$@"
