"""What the tests share: free ports, processes that are surely ended, and waits with a bound."""

import contextlib
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE = 4  # how many times longer than a quiet machine needs is waited for what a test only awaits


def ports():
    """Ports in turn that systems give to no client and browsers forbid to none; each process of pytest has its own."""
    first = 11_000 + 1500 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 14)
    start = random.randrange(1500)
    yield from itertools.cycle([*range(first + start, first + 1500), *range(first, first + start)])


PORTS = ports()


def free_port():
    """A TCP port on loopback that nothing listens on right now, and that nothing else takes soon."""
    for port in itertools.islice(PORTS, 1500):
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def pause(started):
    """Between two looks at what is waited for since `started`: each may be a request to who is waited for."""
    time.sleep(min(0.05 + (time.monotonic() - started) / 8, 0.5))


def wait_until(condition, timeout, what):
    """Polls condition() until it returns something true, and returns that; AssertionError after PATIENCE * timeout.

    `timeout` is in seconds, enough for a quiet machine; `what` is a string or a function that makes one (so that it can
    hold the newest log lines).
    """
    started = time.monotonic()
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > started + PATIENCE * timeout:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        pause(started)


def work_s():
    """Seconds that a known piece of work takes just now: a Python that imports what our scripts do."""
    started = time.monotonic()
    done = python("-c", "import perspective, pyarrow, taosws, tornado.web")
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def in_time(took_s, seconds):
    """Whether what is promised within so many seconds took those at most, and what this machine needs just now."""
    return took_s < seconds or took_s < seconds + 3 * work_s()


def promised(condition, seconds, what):
    """As wait_until, for what is promised within so many seconds: those, and what this machine needs just now."""
    started = time.monotonic()
    while not (result := condition()) and time.monotonic() < started + seconds:
        pause(started)
    if not result:  # the work that was waited for is the start of a process or two
        seconds += 3 * work_s()
        while not (result := condition()) and time.monotonic() < started + seconds:
            pause(started)
    assert result, f"promised within {seconds:.1f} s: {what() if callable(what) else what}"
    return result


class Process:
    """A child process in a process group of its own, its stdout and stderr in files."""

    def __init__(self, args, folder, name="process", cwd=ROOT, env=None):
        folder = pathlib.Path(folder)
        serial = len(list(folder.glob(f"{name}-*.out")))
        self.out, self.err = folder / f"{name}-{serial}.out", folder / f"{name}-{serial}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.popen = subprocess.Popen(
                [str(a) for a in args],
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.args, self.pid = args, self.popen.pid

    def stdout(self):
        return self.out.read_text(errors="replace")

    def stderr(self):
        return self.err.read_text(errors="replace")

    def log(self):
        return f"{self.args} status {self.popen.poll()}\n{self.stdout()[-2000:]}\n{self.stderr()[-2000:]}"

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout):
        """The exit status; AssertionError when it is still running after PATIENCE * timeout seconds."""
        try:
            return self.popen.wait(PATIENCE * timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s: {self.log()}") from None

    def ends_within(self, seconds):
        """The exit status of a process that is promised to end within so many seconds."""
        promised(lambda: not self.alive(), seconds, self.log)
        return self.popen.returncode

    def stop(self, timeout=8):
        """SIGTERM, then SIGKILL for it and whatever is left of its process group. Returns the exit status."""
        if self.alive():
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.popen.wait(10)


@contextlib.contextmanager
def running(args, folder, name="process", **kwargs):
    """Starts a Process and surely ends it: `with running([...], tmp_path) as process:`."""
    process = Process(args, folder, name, **kwargs)
    try:
        yield process
    finally:
        process.stop()


def python(*args, timeout=30, env=None, cwd=ROOT):
    """Runs the tests' own Python with args; returns CompletedProcess (text).

    TimeoutExpired after PATIENCE * timeout seconds, which also ends a taosws call that hangs.
    """
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE * timeout,
        stdin=subprocess.DEVNULL,
    )


def refused(main, name, flags, capsys, monkeypatch):
    """(status, standard output, standard error) of a script whose main() ends because of its flags."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, flags)])
    with pytest.raises(SystemExit) as ended:
        sys.exit(main())
    return ended.value.code, *capsys.readouterr()


def get(url, timeout=5):
    """Body of a GET request as bytes; urllib's errors as they are."""
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.read()


def health(port):
    """The server's /healthz as a dict, or None while it does not answer."""
    try:
        return json.loads(get(f"http://127.0.0.1:{port}/healthz"))
    except OSError:
        return None


def proc(pid, file):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
    return b""


def handles(pid, number, field="SigCgt"):
    """Whether a process has a handler of its own for a signal that ends others; SigBlk: whether the signal waits."""
    signals = [line.split()[1] for line in proc(pid, "status").decode().splitlines() if line.startswith(field)]
    return signals and int(signals[0], 16) >> number - 1 & 1
