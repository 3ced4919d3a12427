#!/usr/bin/env python3
"""Many viewers in one process, as a load: each does on every update what a page does.

    python benchmarks/viewer_load.py WS_URL [--mode grouped|local]

grouped: a view grouped by ticker and client, of which the part that a grid shows is read again on every update.
local: a flat view whose row deltas come with every update; the browser's own engine would group them.

Reads lines `VIEWERS SECONDS` from standard input: opens viewers until there are so many, measures for so long, and
prints a JSON object. Ends with its standard input.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import sys
import time

import perspective
import pyarrow
import tornado.websocket

GRID_ROWS = 50  # about what a grid shows at once
OPENS_S = 30  # bound of the wait for the table's first rows, and for one viewer to open
SETTLE_S = 1.0  # from the opening of the last viewer to the window


@functools.lru_cache(4)  # viewers of one table get the same bytes
def newest_ms(arrow):
    """The newest timestamp in bytes of Arrow, in milliseconds since 1970."""
    table = pyarrow.ipc.open_stream(arrow).read_all()
    return max(table["timestamp"].cast(pyarrow.timestamp("ms")).cast(pyarrow.int64()).to_pylist())


class Load:
    """The viewers, and what they saw since the window began; times in ms."""

    def __init__(self, url, mode):
        self.url, self.mode = url, mode
        self.viewers, self.failed = [], None
        self.clear()

    def clear(self):
        self.reads, self.ages, self.updates, self.received = [], [], 0, 0

    async def open(self):
        """One more viewer, on a connection of its own."""
        socket = await tornado.websocket.websocket_connect(
            self.url, connect_timeout=OPENS_S, max_message_size=2**30, compression_options=None
        )
        client = perspective.AsyncClient(lambda message: socket.write_message(message, binary=True))
        taking = asyncio.create_task(self.take(socket, client))
        async with asyncio.timeout(OPENS_S):
            while "stock_values" not in await client.get_hosted_table_names():
                await asyncio.sleep(0.05)
            table = await client.open_table("stock_values")
            if self.mode == "local":
                view = await table.view()
                await view.on_update(lambda _, delta: self.got_delta(delta), mode="row")
                reading = None
            else:
                view = await table.view(group_by=["ticker", "client"])
                loop, updated = asyncio.get_running_loop(), asyncio.Event()
                await view.on_update(lambda *_: loop.call_soon_threadsafe(updated.set))
                reading = asyncio.create_task(self.read(view, updated))
        self.viewers.append((socket, client, table, view, taking, reading))

    async def take(self, socket, client):
        while (message := await socket.read_message()) is not None:
            self.received += len(message)
            await client.handle_response(message)
        self.failed = f"the server closed a connection ({socket.close_code} {socket.close_reason})"

    def got_delta(self, delta):
        self.updates += 1
        self.ages.append(time.time() * 1000 - newest_ms(bytes(delta)))

    async def read(self, view, updated):
        """Reads what a grid shows, after every update; updates that come during a read lead to one more."""
        while True:
            await updated.wait()
            updated.clear()
            self.updates += 1
            started = time.monotonic()
            await view.to_columns_string(start_row=0, end_row=GRID_ROWS)
            self.reads.append((time.monotonic() - started) * 1000)

    async def measure(self, viewers, seconds):
        while len(self.viewers) < viewers:
            await self.open()
        await asyncio.sleep(SETTLE_S)
        self.clear()
        started, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        passed = time.monotonic() - started
        return {
            "viewers": len(self.viewers),
            "seconds": passed,
            "share": (time.process_time() - cpu) / passed,
            "updates": self.updates,
            "received_bytes": self.received,
            "reads_ms": [round(each, 2) for each in self.reads],
            "ages_ms": [round(each, 2) for each in self.ages],
            "failed": self.failed,
        }


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url", help="as ws://127.0.0.1:8080/websocket")
    parser.add_argument("--mode", choices=["grouped", "local"], default="grouped")
    args = parser.parse_args()
    load = Load(args.url, args.mode)
    while line := await asyncio.to_thread(sys.stdin.readline):
        viewers, seconds = line.split()
        try:
            found = await load.measure(int(viewers), float(seconds))
        except (OSError, TimeoutError, tornado.websocket.WebSocketClosedError, perspective.PerspectiveError) as error:
            found = {"failed": f"viewer {len(load.viewers) + 1}: {type(error).__name__} {error}"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
