"""What the tests share: free ports, processes that are surely ended, and waits with a bound."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port():
    """A TCP port on loopback that nothing listens on right now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, timeout, what):
    """Polls condition() until it returns something true, and returns that; AssertionError after timeout seconds.

    `what` is a string or a function that makes one (so that it can hold the newest log lines).
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.05)


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
        """The exit status; AssertionError when it is still running after timeout seconds."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s: {self.log()}") from None

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

    TimeoutExpired after timeout seconds, which also ends a taosws call that hangs.
    """
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


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
