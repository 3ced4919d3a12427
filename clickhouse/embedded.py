#!/usr/bin/env python3
"""ClickHouse's engine (chdb) behind its HTTP interface on loopback, for machines without a ClickHouse server.

    python embedded.py [--port 8123] [--data FOLDER]

It serves user `default` without a password. Left out, compared with a server: sessions, users, several statements in
one request, files, results while they are made, and every port but this one.
"""

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
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # the project's folder, where bridge/ is
from bridge import options, report

with options.needs("run ./run.sh once, then `source venv/bin/activate`"):
    import chdb
    import lz4.frame
    import tornado.httpserver
    import tornado.netutil
    import tornado.web
    from backports import zstd

LOG = logging.getLogger("embedded")
DATA = pathlib.Path(__file__).resolve().parent / ".data"
MAX_BODY = 512 * 1024 * 1024  # bytes of one request
THREADS = 4  # statements that run at once
CLOSE_S = 3  # for statements that still run when we end
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
TOKEN = re.compile(
    rb"--[^\n]*|#[ !][^\n]*|/\*.*?\*/|"
    rb"'(?:[^'\\]|\\.|'')*'|\$(\w*)\$.*?\$\1\$|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|\w+|\S",
    re.DOTALL,
)
FILES = re.compile(r"FILE(CLUSTER)?|EXECUTABLE(POOL)?|PYTHON|SQLITE|\w+LOCAL")  # functions and engines that read them
AFTER_FORMAT = re.compile(rb"[ \t]*(?:\r?\n|;[ \t]*\r?\n?)?")  # what may stand between FORMAT's name and the data


class EngineError(Exception):
    """ClickHouse's error code and text."""

    def __init__(self, code, text):
        super().__init__(f"Code: {code}. DB::Exception: {text}")
        self.code = code


def tokens(sql):
    """Matches of TOKEN in bytes of SQL, without the comments."""
    return (match for match in TOKEN.finditer(sql) if not match[0].startswith((b"--", b"# ", b"#!", b"/*")))


def words_of(sql):
    """A statement's tokens in capitals, names without quotes; EngineError when it isn't just one statement."""
    found = [match[0].decode(errors="replace").upper() for match in tokens(sql)]
    while found and found[-1] == ";":
        found.pop()
    if not found or not re.match(r"[A-Z(]", found[0]):  # of some of these chdb says nothing
        raise EngineError(62, "Empty query, or none (SYNTAX_ERROR)")
    if ";" in found or b"\0" in sql:  # chdb would run all of them, and take nothing after the NUL
        raise EngineError(62, "Multi-statements are not allowed (SYNTAX_ERROR)")
    return [word.strip('`"') for word in found]


def split_insert(text):
    """(INSERT without its FORMAT, format, data) when the statement brings its data along in a format, else None."""
    found = tokens(text)
    first = next(found, None)
    if first is None or first[0].upper() != b"INSERT":
        return None
    for match in found:
        word = match[0].upper()
        if word in (b"SELECT", b"VALUES"):
            return None
        if word == b"FORMAT" and (name := next(found, None)):
            data = AFTER_FORMAT.match(text, name.end()).end()
            return text[: match.start()], name[0].decode(errors="replace"), text[data:]
    return None


def decoded(sql):
    try:
        return sql.decode()
    except UnicodeDecodeError:
        raise EngineError(62, "the statement is not UTF-8 (SYNTAX_ERROR)") from None


