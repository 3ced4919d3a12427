#!/usr/bin/env python3
"""Many viewers in one process: each reads its grouped view, as a page's grid does, and again on every update.

    python benchmarks/load.py WS_URL

Reads lines `VIEWERS SECONDS` from standard input: connects at once as many as are missing, measures for so long, and
prints a JSON object. It speaks Perspective's protocol itself: a client library for each would need more than a core.
"""

import asyncio
import contextlib
import json
import resource
import select
import subprocess
import sys
import time

import measure
import tornado.websocket

from bridge import perspective_pb2 as pb
from bridge import requests

TABLE, VIEW = "stock_values", "grid"
MAKE, SUBSCRIBE, READ = 1, 2, 3  # numbers of a viewer's messages
GRID_ROWS = 50  # about what a grid shows at once
OPENS_S = 60  # bound of the wait until all viewers have their first rows
SETTLE_S = 1  # from then to the measurement
GROUPED = pb.ViewConfig(group_by=["ticker", "client"])
GROUPED.columns.default_columns = 0
REQUESTS = {
    MAKE: (TABLE, "table_make_view", pb.MakeView(view_id=VIEW, config=GROUPED)),
    SUBSCRIBE: (VIEW, "view_on_update", pb.OnUpdate()),
    READ: (VIEW, "view_to_columns_string", pb.ReadText(viewport=pb.ViewPort(start_row=0, end_row=GRID_ROWS))),
}
MESSAGES = {
    number: requests.reply(number, entity, kind, content.SerializeToString())
    for number, (entity, kind, content) in REQUESTS.items()
}


class Failed(Exception):
    pass


class Viewer:
    """One connection with one view."""

    def __init__(self, seen):
        self.seen, self.served = seen, asyncio.get_running_loop().create_future()
        self.asked_at, self.again = None, False

    async def open(self, url):
        """Until the first rows are there."""
        self.socket = await tornado.websocket.websocket_connect(
            url, connect_timeout=OPENS_S, on_message_callback=self.receive, max_message_size=2**26
        )
        for number in (MAKE, SUBSCRIBE):
            self.send(number)
        self.read()
        await self.served

    def send(self, number):
        self.socket.write_message(MESSAGES[number], binary=True)

    def read(self):
        """Updates that come during a read lead to one more."""
        if self.asked_at is None:
            self.asked_at, self.again = time.monotonic(), False
            self.send(READ)
        else:
            self.again = True

    def receive(self, message):
        if message is None:
            self.fail(f"the server closed a connection ({self.socket.close_code} {self.socket.close_reason})")
            return
        response = pb.Envelope.FromString(message)
        if response.server_error:
            self.fail(pb.ServerError.FromString(response.server_error).message)
        elif response.msg_id == READ:
            self.seen["reads_ms"].append((time.monotonic() - self.asked_at) * 1000)
            self.asked_at = None
            if not self.served.done():
                self.served.set_result(None)
            if self.again:
                self.read()
        elif response.msg_id == SUBSCRIBE:
            self.read()

    def fail(self, reason):
        self.seen["failed"] = reason
        if not self.served.done():
            self.served.set_exception(Failed(reason))


async def open_and_measure(url, viewers, missing, seconds, seen):
    """What all viewers see in so many seconds: {reads_ms, opened_s, share (this process', of a core), failed}."""
    started = time.monotonic()
    new = [Viewer(seen) for _ in range(missing)]
    viewers += new
    async with asyncio.timeout(OPENS_S):
        await asyncio.gather(*(viewer.open(url) for viewer in new))
    opened_s = time.monotonic() - started
    if seconds:
        await asyncio.sleep(SETTLE_S)
    seen["reads_ms"].clear()
    started, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - cpu) / (time.monotonic() - started)
    return {**seen, "opened_s": opened_s, "share": share}


async def main(url):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    viewers, seen = [], {"reads_ms": [], "failed": None}
    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted, seconds = int(line.split()[0]), float(line.split()[1])
        try:
            found = await open_and_measure(url, viewers, max(wanted - len(viewers), 0), seconds, seen)
        except (OSError, TimeoutError, Failed, tornado.websocket.WebSocketError) as error:
            found = {"failed": str(error) or f"not all viewers were served within {OPENS_S} s"}
        print(json.dumps(found), flush=True)


class Load:
    """This script, running: `with Load(port) as load: load.measure(20, 5)`."""

    def __init__(self, port):
        args = [sys.executable, __file__, f"ws://127.0.0.1:{port}/websocket"]
        self.popen = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.popen.pid

    def measure(self, viewers, seconds):
        """What so many viewers saw in so many seconds; Unmeasured when one was refused or cut off."""
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(f"{viewers} {seconds}\n")
            self.popen.stdin.flush()
        answers, _, _ = select.select([self.popen.stdout], [], [], seconds + OPENS_S + 20)
        found = json.loads((self.popen.stdout.readline() if answers else "") or '{"failed": "no answer from the load"}')
        if found["failed"]:
            raise measure.Unmeasured(f"{viewers} viewers: {found['failed']}")
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.communicate()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
