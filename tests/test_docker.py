"""Both docker.sh against a docker command that records the calls and plays failures; health is a real HTTP query."""

import argparse
import base64
import contextlib
import dataclasses
import http.server
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading

import pytest
from demo import only_line as only_line_of
from demo import play_docker, refused_arguments
from helpers import ROOT, Process, free_port, wait_until

from bridge.launch import container
from bridge.launch.docker import Docker, main
from clickhouse import container as clickhouse_container


@dataclasses.dataclass
class Kind:
    """What differs between TDengine's docker.sh and ClickHouse's."""

    folder: str
    title: str
    variable: str
    image: str
    container: str
    inner_port: int
    data: str
    answer: str
    refused: str


def image(file):
    return re.search(r'image.* = "([\w./-]+:[\d.]+)"', (ROOT / file).read_text())[1]


TDENGINE = Kind(
    "", "TDengine", "TDENGINE", image("bridge/launch/container.py"), "tdengine-perspective", 6041,
    "/var/lib/taos", '{"code":0,"column_meta":[["server_version()",8,7]],"data":[["3.3.7.0"]],"rows":1}',
    '{"code":855,"desc":"Authentication failure"}',
)  # fmt: skip
CLICKHOUSE = Kind(
    "clickhouse", "ClickHouse", "CLICKHOUSE", image("clickhouse/container.py"),
    "clickhouse-perspective", 8123, "/var/lib/clickhouse", "26.9.6.6\n",
    "Code: 516. DB::Exception: default: Authentication failed (AUTHENTICATION_FAILED)",
)  # fmt: skip


