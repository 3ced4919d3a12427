"""A copy of the demo for tests of its shell scripts, and what is running in it."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

from chain import listens
from helpers import ROOT, Process, free_port, refused, running, wait_until

FILES = ["run.sh", "install.sh", "docker.sh", "producer.py", "perspective_server.py", "prsp-viewer.html"]
FILES += ["requirements.txt", "embedded", "bridge", "viewer", "clickhouse"]
ENDS_S = 13  # the sum of all bounds
# A server that answers /healthz with the file health.json beside it, and takes note of its arguments and of requests
FAKE_SERVER = """
import http.server, pathlib, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(pathlib.Path("health.json").read_bytes())
        with open("asked", "a") as asked:
            print(self.path, file=asked)

    def log_message(self, *_):
        pass

pathlib.Path("arguments").write_text(" ".join(sys.argv[1:]))
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
# A database that only listens, and leaves behind what the stand-in does
FAKE_DATABASE = """
import pathlib, signal, socket, sys

pathlib.Path(".data").mkdir(exist_ok=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])))
print("listening", flush=True)
signal.pause()
"""


IGNORED = shutil.ignore_patterns("venv", ".data", ".logs", ".cache", ".password")


class Demo:
    """The demo in a folder with a space in its name, using the tests' own Python and free ports.

    `home` is where its run.sh is: the folder itself, or clickhouse in it.
    """

    def __init__(self, folder, home=""):
        self.outputs, self.folder = folder, folder / "a copy"
        self.home = self.folder / home
        self.folder.mkdir()
        for name in FILES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name, ignore=IGNORED)
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, self.folder)
        (self.home / "venv").symlink_to(sys.prefix)
        self.port, self.tdengine_port, self.clickhouse_port = free_port(), free_port(), free_port()
        self.environ = {name: value for name, value in os.environ.items() if not name.endswith("_DSN")}
        self.env = {"TDENGINE_PORT": str(self.tdengine_port), "CLICKHOUSE_PORT": str(self.clickhouse_port)}
        self.started = []

    def start(self, *args, port=None, install=False, script=None, **env):
        """run.sh in the background, from another folder."""
        script = script or [self.home / "run.sh"]
        args = [*script, "--port", port or self.port, *([] if install else ["--no-install"]), *args]
        env_args = [
            "env",
            "-u",
            "TDENGINE_DSN",
            "-u",
            "CLICKHOUSE_DSN",
            *(f"{name}={value}" for name, value in (self.env | env).items()),
        ]
        self.started.append(Process([*env_args, *args], self.outputs, "run", cwd=self.outputs))
        return self.started[-1]

    def run(self, *args, stdin=None, **env):
        """run.sh that is expected to end by itself."""
        return subprocess.run(
            [self.home / "run.sh", *map(str, args)],
            cwd=self.outputs,
            env=self.environ | self.env | env,
            capture_output=True,
            text=True,
            timeout=100,
            input=stdin or "",
        )

    def wait_for_rows(self, process, port=None):
        """Until two lines with rows/s are there: the process' standard output."""
        pattern = r"[1-9][\d,.]* rows/s"
        wait_until(
            lambda: len(re.findall(pattern, process.stdout())) > 1 or not process.alive(), 90, lambda: self.log(process)
        )
        assert process.alive(), self.log(process)
        assert f"page at http://localhost:{port or self.port}/\n" in process.stdout()
        return process.stdout()

    def processes(self):
        """{pid: command line} of all processes that work in this folder."""
        found = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                # no command line: it has ended, and waits for its parent to notice
                if line and pathlib.Path(os.readlink(entry / "cwd")) in (self.folder, self.home):
                    found[int(entry.name)] = line
            except OSError:
                continue  # it has ended meanwhile
        return found

    def pid(self, words):
        """Of the service whose command line holds words: the oldest such process."""
        return min(pid for pid, line in self.processes().items() if words in line)

    def service_logs(self):
        return "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in self.home.glob(".logs/*.log"))

    @staticmethod
    def errors(process):
        """Its lines on standard error, without what a busy machine's services waited for in their first seconds."""
        return [
            line for line in process.stderr().splitlines() if not re.match("(perspective_server|producer).*: ", line)
        ]

    def log(self, process):
        return process.log() + self.service_logs()

    def wait_until_empty(self):
        wait_until(lambda: not self.processes(), 10, lambda: f"{self.processes()} still run")

    def assert_ended(self, process, status=0):
        assert process.ends_within(ENDS_S) == status, self.log(process)
        self.wait_until_empty()

    def end(self, process, number=signal.SIGTERM):
        process.signal(number)
        self.assert_ended(process, 0)

    def fake_services(self, health, producer="import signal; signal.pause()"):
        """Something in place of database, producer and server; health: the text of /healthz."""
        (self.folder / "embedded/__main__.py").write_text(FAKE_DATABASE)
        (self.folder / "clickhouse/embedded.py").write_text(FAKE_DATABASE)
        self.fake_pair(health, producer)

    def fake_pair(self, health, producer="import signal; signal.pause()"):
        """Something in place of producer and server."""
        (self.home / "perspective_server.py").write_text(FAKE_SERVER)
        (self.home / "health.json").write_text(health)
        (self.home / "producer.py").write_text(producer)

    def close(self):
        for process in self.started:
            process.stop()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def clone_of_the_project(folder):
    """A Demo in a repository of what git tracks here, as a clone has it, without anything that is installed."""
    demo = Demo(folder)
    shutil.rmtree(demo.folder)
    demo.folder.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        (demo.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, demo.folder / name)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "A clone"]):
        subprocess.run([*git, *words], cwd=demo.folder, check=True, timeout=60)
    return demo


def only_line(result, status=1, script="run.sh"):
    """The one line of an error; AssertionError when there are several, or the status is another one."""
    assert result.returncode == status, result
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{script}: ")
    return line


def sent(text):
    return sum(int(rows) for rows in re.findall(r"sent (\d+) rows in \d+ batches", text))


@contextlib.contextmanager
def stand_in(demo, port, *args):
    """A stand-in of its own on port, to be entered once it listens."""
    args = [sys.executable, "-m", "embedded", "--port", port, "--data", demo.outputs / "data", *args]
    with running(args, demo.outputs, "embedded") as process:
        wait_until(lambda: listens(port), 30, process.log)
        yield process


def table(status="ok", **values):
    """One table's part of /healthz."""
    counts = {"rows": 5, "rows_per_s": 1.0, "missed_rows": 0, "unshown_values": 0}
    own = {"table": "factory.sensors", "dataset": None, "error": None}
    return counts | own | {"status": status} | values


def as_health(*tables):
    """The text of /healthz."""
    status = tables[0]["status"] if tables else "waiting"
    return json.dumps({"status": status, "tables": {f"t{k}": each for k, each in enumerate(tables)}})


def refused_arguments(script, main, args, capsys, monkeypatch):
    """The line with which main() refuses a script's arguments."""
    ended = refused(main, script, args, capsys, monkeypatch)
    return only_line(subprocess.CompletedProcess(args, *ended), 2, script)


def write_script(path, text):
    path.write_text(text)
    path.chmod(0o755)


def play_docker(folder):
    """A command `docker` in this folder, which fake_docker.py plays."""
    write_script(folder / "docker", f'#!/bin/sh\nexec "{sys.executable}" -IS "{ROOT}/tests/fake_docker.py" "$@"\n')
