#!/usr/bin/env python3
"""ClickHouse's engine (chdb) behind its HTTP interface on loopback, for machines without a ClickHouse server.

    python embedded.py [--port 8123] [--data FOLDER]

It serves one statement at a time to user `default` without a password. Left out, compared with a server: sessions,
users, several statements in one request, results while they are made, and every port but this one.
"""

import argparse
import asyncio
import base64
import concurrent.futures
import contextlib
import fcntl
import gzip
import json
import logging
import os
import pathlib
import re
import signal
import sys
import tempfile
import urllib.parse
import uuid

import lz4.frame
import tornado.httpserver
import tornado.netutil
import tornado.web
from backports import zstd
from chdb import session

HERE = pathlib.Path(__file__).resolve().parent
LOG = logging.getLogger("embedded")
MAX_BODY = 512 * 1024 * 1024  # bytes of one request, also when unpacked
# What a request's URL may hold besides settings; what of it is not here either has no meaning in this process.
NO_SETTINGS = {
    "query", "database", "default_format", "query_id", "user", "password", "quota_key", "compress", "decompress",
    "buffer_size", "wait_end_of_query", "client_protocol_version", "enable_http_compression",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "session_id", "session_timeout",
    "session_check",
}  # fmt: skip
UNPACK = {"gzip": gzip.decompress, "lz4": lz4.frame.decompress, "zstd": zstd.decompress, "": bytes}
# HTTP statuses as ClickHouse gives them, by its error code: not found, refused, broken SQL; any other error is a 500
STATUSES = {**dict.fromkeys((46, 60, 81), 404), 516: 403, **dict.fromkeys((6, 27, 36, 41, 43, 47, 62, 69, 457), 400)}
# One token: a comment, a string, a quoted name, a word, or any other character
TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|\w+|\S", re.DOTALL)
INSERT = re.compile(rb"\s*INSERT\s.*?\bFORMAT[ \t]+(\w+)[ \t]*(?:\r?\n|;|$)", re.DOTALL | re.IGNORECASE)


class EngineError(Exception):
    """ClickHouse's error code and text."""

    def __init__(self, code, text):
        super().__init__(f"Code: {code}. DB::Exception: {text}")
        self.code = code


def tokens(sql):
    """The statement without comments, as a list of its tokens; EngineError when it is more than one statement."""
    found = [token for token in TOKEN.findall(sql) if not token.startswith(("--", "/*"))]
    while found and found[-1] == ";":
        found.pop()
    if ";" in found:
        raise EngineError(62, "Multi-statements are not allowed (SYNTAX_ERROR)")
    return found


class Engine:
    """chdb on a folder; its methods run in one thread, one after the other: settings and database are the session's."""

    def __init__(self, folder):
        self.session = session.Session(str(folder))
        self.settings, self.database = {}, "default"
        self.version, self.timezone = self.query("SELECT version(), timezone()").decode().split()

    def query(self, sql, fmt="TabSeparated", params=None):
        try:
            return self.session.query(sql, fmt, params=params or {}).bytes()
        except Exception as error:  # chdb has several classes for what the engine says
            text = str(error)
            code = re.match(r"\s*Code: (\d+)\. (?:DB::Exception: )?", text)
            raise EngineError(int(code[1]) if code else 1001, text[code.end() :] if code else text) from None

    def prepare(self, database, settings):
        """Makes the session's database and settings those of a request."""
        if database != self.database:
            quoted = database.replace("\\", "\\\\").replace("`", "\\`")
            self.query(f"USE `{quoted}`")
            self.database = database
        for name in self.settings.keys() - settings.keys():
            self.query(f"SET {name} = DEFAULT")
            del self.settings[name]
        for name, value in settings.items():
            if self.settings.get(name) != value:
                quoted = value.replace("\\", "\\\\").replace("'", "\\'")
                self.query(f"SET {name} = '{quoted}'")
                self.settings[name] = value

    def run(self, sql, fmt, params, database, settings):
        self.prepare(database, settings)
        return self.query(sql, fmt, params)

    def insert(self, sql, fmt, data, database, settings):
        """Rows written of an INSERT ... FORMAT `fmt`; by way of a file, as chdb takes SQL only as text."""
        self.prepare(database, settings)
        with tempfile.NamedTemporaryFile(prefix="insert-") as file:
            file.write(data)
            file.flush()
            path = file.name.replace("\\", "\\\\").replace("'", "\\'")
            rows = int(self.query(f"SELECT count() FROM file('{path}', {fmt})")) if data else 0
            if rows:
                # without VALUES or FORMAT, which FROM INFILE takes in another place
                self.query(f"{sql} FROM INFILE '{path}' FORMAT {fmt}")
            return rows


