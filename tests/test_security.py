"""Attacks on the server, each beside an honest viewer that must stay served and find its table unchanged."""

import asyncio
import contextlib
import json
import pathlib
import random
import re
import sys

import perspective
import pytest
import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket
from chain import resident_mb, workers
from engine_site import TABLE, engine_site
from helpers import ROOT, free_port, get, health, refused, running, wait_until
from security_viewers import ANSWER_S, WAIT_S, Raw, bare, connect, frame, honest, http, plain
from test_requests import NO_REQUESTS
from test_scripts import MODULES, SCRIPTS
from wire import encode

from bridge import perspective_pb2 as pb
from bridge import requests
from bridge.viewer import MAX_SUBSCRIPTIONS
from bridge.viewers import MAX_UNSENT
from bridge.web import PERSPECTIVE, PING_S

HOSTED = TABLE.encode()
MOST_VIEWERS = 200  # as in node/test/site.js
SCENE_S = 90  # bound of one attack; most take a second


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Rows flow into the table at site.port."""
    with engine_site(
        tmp_path_factory.mktemp("site"), "--full", 1000, "--rows", 50, "--max-viewers", MOST_VIEWERS
    ) as site:
        yield site
        assert site.process.alive(), site.log()
        assert "Traceback" not in site.log(), site.log()[-3000:]


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A server with other settings, without a database: (port, its folder, Process)."""
    folder = tmp_path_factory.mktemp("strict")
    args = ["--port", "0", "--no-file-origin", "--max-viewers", "20", "--allow-host", "proxied.example"]
    args += ["--allow-origin", "https://demo.example", "--allow-origin", "http://demo.example:9000/"]
    args = [sys.executable, ROOT / "perspective_server.py", *args]
    with running(args, folder, env={"TDENGINE_DSN": f"ws://127.0.0.1:{free_port()}"}) as process:
        page = wait_until(lambda: re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr()), 20, process.log)
        yield int(page[1]), folder, process
        assert process.alive(), process.log()


@pytest.fixture(scope="module", autouse=True)
def silent(strict):
    """A viewer that never answers a ping: it is connected while the other tests run, and the last one waits for it."""
    with Raw(strict[0]) as silent:
        yield silent


def attack(site, scene):
    """Runs scene(an honest viewer); afterwards that viewer must be unharmed."""

    async def play():
        async with honest(site.port) as viewer:
            await scene(viewer)

    asyncio.run(asyncio.wait_for(play(), SCENE_S))


def refusals(site):
    return sum(site.health()["refused"].values())


def test_a_viewer_that_does_not_read_is_dropped_before_its_backlog_grows_and_others_stay_served(site):
    async def scene(_):
        before, pid = refusals(site), site.health()["pid"]
        memory = resident_mb(pid)
        with Raw(site.port, receive_buffer=4096) as slow:
            slow.send(
                frame(requests.reply(1, TABLE, "table_make_view", pb.MakeView(view_id="view").SerializeToString()))
            )
            await asyncio.to_thread(slow.send, frame(requests.reply(2, "view", "view_to_arrow", b"")) * 3000)
            while refusals(site) == before:  # after 32 of 150 MB; bound: SCENE_S
                await asyncio.sleep(0.1)
        assert "slow" in site.health()["refused"]
        assert resident_mb(pid) < memory + 4 * MAX_UNSENT / 2**20

    attack(site, scene)


# Requests


CHANGES = {
    "update": lambda client, table: table.update({"ticker": ["X"], "volume": [1.0]}),
    "replace": lambda client, table: table.replace({"ticker": ["X"]}),
    "clear": lambda client, table: table.clear(),
    "delete": lambda client, table: table.delete(),
    "delete lazily": lambda client, table: table.delete(lazy=True),
    "make": lambda client, table: client.table({"a": [1]}, name="mine"),
    "make in its place": lambda client, table: client.table({"a": [1]}, name=TABLE),
    "join": lambda client, table: client.join(TABLE, TABLE, "ticker"),
}


def test_what_perspectives_own_client_can_do_to_a_table_is_refused(site):
    async def refused(change):
        async with bare(site.port) as attacker:
            client = perspective.AsyncClient(lambda m: attacker.socket.write_message(m, binary=True))

            async def take_messages():
                while (message := await attacker.socket.read_message()) is not None:
                    await client.handle_response(message)

            before = refusals(site)
            taking = asyncio.create_task(take_messages())
            table = await asyncio.wait_for(client.open_table(TABLE), ANSWER_S)
            changing = asyncio.ensure_future(CHANGES[change](client, table))
            await asyncio.wait_for(taking, ANSWER_S)  # until the server closes
            changing.cancel()
            assert (attacker.socket.close_code, refusals(site)) == (1008, before + 1), change

    async def scene(_):
        for change in CHANGES:
            await refused(change)

    attack(site, scene)


