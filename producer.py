#!/usr/bin/env python3
"""Inserts random rows into TDengine every 250 ms, through a prepared statement of taosws.

    python producer.py [--dataset stocks|meters] [--dsn DSN] [--interval MS] [--rows N]

A batch is kept until TDengine has confirmed it, and sent again with the same timestamps when that fails: stored once.
"""

import math
import random
import sys

from bridge import options

with options.needs(last_line="sent 0 rows in 0 batches\n"):
    import taosws

    from bridge import making
    from bridge.clock import batches
    from bridge.outbox import Outbox

TICKERS = "AAPL.N AMZN.N QQQ.N NVDA.N TSLA.N FB.N MSFT.N TLT.N XIV.N YY.N CSCO.N GOOGL.N PCLN.N".split()
CLIENTS = "Homer Marge Bart Lisa Maggie Moe Lenny Carl Krusty".split()
LOCATIONS = ["San Francisco", "Los Angeles", "San Diego", "San Jose", "Palo Alto"]
LOCATIONS += ["Campbell", "Mountain View", "Sunnyvale", "Santa Clara", "Cupertino"]
DAY_NS = 86_400 * 10**9
MOVE = 0.004  # of a price in one second, one standard deviation
TO_COLUMN = {  # of timestamps in ns, by the database's units per second
    10**3: lambda stamps: taosws.millis_timestamps_to_column([stamp // 10**6 for stamp in stamps]),
    10**6: lambda stamps: taosws.micros_timestamps_to_column([stamp // 10**3 for stamp in stamps]),
    10**9: taosws.nanos_timestamps_to_column,
}


class Stocks:
    """Trades, in a plain table."""

    database, table = "stocks", "stocks_values"
    columns = {"timestamp": "TIMESTAMP", "ticker": "NCHAR(10)", "client": "NCHAR(10)"}
    columns |= dict.fromkeys(["open", "high", "low", "close"], "FLOAT")
    columns |= {"volume": "INT UNSIGNED", "date": "TIMESTAMP"}
    tags = {}

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.usual = {ticker: self.random.uniform(50, 350) for ticker in TICKERS}  # what a price wanders around
        self.price = dict(self.usual)

    def gen_data(self, stamps):
        """Random trades as columns, one for each timestamp (ns); every ticker's price is a random walk."""
        rows = len(stamps)
        step = (stamps[-1] - stamps[0] + 10**6) / 1e9 * len(TICKERS) / rows  # seconds between two trades of a ticker
        tickers, prices = self.random.choices(TICKERS, k=rows), []
        for ticker in tickers:
            opening, back = self.price[ticker], math.log(self.usual[ticker] / self.price[ticker])
            closing = opening * math.exp(0.01 * step * back + self.random.gauss(0, MOVE * step**0.5))
            spread = opening * 0.3 * MOVE * self.random.random()
            prices.append((opening, max(opening, closing) + spread, min(opening, closing) - spread, closing))
            self.price[ticker] = closing
        return {
            "timestamp": list(stamps),
            "ticker": tickers,
            "client": self.random.choices(CLIENTS, k=rows),
            **dict(zip(("open", "high", "low", "close"), map(list, zip(*prices, strict=True)), strict=True)),
            "volume": [self.random.randint(10_000, 100_000) for _ in range(rows)],
            "date": [stamp // DAY_NS * DAY_NS for stamp in stamps],
        }

    @staticmethod
    def insert_data(handle, data):
        """Binds a batch and executes it. The same batch again overwrites itself: sent twice, stored once."""
        _, statement, to_column = handle
        columns = [
            to_column(data["timestamp"]),
            *(taosws.nchar_to_column(data[name]) for name in ("ticker", "client")),
            *(taosws.floats_to_column(data[name]) for name in ("open", "high", "low", "close")),
            taosws.unsigned_ints_to_column(data["volume"]),
            to_column(data["date"]),
        ]
        statement.bind([taosws.stmt2_bind_param_view(table_name="", tags=None, columns=columns)])
        statement.execute()


class Meters:
    """Readings of smart meters, in a supertable with one subtable a meter."""

    database, table = "power", "meters"
    columns = {"ts": "TIMESTAMP", "current": "FLOAT", "voltage": "INT", "phase": "FLOAT"}
    tags = {"groupid": "INT", "location": "BINARY(16)"}

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.usual = [[self.random.uniform(*span) for span in ((5, 15), (205, 220), (0.1, 0.5))] for _ in LOCATIONS]
        self.level = [list(values) for values in self.usual]  # of current, voltage and phase, by meter

    def gen_data(self, stamps):
        """Random readings as columns, one for each timestamp (ns); the meters take turns, each value wanders."""
        meters, readings = [k % len(LOCATIONS) for k in range(len(stamps))], []
        for meter in meters:
            for k, step in enumerate((0.05, 0.15, 0.002)):
                back = 0.01 * (self.usual[meter][k] - self.level[meter][k])
                self.level[meter][k] += self.random.gauss(back, step)
            current, voltage, phase = self.level[meter]
            readings.append((max(current, 0.0), min(max(round(voltage), 200), 225), max(phase, 0.0)))
        current, voltage, phase = map(list, zip(*readings, strict=True))
        return {"ts": list(stamps), "meter": meters, "current": current, "voltage": voltage, "phase": phase}

    @staticmethod
    def insert_data(handle, data):
        """Binds a batch, each meter's rows under its subtable's name and tags, and executes it."""
        _, statement, to_column = handle
        views = []
        for meter in sorted(set(data["meter"])):
            ts, current, voltage, phase = (
                [value for value, of in zip(data[name], data["meter"], strict=True) if of == meter]
                for name in Meters.columns
            )
            columns = [to_column(ts), taosws.floats_to_column(current), taosws.ints_to_column(voltage)]
            columns.append(taosws.floats_to_column(phase))
            tags = [taosws.int_to_tag(meter), taosws.varchar_to_tag(LOCATIONS[meter])]
            views.append(taosws.stmt2_bind_param_view(table_name=f"d_{meter}", tags=tags, columns=columns))
        statement.bind(views)
        statement.execute()


DATASETS = {"stocks": Stocks, "meters": Meters}


def create_tdengine_connection(dsn, dataset, database, database_options):
    """((connection, the INSERT prepared on it, how timestamps are bound), the database's timestamp units per second).

    Makes database and table when they are missing. The statement lives and dies with its connection and its table.
    """
    connection = taosws.connect(dsn)
    units_per_s = making.make_database(connection, database, database_options)
    making.make_table(connection, database, dataset.table, dataset.columns, dataset.tags)
    connection.execute(f"USE `{database}`")
    columns, tags = (", ".join(f"`{name}`" for name in names) for names in (dataset.columns, dataset.tags))
    target = f"? USING `{dataset.table}` ({tags}) TAGS (?, ?)" if tags else f"`{dataset.table}`"
    statement = connection.stmt2_statement()  # TaosStmt2 reports a lost connection, TaosStmt waits for ever
    statement.prepare(f"INSERT INTO {target} ({columns}) VALUES ({', '.join('?' * len(dataset.columns))})")
    return (connection, statement, TO_COLUMN[units_per_s]), units_per_s


def main():
    args = options.producer(__doc__, DATASETS)
    dataset = DATASETS[args.dataset](args.seed)
    arguments = (args.dsn.url, DATASETS[args.dataset], args.database, args.database_options)
    with Outbox(create_tdengine_connection, arguments, dataset.insert_data, **making.outbox_options(args)) as outbox:
        for stamps in batches(outbox, args):  # at full intervals of the clock, until SIGINT or SIGTERM
            outbox.put(dataset.gen_data(stamps))  # kept until TDengine has confirmed it
    return outbox.result()


if __name__ == "__main__":
    sys.exit(main())
