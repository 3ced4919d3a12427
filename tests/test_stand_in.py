"""The stand-in for TDengine against recordings of TDengine: the recorded calls give the recorded results.

What the stand-in does not answer is refused by a message that names it; those calls are listed here.
"""

import base64
import json
import re
import struct

import pytest
from helpers import ROOT, python
from replay import RECORDINGS
from stand_in import Raw, decode_block, error_text

REFUSED = {
    "stocks": ["last_row(*)", ">= '2026"],
    "meters": ["SELECT DISTINCT", "last_row(", "GROUP BY", ">= '2026", "= 'd_2'"],
    "all_types": ["last(ts)", "ts = '2026"],
    "errors": ["foo(a)", "USING m TAGS", "ts >= '"],
    "last_second": ["SELECT NOW(), NOW"],
}


def expected(name):
    return json.loads((RECORDINGS / f"{name}.expected.json").read_text())


def replayed(name, port):
    done = python(ROOT / "tests/replay.py", name, port, env={"TZ": "UTC"}, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_refused(name, source):
    return any(words in source for words in (*REFUSED[name], "select database()"))


@pytest.mark.parametrize("name", ["stocks", "meters", "all_types", "errors"])
def test_recorded_calls_give_the_recorded_results(stand_in, name):
    found = replayed(name, stand_in.port)
    for (source, wanted), result in zip(expected(name), found, strict=True):
        if is_refused(name, source):
            assert "stand-in" in error_text(result), source
        elif name == "errors" and source.startswith("st."):
            continue  # TaosStmt, which has errors of its own
        elif name == "errors" and error_text(wanted):
            assert error_text(result)[:6] == error_text(wanted)[:6], source
        else:
            assert result == wanted, source


def shape(value):
    """A result with its times left out."""
    if isinstance(value, list):
        return [shape(one) for one in value]
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})? \+00:00", value):
        return "a time"
    return "a time" if isinstance(value, int) and value > 10**12 else value


def test_recorded_calls_of_the_last_second_give_results_of_the_same_shape(stand_in):
    found = replayed("last_second", stand_in.port)
    for (source, wanted), result in zip(expected("last_second"), found, strict=True):
        assert shape(result) == shape(wanted), source


# What TDengine sent, frame by frame. Masked: times taken, bits of a null bitmap beyond the rows, the server's version.


def request_key(frame):
    """What a reply is matched by: action, req_id, and for a statement its number."""
    if "text" in frame:
        action, args = frame["text"]["action"], frame["text"].get("args", {})
        return action, args.get("req_id", 0), args.get("stmt_id")
    request_id, target, action = struct.unpack_from("<QQQ", base64.b64decode(frame["b64"]))
    name = {2: "bind", 6: "binary_query", 7: "fetch", 9: "stmt2_bind"}[action]
    return name, request_id, target if "bind" in name else None


def reply_key(frame):
    if "text" in frame:
        reply = frame["text"]
        made = reply["action"] in ("init", "stmt2_init")  # they carry the number of a new statement
        return reply["action"], reply["req_id"], None if made else reply.get("stmt_id")
    return "fetch", struct.unpack_from("<Q", base64.b64decode(frame["b64"]), 26)[0], None


def masked_text(reply):
    assert isinstance(reply["timing"], int)
    assert reply["timing"] >= 0
    reply = {name: value for name, value in reply.items() if name not in ("timing", "version")}
    return reply | {"message": ""} if reply["code"] else reply  # the code counts


def masked_fetch(reply):
    reply = bytearray(reply)
    reply[18:26] = bytes(8)
    (length,) = struct.unpack_from("<I", reply, 38)
    if reply[50 + length] == 0:
        block = 55 + length
        rows, count = struct.unpack_from("<ii", reply, block + 8)
        types = [reply[block + 28 + 5 * k] for k in range(count)]
        at = block + 28 + 9 * count
        for type, size in zip(types, struct.unpack_from(f"<{count}i", reply, block + 28 + 5 * count), strict=True):
            if type in (8, 10):
                at += 4 * rows + size
                continue
            bitmap = (rows + 7) // 8
            if rows % 8:
                reply[at + bitmap - 1] &= 0xFF << 8 - rows % 8 & 0xFF
            at += bitmap + size
    return bytes(reply)


