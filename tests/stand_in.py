"""The stand-in for TDengine under test, the real client in a process of its own, and a bare WebSocket to it."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

from helpers import ROOT, Process, wait_until

CALL_S = 20  # a call into taosws that takes longer has hung
T = 1795411690000  # 2026-11-23 05:28:10 UTC, the recordings' time


class StandIn:
    """python -m embedded on a free port; what it stored stays in its folder over kill() and start()."""

    def __init__(self, folder, *args, **kwargs):
        self.folder, self.args, self.kwargs, self.port = folder, args, kwargs, 0
        self.start()

    def start(self):
        args = [sys.executable, "-m", "embedded", "--port", self.port, "--data", self.folder / "data", *self.args]
        self.process = Process(args, self.folder, "embedded", **self.kwargs)
        self.pid = self.process.pid
        wait_until(lambda: self.listening() or not self.process.alive(), 30, self.process.log)
        assert self.process.alive(), self.process.log()
        self.port = int(self.listening()[1])

    def listening(self):
        return re.search(r"listening on ws://127\.0\.0\.1:(\d+),", self.process.stdout())

    def kill(self):
        """kill -9."""
        self.process.signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        return self.process.stop()


class Client:
    """tests/replay.py with taosws: a call that hangs ends this process, not the tests'."""

    def __init__(self, port, **env):
        self.popen = subprocess.Popen(
            [sys.executable, ROOT / "tests/replay.py", "-", str(port)],
            env={**os.environ, "TZ": "UTC", **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, source, timeout=CALL_S):
        """What the Python source gave, in the recordings' form; AssertionError when it hangs."""
        self.popen.stdin.write(json.dumps(source) + "\n")
        self.popen.stdin.flush()
        ready, _, _ = select.select([self.popen.stdout], [], [], timeout)
        if not ready:
            self.close()
            raise AssertionError(f"no answer within {timeout} s: {source[:200]}")
        line = self.popen.stdout.readline()
        assert line, f"the client has ended: {source[:200]}"
        return json.loads(line)

    def sql(self, text, connection="c"):
        """Rows of a query, rows affected by anything else, or an error as `0x2603 its message`."""
        reads = text.lstrip().split(None, 1)[:1] and text.split(None, 1)[0].lower() in ("select", "show", "describe")
        found = self.call(f"list({connection}.query({text!r}))" if reads else f"{connection}.execute({text!r})")
        return error_text(found) or found

    def close(self):
        self.popen.kill()
        self.popen.communicate()


def error_text(found):
    if not (isinstance(found, dict) and "error" in found):
        return None
    match = re.fullmatch(r"(?:\[(0x\w{4})\] )?Internal error: `(.*)`", found["message"], re.DOTALL)
    return f"{match[1] or '0xFFFF'} {match[2]}" if match else f"{found['error']}: {found['message']}"


class Raw:
    """A WebSocket client of a few lines, which can send what a proper one would not."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.splitlines()[0], head

    def more(self):
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("closed")
        self.buffer += part

    def take(self, count):
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, payload, opcode=None):
        """One masked frame: text for str, binary for bytes."""
        if opcode is None:
            opcode = 1 if isinstance(payload, str) else 2
        payload = payload.encode() if isinstance(payload, str) else payload
        size = len(payload)
        length = (
            bytes([0x80 | size])
            if size < 126
            else struct.pack(">BH", 0xFE, size)
            if size < 2**16
            else struct.pack(">BQ", 0xFF, size)
        )
        self.socket.sendall(bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload)

    def receive(self):
        """The next text (parsed JSON) or binary message; ConnectionError once it is closed."""
        while True:
            first, length = self.take(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.take(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.take(8))
            payload, opcode = self.take(length), first & 15
            if opcode == 8:
                raise ConnectionError("closed")
            if opcode in (1, 2):
                return json.loads(payload) if opcode == 1 else payload

    def ask(self, request):
        """The reply to a request: a dict is sent as JSON."""
        self.send(json.dumps(request) if isinstance(request, dict) else request)
        return self.receive()

    def act(self, action, **args):
        return self.ask({"action": action, "args": args})

    def connect(self, user="root", password="taosdata", db=""):
        return self.act("conn", req_id=1, user=user, password=password, db=db)

    def query(self, sql, req_id=1):
        """The reply to a query, as JSON."""
        text = sql.encode()
        return self.ask(struct.pack("<QQQHI", req_id, 0, 6, 1, len(text)) + text)

    def fetch(self, result_id, req_id=2):
        """(code, message, finished, block) of the reply to a fetch."""
        reply = self.ask(struct.pack("<QQQH", req_id, result_id, 7, 1))
        marker, action, version, _, echoed, code, length = struct.unpack_from("<QQHQQII", reply)
        assert (marker, action, version, echoed) == (2**64 - 1, 7, 1, req_id)
        result, finished = struct.unpack_from("<QB", reply, 42 + length)
        assert result == result_id
        block = None if finished else reply[55 + length :]
        if block is not None:
            assert struct.unpack_from("<I", reply, 51 + length) == (len(block),)
        return code, reply[42 : 42 + length].decode(), finished, block

    def close(self):
        self.socket.close()


@contextlib.contextmanager
def raw(port, connected=True):
    """A Raw, closed at the end; connected: past `conn`."""
    client = Raw(port)
    try:
        if connected:
            assert client.connect()["code"] == 0
        yield client
    finally:
        client.close()


TYPES = {
    1: "?",
    2: "b",
    3: "h",
    4: "i",
    5: "q",
    6: "f",
    7: "d",
    9: "q",
    11: "B",
    12: "H",
    13: "I",
    14: "Q",
}  # as struct has them


def decode_block(raw):
    """(type numbers, widths, values of each column as a list) of a raw data block."""
    _, _, rows, count = struct.unpack_from("<4i", raw)
    schema = list(struct.iter_unpack("<bi", raw[28 : 28 + 5 * count]))
    lengths, at, columns = struct.unpack_from(f"<{count}i", raw, 28 + 5 * count), 28 + 9 * count, []
    for (number, _), length in zip(schema, lengths, strict=True):
        if number in TYPES:
            bitmap, at = raw[at : at + (rows + 7) // 8], at + (rows + 7) // 8
            values = struct.unpack_from(f"<{rows}{TYPES[number]}", raw, at)
            columns.append([None if bitmap[k >> 3] & 0x80 >> (k & 7) else value for k, value in enumerate(values)])
        else:
            offsets, at, values = struct.unpack_from(f"<{rows}i", raw, at), at + 4 * rows, []
            for offset in offsets:
                (size,) = struct.unpack_from("<H", raw, at + offset) if offset >= 0 else (0,)
                value = raw[at + offset + 2 : at + offset + 2 + size]
                value = value if number == 16 else value.decode("utf-32-le" if number == 10 else "utf-8")
                values.append(None if offset < 0 else value)
            columns.append(values)
        at += length
    return [number for number, _ in schema], [width for _, width in schema], columns


def memory_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


def within(seconds):
    """A function that says whether so many seconds have not passed yet."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end
