"""The stand-in for TDengine against recordings of TDengine: the recorded calls give the recorded results."""

import base64
import json
import re
import struct

import pytest
from helpers import ROOT, python
from replay import RECORDINGS
from stand_in import Raw


def expected(name):
    return json.loads((RECORDINGS / f"{name}.expected.json").read_text())


def replayed(name, port):
    done = python(ROOT / "tests/replay.py", name, port, env={"TZ": "UTC"}, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["stocks", "meters", "all_types", "errors"])
def test_recorded_calls_give_the_recorded_results(stand_in, name):
    found = replayed(name, stand_in.port)
    assert len(found) == len(expected(name))
    for (source, wanted), result in zip(expected(name), found, strict=True):
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
        made = reply["action"] in ("init", "stmt2_init")  # they tell the number of a new statement
        return reply["action"], reply["req_id"], None if made else reply.get("stmt_id")
    return "fetch", struct.unpack_from("<Q", base64.b64decode(frame["b64"]), 26)[0], None


def masked_text(reply):
    assert isinstance(reply["timing"], int)
    assert reply["timing"] >= 0
    reply = {name: value for name, value in reply.items() if name not in ("timing", "version")}
    # TDengine's slip: the text beside this code is "success"; ours names the error
    return reply | {"message": ""} if reply["action"] == "stmt2_exec" and reply["code"] == 0x060B else reply


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


@pytest.mark.parametrize("name", ["stocks", "meters", "all_types", "errors"])
def test_recorded_frames_get_the_recorded_replies_byte_for_byte(stand_in, name):
    frames = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    recorded = {}  # those of equal keys in their order: requests of TaosStmt have no ids of their own
    for frame in frames:
        if frame["dir"] == "s>c":
            recorded.setdefault((frame["conn"], reply_key(frame)), []).append(frame)
    connections, compared = {}, 0
    for frame in frames:
        if frame["dir"] != "c>s":
            continue
        number = frame["conn"]
        if number not in connections:
            connections[number] = Raw(stand_in.port)
        connections[number].send(json.dumps(frame["text"]) if "text" in frame else base64.b64decode(frame["b64"]))
        if "text" in frame and frame["text"]["action"] == "free_result":
            continue  # has no reply
        reply = connections[number].receive()
        wanted = recorded[number, request_key(frame)].pop(0)
        if "text" in wanted:
            assert masked_text(reply) == masked_text(wanted["text"])
        else:
            assert masked_fetch(reply) == masked_fetch(base64.b64decode(wanted["b64"]))
        compared += 1
    assert compared > 40
    for connection in connections.values():
        connection.close()
