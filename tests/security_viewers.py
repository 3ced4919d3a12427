"""What an attack needs: an honest viewer that notices harm, and bare connections that may say anything."""

import asyncio
import base64
import contextlib
import os
import socket
import struct
import time

import perspective
import tornado.httpclient
import tornado.websocket
from helpers import PATIENCE, in_time

from bridge import perspective_pb2 as pb
from bridge import requests

TABLE = "stock_values"
ANSWER_S = 10  # bound of a wait for the server; an honest viewer's reads must not take longer
WAIT_S = PATIENCE * ANSWER_S  # for what is only awaited; an honest viewer's reads are timed, too
SHAPE = {"group_by": ["ticker", "client"], "columns": ["volume", "close"], "aggregates": {"close": "avg"}}


async def connect(port, origin=None):
    """A WebSocket; tornado.httpclient.HTTPClientError when the server refuses it."""
    headers = {"Origin": origin} if origin is not None else {}
    patience = {"connect_timeout": WAIT_S, "request_timeout": WAIT_S}  # hundreds may connect at once
    request = tornado.httpclient.HTTPRequest(f"ws://127.0.0.1:{port}/websocket", headers=headers, **patience)
    return await asyncio.wait_for(tornado.websocket.websocket_connect(request, max_message_size=2**30), WAIT_S)


class Honest:
    """Reads a grouped view again and again, and counts the updates of the table."""

    def __init__(self, client):
        self.client, self.reads, self.updates, self.slowest_s = client, 0, 0, 0.0

    async def open(self):
        while TABLE not in await self.client.get_hosted_table_names():
            await asyncio.sleep(0.05)
        self.table = await self.client.open_table(TABLE)
        self.schema, self.size = await self.table.schema(), await self.table.size()
        self.view, self.flat = await self.table.view(**SHAPE), await self.table.view()
        await self.flat.on_update(self.updated)

    def updated(self, *_):
        self.updates += 1

    async def read(self):
        while True:
            started = time.monotonic()
            columns = await asyncio.wait_for(self.view.to_columns(end_row=30), WAIT_S)
            assert columns["volume"][0] > 0
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            self.reads += 1
            await asyncio.sleep(0.1)

    async def assert_unharmed(self):
        """The same table with the same columns, no row less, and it still grows."""
        assert await self.client.get_hosted_table_names() == [TABLE]
        assert await self.table.schema() == self.schema
        assert await self.table.size() >= self.size
        reads, updates = self.reads, self.updates
        while self.reads < reads + 2 or self.updates < updates + 2:
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def honest(port):
    """An Honest viewer, which at the end must have been served all the time, each read within ANSWER_S."""
    socket = await connect(port)
    sent = []
    client = perspective.AsyncClient(lambda m: sent.append(bytes(m)) or socket.write_message(m, binary=True))

    async def take_messages():
        while (message := await socket.read_message()) is not None:
            await client.handle_response(message)

    viewer = Honest(client)
    viewer.sent = sent  # each message that it sent
    taking = asyncio.create_task(take_messages())
    reading = None
    try:
        await asyncio.wait_for(viewer.open(), WAIT_S)
        reading = asyncio.create_task(viewer.read())
        yield viewer
        checking = asyncio.create_task(viewer.assert_unharmed())
        await asyncio.wait([checking, reading, taking], timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert not taking.done(), f"the honest viewer was disconnected ({socket.close_code} {socket.close_reason})"
        if reading.done():
            reading.result()
        assert checking.done(), f"no reads or updates any more within {WAIT_S} s"
        checking.result()
        assert in_time(viewer.slowest_s, ANSWER_S)
    finally:
        if reading:
            reading.cancel()
        socket.close()
        await asyncio.wait([taking], timeout=ANSWER_S)


class Bare:
    """A WebSocket without Perspective's client: sends any bytes, returns the answers and how it was closed."""

    def __init__(self, socket):
        self.socket, self.numbers = socket, iter(range(10**6, 2**31))
        self.peer = "{}:{}".format(*socket.protocol.stream.socket.getsockname()[:2])

    async def send(self, message):
        """Sends bytes as a binary message, a string as a text message."""
        with contextlib.suppress(tornado.websocket.WebSocketClosedError, tornado.iostream.StreamClosedError):
            await self.socket.write_message(message, binary=isinstance(message, bytes))

    async def answer(self):
        """The next message as a pb.Envelope, or None when the server has closed."""
        message = await asyncio.wait_for(self.socket.read_message(), WAIT_S)
        return None if message is None else pb.Envelope.FromString(message)

    async def request(self, kind, entity="", content=b""):
        """The answer to a request as a pb.Envelope, or None when the server closes; `content`: a message or bytes."""
        number = next(self.numbers)
        body = content if isinstance(content, bytes) else content.SerializeToString()
        await self.send(requests.reply(number, entity, kind, body))
        while (found := await self.answer()) and found.msg_id != number:
            pass
        return found

    async def error(self, kind, entity="", content=b""):
        """The words of the error that answers a request, "" when it is no error."""
        return pb.ServerError.FromString((await self.request(kind, entity, content)).server_error).message

    async def make_view(self, name, **config):
        """ "" or the words of the error; group_by and the like as ViewConfig takes them."""
        return await self.error("table_make_view", TABLE, pb.MakeView(view_id=name, config=pb.ViewConfig(**config)))

    async def closed(self):
        """The close code, as soon as the server has closed."""
        while await self.answer() is not None:
            pass
        return self.socket.close_code


@contextlib.asynccontextmanager
async def bare(port, origin=None):
    connection = Bare(await connect(port, origin))
    try:
        yield connection
    finally:
        connection.socket.close()


class Raw:
    """A plain socket after the WebSocket handshake: half frames, wrong frames, and nothing read unless asked to."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(ANSWER_S)
        self.socket.connect(("127.0.0.1", port))
        self.peer = "{}:{}".format(*self.socket.getsockname())
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.socket.sendall(data)

    def received(self, timeout=ANSWER_S):
        """All that comes until the server closes; TimeoutError when it does not close within timeout seconds."""
        found, deadline = b"", time.monotonic() + timeout
        while True:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                some = self.socket.recv(2**16)
            except ConnectionError:
                return found
            if not some:
                return found
            found += some


def frame(payload, opcode=2, final=True, masked=True, length=None):
    """A WebSocket frame from a client; `length` is what its header says, wrong or not."""
    length = len(payload) if length is None else length
    head = bytes([final << 7 | opcode])
    if length < 126:
        head += bytes([masked << 7 | length])
    elif length < 2**16:
        head += struct.pack(">BH", masked << 7 | 126, length)
    else:
        head += struct.pack(">BQ", masked << 7 | 127, length)
    return head + (b"\0\0\0\0" if masked else b"") + payload  # a mask of zeros changes nothing


def http(port, request, timeout=ANSWER_S):
    """The answer in bytes to a raw HTTP request, read until the server closes or says nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(request)
        found = b""
        with contextlib.suppress(ConnectionError):
            while some := connection.recv(2**16):
                found += some
        return found


def plain(port):
    """A connection that has said nothing yet."""
    return socket.create_connection(("127.0.0.1", port), ANSWER_S)
