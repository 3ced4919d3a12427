"""Runs a script's work until it is done, has failed, or a signal comes; ends what it started; gives the exit status."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys

from . import Failed, complain
from .services import Services

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Parser(argparse.ArgumentParser):
    """Unusable arguments end it with status 2 and one line."""

    def __init__(self, prog, description):
        super().__init__(
            prog, description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message):
        complain(f"{self.prog.rpartition('/')[2]}: {message} (--help shows usage)")
        sys.exit(2)


async def until_stopped(script, work, after, when_stopped):
    """Awaits work(services), then ends all services: the exit status."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # run.sh has blocked them until they are handled
    services = Services()
    working, stopping = asyncio.ensure_future(work(services)), asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            working.cancel()
        status = await working
    except asyncio.CancelledError:
        status = 0
    except Failed as error:
        status = 0 if stopped.is_set() else error.status
        if status and str(error):
            complain(f"{script}: {error}")
    except BrokenPipeError:
        status = 1
        complain(f"{script}: nobody reads the output any more: ending")
    finally:
        await services.end()
        services.close()
    if stopped.is_set() and when_stopped:
        complain(f"{script}: {when_stopped}")
    with contextlib.suppress(BrokenPipeError):
        return after() or status
    return status


def run(script, work, after=lambda: 0, when_stopped=""):
    """The exit status of a script: work is a coroutine function of Services; after() follows when all have ended.

    A signal is no failure, but what it has kept from being done may need a line.
    """
    status = asyncio.run(until_stopped(script, work, after, when_stopped))
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        os._exit(status)  # Python itself would complain of what can't be written
    return status
