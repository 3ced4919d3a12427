"""docker.sh against a docker command that records the calls and plays each failure; health is a real HTTP query."""

import base64
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from helpers import ROOT, Process, free_port, wait_until

IMAGE = "tdengine/tsdb:3.3.7.0"
CONTAINER = "tdengine-perspective"


class FakeDocker:
    """A folder with a `docker` to be first on PATH, and what it has recorded."""

    def __init__(self, folder):
        self.folder = folder / "a docker"
        (self.folder / "bin").mkdir(parents=True)
        script = self.folder / "bin" / "docker"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fake_docker.py" "$@"\n')
        script.chmod(0o755)
        shutil.copy(ROOT / "docker.sh", self.folder)
        self.port = free_port()
        self.env = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "FAKE_DOCKER": str(self.folder),
            "TDENGINE_PORT": str(self.port),
            "TDENGINE_WAIT_S": "1",
        }
        self.play()

    def play(self, **state):
        start = {"container": None, "images": [], "fail": {}, "hang": [], "on_start": "running", "version": "Docker 28"}
        (self.folder / "state.json").write_text(json.dumps(start | state))

    def container(self):
        return json.loads((self.folder / "state.json").read_text())["container"]

    def calls(self, command=None):
        lines = (self.folder / "calls.jsonl").read_text().splitlines() if (self.folder / "calls.jsonl").exists() else []
        return [call for call in map(json.loads, lines) if command in (None, call[0])]

    def script(self, *args, **env):
        return subprocess.run(
            [self.folder / "docker.sh", *args],
            cwd=self.folder.parent,
            env={**os.environ, **self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def docker(tmp_path):
    return FakeDocker(tmp_path)


@contextlib.contextmanager
def tdengine(
    port, status=200, body='{"code":0,"column_meta":[["server_version()",8,7]],"data":[["3.3.7.0"]],"rows":1}'
):
    """taosAdapter's REST answer on port; yields the list of requests that came: (path, authorization, SQL)."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sql = self.rfile.read(int(self.headers["Content-Length"])).decode()
            requests.append((self.path, self.headers["Authorization"], sql))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def only_line(result, status):
    """The one line of an error; AssertionError when there are several, or the status is another one."""
    assert result.returncode == status, result
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("docker.sh: ")
    return lines[0]


def test_starts_a_container_on_loopback_and_asks_it(docker):
    with tdengine(docker.port) as requests:
        result = docker.script()
    assert result.returncode == 0, result
    assert f"TDengine 3.3.7.0 answers at ws://root:taosdata@localhost:{docker.port}" in result.stdout
    basic = "Basic " + base64.b64encode(b"root:taosdata").decode()
    assert requests == [("/rest/sql", basic, "SELECT SERVER_VERSION()")]
    assert docker.calls("pull") == [["pull", "--quiet", IMAGE]]
    (run,) = docker.calls("run")
    assert run[-1] == IMAGE
    assert "--detach" in run
    assert "-t" not in run
    assert "-it" not in run
    published = [run[k + 1] for k, word in enumerate(run) if word == "--publish"]
    assert published == [f"127.0.0.1:{docker.port}:6041"]
    assert run[run.index("--volume") + 1] == "tdengine-perspective-data:/var/lib/taos"


def test_asks_without_curl_too(docker, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir", "sed", "grep", "sleep", "tail", "cat", "rm"):
        (tools / name).symlink_to(subprocess.check_output(["bash", "-c", f"type -P {name}"], text=True).strip())
    (tools / "python3").symlink_to(sys.executable)
    with tdengine(docker.port) as requests:
        result = docker.script(PATH=f"{docker.folder}/bin:{tools}")
    assert result.returncode == 0, result
    assert requests[0][2] == "SELECT SERVER_VERSION()"


def test_native_opens_port_6030_on_loopback(docker):
    with tdengine(docker.port):
        assert docker.script("--native").returncode == 0
    (run,) = docker.calls("run")
    published = [run[k + 1] for k, word in enumerate(run) if word == "--publish"]
    assert published == [f"127.0.0.1:{docker.port}:6041", "127.0.0.1:6030:6030"]


def test_data_goes_into_the_folder_given(docker):
    with tdengine(docker.port):
        result = docker.script("--data", "my data")
    assert result.returncode == 0, result
    (run,) = docker.calls("run")
    folder = docker.folder.parent / "my data"
    assert run[run.index("--volume") + 1] == f"{folder}:/var/lib/taos"
    assert folder.is_dir()


def test_another_image_by_the_environment(docker):
    with tdengine(docker.port):
        assert docker.script(TDENGINE_IMAGE="registry.example:5000/tsdb:3.3.8.8").returncode == 0
    assert docker.calls("run")[0][-1] == "registry.example:5000/tsdb:3.3.8.8"


def test_podman_is_told_the_registry(docker):
    docker.play(version="podman version 5.4.0")
    with tdengine(docker.port):
        assert docker.script().returncode == 0
        again = docker.script()
        assert again.returncode == 0, again
        assert "runs already" in again.stdout
    assert docker.calls("pull")[0][-1] == docker.calls("run")[0][-1] == f"docker.io/{IMAGE}"
    assert len(docker.calls("run")) == 1


def test_a_second_start_leaves_the_running_container_alone(docker):
    with tdengine(docker.port):
        docker.script()
        result = docker.script()
    assert result.returncode == 0, result
    assert "runs already" in result.stdout
    assert len(docker.calls("run")) == len(docker.calls("pull")) == 1


def test_a_stopped_container_is_started_again(docker):
    with tdengine(docker.port):
        docker.script()
        docker.play(container=docker.container() | {"state": "exited"})
        result = docker.script()
    assert result.returncode == 0, result
    assert docker.calls("start") == [["start", CONTAINER]]
    assert len(docker.calls("run")) == 1


def test_a_container_of_another_image_is_left_alone(docker):
    docker.play(container={"state": "running", "image": "tdengine/tsdb:3.3.6.0", "settings": ""})
    line = only_line(docker.script(), 9)
    assert "tdengine/tsdb:3.3.6.0" in line
    assert "--stop" in line
    assert {call[0] for call in docker.calls()} <= {"info", "--version", "inspect"}


def test_a_container_with_other_settings_is_left_alone(docker):
    with tdengine(docker.port):
        docker.script()
    line = only_line(docker.script("--native"), 9)
    assert "other settings" in line
    assert "--stop" in line


def test_stop_removes_the_container_and_keeps_the_data(docker):
    with tdengine(docker.port):
        docker.script()
    result = docker.script("--stop")
    assert result.returncode == 0, result
    assert docker.container() is None
    assert not [call for call in docker.calls() if "volume" in call or "-v" in call]
    again = docker.script("--stop")
    assert again.returncode == 0
    assert "there is no container" in again.stdout


def test_benchmark_names_its_database_and_how_to_view_it(docker):
    with tdengine(docker.port):
        result = docker.script("--benchmark")
    assert result.returncode == 0, result
    (call,) = docker.calls("exec")
    assert call[:3] == ["exec", CONTAINER, "taosBenchmark"]
    assert call[call.index("-d") + 1] == "test"
    assert "database test" in result.stdout
    assert "FROM test.meters" in result.stdout


def test_no_docker(docker, tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(subprocess.check_output(["bash", "-c", f"type -P {name}"], text=True).strip())
    assert "not installed" in only_line(docker.script(PATH=str(tmp_path)), 3)


DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
PERMISSION = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.50/info": dial unix /var/run/docker.sock: connect: permission denied'
)
TAKEN = (
    "docker: Error response from daemon: failed to set up container networking: driver failed programming external "
    "connectivity on endpoint tdengine: failed to bind host port for 127.0.0.1:6041: address already in use"
)
NO_NETWORK = (
    'Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on '
    "127.0.0.53:53: no such host"
)
UNKNOWN = "Error response from daemon: manifest for tdengine/tsdb:0 not found: manifest unknown: manifest unknown"


@pytest.mark.parametrize(
    ("failing", "message", "words", "status"),
    [
        ("info", DAEMON, "daemon is not running", 4),
        ("info", PERMISSION, "no permission", 5),
        ("run", TAKEN, "is taken", 6),
        ("run", "Error: rootlessport listen tcp 127.0.0.1:6041: bind: address already in use", "is taken", 6),
        ("pull", NO_NETWORK, "no network", 7),
        ("pull", UNKNOWN, "there is no image", 8),
        ("pull", "write /var/lib/docker/tmp/x: no space left on device", "no space", 1),
        ("run", "docker: something else.\nbroke", "broke", 1),
    ],
)
@pytest.mark.parametrize("version", ["Docker 28", "podman version 5.4.0"])
def test_each_failure_of_docker_has_its_own_line_and_status(docker, version, failing, message, words, status):
    docker.play(fail={failing: message}, version=version)
    assert words in only_line(docker.script(), status)


def test_a_container_that_could_not_be_started_is_removed(docker):
    docker.play(fail={"run": TAKEN})
    docker.script()
    assert docker.calls("rm") == [["rm", "--force", CONTAINER]]


def test_without_network_the_image_that_is_here_is_taken(docker):
    docker.play(fail={"pull": NO_NETWORK}, images=[IMAGE])
    with tdengine(docker.port):
        result = docker.script()
    assert result.returncode == 0, result
    assert "taking the one that is here" in result.stdout


def test_no_pull_takes_the_image_that_is_here(docker):
    docker.play(images=[IMAGE])
    with tdengine(docker.port):
        assert docker.script("--no-pull").returncode == 0
    assert docker.calls("pull") == []


def test_no_pull_without_the_image(docker):
    assert "leave out --no-pull" in only_line(docker.script("--no-pull"), 8)
    assert docker.calls("pull") == docker.calls("run") == []


def with_logs(result):
    assert result.returncode == 10, result
    first, *rest = result.stderr.splitlines()
    assert rest == ["the log of taosd"]
    return first


def test_no_health_within_the_limit(docker):
    assert "within 1 s" in with_logs(docker.script())


def test_a_server_that_answers_no_query_is_not_healthy(docker):
    with tdengine(docker.port, status=500, body="starting"):
        assert "within 1 s" in with_logs(docker.script())


def test_a_container_that_ends_at_once_is_not_waited_for(docker):
    docker.play(on_start="exited")
    assert "has ended" in with_logs(docker.script(TDENGINE_WAIT_S="50"))


def test_a_changed_password(docker):
    with tdengine(docker.port, status=401, body='{"code":855,"desc":"Authentication failure"}'):
        assert "TDENGINE_DSN" in only_line(docker.script(), 10)


def test_ends_on_a_signal_while_docker_hangs(docker, tmp_path):
    docker.play(hang=["pull"])
    process = Process([docker.folder / "docker.sh"], tmp_path, env=docker.env)
    try:
        wait_until(lambda: docker.calls("pull"), 20, process.log)
        process.signal(signal.SIGTERM)
        assert process.wait(5) == 1
        assert process.stderr() == "docker.sh: interrupted\n"
    finally:
        process.stop()


@pytest.mark.parametrize("args", [["--unknown"], ["extra"], ["--data"], ["--data", "a:b"]])
def test_unusable_arguments(docker, args):
    result = docker.script(*args)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert docker.calls() == []


def test_help(docker):
    result = docker.script("--help")
    assert result.returncode == 0
    for flag in ("--benchmark", "--no-pull", "--data", "--native", "--stop", "TDENGINE_IMAGE"):
        assert flag in result.stdout


def test_image_and_native_driver_have_the_same_version():
    versions = re.findall(r"tdengine/tsdb:([\d.]+)\}", (ROOT / "docker.sh").read_text())
    assert versions == re.findall(r"tdengine_version=([\d.]+)", (ROOT / "install.sh").read_text())
    assert len(versions) == 1
