#!/usr/bin/env bash
# Installs what the demo needs into its own folder, at exact versions: .venv with the Python packages of requirements.txt,
# node_modules with the viewer's packages of package-lock.json when npm is there. Touches nothing outside this folder.
set -euo pipefail

# the client driver that --native fetches: the version of the server that docker.sh starts
tdengine_version=3.3.7.0
log=.logs/install.log
pip_limit_s=900
npm_limit_s=300
child=

usage() {
    cat <<'EOF'
usage: ./install.sh [--native] [--help]

Makes .venv with the packages of requirements.txt, and node_modules with the viewer's packages when npm is there (without
them the page takes them from a CDN). A second run installs nothing twice; what is broken is repaired.

  --native   also fetches TDengine's native client driver into tdengine-client/driver, for tools of yours that need
             libtaos.so (the demo itself does not), and writes env.sh, to be sourced by a shell that is to find it

Environment: PYTHON                  the Python to use instead of the first on PATH that will do (3.11 or newer)
             PIP_CACHE_DIR           default: .cache/pip in this folder
             npm_config_cache        default: .cache/npm in this folder
             TDENGINE_CLIENT_URL     the driver's archive (.tar.gz; .pkg on macOS), or a folder of them when it ends in /
             TDENGINE_CLIENT_SHA256  the archive's checksum, compared when given
EOF
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Runs a command for at most $1 seconds, its output in the log. In the background, so that a signal ends it at once.
run_logged() {
    local limit=$1 started=$SECONDS
    shift
    "$@" >>"$log" 2>&1 </dev/null &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        if ((SECONDS - started >= limit)); then
            kill "$child" 2>/dev/null || true
            wait "$child" 2>/dev/null || true
            child=
            say "ERROR: ended after $limit s" >>"$log"
            return 1
        fi
        sleep 0.1
    done
    local status=0
    wait "$child" || status=$?
    child=
    return "$status"
}

# The line of the log that tells most about a failure.
reason() {
    local line
    if grep -qiE 'NewConnectionError|ConnectTimeout|name resolution|ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT' "$log"; then
        line="no connection to the package index (offline? behind a proxy: set HTTPS_PROXY)"
    else
        line=$(grep -iE '^(npm )?(error|err!)' "$log" | grep -vE ' (code|errno|syscall) |complete log|help ci|error$' | tail -n 1 || true)
        [[ -n $line ]] || line=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 || true)
    fi
    printf '%s' "${line:-no message}"
}

# Why the Python $1 will not do, or nothing when it will.
why_not() {
    "$1" - 2>/dev/null <<'EOF' || printf 'does not run'
import os, platform, sys

def why_not():
    if sys.version_info < (3, 11):
        return "is Python %d.%d, older than 3.11" % sys.version_info[:2]
    if platform.python_implementation() != "CPython":
        return "is %s: perspective-python has wheels for CPython only" % platform.python_implementation()
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        if machine != "arm64" or int(platform.mac_ver()[0].split(".")[0]) < 14:
            return "is on macOS %s, %s: perspective-python needs macOS 14 or newer on Apple silicon" % (
                platform.mac_ver()[0], machine)
    elif sys.platform.startswith("linux"):
        try:
            libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
        except (ValueError, OSError):
            libc = ""
        if not libc.startswith("glibc"):
            return "is on Linux without glibc (musl, as in Alpine): perspective-python has no wheel for it"
        if tuple(int(part) for part in libc.split()[1].split(".")[:2]) < (2, 28):
            return "is on %s: perspective-python needs glibc 2.28 or newer" % libc
        if machine not in ("x86_64", "amd64", "aarch64", "arm64") or sys.maxsize < 2**32:
            return "is on %s: perspective-python has wheels for 64-bit x86_64 and arm64" % machine
    else:
        return "is on %s: use Linux, macOS, or WSL on Windows" % sys.platform
    try:
        import ensurepip, venv
    except ImportError:
        return "has no venv module (Debian, Ubuntu: apt install python3-venv)"
    return ""

sys.stdout.write(why_not())
EOF
}

# Sets python to $PYTHON, or to the first Python on PATH that will do; says what it found.
find_python() {
    local name path why refused=
    for name in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        path=$(command -v "$name" || true)
        [[ -n $path ]] || continue
        why=$(why_not "$path")
        if [[ -z $why ]]; then
            python=$path
            [[ -z $refused ]] || say "${refused#; }"
            say "Python: $path ($("$path" --version 2>&1))"
            return
        fi
        refused+="; $path $why"
        [[ -z ${PYTHON:-} ]] || break
    done
    die "no Python that will do (${refused#; }${refused:+; }3.11 or newer is needed): install one, or name it with PYTHON=/path/to/python3"
}