class Engine:
    """chdb on a folder. Each statement has a connection of its own, as a request without a session has."""

    def __init__(self, folder, incoming):
        self.folder, self.incoming = str(folder), incoming
        self.held = chdb.connect(self.folder)  # the engine stays while a connection does
        found = self.query(self.held, "SELECT version(), timezone()")
        self.version, self.timezone = found.bytes().decode().split()

    def query(self, connection, sql, fmt="TabSeparated", params=None):
        try:
            return connection.query(sql, fmt, params=params or {})
        except Exception as error:  # chdb has several classes for what the engine says
            text = str(error)
            code = re.match(r"\s*Code: (\d+)\. (?:DB::Exception: )?", text)
            raise EngineError(int(code[1]) if code else 1001, text[code.end() :] if code else text) from None

    @contextlib.contextmanager
    def connection(self, database, settings):
        """A connection with the database and the settings of a request."""
        connection = chdb.connect(self.folder)
        try:
            if database:
                self.query(connection, f"USE {quoted(database, '`')}")
            given = [f"{name} = {quoted(value)}" for name, value in settings.items() if name != "readonly"]
            if given:
                self.query(connection, f"SET {', '.join(given)}")
            if "readonly" in settings:  # last, because it forbids to set the others
                self.query(connection, f"SET readonly = {quoted(settings['readonly'])}")
            yield connection
        finally:
            connection.close()

    def run(self, sql, fmt, params, *context):
        with self.connection(*context) as connection:
            return self.query(connection, sql, fmt, params).bytes()

    def insert(self, sql, fmt, data, *context):
        """Rows written of an INSERT ... FORMAT `fmt`; by way of a file, as chdb takes SQL only as text."""
        with self.connection(*context) as connection, tempfile.NamedTemporaryFile(dir=self.incoming) as file:
            file.write(data)
            file.flush()
            path = quoted(file.name)
            return self.query(connection, f"{sql} FROM INFILE {path} FORMAT {fmt}").rows_read()


def quoted(text, quote="'"):
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


@tornado.web.stream_request_body  # so that Tornado doesn't look for a form in it
class Handler(tornado.web.RequestHandler):
    """ClickHouse's HTTP interface: / takes a statement, in the URL, in the body, or half in each; /ping."""

    def initialize(self, engine, threads):
        self.engine, self.threads, self.body = engine, threads, bytearray()

    def prepare(self):
        # a page in a browser names its origin, or the browser says that a page is behind it; it has no business here
        host, headers = self.request.host.rsplit(":", 1)[0].strip("[]"), self.request.headers
        page = headers.get("Origin") or headers.get("Sec-Fetch-Site", "none") != "none"
        if page or host not in ("localhost", "127.0.0.1", "::1"):
            raise tornado.web.HTTPError(403, "not for pages")

    def data_received(self, chunk):
        self.body += chunk

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
        query_id = self.given().get("query_id", "")
        self.set_header("X-ClickHouse-Query-Id", query_id if re.fullmatch(r"[!-~]+", query_id) else str(uuid.uuid4()))
        self.set_header("X-ClickHouse-Timezone", self.engine.timezone)
        try:
            self.check_user()
            await self.answer()
        except EngineError as error:
            self.set_status(STATUSES.get(error.code, 500))
            self.set_header("X-ClickHouse-Exception-Code", str(error.code))
            self.finish(f"{error} (version {self.engine.version})\n")

    def given(self):
        return dict(urllib.parse.parse_qsl(self.request.query, keep_blank_values=True))

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
            return UNPACK[packing](self.body)
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
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise EngineError(115, f"Unknown setting '{name}' (UNKNOWN_SETTING)")
        if self.request.method == "GET":  # as a server does: a link must not change anything
            settings.setdefault("readonly", "2")
        context = given.get("database"), settings
        # as a server does: what the URL has of the statement comes before what the body has
        text = (given["query"].encode() + b"\n" if given.get("query") else b"") + body
        run = asyncio.get_running_loop().run_in_executor
        if insert := split_insert(text):
            sql, fmt, data = insert
            self.refuse_foreign(words_of(sql))
            if not re.fullmatch(r"\w+", fmt):
                raise EngineError(62, "FORMAT needs a name (SYNTAX_ERROR)")
            rows = await run(self.threads, self.engine.insert, decoded(sql), fmt, data, *context)
            self.summarize(written_rows=rows)
            self.finish()
            return
        words = words_of(text)
        self.refuse_foreign(words)
        fmt = given.get("default_format") or "TabSeparated"
        if len(words) > 2 and words[-2] == "FORMAT":
            fmt = re.search(rb"(\w+)[\s;]*$", text)[1].decode()
        result = await run(self.threads, self.engine.run, decoded(text), fmt, params, *context)
        if words[0] in ("SELECT", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "WITH", "EXISTS"):
            self.set_header("X-ClickHouse-Format", fmt)
        self.summarize()
        self.finish(result)

    def refuse_foreign(self, words):
        """A server has its own disk, this process the user's; and there are no sessions."""
        if words[0] in ("SET", "USE") or words[:2] == ["CREATE", "TEMPORARY"]:
            raise EngineError(48, "SET, USE and TEMPORARY: no sessions in this embedded engine (NOT_IMPLEMENTED)")
        if words[:2] in (["SYSTEM", "SHUTDOWN"], ["SYSTEM", "KILL"]):
            raise EngineError(48, "SYSTEM SHUTDOWN: not in this embedded engine (NOT_IMPLEMENTED)")
        files = [
            name
            for name, following in zip(words, [*words[1:], ""], strict=True)
            if name in ("INFILE", "OUTFILE") or following == "(" and FILES.fullmatch(name)
        ]
        if files:
            raise EngineError(48, f"{files[0]}: no files in this embedded engine (NOT_IMPLEMENTED)")

    def summarize(self, **counts):
        summary = {"read_rows": 0, "read_bytes": 0, "written_rows": 0, "written_bytes": 0, **counts}
        self.set_header("X-ClickHouse-Summary", json.dumps({name: str(count) for name, count in summary.items()}))


