"""docs/copying.md: the files that it names, alone in an empty folder, run its examples."""

import asyncio
import os
import re
import secrets
import shutil
import sys

import perspective
import pytest
import tornado.httpclient
import tornado.websocket
from chain import Chain, listens
from helpers import ROOT, Process, free_port, wait_until
from wire import encode

TITLES = {
    "Read TDengine without freezing": ["child"],
    "Show each row once": ["shown"],
    "Let viewers look but not touch": ["requests", "perspective_pb2"],
    "Insert without losing rows": ["outbox", "child", "report"],
}
READ, SHOW, LOOK, INSERT = TITLES
ANSWER_S = 10


def sections():
    """{title: (files, example)} of the document."""
    found = {}
    for text in (ROOT / "docs/copying.md").read_text().split("\n### ")[1:]:
        (files,), (example,) = re.findall("^Files: (.*);", text, re.M), re.findall("```python\n(.*?)```", text, re.S)
        found[text.splitlines()[0]] = re.findall("`([^`]+)`", files), example
    return found


def copy(title, folder, **replaced):
    """The files of a section in the folder, and its example as example.py."""
    files, example = sections()[title]
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    for old, new in replaced.items():
        assert old in example
        example = example.replace(old, new)
    (folder / "example.py").write_text(example)


def start(folder, dsn="", script="example.py"):
    env = Chain.env | {"TDENGINE_DSN": dsn}  # without numpy, which no section names
    return Process([sys.executable, script], folder, "example", cwd=folder, env=env)


def run(folder, dsn="", status=0, **how):
    """Standard output of the example."""
    process = start(folder, dsn, **how)
    try:
        assert process.wait(60) == status, process.log()
    finally:
        process.stop()
    return process.stdout()


def test_each_need_takes_few_files_and_has_a_short_example():
    found = sections()
    needed = {
        title: ["bridge/__init__.py", *(f"bridge/{name}.py" for name in names)] for title, names in TITLES.items()
    }
    assert {title: files for title, (files, _) in found.items()} == needed
    for _, example in found.values():
        lines = [line for line in example.splitlines() if line]
        assert len(lines) <= 20, example
        assert max(map(len, lines)) <= 100


def test_tdengine_is_read(database, tmp_path):
    copy(READ, tmp_path)
    assert run(tmp_path, database.dsn).startswith("[('")
    assert run(tmp_path, f"ws://root:taosdata@127.0.0.1:{free_port()}").startswith("TDengine answered: [0xE001]")


FREE = """
import asyncio, example

async def count():
    while True:
        ticks.append(1)
        await asyncio.sleep(0.05)

async def main():
    counting = asyncio.create_task(count())
    await example.main()

ticks = []
if __name__ == "__main__":
    asyncio.run(main())
    print("ticks", len(ticks))
"""


def test_a_silent_tdengine_freezes_nothing(database, tmp_path):
    copy(READ, tmp_path, **{"limit_s=8": "limit_s=3"})
    (tmp_path / "free.py").write_text(FREE)
    with database.proxy() as proxy:
        proxy.silent()
        said = run(tmp_path, database.through(proxy), script="free.py")
    assert said.startswith("TDengine does not answer: ")
    assert int(re.search(r"ticks (\d+)", said)[1]) > 20


def test_rows_are_shown_once(tmp_path):
    copy(SHOW, tmp_path)
    assert run(tmp_path) == "4 rows\n"


def test_viewers_may_look_but_not_touch(tmp_path):
    port = free_port()
    copy(LOOK, tmp_path, **{"8080": str(port)})
    process = start(tmp_path)

    async def connect(origin=None):
        headers = {"Origin": origin} if origin else {}
        request = tornado.httpclient.HTTPRequest(f"ws://127.0.0.1:{port}/websocket", headers=headers)
        return await asyncio.wait_for(tornado.websocket.websocket_connect(request), ANSWER_S)

    async def refused(message):
        connection = await connect()
        await connection.write_message(message, binary=True)
        assert await asyncio.wait_for(connection.read_message(), ANSWER_S) is None
        return connection.close_code

    async def look():
        connection = await connect()
        client = perspective.AsyncClient(lambda message: connection.write_message(message, binary=True))

        async def receive():
            while (message := await connection.read_message()) is not None:
                await client.handle_response(message)

        receiving = asyncio.create_task(receive())
        view = await (await client.open_table("numbers")).view()
        found = await asyncio.wait_for(view.to_columns(), ANSWER_S)
        receiving.cancel()
        connection.close()
        return found["n"]

    async def attack():
        assert await look() == [1, 2, 3]
        for kind in (27, 28, 31, 32, 33, 38):
            assert await refused(encode((1, 9), (2, b"numbers"), (kind, b""))) == 1008
        size = (8, b"")  # an allowed request after a forbidden one
        smuggling = await connect()
        await smuggling.write_message(encode((1, 9), (2, b"numbers"), (28, b""), size), binary=True)
        await asyncio.wait_for(smuggling.read_message(), ANSWER_S)
        with pytest.raises(tornado.httpclient.HTTPClientError, match="403"):
            await connect("https://evil.example")
        assert await look() == [1, 2, 3]

    try:
        wait_until(lambda: listens(port) or not process.alive(), 30, process.log)
        asyncio.run(attack())
    finally:
        process.stop()


def test_rows_are_inserted_without_loss_through_a_cut(database, tmp_path):
    database.name = f"mini_{os.getpid()}_{secrets.token_hex(4)}"
    database.query("CREATE DATABASE {db}")
    database.query("CREATE TABLE {db}.readings (ts TIMESTAMP, `value` INT)")
    copy(INSERT, tmp_path, **{"`demo`": f"`{database.name}`"})
    with database.proxy() as proxy:
        process = start(tmp_path, database.through(proxy))
        try:
            wait_until(lambda: database.query("SELECT COUNT(*) FROM {db}.readings")[0][0] > 5, 30, process.log)
            proxy.lose_replies()
            proxy.cut()
            assert process.wait(60) == 0, process.log()
        finally:
            process.stop()
    assert process.stdout() == "sent 100 rows in 100 batches\n"
    assert [value for (value,) in database.query("SELECT `value` FROM {db}.readings ORDER BY ts")] == list(range(100))


def marked(file, name):
    """The piece between its marks."""
    (piece,) = re.findall(rf"\n[^\n]*ANCHOR: {name}\n(.*)\n[^\n]*ANCHOR_END: {name}", (ROOT / file).read_text(), re.S)
    return piece


def test_the_pieces_that_documentation_includes_are_marked_and_whole():
    server = marked("perspective_server.py", "perspective_server")
    assert re.findall(r"^(?:async )?def (\w+)", server, re.M) == ["read_tdengine", "perspective_thread", "make_app"]
    compile(server, "perspective_server.py", "exec")
    assert all(word in server for word in ("PeriodicCallback", "/websocket", "client.table", "hosted.update"))
    viewer = marked("prsp-viewer.html", "perspective_viewer")
    assert all(word in viewer for word in ("perspective.websocket", "open_table", "viewer.load", "viewer.restore"))
    assert viewer.count("{") == viewer.count("}")