class Handler(tornado.web.RequestHandler):
    """ClickHouse's HTTP interface: / takes a statement, in the URL, in the body, or half in each; /ping."""

    def initialize(self, engine, thread):
        self.engine, self.thread = engine, thread

    def prepare(self):
        # a page in a browser names its origin, and has no business here
        host = self.request.host.rsplit(":", 1)[0].strip("[]")
        if self.request.headers.get("Origin") or host not in ("localhost", "127.0.0.1", "::1"):
            raise tornado.web.HTTPError(403, "not for pages")

    def set_default_headers(self):
        self.set_header("Server", "chdb")
        self.set_header("Content-Type", "text/plain; charset=UTF-8")

    def write_error(self, status_code, **_):
        self.finish(f"{status_code} {self._reason}\n")

    async def get(self):
        if self.request.path == "/ping":
            self.finish("Ok.\n")
            return
        await self.post()

    async def post(self):
        self.set_header("X-ClickHouse-Server-Display-Name", "chdb")
        self.set_header("X-ClickHouse-Query-Id", self.given().get("query_id") or str(uuid.uuid4()))
        self.set_header("X-ClickHouse-Timezone", self.engine.timezone)
        try:
            self.check_user()
            await self.answer()
        except EngineError as error:
            self.set_status(STATUSES.get(error.code, 500))
            self.set_header("X-ClickHouse-Exception-Code", str(error.code))
            self.finish(f"{error} (version {self.engine.version})\n")

    def given(self):
        return dict(urllib.parse.parse_qsl(self.request.query, keep_blank_values=True, max_num_fields=1000))

    def check_user(self):
        user, password = self.given().get("user", "default"), self.given().get("password", "")
        kind, _, secret = self.request.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            with contextlib.suppress(ValueError):
                user, _, password = base64.b64decode(secret).decode().partition(":")
        user = self.request.headers.get("X-ClickHouse-User", user)
        password = self.request.headers.get("X-ClickHouse-Key", password)
        if user not in ("", "default") or password:
            raise EngineError(516, f"{user}: Authentication failed: here is only default (AUTHENTICATION_FAILED)")

    def unpacked(self):
        packing = self.request.headers.get("Content-Encoding", "")
        try:
            return UNPACK[packing](self.request.body)
        except KeyError:
            raise EngineError(48, f"Content-Encoding {packing} (NOT_IMPLEMENTED)") from None
        except Exception as error:  # each library has its own
            raise EngineError(354, f"{packing}: {error} (CANNOT_DECOMPRESS)") from None

    async def answer(self):
        given, body = self.given(), self.unpacked()
        if self.request.headers.get("Content-Type", "").startswith("multipart/"):
            raise EngineError(48, "external data: not in this embedded engine (NOT_IMPLEMENTED)")
        params = {name[6:]: value for name, value in given.items() if name.startswith("param_")}
        settings = {n: v for n, v in given.items() if n not in NO_SETTINGS and not n.startswith("param_")}
        for name in settings:
            if not re.fullmatch(r"\w+", name):
                raise EngineError(115, f"Unknown setting '{name}' (UNKNOWN_SETTING)")
        context = given.get("database") or "default", settings
        # as a server does: what the URL has of the statement comes before what the body has
        text = (given["query"].encode() + b"\n" if given.get("query") else b"") + body
        run = asyncio.get_running_loop().run_in_executor
        if insert := INSERT.match(text):
            try:
                sql = text[: insert.end()].decode().rstrip("; \r\n")
            except UnicodeDecodeError:
                raise EngineError(62, "the statement is not UTF-8 (SYNTAX_ERROR)") from None
            self.refuse_foreign(tokens(sql))
            sql = re.sub(r"\s+FORMAT\s+\w+$", "", sql, flags=re.IGNORECASE)
            fmt = insert[1].decode()
            rows = await run(self.thread, self.engine.insert, sql, fmt, text[insert.end() :], *context)
            self.summarize(written_rows=rows)
            self.finish()
            return
        try:
            sql = text.decode()
        except UnicodeDecodeError:
            raise EngineError(62, "the statement is not UTF-8 (SYNTAX_ERROR)") from None
        found = tokens(sql)
        if not found:
            raise EngineError(62, "Empty query (SYNTAX_ERROR)")
        self.refuse_foreign(found)
        fmt = given.get("default_format") or "TabSeparated"
        if len(found) > 2 and found[-2].upper() == "FORMAT":
            fmt = found[-1]
        result = await run(self.thread, self.engine.run, sql, fmt, params, *context)
        if found[0].upper() in ("SELECT", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "WITH", "EXISTS"):
            self.set_header("X-ClickHouse-Format", fmt)
        self.summarize()
        self.finish(result)

    def refuse_foreign(self, found):
        """A server has its own disk, this process the user's; and a session's own things would be everyone's here."""
        words = [word.upper() for word in found]
        if {"INFILE", "OUTFILE"} & set(words) or words[0] in ("SET", "USE") or words[:2] == ["CREATE", "TEMPORARY"]:
            text = "SET, USE, TEMPORARY, INFILE and OUTFILE: not in this embedded engine (NOT_IMPLEMENTED)"
            raise EngineError(48, text)
        for name, following in zip(words, words[1:], strict=False):
            if following == "(" and name in ("FILE", "EXECUTABLE", "PYTHON"):
                raise EngineError(48, f"{name.lower()}(): not in this embedded engine (NOT_IMPLEMENTED)")

    def summarize(self, **counts):
        summary = {"read_rows": 0, "read_bytes": 0, "written_rows": 0, "written_bytes": 0, **counts}
        self.set_header("X-ClickHouse-Summary", json.dumps({name: str(count) for name, count in summary.items()}))


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def port(text):
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to 65535")
    return int(text)


