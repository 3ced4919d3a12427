"""The stand-in under garbage: each request gets a reply or the connection is closed; an honest client stays served."""

import base64
import contextlib
import json
import random
import socket
import struct
import threading
import time

import pytest
from helpers import in_time, wait_until
from replay import RECORDINGS
from stand_in import Client, Raw, StandIn, memory_mb, raw

REFUSED = 0xFFFF  # taosAdapter's own code
ANSWER_S = 5  # an honest client's query takes less, also beside an attack on a loaded machine
MEMORY_MB = 100  # what an attack may make the stand-in grow by


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The stand-in, and a client that asks it all the time; what went wrong for it is in the list `problems`."""
    server = StandIn(tmp_path_factory.mktemp("attacked"))
    client, ended = Client(server.port), threading.Event()
    server.problems, server.asked = [], 0
    assert client.call("c = taosws.connect(DSN)") is None
    client.sql("CREATE DATABASE honest")
    client.sql("CREATE TABLE honest.t (ts TIMESTAMP, a INT)")

    def ask():
        while not ended.is_set():
            started = time.monotonic()
            try:
                inserted = client.sql(f"INSERT INTO honest.t VALUES (NOW, {server.asked})")
                counted = client.sql("SELECT COUNT(*) FROM honest.t")
            except (AssertionError, OSError) as error:
                server.problems.append(error)
                return
            passed = time.monotonic() - started
            if inserted != 1 or not isinstance(counted, list) or not in_time(passed, ANSWER_S):
                server.problems.append((inserted, counted, passed))
            server.asked += 1
            ended.wait(0.1)

    asking = threading.Thread(target=ask)
    asking.start()
    yield server
    ended.set()
    asking.join(60)
    client.close()
    server.stop()


@pytest.fixture
def stand_in(honest):
    """The stand-in under attack: at the end the honest client must have been answered, memory have stayed bounded."""
    before = memory_mb(honest.pid)
    yield honest
    asked = honest.asked
    wait_until(lambda: honest.asked > asked + 1 or honest.problems, 2 * ANSWER_S, "an answer to the honest client")
    assert not honest.problems
    assert honest.process.alive()
    assert memory_mb(honest.pid) - before < MEMORY_MB
    assert honest.process.stderr() == ""  # a hostile client fills no log


def refused(reply):
    """Whether a reply, JSON or that to a fetch, is an error."""
    if isinstance(reply, dict):
        assert {"code", "message", "action", "req_id", "timing"} <= set(reply)
        return reply["code"] != 0
    return struct.unpack_from("<I", reply, 34)[0] != 0


# Frames that are no requests


@pytest.mark.parametrize("connected", [False, True])
def test_random_binary_frames_are_refused(stand_in, connected):
    seed = random.randrange(2**32)
    print("seed", seed)
    numbers = random.Random(seed)
    with raw(stand_in.port, connected) as client:
        for _ in range(400):
            assert refused(client.ask(numbers.randbytes(numbers.choice((0, 1, 23, 24, 30, 31, 60, 1000)))))


def test_random_bodies_of_each_action_are_refused(stand_in):
    seed = random.randrange(2**32)
    print("seed", seed)
    numbers = random.Random(seed)
    for action in (2, 6, 7, 9, 10, 0, 2**63):
        with raw(stand_in.port) as client:
            assert client.act("stmt2_init", req_id=1)["stmt_id"] == 1
            for _ in range(100):
                head = struct.pack("<QQQ", 1, numbers.choice((0, 1, 2**64 - 1)), action)
                assert refused(client.ask(head + numbers.randbytes(numbers.randrange(200)))), action


NO_REQUESTS = [
    "",
    "garbage",
    "null",
    "[]",
    "1",
    '"text"',
    "{}",
    '{"action": null}',
    '{"action": 7}',
    '{"action": "version", "args": [1]}',
    '{"action": "conn", "args": 7}',
    '{"action": "no such action", "args": {"req_id": 1}}',
    '{"action": "do_conn"}',
    '{"action": "__class__"}',
    '{"action": "\\ud800"}',
    '{"action": "conn", "args": {"req_id": 1, "user": ["root"]}}',
    '{"action": "conn", "args": {"req_id": 1, "user": "\\ud800", "password": "\\udfff"}}',
    '{"action": "conn", "args": {"req_id": 1, "user": "root", "password": "taosdata", "db": {"a": 1}}}',
    '{"action": "conn", "args": {"req_id": 1, "user": "root", "password": "taosdata", "tz": "../../etc/passwd"}}',
    '{"action": "conn", "args": {"req_id": 1, "user": "root", "password": "taosdata", "tz": "Nowhere/Land"}}',
    '{"action": "conn", "args": {"req_id": 1e999}}',
    '{"action": "conn", "args": {"req_id": 18446744073709551616}}',
    '{"action": "conn", "args": {"req_id": -1}}',
    '{"action": "conn", "args": {"req_id": ' + "9" * 10_000 + "}}",
    "[" * 100_000,
    '{"action": ' * 100_000,
    '{"a":' + "[" * 50_000 + "]" * 50_000 + "}",
    '{"action": "prepare", "args": {"req_id": 1, "stmt_id": []}}',
    '{"action": "exec", "args": {"req_id": 1, "stmt_id": 99}}',
    '{"action": "set_tags", "args": {"req_id": 1, "stmt_id": 1, "tags": {}}}',
    '{"action": "stmt2_prepare", "args": {"req_id": 1, "stmt_id": {}}}',
    '{"action": "stmt2_exec", "args": {"req_id": 1, "stmt_id": "1"}}',
    '{"action": "stmt2_result", "args": {"req_id": 1, "stmt_id": 1}}',
]


@pytest.mark.parametrize("connected", [False, True])
def test_text_that_is_no_request_is_refused(stand_in, connected):
    for text in NO_REQUESTS:
        with raw(stand_in.port, connected) as client:
            assert refused(client.ask(text)), text[:100]
            assert client.act("version")["code"] == 0, text[:100]  # the connection goes on


def test_text_that_is_no_utf8_ends_the_connection(stand_in):
    with raw(stand_in.port) as client:
        client.send(b"\xff\xfe\x80", opcode=1)
        with pytest.raises(OSError, match="closed"):
            client.receive()


def test_a_frame_of_a_forbidden_kind_ends_the_connection(stand_in):
    for opcode in (3, 7, 11, 15):
        with raw(stand_in.port) as client:
            client.send(b"x", opcode)
            with contextlib.suppress(ConnectionResetError), pytest.raises(ConnectionError):
                client.receive()


# Requests, mutated


def recorded_frames(name, number, action):
    """The requests of one recorded connection up to the first of this kind, and that one."""
    before = []
    for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines():
        frame = json.loads(line)
        if frame["conn"] != number or frame["dir"] != "c>s":
            continue
        request = json.dumps(frame["text"]) if "text" in frame else base64.b64decode(frame["b64"])
        if isinstance(request, bytes) and struct.unpack_from("<Q", request, 16) == (action,):
            return before, request
        if not (isinstance(request, str) and '"free_result"' in request):
            before.append(request)
    raise AssertionError("no such frame")


@contextlib.contextmanager
def before_the_bind(port, name):
    """A connection where a recorded bind would come next, and that bind. The tables are there before."""
    before, bind = recorded_frames(name, 1, 9)
    client = Raw(port)
    for request in before:
        client.ask(request)
    yield client, bind
    client.close()


@pytest.mark.parametrize("name", ["stocks", "meters"])
def test_binds_cut_off_anywhere_are_refused(stand_in, name):
    with before_the_bind(stand_in.port, name) as (client, bind):
        for length in range(24, len(bind)):
            assert refused(client.ask(bind[:length])), length
        assert refused(client.act("stmt2_exec", req_id=1, stmt_id=1))
        assert client.ask(bind)["code"] == 0


@pytest.mark.parametrize("name", ["stocks", "meters"])
def test_huge_and_wrong_lengths_in_binds_get_a_reply_and_take_no_memory(stand_in, name):
    with before_the_bind(stand_in.port, name) as (client, bind):
        for at in range(24, len(bind) - 4):
            for value in (0xFFFFFFFF, 0x7FFFFFFF, 0):
                client.send(bind[:at] + struct.pack("<I", value) + bind[at + 4 :])
        for _ in range(24, len(bind) - 4):
            for _ in range(3):
                assert "code" in client.receive()


@pytest.mark.parametrize("name", ["stocks", "meters"])
def test_mutated_binds_get_a_reply(stand_in, name):
    seed = random.randrange(2**32)
    print("seed", seed)
    numbers = random.Random(seed)
    with before_the_bind(stand_in.port, name) as (client, bind):
        for _ in range(300):
            mutated = bytearray(bind)
            for _ in range(numbers.randrange(1, 6)):
                mutated[numbers.randrange(24, len(bind))] = numbers.randrange(256)
            assert "code" in client.ask(bytes(mutated))


def test_a_wrong_length_of_sql_is_refused(stand_in):
    for length in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
        with raw(stand_in.port) as client:
            head = struct.pack("<QQQHI", 1, 0, 6, 1, length)
            assert refused(client.ask(head + b"SELECT 1, 2"[: 11 if length else 0])), length


HURTING = [
    "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "SELECT " + "-" * 1 + "1" + " + 1" * 20_000,
    "SELECT " + "NOT " * 20_000 + "true",
    "SELECT '" + "\\'" * 100_000,
    "SELECT /*" * 50_000,
    "SELECT " + "9" * 10_000,
    "SELECT '" + "x" * 1_000_000 + "'",
    "SELECT '" + "''" * 500_000 + "'",
    "SELECT '" + "x" * 5_000_000 + "'",
    "SELECT " + "1," * 100_000,
    "INSERT INTO honest.t VALUES " + "(1,1)" * 50_000,
    "SELECT 1e999",
    "SELECT NOW() + 999999999999999999y",
    "SELECT NOW() + 999999999999999999d",
    "SELECT \ud7ff'\u0000'",
    "INSERT INTO honest.t VALUES (" * 20_000,
    "SELECT a FROM honest.t WHERE a IN (" + "1," * 50_000 + "1)",
    "`" * 100_001,
    "SELECT " + "a," * 50_000 + "a FROM honest.t",
    "INSERT INTO honest.t VALUES (99999999999999999999999999, 1)",
    "INSERT INTO honest.t VALUES (NOW + 999999999999999999d, 1)",
]


def test_sql_made_to_hurt_is_answered_soon(stand_in):
    for sql in HURTING:
        with raw(stand_in.port) as client:
            started = time.monotonic()
            client.socket.settimeout(30)
            assert "code" in client.query(sql), sql[:100]
            assert time.monotonic() - started < 20, sql[:100]
            assert client.query("SELECT 1")["code"] == 0, sql[:100]


# Sizes and numbers of connections


def test_a_huge_frame_ends_the_connection_and_takes_no_memory(stand_in):
    for size in (2**28, 2**40, 2**63 - 1):
        with raw(stand_in.port) as client:
            client.socket.sendall(struct.pack(">BBQ", 0x82, 0xFF, size) + b"\0\0\0\0" + b"x" * 1000)
            with contextlib.suppress(ConnectionResetError), pytest.raises(ConnectionError):
                client.receive()


def test_half_a_frame_and_silence_harm_nobody(stand_in):
    clients = [Raw(stand_in.port) for _ in range(20)]
    for client in clients:
        client.socket.sendall(struct.pack(">BBQ", 0x82, 0xFF, 2**26) + b"\0\0\0\0" + b"x" * 1000)
    with raw(stand_in.port) as other:
        assert other.query("SELECT 1")["code"] == 0
    for client in clients:
        client.close()


def test_many_connections_that_say_nothing_harm_nobody(stand_in):
    sockets = [socket.create_connection(("127.0.0.1", stand_in.port), 5) for _ in range(300)]
    clients = [Raw(stand_in.port) for _ in range(100)]
    with raw(stand_in.port) as client:
        assert client.query("SELECT 1")["code"] == 0
    for each in (*sockets, *clients):
        each.close()


def test_clients_that_are_gone_before_their_reply_harm_nobody(stand_in):
    for _ in range(50):
        client = Raw(stand_in.port)
        client.connect()
        for _ in range(20):
            sql = b"SELECT COUNT(*) FROM honest.t"
            client.send(struct.pack("<QQQHI", 1, 0, 6, 1, len(sql)) + sql)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a close
        client.close()


def test_a_client_that_reads_nothing_harms_nobody(stand_in):
    with raw(stand_in.port) as client:
        client.query("CREATE DATABASE IF NOT EXISTS big")
        client.query("CREATE TABLE IF NOT EXISTS big.t (ts TIMESTAMP, a VARCHAR(1000))")
        values = " ".join(f"({1795411690000 + k}, '{'x' * 900}')" for k in range(1000))
        assert client.query("INSERT INTO big.t VALUES " + values)["affected_rows"] == 1000
    deaf = Raw(stand_in.port)
    deaf.connect()
    sql = b"SELECT * FROM big.t"
    with contextlib.suppress(OSError):
        deaf.socket.settimeout(2)
        for _ in range(40):
            deaf.send(struct.pack("<QQQHI", 1, 0, 6, 1, len(sql)) + sql)
        for result in range(1, 41):
            deaf.send(struct.pack("<QQQH", 1, result, 7, 1))
    with raw(stand_in.port) as other:
        assert other.query("SELECT 1")["code"] == 0
    deaf.close()


# Strangers


def test_nothing_is_done_for_who_has_not_connected(stand_in):
    with raw(stand_in.port, connected=False) as client:
        for user, password, code in (("root", "wrong", 0x0357), ("root", "", 0x0357), ("nobody", "taosdata", 0x0351)):
            assert client.connect(user, password)["code"] == code
            assert client.query("CREATE DATABASE stranger")["code"] == REFUSED
            assert client.fetch(1)[0] == REFUSED
            assert client.act("stmt2_init", req_id=1)["message"] == "server not connected"
    with raw(stand_in.port) as client:
        assert client.connect()["message"] == "duplicate connections"
        reply = client.query("SELECT name FROM information_schema.ins_databases WHERE name = 'stranger'")
        assert client.fetch(reply["id"])[2:] == (1, None)


def test_results_and_statements_of_other_connections_are_out_of_reach(stand_in):
    with raw(stand_in.port) as one, raw(stand_in.port) as other:
        result = one.query("SELECT 1")["id"]
        assert other.fetch(result)[:2] == (REFUSED, "result is nil")
        assert one.act("stmt2_init", req_id=1)["stmt_id"] == 1
        assert other.act("stmt2_prepare", req_id=1, stmt_id=1, sql="x")["message"] == "stmt2 is nil"
        other.send(json.dumps({"action": "free_result", "args": {"id": result, "req_id": 1}}))
        assert one.fetch(result)[0] == 0


def test_other_paths_and_pages_of_other_origins_are_refused(stand_in):
    for head, status in (
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 404 "),
        (b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 400 "),
        (
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Origin: http://evil.example\r\n\r\n",
            b" 403 ",
        ),
    ):
        with socket.create_connection(("127.0.0.1", stand_in.port), 5) as client:
            client.sendall(head)
            assert status in client.recv(1000).splitlines()[0]
    with socket.create_connection(("127.0.0.1", stand_in.port), 5) as client:
        client.sendall(b"\x16\x03\x01" + b"\xff" * 1000 + b"\r\n\r\n")
        with contextlib.suppress(OSError):
            client.recv(1000)
