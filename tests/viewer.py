"""A viewer without a browser: counts every row that a Perspective table was ever given, and times its own reads.

    python tests/viewer.py WS_URL TABLE [--read-every S]

It waits until the table is hosted, then writes a JSON object to standard output twice a second and at the end, which
comes with SIGTERM (status 0) or when the server closes the connection (status 1). Read the last complete line.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time

import perspective
import pyarrow
import tornado.websocket

REPORT_S = 0.5
OPEN_S = 120  # bound of the wait for the server and for the table's first rows
OVERLAP_S = 1  # rows that came so shortly after the first look at the table may have been part of that look


class Counter:
    """Rows that were shown, and how many of them had been shown before; the key of a row is all of its columns."""

    def __init__(self):
        self.keys, self.first_look = set(), set()
        self.twice = self.volume = self.updates = 0
        self.looked_at = self.row_at = self.newest_ms = None
        self.longest_pause_s = 0.0
        self.read_ms = []

    def look(self, arrow):
        """The rows that the table held when it was opened; updates may have come before this look was answered."""
        self.looked_at = time.monotonic()
        self.first_look = {key for key, _ in self.rows_of(arrow)}
        self.add(arrow, again_counts=False)

    def update(self, arrow):
        self.updates += 1
        recent = self.looked_at is None or time.monotonic() - self.looked_at < OVERLAP_S
        self.add(arrow, again_counts=not recent)

    def add(self, arrow, again_counts):
        now = time.monotonic()
        if self.row_at is not None:
            self.longest_pause_s = max(self.longest_pause_s, now - self.row_at)
        self.row_at = now
        for key, volume in self.rows_of(arrow):
            if key not in self.keys:
                self.keys.add(key)
                self.volume += volume
            elif again_counts or (self.first_look and key not in self.first_look):
                self.twice += 1

    def rows_of(self, arrow):
        """(all columns, volume or 0) of each row in bytes of Arrow."""
        table = pyarrow.ipc.open_stream(arrow).read_all()
        columns = {}
        for name in sorted(table.column_names):
            column = table[name]
            if pyarrow.types.is_timestamp(column.type):
                column = column.cast(pyarrow.timestamp("ms")).cast(pyarrow.int64())
            columns[name] = column.to_pylist()
        times = columns.get("timestamp") or columns.get("ts") or []
        self.newest_ms = max([*times, self.newest_ms or 0])
        return list(zip(zip(*columns.values(), strict=True), columns.get("volume", [0] * len(times)), strict=True))

    def report(self):
        reads = sorted(self.read_ms)
        return {
            "distinct": len(self.keys),
            "twice": self.twice,
            "updates": self.updates,
            "volume": int(self.volume),  # sum over the distinct rows: tells rows apart from other rows as many
            "newest_ms": self.newest_ms,
            "longest_pause_s": round(self.longest_pause_s, 2),
            "since_row_s": self.row_at and round(time.monotonic() - self.row_at, 2),
            "reads": len(reads),
            "read_ms_99": round(reads[int(len(reads) * 0.99)], 1) if reads else None,
            "read_ms_max": round(reads[-1], 1) if reads else None,
        }


async def connect(url):
    """The WebSocket, as soon as the server accepts it; bound: OPEN_S."""
    deadline = time.monotonic() + OPEN_S
    while True:
        try:
            return await tornado.websocket.websocket_connect(url, connect_timeout=5, max_message_size=2**30)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def watch(client, counter, name, read_every, failed):
    """Opens the table and counts; then reads a grouped view again and again, as a page does."""

    def updated(_, delta):
        try:
            counter.update(delta)
        except Exception as error:  # in a callback of the client's it would be lost
            failed.set_exception(error)

    while name not in await client.get_hosted_table_names():
        await asyncio.sleep(0.05)
    table = await client.open_table(name)
    rows = await table.view()
    await rows.on_update(updated, mode="row")
    counter.look(await rows.to_arrow())
    if read_every:
        by = ["ticker", "client"] if name == "stock_values" else ["location"]
        grouped = await table.view(group_by=by)
        while True:
            started = time.monotonic()
            await grouped.to_arrow(start_row=0, end_row=50)
            counter.read_ms.append((time.monotonic() - started) * 1000)
            await asyncio.sleep(read_every)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url", help="as ws://127.0.0.1:8080/websocket")
    parser.add_argument("table", help="as stock_values")
    parser.add_argument("--read-every", type=float, default=0, metavar="S", help="also read a grouped view")
    args = parser.parse_args()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    socket = await connect(args.url)
    counter = Counter()
    client = perspective.AsyncClient(lambda message: socket.write_message(message, binary=True))

    async def take_messages():
        while (message := await socket.read_message()) is not None:
            await client.handle_response(message)

    taking = asyncio.create_task(take_messages())
    failed = asyncio.get_running_loop().create_future()
    watching = asyncio.create_task(watch(client, counter, args.table, args.read_every, failed))
    stopping = asyncio.create_task(stop.wait())
    while not (stop.is_set() or taking.done()):
        for each in (watching, failed):
            if each.done():
                each.result()
        await asyncio.wait([taking, stopping], timeout=REPORT_S, return_when=asyncio.FIRST_COMPLETED)
        print(json.dumps(counter.report()), flush=True)
    if stop.is_set():
        return 0
    print(f"viewer.py: the server closed the connection ({socket.close_code} {socket.close_reason})", file=sys.stderr)
    return 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main()))