checksum() { cksum <"$1"; }

# True when the folder of packages $1 was installed from the file $2 as it is now.
is_stamped() { [[ -f $1/.stamp && "$(<"$1/.stamp")" == "$(checksum "$2")" ]]; }

# The requirements that are missing or damaged in .venv, or other than their exact version.
damaged_packages() {
    .venv/bin/python - requirements.txt <<'EOF'
import importlib.metadata, os, sys

for line in open(sys.argv[1]):
    requirement = line.split("#")[0].strip()
    if not requirement:
        continue
    name, version = requirement.split("==")
    try:
        package = importlib.metadata.distribution(name)
        whole = package.version == version and all(
            file.size is None or os.path.getsize(package.locate_file(file)) == file.size for file in package.files
        )
    except (importlib.metadata.PackageNotFoundError, OSError, TypeError):
        whole = False
    if not whole:
        print(requirement)
EOF
}

venv_is_whole() {
    is_stamped .venv requirements.txt && [[ -x .venv/bin/python ]] && [[ -z "$(damaged_packages 2>&1 || say no)" ]]
}

pip_install() { run_logged "$pip_limit_s" .venv/bin/python -m pip install --no-input --only-binary=:all: "$@"; }

make_venv() {
    local damaged requirement
    : >"$log"
    if [[ -n "$(why_not .venv/bin/python)" ]] || ! .venv/bin/python -m pip --version >>"$log" 2>&1; then
        if [[ -e .venv ]]; then say "making .venv anew: its Python or its pip does not run any more"; fi
        run_logged 120 "$python" -m venv --clear .venv || die "$python -m venv failed: $(reason) (all of it: $log)"
    fi
    rm -f .venv/.stamp
    say "installing the packages of requirements.txt into .venv, which takes a minute the first time"
    pip_install -r requirements.txt || die "pip can't install requirements.txt: $(reason) (all of it: $log)"
    damaged=$(damaged_packages)
    if [[ -n $damaged ]]; then
        for requirement in $damaged; do
            pip_install --force-reinstall --no-deps "$requirement" ||
                die "pip can't repair $requirement: $(reason) (all of it: $log)"
        done
        [[ -z "$(damaged_packages)" ]] || die "packages in .venv stay damaged: remove .venv and run ./install.sh again"
    fi
    checksum requirements.txt >.venv/.stamp
}

# True when every package of package-lock.json is in node_modules at its version.
viewer_is_whole() {
    is_stamped node_modules package-lock.json && .venv/bin/python - <<'EOF' 2>/dev/null
import json, sys

for path, package in json.load(open("package-lock.json"))["packages"].items():
    if path and not package.get("optional") and json.load(open(path + "/package.json"))["version"] != package["version"]:
        sys.exit(1)
EOF
}

# node_modules by npm. It can be missing: then the page takes its packages from the CDN.
install_viewer() {
    if viewer_is_whole; then
        return
    fi
    if ! command -v npm >/dev/null; then
        rm -rf node_modules
        say "no npm on PATH: the page will take the viewer's packages from the CDN"
        return
    fi
    say "installing the viewer's packages of package-lock.json into node_modules"
    : >"$log"
    if run_logged "$npm_limit_s" npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --fetch-retries=1 --fetch-timeout=30000; then
        checksum package-lock.json >node_modules/.stamp
    else
        rm -rf node_modules # half of the packages would be worse than none
        say "npm can't install the viewer's packages ($(reason)): the page will take them from the CDN"
    fi
}

