"""minimal.py, copied alone into an empty folder: what is stored is shown once, and viewers may look, not touch."""

import ast
import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

import perspective
import pytest
import tornado.httpclient
import tornado.websocket
from browser import QUICK, Page, chromium
from chain import Database, children
from counting_viewer import Viewer
from helpers import ROOT, Process, free_port, get, wait_until
from read_table import see
from wire import encode

SHOWS_S = 40  # bound of the wait for rows to be shown, on a busy machine
ANSWER_S = 10  # bound of a wait for an answer over the WebSocket


class Minimal:
    """minimal.py, run in an empty folder."""

    def __init__(self, folder, dsn, table, port=None):
        folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / "minimal.py", folder)
        self.folder, self.port, self.name = folder, port or free_port(), table.rpartition(".")[2].strip("`")
        args = [sys.executable, "minimal.py", table, self.port]
        self.process = Process(args, folder, "minimal", cwd=folder, env={"TDENGINE_DSN": dsn})
        self.viewers = []

    def __enter__(self):
        wait_until(lambda: self.page() or not self.process.alive(), SHOWS_S, self.process.log)
        assert self.process.alive(), self.process.log()
        return self

    def __exit__(self, *_):
        for viewer in self.viewers:
            viewer.close()
        self.process.stop()

    def page(self):
        with contextlib.suppress(OSError):
            return get(f"http://127.0.0.1:{self.port}/").decode()

    def viewer(self):
        self.viewers.append(Viewer(f"ws://127.0.0.1:{self.port}/websocket", self.name))
        return self.viewers[-1]

    def see(self, **config):
        """Schema and columns of a view; None while the table is not hosted."""
        with contextlib.suppress(perspective.PerspectiveError, tornado.websocket.WebSocketClosedError, OSError):
            return see(f"ws://127.0.0.1:{self.port}/websocket", self.name, **config)

    def wait_for(self, rows):
        """What is seen as soon as there are so many rows; each was shown once."""

        def seen():
            found = self.see()
            return found and len(next(iter(found["columns"].values()))) >= rows and found

        found = wait_until(seen, SHOWS_S, lambda: f"{rows} rows: {self.see()} {self.process.log()}")
        assert all(len(values) == rows for values in found["columns"].values())
        return found


@pytest.fixture
def base(database):
    """A Database whose database is there, with microseconds."""
    database.name = f"mini_{os.getpid()}_{secrets.token_hex(4)}"
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    return database


