"""A server of the bridge's viewers without a database: hosts a table of stocks and updates it. For tests only.

    python tests/engine_site.py PORT [--limit N] [--rows N] [--interval MS] [--max-memory MB] ... (--help)

/healthz is what the viewers say, with `rows` (updated since the start), `update_ms`, `wait_ms` (until the last update
was made), `pid`. /engine?HOW does something to the engine, as a request of a viewer would: see EngineHandler.
"""

import argparse
import asyncio
import contextlib
import datetime
import os
import pathlib
import random
import signal
import sys
import threading
import time
import urllib.error

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import pyarrow
import tornado.httpserver
import tornado.web
from helpers import ROOT, free_port, get, health, running, wait_until

from bridge import perspective_pb2 as pb
from bridge import supervisor
from bridge.engine import Engine
from bridge.report import log_to_stderr
from bridge.requests import LONGEST, Invalid
from bridge.viewers import ReadOnlyHandler, Viewers

TABLE = "stock_values"
TICKERS = "AAPL.N AMZN.N QQQ.N NVDA.N TSLA.N FB.N MSFT.N TLT.N XIV.N YY.N CSCO.N GOOGL.N PCLN.N".split()
CLIENTS = "Homer Marge Bart Lisa Maggie Moe Lenny Carl Krusty".split()


def make_rows(count, serial, texts=False):
    """Arrow bytes of `count` rows, alike for one serial but for their times; `texts`: each has one of its own."""
    chance = random.Random(serial)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    times = [now + datetime.timedelta(milliseconds=k) for k in range(count)]
    prices = {
        name: pyarrow.array([round(chance.uniform(1, 500), 2) for _ in range(count)], pyarrow.float32())
        for name in ("open", "high", "low", "close")
    }
    table = pyarrow.table(
        {
            "timestamp": pyarrow.array(times, pyarrow.timestamp("ms")),
            "ticker": [f"text {serial + k}" * 1000 if texts else chance.choice(TICKERS) for k in range(count)],
            "client": [chance.choice(CLIENTS) for _ in range(count)],
            **prices,
            "volume": pyarrow.array([chance.randrange(10_000, 100_000) for _ in range(count)], pyarrow.uint32()),
            "date": pyarrow.array([now.date()] * count, pyarrow.date32()),
        }
    )
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


class HealthHandler(tornado.web.RequestHandler):
    def initialize(self, state, viewers):
        self.state, self.viewers = state, viewers

    def get(self):
        self.finish({**self.state, **self.viewers.health()})


class EngineHandler(tornado.web.RequestHandler):
    """Changes tables, or calls in the engine's thread what the viewers' checks don't let through (409: refused).

    add=N: an update of N rows; host: one more table; anew: the table is dropped, and hosted anew with other columns;
    crash, kill, hang: that; update: a new view, and an update that crashes.
    """

    def initialize(self, viewers, tables):
        self.viewers, self.shared, self.tables = viewers, viewers.shared, tables

    async def get(self):
        how, _, count = self.request.query.partition("=")
        engine = self.shared.engine
        if how == "add":
            self.tables["added"] += 1
            await engine.run(self.tables["table"].update, make_rows(int(count), -self.tables["added"]))
            return
        if how == "host":
            await engine.run(engine.client.table, {"a": [1]}, name="another")
            return
        if how == "anew":
            await self.viewers.drop_table(TABLE)
            await engine.run(self.tables["table"].delete)
            self.tables["table"] = await engine.run(engine.client.table, {"b": ["text"]}, name=TABLE)
            return
        expressions = pb.Expressions(column_to_expr={"e": 'bucket("ticker", 1)'})
        calls = {
            "crash": (self.shared.session.ask, "table_validate_expr", TABLE, expressions.SerializeToString()),
            "kill": (os.kill, os.getpid(), signal.SIGKILL),
            "hang": (time.sleep, 1000),
        }
        if how == "update":  # a new view, and then an update that ends the process
            self.shared.engine.mark.add_young(bytes(16))
            await self.shared.engine.run(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSEGV))
        try:
            await self.shared.call(how, b"", expressions, None, *calls[how])
        except Invalid as error:
            self.set_status(409)
            self.finish(str(error))


async def serve(args, place):
    engine = Engine(place.mark)
    origins = {
        "allow_origins": args.allow_origin,
        "allow_hosts": args.allow_host,
        "file_origin": not args.no_file_origin,
    }
    viewers = Viewers(engine, place, max_viewers=args.max_viewers, host=args.host, **origins)
    tables = {"table": None, "added": 0}
    state = {"status": "waiting", "rows": 0, "update_ms": 0.0, "wait_ms": 0.0, "pid": os.getpid()}
    app = tornado.web.Application(
        [
            (r"/websocket", ReadOnlyHandler, {"viewers": viewers}),
            (r"/healthz", HealthHandler, {"state": state, "viewers": viewers}),
            (r"/engine", EngineHandler, {"viewers": viewers, "tables": tables}),
        ],
        websocket_ping_interval=20,
        websocket_ping_timeout=20,
        websocket_max_message_size=LONGEST,
    )
    http = tornado.httpserver.HTTPServer(app)
    http.add_sockets(place.sockets)
    first = make_rows(args.full, 0)
    table = tables["table"] = await engine.run(engine.client.table, first, limit=args.limit, name=TABLE)
    state.update(status="ok")
    while not place.stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(place.stopping.wait(), args.interval / 1000)
            break
        if not args.rows:
            continue
        rows, started = make_rows(args.rows, state["rows"] + 1, args.texts), time.monotonic()
        await engine.run(table.update, rows)
        state["rows"] += args.rows
        state.update(update_ms=engine.update_s * 1000, wait_ms=(time.monotonic() - started) * 1000)
    http.stop()
    viewers.close()
    await asyncio.sleep(0.1)  # for the close frames
    engine.close()


class Site:
    """An engine_site that runs: its port, its Process, and what it says of itself."""

    def __init__(self, port, process):
        self.port, self.process = port, process

    def health(self):
        return health(self.port) or {}

    def log(self):
        return self.process.stderr()

    def engine(self, how):
        """The status of /engine?HOW, None when the server has gone meanwhile."""
        try:
            get(f"http://127.0.0.1:{self.port}/engine?{how}", timeout=30)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, urllib.error.URLError):
            return None
        return 200


@contextlib.contextmanager
def engine_site(folder, *flags, ready=True):
    """Starts one and ends it: `with engine_site(tmp_path, "--limit", 1000) as site:`."""
    port = free_port()
    with running([sys.executable, ROOT / "tests/engine_site.py", port, *flags], folder, "site") as process:
        site = Site(port, process)
        if ready:
            wait_until(lambda: site.health().get("status") == "ok", 30, process.log)
        yield site


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--allow-host", action="append", default=[])
    parser.add_argument("--allow-origin", action="append", default=[])
    parser.add_argument("--no-file-origin", action="store_true")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=250, help="of each update, 0: none")
    parser.add_argument("--full", type=int, default=250, help="rows at the start")
    parser.add_argument("--interval", type=int, default=250)
    parser.add_argument("--max-memory", type=int, default=1024)
    parser.add_argument("--max-viewers", type=int, default=5000)
    parser.add_argument("--stuck", type=float, default=supervisor.STUCK_S)
    parser.add_argument("--texts", action="store_true", help="each row has a text that no other has")
    log_to_stderr("INFO")
    args = parser.parse_args()
    supervisor.STUCK_S = args.stuck
    sys.exit(supervisor.run(serve, args))


if __name__ == "__main__":
    main()
