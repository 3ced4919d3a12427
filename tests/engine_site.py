"""A server of the bridge's viewers without a database: hosts a table of stocks and updates it.

    python tests/engine_site.py PORT [--limit N] [--rows N] [--interval MS] [--max-memory MB] [--texts]

It writes /healthz as the viewers tell it, with `rows` (updated since the start) and `update_ms`. For tests only.
"""

import argparse
import asyncio
import contextlib
import datetime
import logging
import os
import random
import sys
import time

import pyarrow
import tornado.httpserver
import tornado.web

from bridge import supervisor
from bridge.engine import Engine
from bridge.viewers import ReadOnlyHandler, Viewers

TABLE = "stock_values"
TICKERS = "AAPL.N AMZN.N QQQ.N NVDA.N TSLA.N FB.N MSFT.N TLT.N XIV.N YY.N CSCO.N GOOGL.N PCLN.N".split()
CLIENTS = "Homer Marge Bart Lisa Maggie Moe Lenny Carl Krusty".split()


def make_rows(count, serial, texts=False):
    """Arrow bytes of `count` rows; their stamps are `serial` and the numbers after it, in ms before now."""
    chance = random.Random(serial)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    prices = [[round(chance.uniform(1, 500), 2) for _ in range(count)] for _ in range(4)]
    columns = {
        "timestamp": pyarrow.array(
            [now + datetime.timedelta(milliseconds=k) for k in range(count)], pyarrow.timestamp("ms")
        ),
        "ticker": [f"text {serial + k}" if texts else chance.choice(TICKERS) for k in range(count)],
        "client": [chance.choice(CLIENTS) for _ in range(count)],
        **{
            name: pyarrow.array(values, pyarrow.float32())
            for name, values in zip(["open", "high", "low", "close"], prices, strict=True)
        },
        "volume": pyarrow.array([chance.randrange(10_000, 100_000) for _ in range(count)], pyarrow.uint32()),
        "date": pyarrow.array([now.date()] * count, pyarrow.date32()),
    }
    table = pyarrow.table(columns)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


class Health(tornado.web.RequestHandler):
    def initialize(self, state, viewers):
        self.state, self.viewers = state, viewers

    def get(self):
        self.finish({**self.state, **self.viewers.health()})


async def serve(args, place):
    engine = Engine(place.mark)
    viewers = Viewers(engine, place, max_viewers=args.max_viewers, host=args.host)
    state = {"status": "waiting", "rows": 0, "update_ms": 0.0, "age_ms": 0.0, "pid": os.getpid()}
    app = tornado.web.Application(
        [
            (r"/websocket", ReadOnlyHandler, {"viewers": viewers}),
            (r"/healthz", Health, {"state": state, "viewers": viewers}),
        ],
        websocket_ping_interval=20,
        websocket_ping_timeout=20,
        websocket_max_message_size=256 * 1024,
    )
    http = tornado.httpserver.HTTPServer(app)
    http.add_sockets(place.sockets)
    first = make_rows(args.rows if args.full is None else args.full, place.age_ms * 1000)
    table = await engine.run(engine.client.table, first, limit=args.limit, name=TABLE)
    state.update(status="ok")
    while not place.stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(place.stopping.wait(), args.interval / 1000)
            break
        rows = make_rows(args.rows, place.age_ms * 1000 + state["rows"], args.texts)
        started = time.monotonic()
        await engine.run(table.update, rows)
        state["rows"] += args.rows
        state.update(update_ms=engine.update_s * 1000, age_ms=(time.monotonic() - started) * 1000)
    http.stop()
    viewers.close()
    await asyncio.sleep(0.1)  # for the close frames
    engine.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=250)
    parser.add_argument("--full", type=int, help="rows at the start")
    parser.add_argument("--interval", type=int, default=250)
    parser.add_argument("--max-memory", type=int, default=1024)
    parser.add_argument("--max-viewers", type=int, default=5000)
    parser.add_argument("--texts", action="store_true", help="each row has a text that no other has")
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    sys.exit(supervisor.run(serve, parser.parse_args()))


if __name__ == "__main__":
    main()