# TDengine's client driver, whole or not at all, and env.sh for shells that are to find it.
install_native() {
    local machine system ending=tar.gz suffix=so variable=LD_LIBRARY_PATH url source
    local sha256=${TDENGINE_CLIENT_SHA256:-} quote="'\\''"
    case $(uname -m) in
        x86_64 | amd64) machine=x64 ;;
        aarch64 | arm64) machine=arm64 ;;
        *) die "TDengine has no client driver for $(uname -m): x86_64 and arm64 only" ;;
    esac
    case $(uname -s) in
        Linux) system=linux ;;
        Darwin) system=macos ending=pkg suffix=dylib variable=DYLD_LIBRARY_PATH ;;
        *) die "TDengine has no client driver for $(uname -s): Linux and macOS only" ;;
    esac
    local root
    url=${TDENGINE_CLIENT_URL:-https://downloads.tdengine.com/tdengine-tsdb-oss/$tdengine_version/}
    [[ $url != */ ]] || url+=tdengine-tsdb-oss-client-$tdengine_version-$system-$machine.$ending
    source="$url $sha256"
    if [[ -e tdengine-client/driver/libtaos.$suffix && "$(cat tdengine-client/.stamp 2>/dev/null)" == "$source" ]]; then
        say "tdengine-client is up to date"
    else
        say "fetching $url"
        rm -rf tdengine-client.new
        unpack_driver "$url" "$suffix" "$sha256"
        say "$source" >"$root/.stamp"
        rm -rf tdengine-client
        mv "$root" tdengine-client
        rm -rf tdengine-client.new
    fi
    cat >env.sh <<EOF
# source this in a shell that is to find TDengine's native client driver
export $variable='${PWD//\'/$quote}/tdengine-client/driver'\${$variable:+:\$$variable}
EOF
    say "native driver in tdengine-client/driver; for a shell of yours:  . ./env.sh"
}

# Unpacks the archive at $1 into tdengine-client.new, links libtaos.$2 to the file with the version in its name. Sets root.
unpack_driver() {
    local url=$1 suffix=$2 expected=$3 sha256 new=tdengine-client.new driver library name
    refuse() {
        rm -rf "$new"
        die "no client driver from $url: $* (TDENGINE_CLIENT_URL names another place)"
    }
    command -v curl >/dev/null || die "--native needs curl"
    mkdir "$new"
    : >"$log"
    run_logged 660 curl --fail --silent --show-error --location --output "$new/archive" \
        --connect-timeout 10 --speed-limit 1000 --speed-time 15 --max-time 600 "$url" || refuse "$(tail -n 1 "$log")"
    if [[ -n $expected ]]; then
        sha256=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())' <"$new/archive")
        [[ $sha256 == "$(tr A-F a-f <<<"$expected")" ]] || refuse "its SHA-256 is $sha256, not $expected as TDENGINE_CLIENT_SHA256 says"
    fi
    case $url in
        *.pkg) # macOS' own kind: unpacked, not installed, so that nothing outside this folder changes
            run_logged 120 pkgutil --expand-full "$new/archive" "$new/package" || refuse "a broken package ($(head -n 1 "$log"))"
            ;;
        *) # tar itself refuses names that lead out of the folder
            run_logged 120 tar -xzf "$new/archive" --no-same-owner -C "$new" || refuse "a broken archive ($(head -n 1 "$log"))"
            ;;
    esac
    rm "$new/archive"
    driver=$(find "$new" -type f -name "libtaos.*" | head -n 1)
    driver=${driver%/*}
    for library in "$driver"/lib*."$suffix".* "$driver"/lib*.[0-9]*."$suffix"; do
        name=${library##*/}
        [[ ! -f $library ]] || ln -sfn "$name" "$driver/${name%%.*}.$suffix"
    done
    [[ -e $driver/libtaos.$suffix ]] || refuse "no driver/libtaos.$suffix in the archive"
    root=${driver%/driver}
    if [[ $root == "$driver" ]]; then # a package may have it in a folder of another name
        root=$new/renamed
        mkdir "$root"
        mv "$driver" "$root/driver"
    fi
}

main() {
    local native='' argument
    for argument in "$@"; do
        case $argument in
            --native) native=yes ;;
            -h | --help) usage && exit 0 ;;
            *)
                printf 'install.sh: unknown argument: %s (--help tells more)\n' "$argument" >&2
                exit 2
                ;;
        esac
    done
    cd "$(dirname "${BASH_SOURCE[0]}")"
    mkdir -p .logs .cache 2>/dev/null || die "can't write into $PWD"
    export PIP_CACHE_DIR=${PIP_CACHE_DIR:-$PWD/.cache/pip} PIP_DISABLE_PIP_VERSION_CHECK=1
    export PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-30}
    export npm_config_cache=${npm_config_cache:-${NPM_CONFIG_CACHE:-$PWD/.cache/npm}}
    trap '[[ -z $child ]] || kill "$child" 2>/dev/null; printf "install.sh: interrupted\n" >&2; exit 1' INT TERM HUP

    python=.venv/bin/python
    if venv_is_whole; then
        say ".venv is up to date"
    else
        find_python
    fi
    [[ -z $native ]] || install_native
    [[ $python == .venv/bin/python ]] || make_venv
    install_viewer
}

main "$@"