def lock(folder):
    """Holds the data folder for this process: two engines on one folder would damage it. OSError when it can't be."""
    # without it a new engine cleans nothing up until it is started again, and DROP ... SYNC waits for ever (chdb 26.5)
    (folder / "engine/metadata").mkdir(parents=True, exist_ok=True)
    file = open(folder / "lock", "w")  # noqa: SIM115  (closed, and so given up, when the process ends)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def make_incoming(folder):
    """The folder for data on its way in; what a process that was killed has left there is removed."""
    incoming = folder / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(exist_ok=True)
    return incoming


async def serve(args):
    """Runs until SIGINT or SIGTERM; statements that run then are given CLOSE_S."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sockets = tornado.netutil.bind_sockets(args.port, "127.0.0.1")  # before the engine, which takes a while
    threads = concurrent.futures.ThreadPoolExecutor(THREADS, "engine")
    run = asyncio.get_running_loop().run_in_executor
    engine = await run(threads, Engine, args.data / "engine", make_incoming(args.data))
    app = tornado.web.Application([(r"/(?:ping)?", Handler, {"engine": engine, "threads": threads})])
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
    ending = threading.Thread(target=lambda: (threads.shutdown(), engine.held.close()), daemon=True)
    ending.start()
    deadline = time.monotonic() + CLOSE_S
    while ending.is_alive() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)  # what ends now is still answered


def main():
    parser = options.Parser(__doc__)
    number = options.whole_number(0, 65535)
    parser.add_argument("--port", type=number, default=8123, metavar="P", help="on 127.0.0.1 (default: 8123)")
    parser.add_argument("--data", type=pathlib.Path, default=DATA, metavar="FOLDER", help="default: .data here")
    args = parser.parse_args()
    report.log_to_stderr("info")
    failure = None
    try:
        held = lock(args.data)
    except BlockingIOError:
        failure = f"another process holds {args.data}: end it, or choose another --data"
    except OSError as error:
        failure = f"can't use {args.data} ({error.strerror}): choose another --data"
    else:
        try:
            asyncio.run(serve(args))
        except OSError as error:
            failure = f"can't listen on port {args.port} ({error.strerror}): choose another --port"
        except (EngineError, RuntimeError) as error:  # RuntimeError: chdb's
            failure = f"can't open {args.data} ({' '.join(str(error).split())[:200]}): choose another --data"
        held.close()
    if failure:
        report.say(f"embedded.py: {failure}")
    os._exit(1 if failure else 0)  # the engine's threads end badly when the interpreter takes them down


if __name__ == "__main__":
    sys.exit(main())