def test_what_is_no_request_closes_its_connection(site):
    async def scene(_):
        for name, message in NO_REQUESTS.items():
            async with bare(site.port) as attacker:
                await attacker.send(message)
                assert await attacker.closed() == 1008, name

    attack(site, scene)


def test_subscriptions_that_ended_do_not_count(site):
    async def scene(viewer):
        for _ in range(MAX_SUBSCRIPTIONS + 10):
            await viewer.flat.remove_update(await viewer.flat.on_update(print))

    attack(site, scene)


# Connections


REFUSED_ORIGINS = [
    "http://localhost.evil.example",
    "http://evil.example",
    "http://localhost@evil.example",
    "http://evil.example@localhost",
    "http://evil.example:8080#localhost",
    "http://evil.example/localhost",
    "http://evil.example?http://localhost",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1@evil.example:80",
    "http://[::1].evil.example",
    "http://notlocalhost",
    "http://localhost:port",
    "http://localhost:8080/",
    "http://192.0.2.1:8080",
    "ftp://localhost",
    "file://",
    "chrome-extension://localhost",
    "localhost",
    "nullx",
    "",
    "http://",
    "http://demo.example",  # only with https, or at another port
    "https://demo.example:8443",
    "https://demo.example.evil.example",
]


def handshake(port, origin=None, host=None, headers=()):
    """The status of a WebSocket handshake with this Origin and Host and more headers."""
    request = [f"GET /websocket HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}", "Upgrade: websocket"]
    request += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    request += [*headers, *([] if origin is None else [f"Origin: {origin}"])]
    with plain(port) as connection:
        connection.sendall("\r\n".join([*request, "Connection: Upgrade", "\r\n"]).encode())
        answer = b""
        while b"\r\n" not in answer:
            some = connection.recv(1000)
            assert some, "closed without an answer"
            answer += some
    return int(answer.split()[1])


def test_pages_of_other_origins_are_refused(strict):
    assert [origin for origin in REFUSED_ORIGINS if handshake(strict[0], origin) != 403] == []


def test_a_hostile_name_that_points_at_this_machine_is_refused(strict):
    port = strict[0]
    for name in ("evil.example", f"evil.example:{port}"):
        for more in ([], ["Sec-Fetch-Site: same-origin"]):
            assert handshake(port, f"http://{name}", name, more) == 403


def test_pages_of_the_server_itself_and_of_localhost_are_let_in(site):
    port = site.port
    own = [f"http://127.0.0.1:{port}", f"http://localhost:{port}", "http://localhost", "http://localhost:3000"]
    for origin in [*own, "https://localhost:8443", "http://127.0.0.1:5173", "http://[::1]:8080", "HTTP://LOCALHOST"]:
        assert handshake(port, origin) == 101, origin


def test_pages_from_disk_are_let_in_unless_told_otherwise(site, strict):
    assert handshake(site.port, "null") == 101
    assert handshake(strict[0], "null") == 403


def test_allowed_origins_are_let_in(strict):
    for origin in ("https://demo.example", "http://demo.example:9000", "https://Demo.Example"):
        assert handshake(strict[0], origin) == 101, origin


def test_programs_send_no_origin_and_are_let_in(strict):
    assert handshake(strict[0]) == 101  # Origin guards browsers' users; a program could send any


def test_a_message_that_is_too_large_closes_its_connection(site):
    async def scene(_):
        async with bare(site.port) as attacker:
            await attacker.send(b"\0" * (requests.LONGEST + 1))
            assert await attacker.closed() == 1009
        for table in (TABLE, "nothing"):  # which does not need so much for its columns' names
            async with bare(site.port) as attacker:
                view = pb.MakeView(view_id="x" * 2 * requests.MAX_MESSAGE).SerializeToString()
                await attacker.send(requests.reply(1, table, "table_make_view", view))
                assert await attacker.closed() == 1008

    attack(site, scene)


