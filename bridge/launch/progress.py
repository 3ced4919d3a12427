"""What run.sh reports once all is started: what is waited for, the page's address, one line a second."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys

from . import Failed, complain, one_line, report

ROWS_LIMIT_S = 60  # until rows flow
HINT_S = 4  # until it is reported what the services wait for
RUNS = ("ok", "incomplete")


async def health(port):
    """The server's /healthz; None when it does not answer."""
    with contextlib.suppress(OSError, ValueError, TimeoutError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET /healthz HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n".encode())
                found = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
                return found if isinstance(found, dict) and isinstance(found.get("tables"), dict) else None
            finally:
                writer.close()
    return None


def summary(state):
    """One line of what /healthz says."""
    if state is None:
        return "the server does not answer"
    tables = state["tables"].values()
    pace, rows = (sum(table.get(name) or 0 for table in tables) for name in ("rows_per_s", "rows"))
    line = f"{pace:,.1f} rows/s, {rows:,} rows total"
    if state.get("status") == "incomplete":
        missed, unshown = (sum(table.get(name) or 0 for table in tables) for name in ("missed_rows", "unshown_values"))
        line += f" (incomplete: {missed:,} rows and {unshown:,} values could not be shown)"
    elif state.get("status") != "ok":
        why = next(filter(None, (table.get("error") for table in tables)), None)
        if why is None and state.get("status") == "stale":
            why = "no new rows: is what writes them running?"
        line += f" ({state.get('status')}: {one_line(why)})" if why else f" ({state.get('status')})"
    return line


def open_browser(url):
    """In a process that outlives us: the browser is the user's."""
    names = [os.environ.get("BROWSER"), "open" if sys.platform == "darwin" else None, "wslview", "xdg-open"]
    for name in filter(None, names):
        if program := shutil.which(name):
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            subprocess.Popen([program, url], start_new_session=True, **streams)
            return
    complain("run.sh: no program to open a browser with was found (BROWSER names one)")


class Progress:
    """Reads the server's /healthz; `producers` are services, `logs` is the name of the folder of their logs."""

    def __init__(self, args, producers, logs):
        self.args, self.producers, self.logs = args, producers, logs
        self.reported = set()

    def report_once(self, name, line):
        if line and (name, line) not in self.reported:
            self.reported.add((name, line))
            complain(f"{name}: {one_line(line)}")

    async def show(self):
        await self.until_rows()
        url = f"http://localhost:{self.args.port}/"
        report(f"page at {url}")
        if self.args.open:
            open_browser(url)
        terminal = sys.stdout is not None and sys.stdout.isatty()
        try:
            while True:
                await asyncio.sleep(1)
                line = summary(await health(self.args.port))
                if terminal:
                    report(f"\r{line[: shutil.get_terminal_size().columns - 1]}\033[K", end="")
                else:
                    report(line)
        finally:
            if terminal:
                report("")

    async def until_rows(self):
        """Waits until the page has something to show; reports what is waited for."""
        loop = asyncio.get_running_loop()
        start, state = loop.time(), None
        while loop.time() - start < ROWS_LIMIT_S:
            state = await health(self.args.port)
            late = loop.time() - start > HINT_S
            if state and all(self.is_ready(table, late) for table in state["tables"].values()) and state["tables"]:
                return
            if late:
                self.hint(state)
            await asyncio.sleep(0.05)
        why = state["status"] if state else "the server does not answer"
        raise Failed(f"no rows after {ROWS_LIMIT_S} s ({why}): see the logs in {self.logs}")

    def is_ready(self, table, late):
        """A table of the demo's own has rows; one of the user's may have none yet, which is reported."""
        if table.get("status") in RUNS:
            return True
        own = getattr(self.args, "table", None) and table.get("dataset") is None
        if own and late:
            self.report_once("perspective_server", table.get("error") or f"{table.get('table')} has no new rows")
        return own and late

    def hint(self, state):
        """Reports what the server and the producers wait for."""
        for table in (state or {"tables": {}})["tables"].values():
            self.report_once("perspective_server", table.get("error"))
        for service in self.producers:
            waiting = [line for line in service.last_lines() if line.startswith("waiting")]
            self.report_once(service.name, waiting[-1] if waiting else None)
