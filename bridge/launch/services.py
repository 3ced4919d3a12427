"""The processes of a demo: each with a log, in a session of its own, ended in a given order."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys

from . import ROOT, Failed, watchdog

LOG_TAIL = 64 * 1024  # bytes read of a log's end


def last_lines(path, count=8):
    """The last lines of a log; none of what is no regular file, which may have no end."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return []
            file.seek(max(0, status.st_size - LOG_TAIL))
            return file.read(LOG_TAIL).decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def open_log(path, append=False):
    """A file descriptor of a log; never waits for a reader of a pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | (os.O_APPEND if append else os.O_TRUNC)
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        raise Failed(f"can't write {path}: {error.strerror}") from None
    os.set_blocking(descriptor, True)
    return descriptor


class Service:
    """One process. `rank`: the highest is ended first."""

    def __init__(self, name, process, log, rank):
        self.name, self.process, self.log, self.rank = name, process, log, rank
        self.ended = asyncio.ensure_future(process.wait())
        self.watched = True  # whether its end is the demo's

    @property
    def pid(self):
        return self.process.pid

    @property
    def status(self):
        """As a shell gives it: 128 and the signal's number when a signal ended it; None while it runs."""
        code = self.process.returncode
        return code if code is None or code >= 0 else 128 - code

    def last_lines(self, count=8):
        return last_lines(self.log, count) if self.log else []


class Services:
    """Starts processes and ends them all; when this process is killed, the watchdog ends them."""

    def __init__(self):
        self.running = []
        self.watchdog = subprocess.Popen(
            [sys.executable, "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def start(self, name, *command, log=None, append=False, rank=0, env=None, cwd=ROOT):
        """A Service, its output in the log or where ours goes.

        A session of its own: Ctrl-C in a terminal must not reach the database before the producer has sent its rows.
        """
        output = open_log(log, append) if log else None
        try:
            process = await asyncio.create_subprocess_exec(
                *map(str, command),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(f"can't start {name} ({command[0]}: {error.strerror})") from None
        finally:
            if output is not None:
                os.close(output)
        service = Service(name, process, log, rank)
        self.running.append(service)
        with contextlib.suppress(OSError):  # somebody has killed the watchdog: then there is only us
            self.watchdog.stdin.write(f"{rank} {process.pid}\n".encode())
            self.watchdog.stdin.flush()
        return service

    async def run(self, name, *command, limit_s=None, **options):
        """Starts a process and waits until it has ended, or ends it after limit_s: its status, None when too late."""
        service = await self.start(name, *command, **options)
        await asyncio.wait([service.ended], timeout=limit_s)
        in_time = service.ended.done()
        await self.end([service])
        return service.status if in_time else None

    async def first_ended(self):
        """Waits until one of those that are watched has ended: which."""
        watched = [service for service in self.running if service.watched]
        await asyncio.wait([service.ended for service in watched], return_when=asyncio.FIRST_COMPLETED)
        return next(service for service in watched if service.ended.done())

    async def end(self, services=None):
        """Ends these or all, the highest rank first; what has not ended in time is killed."""
        services = self.running[:] if services is None else services
        for rank in sorted({service.rank for service in services}, reverse=True):
            equals = [service for service in services if service.rank == rank]
            for service in equals:
                with contextlib.suppress(ProcessLookupError):
                    service.process.terminate()
            await asyncio.wait([service.ended for service in equals], timeout=watchdog.LIMITS_S[rank])
            for service in equals:
                with contextlib.suppress(OSError):
                    os.killpg(service.pid, signal.SIGKILL)  # what it has started, too
                await asyncio.wait([service.ended])  # awaited itself it would be cancelled with us
                if service in self.running:
                    self.running.remove(service)

    def close(self):
        with contextlib.suppress(OSError):
            self.watchdog.stdin.close()
        self.watchdog.wait()