def test_viewers_beyond_the_limit_are_refused_in_words_and_places_become_free(site):
    def wait_for_viewers(count):
        return asyncio.to_thread(wait_until, lambda: site.health()["viewers"] == count, ANSWER_S, site.log)

    async def scene(viewer):
        await wait_for_viewers(1)
        before = site.health()["refused"].get("http 503", 0)
        tries = await asyncio.gather(*(connect(site.port) for _ in range(250)), return_exceptions=True)
        refused = [each for each in tries if isinstance(each, tornado.httpclient.HTTPClientError)]
        served = [each for each in tries if each not in refused]
        try:
            assert {(error.code, error.response and error.response.body) for error in refused} == {
                (503, b"too many viewers, see --max-viewers\n")
            }
            assert (len(served), len(refused)) == (MOST_VIEWERS - 1, 51)
            assert site.health()["refused"]["http 503"] == before + 51
            assert len(re.findall("503|too many viewers", site.log())) <= 1  # once a minute
            reads = viewer.reads
            while viewer.reads < reads + 5:
                await asyncio.sleep(0.02)
            for each in served[:50]:
                each.close()
            await wait_for_viewers(MOST_VIEWERS - 50)
            served += await asyncio.gather(*(connect(site.port) for _ in range(50)))
        finally:
            for each in served:
                each.close()
        await wait_for_viewers(1)

    attack(site, scene)


