"""The page's server with tables of random rows, without a database: `page_site.py PORT [--stub OPTIONS]`."""

import asyncio
import collections
import datetime
import io
import json
import random
import sys
import time

import perspective
import pyarrow as pa
import tornado.web
from helpers import ROOT
from perspective.handlers.tornado import PerspectiveTornadoHandler

sys.path.insert(0, str(ROOT))
from bridge import web  # noqa: E402

TICKERS = "AAPL.N AMZN.N QQQ.N NVDA.N TSLA.N FB.N MSFT.N TLT.N XIV.N YY.N CSCO.N GOOGL.N PCLN.N".split()
CLIENTS = "Homer Marge Bart Lisa Maggie Moe Lenny Carl Krusty".split()
LOCATIONS = "San Francisco,Los Angeles,San Diego,San Jose,Palo Alto,Campbell,Mountain View,Sunnyvale,Santa Clara,Cupertino"
LIMIT = 20_000
HOSTILE = "<img src=x onerror=alert(1)> \u202eevil\n\x07" + "long " * 2000


class Viewers:
    connected = 0

    def may_come_from(self, origin, host):
        return "evil" not in origin

    def knows_host(self, host):
        return "evil" not in host

    def health(self):
        return {"viewers": self.connected, "restarts": {}, "refused": {}, "busy": False}


class Handler(PerspectiveTornadoHandler):
    def open(self):
        Viewers.connected += 1
        super().open()

    def on_close(self):
        Viewers.connected -= 1
        super().on_close()


PRICES = {ticker: random.uniform(50, 450) for ticker in TICKERS}


def stocks(times):
    rows = []
    for now in times:
        ticker = random.choice(TICKERS)
        price = PRICES[ticker]
        PRICES[ticker] = max(1, price * (1 + random.gauss(0, 0.0007)))
        close = PRICES[ticker]
        rows.append(
            {
                "timestamp": now,
                "ticker": ticker,
                "client": random.choice(CLIENTS),
                "open": price,
                "high": max(price, close) * (1 + abs(random.gauss(0, 0.0004))),
                "low": min(price, close) * (1 - abs(random.gauss(0, 0.0004))),
                "close": close,
                "volume": random.randint(10_000, 100_000),
                "date": datetime.date.today(),
            }
        )
    return rows


STOCKS = pa.schema(
    [("timestamp", pa.timestamp("ms")), ("ticker", pa.string()), ("client", pa.string())]
    + [(name, pa.float32()) for name in ("open", "high", "low", "close")]
    + [("volume", pa.int64()), ("date", pa.date32())]
)


def meters(times):
    rows = []
    for now in times:
        group = random.randrange(10)
        phase = now / 60_000 + group / 3
        import math

        rows.append(
            {
                "ts": now,
                "current": 10 + 3 * math.sin(phase) + random.gauss(0, 0.5),
                "voltage": int(212 + 8 * math.sin(phase / 2 + group) + random.gauss(0, 2)),
                "phase": random.random(),
                "groupid": group,
                "location": LOCATIONS.split(",")[group],
            }
        )
    return rows


METERS = pa.schema(
    [("ts", pa.timestamp("ms")), ("current", pa.float32()), ("voltage", pa.int32()), ("phase", pa.float32())]
    + [("groupid", pa.int32()), ("location", pa.string())]
)


def own(times):
    return [
        {"tbname": f"d_{random.randrange(5)}", "when": now, "level": random.random(), "serial": 2**53 + 1, "note": HOSTILE}
        for now in times
    ]


OWN = pa.schema(
    [("tbname", pa.string()), ("when", pa.timestamp("ms")), ("level", pa.float64()), ("serial", pa.int64())]
    + [("note", pa.string())]
)


class Table:
    def __init__(self, client, title, rows, schema, time_column, dataset, supertable):
        self.client, self.title, self.make, self.schema = client, title, rows, schema
        self.time, self.dataset, self.supertable = time_column, dataset, supertable
        self.rows, self.hosted, self.more, self.newest = 0, None, {}, None

    def arrow(self, times):
        table = pa.Table.from_pylist(self.make(times), self.schema)
        out = io.BytesIO()
        with pa.ipc.new_stream(out, self.schema) as writer:
            writer.write_table(table)
        self.rows += len(times)
        self.newest = times[-1]
        return out.getvalue()

    def update(self, span_ms, count):
        now = int(time.time() * 1000)
        data = self.arrow([now - span_ms + span_ms * i // count for i in range(1, count + 1)])
        if self.hosted is None:
            self.hosted = self.client.table(data, limit=LIMIT, name=self.title)
        else:
            self.hosted.update(data)

    def health(self):
        schema = self.hosted.schema() if self.hosted else {}
        columns = {name: schema[name] for name in self.schema.names if name in schema}
        return {
            "status": "ok" if self.hosted else "waiting",
            "source": "poll",
            "table": f"db.{self.title}",
            "rows": self.rows,
            "held": min(self.rows, LIMIT),
            "rows_per_s": 1000.0,
            "newest": self.newest,
            "age_ms": self.newest and time.time() * 1000 - self.newest,
            "lag_ms": 5,
            "polls": 1,
            "failed_polls": 0,
            "reconnects": 0,
            "missed_rows": 0,
            "unshown_values": 0,
            "history": None,
            "error": None,
            "columns": columns,
            "time": self.time,
            "supertable": self.supertable,
            "dataset": self.dataset,
        } | self.more


async def main():
    server = perspective.Server()
    client = server.new_local_client()
    tables = [
        Table(client, "stock_values", stocks, STOCKS, "timestamp", "stocks", False),
        Table(client, "meters_values", meters, METERS, "ts", "meters", True),
        Table(client, "factory.<b>Machine</b> Log", own, OWN, "when", None, True),
    ]
    viewers = Viewers()
    app = tornado.web.Application(
        [(r"/websocket", Handler, {"perspective_server": server}), *web.routes(tables, viewers)], **web.SETTINGS
    )
    app.listen(int(sys.argv[1]), "127.0.0.1")
    print("listening", flush=True)
    for table in tables:
        table.update(60_000, 19_750)
    while True:
        for table in tables:
            table.update(250, 250)
        await asyncio.sleep(0.25)


if __name__ == "__main__":
    asyncio.run(main())