def lock(folder):
    """Holds the data folder for this process: two engines on one folder would damage it. OSError when it can't be."""
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / "lock", "w")  # noqa: SIM115  (closed, and so given up, when the process ends)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


async def serve(args):
    """Runs until SIGINT or SIGTERM; the statement that runs then is brought to its end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sockets = tornado.netutil.bind_sockets(args.port, "127.0.0.1")  # before the engine, which takes a while
    thread = concurrent.futures.ThreadPoolExecutor(1, "engine")
    engine = await asyncio.get_running_loop().run_in_executor(thread, Engine, args.data / "engine")
    app = tornado.web.Application([(r"/(?:ping)?", Handler, {"engine": engine, "thread": thread})])
    http = tornado.httpserver.HTTPServer(app, max_body_size=MAX_BODY, max_buffer_size=MAX_BODY)
    http.add_sockets(sockets)
    LOG.info(
        "ClickHouse's engine %s (chdb, embedded, no server) at http://127.0.0.1:%s, data in %s",
        engine.version,
        sockets[0].getsockname()[1],
        args.data,
    )
    await stop.wait()
    http.stop()
    await asyncio.get_running_loop().run_in_executor(thread, engine.session.close)


def main():
    parser = Parser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--port", type=port, default=8123, metavar="P", help="on 127.0.0.1 (default: 8123)")
    parser.add_argument(
        "--data", type=pathlib.Path, default=HERE / ".data", metavar="FOLDER", help="default: .data here"
    )
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    try:
        held = lock(args.data)
    except BlockingIOError:
        print(f"embedded.py: another process holds {args.data}: end it, or choose another --data", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"embedded.py: can't use {args.data} ({error.strerror}): choose another --data", file=sys.stderr)
        return 1
    status = 0
    try:
        asyncio.run(serve(args))
    except OSError as error:
        print(
            f"embedded.py: can't listen on port {args.port} ({error.strerror}): choose another --port", file=sys.stderr
        )
        status = 1
    held.close()
    sys.stderr.flush()
    os._exit(status)  # the engine's threads end badly when the interpreter takes them down


if __name__ == "__main__":
    sys.exit(main())