class FakeDocker:
    """A folder with a `docker` to be first on PATH, and what it has recorded."""

    def __init__(self, folder, kind):
        self.kind, self.folder = kind, folder / "a docker"
        (self.folder / "bin").mkdir(parents=True)
        play_docker(self.folder / "bin")
        names = ["docker.sh", *(f"bridge/{name}.py" for name in ("__init__", "options", "dsn", "sql"))]
        for name in [*names, *(f"clickhouse/{name}" for name in ("docker.sh", "__init__.py", "container.py"))]:
            (self.folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        shutil.copytree(ROOT / "bridge/launch", self.folder / "bridge/launch")
        self.home = self.folder / kind.folder
        self.port = free_port()
        self.env = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "FAKE_DOCKER": str(self.folder),
            f"{kind.variable}_PORT": str(self.port),
            f"{kind.variable}_WAIT_S": "1",
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
            [self.home / "docker.sh", *args],
            cwd=self.folder.parent,
            env={**os.environ, **self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def succeed(self, *args, **env):
        """Its result while the database answers; `requests` are those that it was asked."""
        with answering(self.port, self.kind.answer) as self.requests:
            result = self.script(*args, **env)
        assert result.returncode == 0, result
        return result


@pytest.fixture
def docker(request, tmp_path):
    return FakeDocker(tmp_path, getattr(request, "param", TDENGINE))


# What the kinds do not share; all else is bridge/launch/docker.py
each_kind = pytest.mark.parametrize("docker", [TDENGINE, CLICKHOUSE], ids=["TDengine", "ClickHouse"], indirect=True)


@pytest.fixture
def tdengine(tmp_path):
    return FakeDocker(tmp_path, TDENGINE)


@pytest.fixture
def clickhouse(tmp_path):
    return FakeDocker(tmp_path, CLICKHOUSE)


@contextlib.contextmanager
def answering(port, body, status=200):
    """A database on port that answers body, a text or a function of the SQL; yields requests: (path, headers, SQL)."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sql = self.rfile.read(int(self.headers["Content-Length"])).decode()
            requests.append((self.path, self.headers, sql))
            answer = (body(sql) if callable(body) else body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

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


def only_line(result, status=1):
    return only_line_of(result, status, "docker.sh")


def published(docker):
    (run,) = docker.calls("run")
    return [run[k + 1] for k, word in enumerate(run) if word == "--publish"]


# Starting and stopping


@each_kind
def test_starts_a_container_on_loopback_queries_it_and_stops_it(docker):
    result = docker.succeed()
    version = re.search(r"[\d.]{5,}", docker.kind.answer)[0]
    assert f"{docker.kind.title} {version} answers at " in result.stdout
    assert f"@localhost:{docker.port}" in result.stdout
    assert docker.calls("pull") == [["pull", "--quiet", docker.kind.image]]
    (run,) = docker.calls("run")
    assert run[-1] == docker.kind.image
    assert "--detach" in run
    assert not {"-t", "-it"} & set(run)
    assert published(docker) == [f"127.0.0.1:{docker.port}:{docker.kind.inner_port}"]
    assert run[run.index("--volume") + 1] == f"{docker.kind.container}-data:{docker.kind.data}"

    # it is removed, its data stays
    result = docker.script("--stop")
    assert result.returncode == 0, result
    assert docker.container() is None
    words = {word for call in docker.calls() if call[0] != "run" for word in call}
    assert not {"volume", "-v", "--volumes"} & words
    again = docker.script("--stop")
    assert (again.returncode, again.stdout) == (0, f"there is no container {docker.kind.container}\n")


def test_clickhouse_has_a_password_that_only_a_file_knows(clickhouse):
    with answering(clickhouse.port, CLICKHOUSE.answer) as requests:
        first, again = clickhouse.script(), clickhouse.script()
    assert (first.returncode, again.returncode) == (0, 0), (first, again)
    file = clickhouse.home / ".password"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = file.read_text()
    assert len(password) == 48
    assert {headers["X-ClickHouse-Key"] for _, headers, _ in requests} == {password}
    assert password not in (clickhouse.folder / "calls.jsonl").read_text() + first.stdout + first.stderr


def test_native_opens_port_6030_on_loopback_and_root_asks_with_the_first_password(tdengine):
    tdengine.succeed("--native")
    assert published(tdengine) == [f"127.0.0.1:{tdengine.port}:6041", "127.0.0.1:6030:6030"]
    ((path, headers, sql),) = tdengine.requests
    assert (path, sql) == ("/rest/sql", "SELECT SERVER_VERSION()")
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"root:taosdata").decode()


@each_kind
def test_data_goes_into_the_folder_given_and_the_image_is_that_of_the_environment(docker):
    docker.succeed("--data", "my data", **{f"{docker.kind.variable}_IMAGE": "registry.example:5000/it:3.3.8.8"})
    (run,) = docker.calls("run")
    folder = docker.folder.parent / "my data"  # from where it was called
    assert run[run.index("--volume") + 1] == f"{folder}:{docker.kind.data}"
    assert folder.is_dir()
    assert run[-1] == "registry.example:5000/it:3.3.8.8"


def test_podman_gets_the_registrys_name(docker):
    docker.play(version="podman version 5.4.0")
    docker.succeed()
    assert "runs already" in docker.succeed().stdout
    assert docker.calls("pull")[0][-1] == docker.calls("run")[0][-1] == f"docker.io/{docker.kind.image}"
    assert len(docker.calls("run")) == 1


def test_a_container_that_is_there_is_used_as_it_is(docker):
    docker.succeed()
    assert "runs already" in docker.succeed().stdout
    assert len(docker.calls("run")) == len(docker.calls("pull")) == 1

    line = only_line(docker.script("--data", "elsewhere"))
    assert "other settings" in line
    assert "--stop" in line

    docker.play(container=docker.container() | {"state": "exited"})
    docker.succeed()
    assert docker.calls("start") == [["start", docker.kind.container]]
    assert len(docker.calls("run")) == 1


def test_a_container_of_another_image_is_left_alone(docker):
    docker.play(container={"state": "running", "image": "it:3.3.6.0", "settings": ""})
    line = only_line(docker.script())
    assert "another image, it:3.3.6.0" in line
    assert "--stop" in line
    assert {call[0] for call in docker.calls()} <= {"info", "--version", "inspect"}


def test_benchmark_fills_a_database_and_shows_a_query(tdengine):
    tdengine.play(images=[TDENGINE.image])
    result = tdengine.succeed("--benchmark", "--no-pull")
    (call,) = tdengine.calls("exec")
    assert call[:3] == ["exec", TDENGINE.container, "taosBenchmark"]
    assert call[call.index("-d") + 1] == "test"
    assert "database test" in result.stdout
    assert "FROM test.meters" in result.stdout


def test_benchmark_fills_a_table_of_clickhouse(clickhouse):
    statements = []

    def answer(sql):
        statements.append(sql)
        return "26.9.6.6\n" if "version" in sql else "1000000\n" if "SELECT count" in sql else ""

    with answering(clickhouse.port, answer):
        result = clickhouse.script("--benchmark")
    assert result.returncode == 0, result
    assert [sql.split()[0] for sql in statements] == ["SELECT", "CREATE", "DROP", "CREATE", "SELECT"]
    assert "FROM test.trades" in result.stdout


# Failures: each in one line, with status 1


def test_no_docker(docker, tmp_path):
    for name in ("sh", "dirname", "readlink", "env", "true"):
        (tmp_path / name).symlink_to(subprocess.check_output(["bash", "-c", f"type -P {name}"], text=True).strip())
    assert "not installed" in only_line(docker.script(PATH=str(tmp_path)))


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
    ("message", "words"),
    [
        (DAEMON, "daemon is not running"),
        (PERMISSION, "no permission"),
        (TAKEN, "is taken"),
        ("Error: rootlessport listen tcp 127.0.0.1:6041: bind: address already in use", "is taken"),
        (NO_NETWORK, "no network"),
        (UNKNOWN, "there is no image"),
        ("write /var/lib/docker/tmp/x: no space left on device", "no space"),
        ("docker: something else.\nbroke", "broke"),
    ],
)
def test_each_failure_of_docker_has_its_own_line(tmp_path, message, words):
    failing = Docker(None, container.TDengine(), argparse.Namespace(data=None))
    failing.log = tmp_path / "log"
    failing.log.write_text(message)
    assert words in str(failing.failed("start it"))


@pytest.mark.parametrize(
    ("failing", "message", "words"),
    [("info", DAEMON, "daemon is not running"), ("pull", UNKNOWN, "there is no image"), ("run", TAKEN, "is taken")],
)
def test_a_failure_of_docker_is_all_that_is_said(docker, failing, message, words):
    docker.play(fail={failing: message})
    assert words in only_line(docker.script())
    # a container that could not be started is removed
    assert docker.calls("rm") == ([["rm", "--force", docker.kind.container]] if failing == "run" else [])


def test_without_network_the_image_that_is_here_is_used(docker):
    docker.play(fail={"pull": NO_NETWORK}, images=[docker.kind.image])
    assert "using the one that is here" in docker.succeed().stdout


def test_no_pull_uses_the_image_that_is_here(docker):
    docker.play(images=[docker.kind.image])
    docker.succeed("--no-pull")
    assert docker.calls("pull") == []


def test_no_pull_without_the_image(docker):
    assert "leave out --no-pull" in only_line(docker.script("--no-pull"))
    assert docker.calls("pull") == docker.calls("run") == []


def with_logs(result):
    assert result.returncode == 1, result
    first, *rest = result.stderr.splitlines()
    assert rest == ["the log of taosd"]
    return first


@each_kind
def test_a_server_that_answers_no_query_is_not_healthy(docker):
    with answering(docker.port, "starting", status=500):
        assert "within 1 s" in with_logs(docker.script())


def test_a_container_that_ends_at_once_is_not_waited_for(docker):
    docker.play(on_start="exited")
    assert "has ended" in with_logs(docker.script(**{f"{docker.kind.variable}_WAIT_S": "50"}))


@each_kind
def test_a_changed_password(docker):
    with answering(docker.port, docker.kind.refused, status=401):
        assert f"{docker.kind.variable}_DSN" in only_line(docker.script())


def test_ends_on_a_signal_while_docker_hangs(docker, tmp_path):
    docker.play(hang=["pull"])
    process = Process([docker.home / "docker.sh"], tmp_path, env=docker.env)
    try:
        wait_until(lambda: docker.calls("pull"), 20, process.log)
        process.signal(signal.SIGTERM)
        assert process.ends_within(10) == 0
        assert process.stderr() == "docker.sh: interrupted: run it again\n"
    finally:
        process.stop()


# Arguments


@pytest.mark.parametrize("args", [["extra"], ["--data"], ["--data", "a:b"], ["--data", ""]])
def test_invalid_arguments(args, capsys, monkeypatch):
    refused_arguments("docker.sh", lambda: main(container.TDengine()), args, capsys, monkeypatch)


def test_clickhouse_has_no_native_port(capsys, monkeypatch):
    kind = clickhouse_container.ClickHouse()
    assert "--native" in refused_arguments("docker.sh", lambda: main(kind), ["--native"], capsys, monkeypatch)


def test_invalid_arguments_and_environment_begin_nothing(docker):
    only_line(docker.script("--unknown"), status=2)
    for name in ("PORT", "WAIT_S"):
        variable = f"{docker.kind.variable}_{name}"
        assert variable in only_line(docker.script(**{variable: "x"}), status=2)
    assert docker.calls() == []


def test_help(docker):
    result = docker.script("--help")
    assert result.returncode == 0
    for flag in ("--benchmark", "--no-pull", "--data", "--stop", f"{docker.kind.variable}_IMAGE"):
        assert flag in result.stdout


def test_image_and_native_driver_have_the_same_version():
    (version,) = re.findall(r"DRIVER_VERSION = \"([\d.]+)\"", (ROOT / "bridge/launch/fetch.py").read_text())
    assert TDENGINE.image == f"tdengine/tsdb:{version}"
