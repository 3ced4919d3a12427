"""A viewer without a browser: counts every row that a Perspective table was ever given, and times its own reads."""

import asyncio
import contextlib
import ssl
import threading
import time
import traceback

import perspective
import pyarrow
import tornado.httpclient
import tornado.websocket

OPEN_S = 120  # bound of the wait for the server and for the table's first rows
OVERLAP_S = 1  # rows that came so shortly after the first look at the table may have been part of that look


class Counter:
    """Rows that were shown, and how many of them had been shown before; the key of a row is all of its columns."""

    def __init__(self):
        self.keys, self.first_look = set(), set()
        self.twice = self.volume = self.updates = 0
        self.looked_at = None
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
        volumes = columns.get("volume", [0] * len(table))
        return list(zip(zip(*columns.values(), strict=True), volumes, strict=True))

    def report(self):
        reads = sorted(self.read_ms)
        return {
            "distinct": len(self.keys),
            "twice": self.twice,
            "updates": self.updates,
            "volume": int(self.volume),  # sum over the distinct rows: tells rows apart from other rows as many
            "reads": len(reads),
            "read_ms_99": round(reads[int(len(reads) * 0.99)], 1) if reads else None,
            "read_ms_max": round(reads[-1], 1) if reads else None,
        }


async def connect(url):
    """The WebSocket, as soon as the server accepts it; bound: OPEN_S."""
    deadline = time.monotonic() + OPEN_S
    tls = ssl.create_default_context() if url.startswith("wss") else None  # Tornado's own is made when it is loaded
    request = tornado.httpclient.HTTPRequest(url, ssl_options=tls)
    while True:
        try:
            return await tornado.websocket.websocket_connect(request, max_message_size=2**30)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


class Viewer:
    """In a thread: waits until the table is hosted, then counts; a page's grouped view is read every `read_every` s."""

    def __init__(self, url, name, read_every=0):
        self.url, self.name, self.read_every = url, name, read_every
        self.counter, self.failure, self.updates = Counter(), None, asyncio.Queue()
        self.loop = asyncio.new_event_loop()
        self.watching = self.loop.create_task(self.watch())
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.loop.run_until_complete(self.watching)
        except asyncio.CancelledError:
            self.failure = "closed"
        except Exception:
            self.failure = traceback.format_exc()
        self.loop.close()

    def close(self):
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self.loop.call_soon_threadsafe(self.watching.cancel)
        self.thread.join(10)

    async def watch(self):
        socket = await connect(self.url)
        self.client = perspective.AsyncClient(lambda message: socket.write_message(message, binary=True))
        try:
            async with asyncio.TaskGroup() as tasks:
                for task in (self.receive(socket), self.look(), self.count()):
                    tasks.create_task(task)
        finally:
            socket.close()

    async def receive(self, socket):
        while (message := await socket.read_message()) is not None:
            await self.client.handle_response(message)
        raise ConnectionError(f"the server closed the connection ({socket.close_code} {socket.close_reason})")

    async def look(self):
        """Opens the table; then reads a grouped view again and again, as a page does."""
        while self.name not in await self.client.get_hosted_table_names():
            await asyncio.sleep(0.05)
        table = await self.client.open_table(self.name)
        rows = await table.view()
        await rows.on_update(lambda _, delta: self.updates.put_nowait(delta), mode="row")
        self.counter.look(await rows.to_arrow())
        if self.read_every:
            grouped = await table.view(group_by=["ticker", "client"] if self.name == "stock_values" else ["location"])
            while True:
                started = time.monotonic()
                await grouped.to_arrow(start_row=0, end_row=50)
                self.counter.read_ms.append((time.monotonic() - started) * 1000)
                await asyncio.sleep(self.read_every)

    async def count(self):
        while True:
            self.counter.update(await self.updates.get())
            self.updates.task_done()

    def settle(self):
        """Waits until all that the server has sent up to now is counted."""

        async def ask():
            await self.client.get_hosted_table_names()
            await self.updates.join()

        asyncio.run_coroutine_threadsafe(ask(), self.loop).result(60)

    def report(self):
        """What Counter.report() says; AssertionError when it was disconnected or failed."""
        assert self.failure is None, self.failure
        return self.counter.report()

    def distinct(self):
        return self.report()["distinct"]

    def log(self):
        return f"{self.url} {self.name}: {self.failure or self.counter.report()}"