WRONG_FRAMES = {
    "a header of 2**62 bytes": frame(b"x", length=2**62),
    "fragments without an end": frame(b"x" * 60_000, final=False)
    + frame(b"x" * 60_000, opcode=0, final=False) * (requests.LONGEST // 60_000),
    "a continuation of nothing": frame(b"x", opcode=0),
    "an unknown opcode": frame(b"x", opcode=3),
    "a frame without a mask": frame(b"x", masked=False),
    "reserved bits": b"\xf2\x80\0\0\0\0",
    "text that is no UTF-8": frame(b"\xff\xfe", opcode=1),
    "a ping of 200 bytes": frame(b"x" * 200, opcode=9),
    "text": frame(b"hello", opcode=1),
    "HTTP once more": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def test_wrong_frames_close_their_connection_only(site):
    async def scene(_):
        for name, wrong in WRONG_FRAMES.items():
            print(name)
            with Raw(site.port) as attacker:
                attacker.send(wrong)
                await asyncio.to_thread(attacker.received)  # which ends when the server closes

    attack(site, scene)


def test_half_frames_and_half_requests_harm_nobody(site):
    async def scene(viewer):
        with contextlib.ExitStack() as stack:
            for k in range(20):
                stack.enter_context(Raw(site.port)).send(frame(b"x" * 1000)[: 1 + 7 * k])
            reads = viewer.reads
            while viewer.reads < reads + 5:
                await asyncio.sleep(0.02)

    attack(site, scene)


def test_two_thousand_hostile_messages(site):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    outcomes = {"answered": 0, "refused": 0}

    def mutate(message):
        message = bytearray(message)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(message) + 1)
            how = chance.randrange(5)
            if how == 0:
                message[at : at + 1] = bytes([chance.randrange(256)])
            elif how == 1:
                del message[at : at + chance.randint(1, 8)]
            elif how == 2:
                message[at:at] = chance.randbytes(chance.randint(1, 8))
            elif how == 3 and at < len(message):
                message[at] ^= 1 << chance.randrange(8)
            else:
                message += message[at : at + 20]
        return bytes(message)

    async def attacker(messages):
        while messages:
            async with bare(site.port) as connection:
                while messages:
                    await connection.send(messages.pop())
                    if await connection.request("get_features") is None:
                        outcomes["refused"] += 1
                        break
                    outcomes["answered"] += 1

    async def scene(viewer):
        # what a viewer says, and one request of each kind, to be mutated
        view = await viewer.table.view(group_by=["ticker"], expressions={"e": '"open" + 1'}, filter=[["open", ">", 1]])
        await view.to_csv()
        await view.collapse(0)
        await view.delete()
        said = viewer.sent + [encode((1, 1), (2, HOSTED), (kind, encode((1, b"view")))) for kind in range(3, 42)]
        messages = [chance.randbytes(chance.randint(0, 300)) for _ in range(500)]
        messages += [mutate(chance.choice(said)) for _ in range(1500)]
        chance.shuffle(messages)
        await asyncio.gather(*(attacker(messages[k::8]) for k in range(8)))
        assert sum(outcomes.values()) == 2000
        assert min(outcomes.values()) > 20, outcomes  # else the mutations are all alike

    attack(site, scene)


# HTTP


def test_large_files_that_nobody_reads_are_not_copied_for_each(strict):
    port, _, process = strict

    def memory_mb():
        return sum(map(resident_mb, [process.pid, *workers(process.pid, "")]))

    path = f"/perspective/{PERSPECTIVE}/perspective.js"
    size_mb = len(get_raw(port, path)) / 2**20
    before = memory_mb()
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            reader = stack.enter_context(contextlib.closing(plain(port)))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            reader.recv(1)
        assert memory_mb() - before < 60 * size_mb / 3
        assert status_of(get_raw(port, "/healthz")) == 200


def status_of(answer):
    return int(answer.split(maxsplit=2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


SERVED = ["/viewer/page.js", f"/perspective/{PERSPECTIVE}/perspective.css"]
ESCAPES = [
    *(
        f"/{folder}/{path}"
        for folder in ("viewer", f"perspective/{PERSPECTIVE}")
        for path in (
            "../../etc/passwd",
            "../README.md",
            "%2e%2e/README.md",
            "..%2fREADME.md",
            "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "%252e%252e/README.md",
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "..%5cREADME.md",
            "..\\README.md",
            "page.js%00.txt",
            "page.js%0d%0aX-Injected:%20yes",
            "./page.js",
            ".hidden",
            "perspective-anywidget.js",
            "index.html",
            "",
            "\x00",
        )
    ),
    "/perspective/../README.md",
    "//etc/passwd",
    "/../etc/passwd",
    "/etc/passwd",
    "/README.md",
    "/perspective_server.py",
    "http://127.0.0.1/viewer/../README.md",
    "file:///etc/passwd",
]


def get_raw(port, path, method="GET", headers=""):
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n"
    return http(port, request.encode("latin-1"))


def test_nothing_but_the_pages_files_can_be_read(strict):
    for path in SERVED:
        assert status_of(get_raw(strict[0], path)) == 200, path
    for path in ESCAPES:
        answer = get_raw(strict[0], path)
        assert status_of(answer) in (400, 403, 404, None), (path, answer)
        for text in (b"root:", b"# ", b"X-Injected", b"import ", b"Traceback"):
            assert text not in answer, path


def test_a_name_that_is_not_ours_gets_nothing(strict):
    def status(path, host):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        return status_of(http(strict[0], request.encode()))

    for path in ("/", "/healthz", "/metrics", "/websocket", *SERVED):
        for host in ("evil.example", f"evil.example:{strict[0]}", "localhost.evil.example"):
            assert status(path, host) == 403, (path, host)
        assert status(path, "proxied.example") in (200, 400), path  # 400: no WebSocket handshake


def test_security_headers(strict):
    port = strict[0]
    for path in ("/", "/healthz", "/nothing", SERVED[0], "/websocket"):
        answer = get_raw(port, path)
        head = answer.partition(b"\r\n\r\n")[0].decode().lower().splitlines()
        assert not [line for line in head if line.startswith("server:")], path
        assert "x-content-type-options: nosniff" in head, path
        assert b"ornado" not in answer, path
        assert b"Python" not in answer or path == "/", path
    page = get_raw(port, "/").partition(b"\r\n\r\n")[0].decode()
    policy = dict(
        part.strip().partition(" ")[::2] for part in re.search(r"Content-Security-Policy: (.*)", page)[1].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert "'unsafe-inline'" not in policy["script-src"]
    assert "'unsafe-eval'" not in policy["script-src"]
    assert "*" not in " ".join(policy.values())


def test_a_hostile_host_header_does_not_get_into_the_policy(strict):
    for host in ("evil.example; script-src *", "evil.example *", "a'b", "x,y", "é"):
        answer = http(strict[0], f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        policy = re.search(rb"Content-Security-Policy: (.*)", answer)
        assert policy is None or host.encode() not in policy[1] and b"*" not in policy[1], host
        assert b"Traceback" not in answer, host


def test_other_methods_are_refused(strict):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"):
        for path in ("/", "/healthz", "/websocket", SERVED[0], "/nothing"):
            answer = get_raw(strict[0], path, method, "Content-Length: 0\r\n")
            assert status_of(answer) in (400, 404, 405), (method, path, answer)
            assert b"ornado" not in answer, (method, path)


def test_half_http_requests_and_large_ones_harm_nobody(site):
    async def scene(viewer):
        with contextlib.ExitStack() as stack:
            for text in (
                b"G",
                b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
                b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1",
                b"",
            ):
                for _ in range(20):
                    half = stack.enter_context(contextlib.closing(await asyncio.to_thread(plain, site.port)))
                    half.sendall(text)
            large = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
            assert status_of(await asyncio.to_thread(http, site.port, large)) in (400, 413, None)
            header = b"GET / HTTP/1.1\r\nX: " + b"x" * 10**6 + b"\r\n\r\n"
            with contextlib.suppress(ConnectionError):
                assert status_of(await asyncio.to_thread(http, site.port, header)) != 200
            assert (await asyncio.to_thread(health, site.port))["status"] == "ok"
            reads = viewer.reads
            while viewer.reads < reads + 5:
                await asyncio.sleep(0.02)

    attack(site, scene)


# Secrets and names


PASSWORD, QUOTED = "p@ss/w:ord %&+?#é", "p%40ss%2Fw%3Aord%20%25%26%2B%3F%23%C3%A9"


def flags_of(script):
    return ["--port", "0", "--log-level", "debug"] if script == "perspective_server.py" else []


def command_lines(group):
    """The command lines of all processes of a process group."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[2]) == group:
                found.append(stat.with_name("cmdline").read_text() + stat.with_name("comm").read_text())
    return found


def assert_no_secret(*texts):
    for text in texts:
        for secret in (PASSWORD, QUOTED, "p@ss", "p%40ss", "w:ord", "w%3Aord"):
            assert secret not in text, text


@contextlib.contextmanager
def with_password(script, folder, port, way):
    """Runs a script whose password comes by TDENGINE_DSN or by --password-file; yields the Process."""
    user = f"root:{QUOTED}@"
    args = [sys.executable, script, *flags_of(script)]
    if way == "--password-file":
        (folder / "password").write_text(PASSWORD + "\n")
        user, args = "", [*args, way, folder / "password"]
    env = {"TDENGINE_DSN": f"ws://{user}127.0.0.1:{port}", "RUST_LOG": "debug", "RUST_BACKTRACE": "1"}
    with running(args, folder, env=env) as process:
        yield process


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_malformed_dsn_is_refused_without_showing_the_password(script, capsys, monkeypatch):
    for dsn in (
        f"root:{QUOTED}@localhost",
        f"ws://root:{PASSWORD}@localhost:6041",
        f"ws://root:{QUOTED}@",
        f"ws://root:{QUOTED}@[::1:6041",
        f"mysql://root:{QUOTED}@localhost",
    ):
        monkeypatch.setenv("TDENGINE_DSN", dsn)
        status, shown, said = refused(MODULES[script].main, script, flags_of(script), capsys, monkeypatch)
        assert (status, len(said.splitlines())) == (2, 1), (dsn, said)
        assert_no_secret(shown, said)


class Listener(tornado.websocket.WebSocketHandler):
    """Notes which user and password a client gives, and refuses them."""

    def initialize(self, given):
        self.given = given

    async def on_message(self, message):
        request = json.loads(message)
        answer = {"code": 0, "message": "", "action": request["action"], "version": "3.3.6.6"}
        if request["action"] == "conn":
            if not self.given.done():
                self.given.set_result((request["args"]["user"], request["args"]["password"]))
            answer |= {"code": 0x0357, "message": "Authentication failure", "req_id": request["args"]["req_id"]}
        await self.write_message(json.dumps(answer))


@pytest.mark.parametrize("way", ["TDENGINE_DSN", "--password-file"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_password_reaches_the_database_and_is_nowhere_to_be_read(tmp_path, script, way):
    """Neither while the database is away, nor when it refuses the password."""
    port, is_server = free_port(), script == "perspective_server.py"

    def assert_no_secret_is_shown(process, words):
        wait_until(lambda: words in process.stderr(), 20, process.log)
        assert_no_secret(*command_lines(process.pid))
        if is_server:
            page = re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr())[1]
            assert_no_secret(get(f"http://127.0.0.1:{page}/healthz").decode())

    async def scene():
        given = asyncio.get_running_loop().create_future()
        listener = tornado.httpserver.HTTPServer(tornado.web.Application([(".*", Listener, {"given": given})]))
        with with_password(script, tmp_path, port, way) as process:
            away = "does not answer" if is_server else "waiting for TDengine"
            await asyncio.to_thread(assert_no_secret_is_shown, process, away)
            assert len(command_lines(process.pid)) >= 2  # it and the process that alone talks to TDengine
            listener.listen(port, "127.0.0.1")
            try:
                assert await asyncio.wait_for(given, WAIT_S) == ("root", PASSWORD), process.log()
                await asyncio.to_thread(assert_no_secret_is_shown, process, "refuses this user or password")
                if not is_server:
                    assert await asyncio.to_thread(process.ends_within, 10) == 1
            finally:
                listener.stop()
        assert_no_secret(process.stdout(), process.stderr())

    asyncio.run(scene())


# The end of what is connected since the beginning


def test_a_viewer_that_answers_no_pings_is_dropped(silent):
    silent.received(PING_S * 3)  # which ends when the server closes