class Inserts:
    """What a recorded TaosStmt inserts, which the stand-in has not: inserted as SQL by a connection of its own."""

    def __init__(self, port):
        self.raw, self.name, self.tags, self.values = Raw(port), None, [], []

    def play(self, frame):
        if "b64" in frame:
            _, _, columns = decode_block(base64.b64decode(frame["b64"])[24:])
            rows = " ".join(f"({', '.join(map(literal, row))})" for row in zip(*columns, strict=True))
            tags = iter(self.tags)
            head = re.sub(r"\?", lambda _: literal(next(tags)), self.head.replace("INTO ?", f"INTO {self.name}"))
            self.values.append(f"{head.removeprefix('INSERT INTO')} VALUES {rows}")
            return
        action, args = frame["text"]["action"], frame["text"].get("args", {})
        if action == "conn":
            self.raw.connect(db=args["db"])
        elif action == "prepare":
            self.head = args["sql"].partition(" VALUES")[0]
        elif action == "set_table_name":
            self.name = args["name"]
        elif action == "set_tags":
            self.tags = args["tags"]
        elif action == "exec":
            self.raw.query(f"INSERT INTO {' '.join(self.values)}")
            self.values = []


def literal(value):
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else repr(value)


@pytest.mark.parametrize("name", ["stocks", "meters", "all_types", "errors"])
def test_recorded_frames_get_the_recorded_replies_byte_for_byte(stand_in, name):
    frames = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    of_statements = {f["conn"] for f in frames if f["dir"] == "c>s" and f.get("text", {}).get("action") == "init"}
    recorded = {}  # those of equal keys in their order
    for frame in frames:
        if frame["dir"] == "s>c" and frame["conn"] not in of_statements:
            recorded.setdefault((frame["conn"], reply_key(frame)), []).append(frame)
    connections, compared, renumbered = {}, 0, {}
    for frame in frames:
        number = frame["conn"]
        if frame["dir"] != "c>s":
            continue
        if number in of_statements:
            connections.setdefault(number, None)
            if connections[number] is None:
                connections[number] = Inserts(stand_in.port)
            connections[number].play(frame)
            continue
        if number not in connections:
            connections[number] = Raw(stand_in.port)
        if "text" in frame and frame["text"]["action"] == "free_result":
            continue  # has no reply
        request = json.dumps(frame["text"]) if "text" in frame else base64.b64decode(frame["b64"])
        wanted = recorded[number, request_key(frame)].pop(0)
        action, _, target = request_key(frame)
        if action == "fetch":
            (target,) = struct.unpack_from("<Q", request, 8)
            if (number, target) not in renumbered or base64.b64decode(wanted["b64"])[34:38] != bytes(4):
                continue  # the result of a query that was refused here, or of one that was freed there
            request = request[:8] + struct.pack("<Q", renumbered[number, target]) + request[16:]
        connections[number].send(request)
        reply = connections[number].receive()
        if action == "binary_query" and is_refused(name, request[30:].decode()):
            assert "stand-in" in reply["message"]
            continue
        if action == "binary_query":
            renumbered[number, wanted["text"].get("id")] = reply.get("id")
            reply |= {"id": wanted["text"]["id"]} if "id" in wanted["text"] else {}
        if "text" in wanted:
            assert masked_text(reply) == masked_text(wanted["text"])
        else:
            wanted = bytearray(base64.b64decode(wanted["b64"]))
            (length,) = struct.unpack_from("<I", wanted, 38)
            wanted[42 + length : 50 + length] = struct.pack("<Q", renumbered[number, target])
            assert masked_fetch(reply) == masked_fetch(wanted)
        compared += 1
    assert compared > 25
    for connection in connections.values():
        (connection.raw if isinstance(connection, Inserts) else connection).close()
