"""run.sh with the real parts: what it says, what it starts, and that it leaves nothing behind."""

import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time

import pytest
from helpers import ROOT, Process, free_port, health, running, wait_until

FILES = ["run.sh", "docker.sh", "producer.py", "perspective_server.py", "prsp-viewer.html", "embedded"]
ENDS_S = 8  # promised are 5 seconds; the rest is for a busy machine


class Demo:
    """A copy of the demo in a folder with a space in its name, using the tests' own Python and free ports."""

    def __init__(self, folder):
        self.logs, self.folder = folder, folder / "a copy"
        self.folder.mkdir()
        for name in FILES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name)
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, self.folder)
        (self.folder / ".venv").symlink_to(sys.prefix)
        if (ROOT / "node_modules").exists():
            (self.folder / "node_modules").symlink_to(ROOT / "node_modules")
        self.port, self.tdengine_port = free_port(), free_port()
        self.environ = {name: value for name, value in os.environ.items() if name != "TDENGINE_DSN"}
        self.env = {"TDENGINE_PORT": str(self.tdengine_port)}
        self.started = []

    def start(self, *args, port=None, install=False, **env):
        """./run.sh in the background, from another folder."""
        args = [self.folder / "run.sh", "--port", port or self.port, *([] if install else ["--no-install"]), *args]
        env_args = ["env", "-u", "TDENGINE_DSN", *(f"{name}={value}" for name, value in (self.env | env).items())]
        self.started.append(Process([*env_args, *args], self.logs, "run", cwd=self.logs))
        return self.started[-1]

    def run(self, *args, **env):
        """./run.sh that is expected to end by itself."""
        return subprocess.run(
            [self.folder / "run.sh", *map(str, args)],
            cwd=self.logs,
            env=self.environ | self.env | env,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def wait_for_rows(self, process, port=None):
        """Until two lines with rows/s are there: process' standard output."""
        pattern = r"[1-9][\d,.]* rows/s"
        wait_until(
            lambda: len(re.findall(pattern, process.stdout())) > 1 or not process.alive(), 60, lambda: self.log(process)
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
                # no command line: it has ended and just waits to be taken note of
                if line and pathlib.Path(os.readlink(entry / "cwd")) == self.folder:
                    found[int(entry.name)] = line
            except OSError:
                continue  # it has ended meanwhile
        return found

    def pid(self, words):
        """Of the part whose command line holds words: the oldest such process."""
        return min(pid for pid, line in self.processes().items() if words in line and "run.sh" not in line)

    def part_logs(self):
        return "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in self.folder.glob(".logs/*.log"))

    def log(self, process):
        return process.log() + self.part_logs()

    def assert_ended(self, process, status):
        assert process.wait(ENDS_S) == status, self.log(process)
        assert self.processes() == {}

    def close(self):
        for process in self.started:
            process.stop()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path)
    yield demo
    demo.close()


def only_line(result, status=1):
    assert result.returncode == status, result
    (line,) = result.stderr.splitlines()
    assert line.startswith("run.sh: ")
    return line


def sent(text):
    return sum(int(rows) for rows in re.findall(r"sent (\d+) rows in \d+ batches", text))


# Starting and ending


def test_stocks_flow_and_ctrl_c_ends_everything(demo):
    process = demo.start()
    shown = demo.wait_for_rows(process)
    assert f"using the stand-in for TDengine on port {demo.tdengine_port}" in shown
    tables = health(demo.port)["tables"]
    assert list(tables) == ["stock_values"]

    # the port is taken now: said before anything is started
    before = demo.processes()
    assert f"port {demo.port} is taken" in only_line(demo.run("--no-install", "--port", demo.port))
    assert set(demo.processes()) <= set(before)

    # another one uses the TDengine that answers already, and leaves it alone when it ends
    port = free_port()
    other = demo.start("--dataset", "meters", port=port)
    shown = demo.wait_for_rows(other, port)
    assert f"answers on localhost:{demo.tdengine_port}" in shown
    assert list(health(port)["tables"]) == ["meters_values"]
    other.signal(signal.SIGTERM)
    assert other.wait(ENDS_S) == 0
    assert process.alive()
    assert other.stderr() == ""

    process.signal(signal.SIGINT)
    demo.assert_ended(process, 0)
    assert process.stderr() == ""
    assert sent(process.stdout()) > 0


def test_a_second_start_shows_rows_again(demo):
    for _ in range(2):
        process = demo.start("--dataset", "all", "--rows", 100, "--interval=200", "--limit", 500)
        demo.wait_for_rows(process)
        assert set(health(demo.port)["tables"]) == {"stock_values", "meters_values"}
        lines = demo.processes().values()
        for words in (
            "producer.py --dataset stocks --rows 100 --interval 200",
            "producer.py --dataset meters --rows 100 --interval 200",
            "--limit 500 --interval 200",
        ):
            assert any(words in line for line in lines), lines
        process.signal(signal.SIGTERM)
        demo.assert_ended(process, 0)


def test_subscribed_with_history_that_the_limit_can_hold(demo):
    most = int(re.search(r"most_rows=(\d+)", (ROOT / "run.sh").read_text())[1])
    for history, limit in (("1m", 30_000), ("1h", most)):
        process = demo.start("--subscribe", "--history", history, "--rows", 100, "--interval", 200)
        demo.wait_for_rows(process)
        words = f"--source subscribe --history {history} --limit {limit} --interval 200"
        assert any(words in line for line in demo.processes().values()), demo.processes()
        assert health(demo.port)["tables"]["stock_values"]["source"] == "subscribe"
        process.signal(signal.SIGTERM)
        demo.assert_ended(process, 0)


def test_a_background_job_of_a_script_ends_on_sigint(demo):
    # such a job starts with SIGINT ignored, which no trap of bash can change
    script = '"$@" & echo $! >pid; wait $!; echo "status $?"'
    command = ["bash", "-c", script, "-", demo.folder / "run.sh", "--no-install", "--port", demo.port]
    with running(["env", "-u", "TDENGINE_DSN", *command], demo.logs, "job", cwd=demo.logs, env=demo.env) as job:
        demo.wait_for_rows(job)
        os.kill(int((demo.logs / "pid").read_text()), signal.SIGINT)
        wait_until(lambda: "status 0" in job.stdout(), ENDS_S, lambda: demo.log(job))
        assert demo.processes() == {}


def test_ctrl_c_in_a_terminal(demo):
    # the terminal's SIGINT goes to all of its foreground processes: the parts must be out of its reach
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [demo.folder / "run.sh", "--no-install", "--port", str(demo.port)],
        cwd=demo.logs,
        env=demo.environ | demo.env,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(follower)
    shown = b""
    try:
        while shown.count(b"rows/s") < 2:
            shown += os.read(leader, 4096)
        os.write(leader, b"\x03")
        assert process.wait(ENDS_S) == 0
        while b"sent" not in shown:
            shown += os.read(leader, 4096)
        assert b"Traceback" not in shown
        assert b"not sent" not in (demo.folder / ".logs" / "producer-stocks.log").read_bytes()
        assert demo.processes() == {}
    finally:
        process.kill()
        process.wait(10)
        os.close(leader)


def test_ends_when_nobody_reads_its_output(demo):
    process = subprocess.Popen(
        [demo.folder / "run.sh", "--no-install", "--port", str(demo.port)],
        cwd=demo.logs,
        env=demo.environ | demo.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert b"using" in process.stdout.readline()
        assert b"page at" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 1
        assert b"nobody reads" in process.stderr.read()
        wait_until(lambda: demo.processes() == {}, 1, demo.processes)
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("producer-stocks", "producer.py"),
        ("perspective_server", "perspective_server.py"),
        ("stand-in", "-m embedded"),
    ],
)
def test_the_death_of_a_part_ends_all(demo, part, words):
    process = demo.start()
    demo.wait_for_rows(process)
    os.kill(demo.pid(words), signal.SIGKILL)
    demo.assert_ended(process, 1)
    first, *rest = process.stderr().splitlines()
    assert first == f"run.sh: {part} has ended with status 137; the end of .logs/{part}.log:"
    assert set(rest) <= set((demo.folder / ".logs" / f"{part}.log").read_text().splitlines())
    assert rest


def test_a_part_that_hangs_does_not_delay_the_end(demo):
    process = demo.start()
    demo.wait_for_rows(process)
    for words in ("producer.py", "perspective_server.py", "-m embedded"):
        os.kill(demo.pid(words), signal.SIGSTOP)
    started = time.monotonic()
    process.signal(signal.SIGTERM)
    demo.assert_ended(process, 0)
    assert time.monotonic() - started > 3  # the parts are given time


def test_a_part_that_can_not_start_is_named(demo):
    (demo.folder / "producer.py").write_text("import sys; sys.exit('no producer today')")
    result = demo.run("--no-install", "--port", demo.port)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "run.sh: producer-stocks has ended with status 1; the end of .logs/producer-stocks.log:",
        "no producer today",
    ]
    assert demo.processes() == {}


# Which TDengine


def standin(demo, port):
    """A stand-in of its own on port, to be entered."""
    args = [sys.executable, "-m", "embedded", "--port", port, "--data", demo.logs / "data"]
    return running(args, demo.logs, "embedded")


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_uses_the_tdengine_of_the_environment(demo):
    port = free_port()
    with standin(demo, port) as database:
        wait_until(lambda: listens(port), 20, database.log)
        dsn = f"ws://root:taosdata@127.0.0.1:{port}"
        process = demo.start("--docker", TDENGINE_DSN=dsn)
        shown = demo.wait_for_rows(process)
        assert f"at ws://127.0.0.1:{port} (TDENGINE_DSN)" in shown
        lines = demo.processes().values()
        assert not any("-m embedded" in line for line in lines)
        # anybody may read a command line
        assert not any("taosdata" in line for line in lines)
        assert "taosdata" not in process.stdout() + process.stderr() + demo.part_logs()
        process.signal(signal.SIGINT)
        demo.assert_ended(process, 0)

        dsn = f"ws://root:a%20secret@127.0.0.1:{port}"
        line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_DSN=dsn))
        assert "refuses the user or password" in line
        assert "secret" not in line

        # the same server where one is expected without TDENGINE_DSN
        (demo.folder / "docker.sh").write_text("#!/bin/sh\necho 'docker.sh was here'\n")
        process = demo.start("--docker", TDENGINE_PORT=port)
        shown = demo.wait_for_rows(process)
        assert "docker.sh was here" in shown
        assert f"TDengine in Docker on port {port}" in shown
        process.signal(signal.SIGINT)
        demo.assert_ended(process, 0)


def test_a_failure_of_docker_ends_it(demo):
    (demo.folder / "docker.sh").write_text("#!/bin/sh\necho 'docker.sh: no docker' >&2; exit 1\n")
    result = demo.run("--docker", "--no-install", "--port", demo.port)
    assert (result.returncode, result.stderr) == (1, "docker.sh: no docker\n")


def test_a_tdengine_that_does_not_answer(demo):
    dsn = f"ws://root:secret@127.0.0.1:{free_port()}/x"
    line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_DSN=dsn))
    assert "no TDengine answers at ws://127.0.0.1:" in line
    assert "secret" not in line
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"ws://root:secret@127.0.0.1:{silent.getsockname()[1]}"
        line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_DSN=dsn))
    assert "no TDengine answers at ws://127.0.0.1:" in line
    assert "secret" not in line


@pytest.mark.parametrize("dsn", ["localhost:6041", "mysql://root:secret@localhost", "ws://root:se/cret@localhost"])
def test_an_unusable_dsn(demo, dsn):
    line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_DSN=dsn), status=2)
    assert "TDENGINE_DSN" in line
    assert "cret" not in line


def test_a_tdengine_that_refuses_the_default_password(demo):
    (demo.logs / "password").write_text("other\n")
    args = ["--port", demo.tdengine_port, "--data", demo.logs / "data", "--password-file", demo.logs / "password"]
    with running([sys.executable, "-m", "embedded", *args], demo.logs, "embedded") as database:
        wait_until(lambda: listens(demo.tdengine_port), 20, database.log)
        line = only_line(demo.run("--no-install", "--port", demo.port))
    assert "refuses root" in line
    assert "TDENGINE_DSN=" in line


def test_another_program_on_tdengines_port(demo):
    args = [sys.executable, "-m", "http.server", demo.tdengine_port, "--bind", "127.0.0.1"]
    with running(args, demo.logs, "other", cwd=demo.logs) as other:
        wait_until(lambda: listens(demo.tdengine_port), 20, other.log)
        process = demo.start()
        shown = demo.wait_for_rows(process)
        assert f"port {demo.tdengine_port} is taken by something that is no TDengine" in shown
        process.signal(signal.SIGTERM)
        demo.assert_ended(process, 0)


# Installing, arguments


def test_installs_first_and_a_signal_ends_that_too(demo):
    install = demo.folder / "install.sh"
    install.write_text("#!/bin/bash\necho installing; sleep 60 & trap 'kill $!; exit 1' TERM; wait\n")
    install.chmod(0o755)
    process = demo.start(install=True)
    wait_until(lambda: "installing" in process.stdout(), 20, process.log)
    process.signal(signal.SIGINT)
    demo.assert_ended(process, 0)


def test_a_failure_of_install_ends_it(demo):
    install = demo.folder / "install.sh"
    install.write_text("#!/bin/sh\necho 'install.sh: no Python' >&2; exit 1\n")
    install.chmod(0o755)
    result = demo.run("--port", demo.port)
    assert (result.returncode, result.stderr) == (1, "install.sh: no Python\n")


def test_without_install_there_must_be_a_venv(demo):
    (demo.folder / ".venv").unlink()
    assert "./install.sh" in only_line(demo.run("--no-install", "--port", demo.port))


@pytest.mark.parametrize(
    "args",
    [
        ["--unknown"],
        ["extra"],
        ["--dataset"],
        ["--dataset", "shares"],
        ["--port", "0"],
        ["--port", "65536"],
        ["--port=x"],
        ["--limit", "0"],
        ["--rows", "-1"],
        ["--interval", "1.5"],
        ["--history", "10"],
        ["--history=0m"],
        ["--subscribe=yes"],
        ["--docker=yes"],
    ],
)
def test_unusable_arguments(demo, args):
    only_line(demo.run(*args), status=2)
    assert not (demo.folder / ".logs").exists()


def test_help(demo):
    result = demo.run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for flag in ("--dataset", "--port", "--docker", "--no-install", "--limit", "--rows", "--interval", "TDENGINE_DSN"):
        assert flag in result.stdout
    for flag in ("--subscribe", "--history"):
        assert flag in result.stdout