def insert(base, table, *rows):
    """Rows as texts, each with a time of its own; returns their times in microseconds."""
    stamps = [time.time_ns() // 1000 + k for k in range(len(rows))]
    values = " ".join(f"({stamp}, {row})" for stamp, row in zip(stamps, rows, strict=True))
    base.query(f"INSERT INTO {{db}}.{table} VALUES {values}")
    return stamps


def assert_a_signal_ends_it_with_its_reader(site, number):
    readers = children(site.process.pid, "multiprocessing")
    assert readers
    site.process.signal(number)
    assert site.process.ends_within(10) == 0, site.process.log()
    wait_until(lambda: not any(map(alive, readers)), 10, "the reader to end")
    assert "Traceback" not in site.process.stderr()


def alive(pid):
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def minimal(base, tmp_path, table, dsn=None):
    return Minimal(tmp_path / "copy", dsn or base.dsn, f"{base.name}.{table}")


def test_it_is_as_short_as_promised_and_imports_nothing_of_ours():
    text = (ROOT / "minimal.py").read_text()
    assert len(text.splitlines()) <= 120
    assert max(map(len, text.splitlines())) <= 100
    tree = ast.parse(text)
    imports = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imports += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert not {name.split(".")[0] for name in imports} & ours
    functions = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    functions |= {
        node.targets[0].id for node in tree.body if isinstance(node, ast.Assign) and "cache" in ast.dump(node)
    }
    assert functions >= {"create_tdengine_connection", "read_tdengine", "perspective_thread", "make_app", "main"}
    left_out = re.findall(r"\w+\.py", ast.get_docstring(tree).partition("bridge/")[2])
    assert len(left_out) >= 5
    assert all((ROOT / "bridge" / name).is_file() for name in left_out)


def test_each_row_of_a_plain_table_is_shown_once(base, tmp_path):
    base.query("CREATE TABLE {db}.`Machine Log` (ts TIMESTAMP, volume INT, `group` NCHAR(10))")
    insert(base, "`Machine Log`", *(f"{k}, 'before'" for k in range(100)))
    with minimal(base, tmp_path, "`Machine Log`") as site:
        viewer = site.viewer()
        for k in range(12):
            insert(base, "`Machine Log`", *(f"{100 + 40 * k + j}, 'ä'" for j in range(40)))
        wait_until(lambda: viewer.distinct() >= 580, SHOWS_S, lambda: (viewer.report(), site.process.log()))
        insert(base, "`Machine Log`", "580, 'last'")  # what is shown after it: nothing again
        wait_until(lambda: viewer.distinct() >= 581, SHOWS_S, viewer.report)
        report = viewer.report()
        assert (report["distinct"], report["twice"]) == (581, 0)
        assert sorted(site.wait_for(581)["columns"]["volume"]) == list(range(581))
        assert_a_signal_ends_it_with_its_reader(site, signal.SIGINT)


def test_rows_of_two_subtables_with_equal_values_are_two_rows(base, tmp_path):
    columns = "`VARCHAR` INT, `__INDEX__` INT, psp_okey INT, `tbname` INT"  # names of a type, of the engine's, ours
    base.query(f"CREATE TABLE {{db}}.devices (ts TIMESTAMP, {columns}) TAGS (site VARCHAR(10), `group` INT)")
    with minimal(base, tmp_path, "devices") as site:
        for _ in range(5):
            stamp = time.time_ns() // 1000
            values = " ".join(f"({stamp + k}, 1, 2, 3, 4)" for k in range(20))
            into = " ".join(f"{{db}}.`D {d}` USING {{db}}.devices TAGS ('hér', 1) VALUES {values}" for d in "aB")
            base.query(f"INSERT INTO {into}")
        found = site.wait_for(200)
        assert found["columns"]["site"] == ["hér"] * 200
        for value, name in enumerate(("VARCHAR", "__INDEX___", "psp_okey_", "tbname_"), 1):
            assert found["columns"][name] == [value] * 200
        assert sorted(set(found["columns"]["tbname"])) == ["D B", "D a"]
        assert list(found["columns"])[:2] == ["ts", "tbname"]
        assert_a_signal_ends_it_with_its_reader(site, signal.SIGTERM)


@pytest.mark.parametrize(("kind", "values"), [("INT", range(40)), ("VARCHAR(9)", [f"'k{k}'" for k in range(40)])])
def test_a_composite_key_tells_rows_of_one_time_apart(base, tmp_path, kind, values):
    if base.is_stand_in and kind != "INT":
        pytest.skip("the stand-in has no composite key of texts")
    base.query(f"CREATE TABLE {{db}}.`composite` (ts TIMESTAMP, id {kind} PRIMARY KEY, v FLOAT)")
    with minimal(base, tmp_path, "composite") as site:
        stamp = time.time_ns() // 1000
        rows = " ".join(f"({stamp}, {value}, 1)" for value in values)
        base.query(f"INSERT INTO {{db}}.`composite` VALUES {rows}")
        assert len(set(site.wait_for(40)["columns"]["id"])) == 40


def test_each_type_is_shown_exactly(base, tmp_path):
    columns = "b BOOL, i8 TINYINT, i16 SMALLINT, i32 INT, i64 BIGINT, u8 TINYINT UNSIGNED, u16 SMALLINT UNSIGNED, "
    columns += "u32 INT UNSIGNED, u64 BIGINT UNSIGNED, f FLOAT, d DOUBLE, v VARCHAR(20), n NCHAR(20), "
    columns += "x VARBINARY(20), other TIMESTAMP, m DECIMAL(20, 4)"
    least = "true, -128, -32768, -2147483648, -9223372036854775807, 0, 0, 0, 0, -1.5, -1e300, '', '', '\\x', 0, -1.25"
    most = "false, 127, 32767, 2147483647, 9007199254740993, 255, 65535, 4294967295, 18446744073709551615, 1.5, 1e300, "
    most += "'größe', 'größe', '\\x00ff', 1795411690500000, 99999999.9999"
    base.query(f"CREATE TABLE {{db}}.types (ts TIMESTAMP, {columns})")
    insert(base, "types", ", ".join(["NULL"] * 16), least, most)
    with minimal(base, tmp_path, "types") as site:
        found = site.wait_for(3)
    kinds = {"ts": "datetime", "other": "datetime", "b": "boolean", "f": "float", "d": "float", "m": "float"}
    kinds |= dict.fromkeys(["v", "n", "x"], "string")
    assert found["schema"] == {name: kinds.get(name, "integer") for name in found["columns"]}
    rows = list(zip(*(values for name, values in found["columns"].items() if name != "ts"), strict=True))
    assert rows[0] == (None,) * 16
    least = (True, -128, -(2**15), -(2**31), -(2**63) + 1, 0, 0, 0, 0, -1.5, -1e300, "", "", "", 0, -1.25)
    assert rows[1] == least
    most = (False, 127, 2**15 - 1, 2**31 - 1, 2**53 + 1, 2**8 - 1, 2**16 - 1, 2**32 - 1, 2**64 - 1, 1.5, 1e300)
    assert rows[2] == (*most, "größe", "größe", "00ff", 1795411690500, 99999999.9999)


def test_a_geometry_is_shown_as_text(base, tmp_path):
    if base.is_stand_in:
        pytest.skip("the stand-in has no GEOMETRY")
    base.query("CREATE TABLE {db}.places (ts TIMESTAMP, g GEOMETRY(64))")
    insert(base, "places", "'POINT(1.5 2)'", "NULL")
    with minimal(base, tmp_path, "places") as site:
        first, second = site.wait_for(2)["columns"]["g"]
    assert re.fullmatch(r"POINT ?\(1\.50* 2(\.0*)?\)", first), first
    assert second is None


def test_a_frozen_tdengine_does_not_freeze_the_page_and_its_rows_come_later(base, tmp_path):
    base.query("CREATE TABLE {db}.t (ts TIMESTAMP, v INT)")
    insert(base, "t", "0")
    with base.proxy() as proxy, minimal(base, tmp_path, "t", base.through(proxy)) as site:
        site.wait_for(1)
        proxy.silent()
        slowest = 0.0

        def retries():
            nonlocal slowest
            started = time.monotonic()
            assert site.page()
            slowest = max(slowest, time.monotonic() - started)
            return "retries" in site.process.stderr()

        for k in range(3):
            insert(base, "t", *map(str, range(1 + 10 * k, 11 + 10 * k)))
        wait_until(retries, SHOWS_S, site.process.log)
        assert slowest < 2
        assert len(site.see()["columns"]["v"]) == 1  # viewers are answered, too
        proxy.go_on()
        assert sorted(site.wait_for(31)["columns"]["v"]) == list(range(31))
        proxy.silent()
        assert_a_signal_ends_it_with_its_reader(site, signal.SIGINT)


@pytest.mark.parametrize("mistake", ["table", "name", "password", "address", "port", "dsn"])
def test_a_users_mistake_is_one_line(base, tmp_path, mistake):
    base.query("CREATE TABLE {db}.t (ts TIMESTAMP, v INT)")
    with base.proxy() as proxy, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        table = {"table": f"{base.name}.nosuch", "name": "t"}.get(mistake)
        dsn = base.through(proxy, password="wrong-secret" if mistake == "password" else None)
        if mistake == "address":
            dsn = f"ws://root:wrong-secret@127.0.0.1:{free_port()}"
        if mistake == "dsn":
            dsn = "ws://root:sec/ret-secret@localhost:6041"
        port = taken.getsockname()[1] if mistake == "port" else None
        process = Minimal(tmp_path / "copy", dsn, table or f"{base.name}.t", port).process
        try:
            assert process.wait(30) == 1, process.log()
        finally:
            process.stop()
    (line,) = process.stderr().splitlines()
    assert line.startswith("minimal.py ")
    words = {"table": "not exist", "name": "0x26", "password": "uthentication failure"}
    words |= {"address": "refused", "port": "in use", "dsn": "TDENGINE_DSN"}
    assert words[mistake] in line, line
    assert "sec" not in line


# Viewers


FORBIDDEN = [27, 28, 31, 32, 33, 38, 41, 99, 2**29 - 1]
FEATURES, MAKE_VIEW, SIZE, VIEW_DELETE, TABLE_DELETE, REMOVE = 3, 6, 8, 11, 28, 31
HOSTED = (2, b"t")
SMUGGLED = {
    "before": encode((1, 9), HOSTED, (TABLE_DELETE, b""), (SIZE, b"")),
    "after": encode((1, 9), HOSTED, (SIZE, b""), (TABLE_DELETE, b"")),
    "inside": encode((1, 9), HOSTED, (SIZE, encode((TABLE_DELETE, b"")))),
    "as a view": encode((1, 9), HOSTED, (VIEW_DELETE, b"")),
    "as a number": encode((1, 9), HOSTED, (SIZE, b""), (TABLE_DELETE, 1)),
}
GARBAGE = {
    "empty": b"",
    "half": encode((1, 9), HOSTED)[:-1],
    "bytes": bytes(range(256)),
    "no UTF-8": encode((1, 9), (2, b"\xff"), (SIZE, b"")),
    "text": "table_delete",
    "no kind": encode((1, 9), HOSTED),
}


@pytest.fixture(scope="module")
def hosted(shared_stand_in, tmp_path_factory):
    """A site whose table `t` holds 20 rows, to be attacked."""
    folder = tmp_path_factory.mktemp("hosted")
    base = Database(folder, shared_stand_in)
    try:
        base.name = f"mini_{os.getpid()}_{secrets.token_hex(4)}"
        base.query("CREATE DATABASE {db} PRECISION 'us'")
        base.query("CREATE TABLE {db}.t (ts TIMESTAMP, v INT)")
        insert(base, "t", *map(str, range(20)))
        with minimal(base, folder, "t") as site:
            site.wait_for(20)
            yield site
            assert site.process.alive(), site.process.log()
    finally:
        base.close()


async def connect(port, **headers):
    request = tornado.httpclient.HTTPRequest(f"ws://127.0.0.1:{port}/websocket", headers=headers)
    return await asyncio.wait_for(tornado.websocket.websocket_connect(request), ANSWER_S)


def assert_unharmed(site):
    found = site.see()
    assert found["schema"] == {"ts": "datetime", "v": "integer"}
    assert sorted(found["columns"]["v"]) == list(range(20))


async def send(port, *messages):
    """Sends them on one connection; what is answered to the last of them, and the close code (None: still open)."""
    connection = await connect(port)
    for message in messages:
        await connection.write_message(message, binary=isinstance(message, bytes))
        answer = await asyncio.wait_for(connection.read_message(), ANSWER_S)
    code = connection.close_code if answer is None else None
    connection.close()
    return answer, code


def test_a_request_that_changes_something_is_refused(hosted):
    for kind in FORBIDDEN:
        assert asyncio.run(send(hosted.port, encode((1, 9), HOSTED, (kind, b"")))) == (None, 1008), kind
        assert_unharmed(hosted)


def test_a_smuggled_request_does_not_arrive(hosted):
    for way, message in SMUGGLED.items():
        print(way)
        asyncio.run(send(hosted.port, message))
        assert_unharmed(hosted)


def test_garbage_ends_its_connection_only(hosted):
    for kind, message in GARBAGE.items():
        answer, _ = asyncio.run(send(hosted.port, message))
        assert answer is None, kind
        assert_unharmed(hosted)


def test_a_view_with_the_tables_name_does_not_touch_the_table(hosted):
    make = encode((1, 9), HOSTED, (MAKE_VIEW, encode((1, b"t"), (2, b""))))
    asyncio.run(send(hosted.port, make, encode((1, 10), HOSTED, (VIEW_DELETE, b""))))
    assert_unharmed(hosted)


@pytest.mark.parametrize("change", ["update", "replace", "remove", "clear", "delete", "table"])
def test_what_perspectives_own_client_can_do_to_a_table_is_refused(hosted, change):
    async def attack():
        connection = await connect(hosted.port)
        client = perspective.AsyncClient(lambda message: connection.write_message(message, binary=True))

        async def receive():
            while (message := await connection.read_message()) is not None:
                await client.handle_response(message)

        receiving = asyncio.create_task(receive())
        table = await asyncio.wait_for(client.open_table("t"), ANSWER_S)
        calls = {"update": [[{"v": 99}]], "replace": [[{"v": 99}]], "remove": [[1]], "clear": [], "delete": []}
        call = client.table({"v": [1]}, name="mine") if change == "table" else getattr(table, change)(*calls[change])
        attacking = asyncio.ensure_future(call)
        await asyncio.wait_for(receiving, ANSWER_S)
        attacking.cancel()
        return connection.close_code

    assert asyncio.run(attack()) == 1008
    assert_unharmed(hosted)


def test_pages_of_other_origins_are_refused(hosted):
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"):
        with pytest.raises(tornado.httpclient.HTTPClientError, match="403"):
            asyncio.run(connect(hosted.port, Origin=origin))


def test_a_hostile_name_that_points_at_this_machine_is_refused(hosted):
    headers = {"Host": f"evil.example:{hosted.port}", "Origin": f"http://evil.example:{hosted.port}"}
    for path in ("/", "/websocket"):
        request = urllib.request.Request(f"http://127.0.0.1:{hosted.port}{path}", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(request, timeout=ANSWER_S)


def test_nothing_but_the_page_and_perspectives_two_files_is_served(hosted):
    for path in ("/minimal.py", "/__init__.py", "/perspective-anywidget.py", "/..%2f__init__.py"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"http://127.0.0.1:{hosted.port}{path}")


def test_the_page_waits_for_the_first_rows_and_shows_rows_that_change(base, tmp_path):
    base.query("CREATE TABLE {db}.t (ts TIMESTAMP, v INT)")
    with minimal(base, tmp_path, "t") as site, chromium(QUICK) as browser:
        page = Page(browser, f"http://localhost:{site.port}/")
        for value in range(100_001, 100_004):  # each becomes the first row
            insert(base, "t", str(value))
            text = f"{value:,}"
            wait_until(lambda text=text: text in page.cells(), SHOWS_S, lambda: (page.cells(), page.errors))
        assert page.hosts_asked() == {f"localhost:{site.port}"}
        # a request that is refused, as one of a newer viewer's, is told instead of tried for ever
        page.evaluate(
            "() => void document.querySelector('perspective-viewer').getTable().then((table) => table.delete())"
        )
        body = page.page.locator("body")
        wait_until(
            lambda: "may look, not touch" in body.inner_text(), SHOWS_S, lambda: (body.inner_text(), page.errors)
        )
