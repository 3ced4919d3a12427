#!/usr/bin/env python3
"""Inserts random rows into ClickHouse every 250 ms, as Arrow, with clickhouse-connect.

    python producer.py [--dsn DSN] [--interval MS] [--rows N]

A batch is kept until ClickHouse has confirmed it. One that failed is looked for, and sent again under the same token
when it is not there: ClickHouse leaves out what it has already. So no row is lost, and none is stored twice.
"""

import pathlib
import secrets
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # the project's folder, where bridge/ is
from bridge import options

with options.needs("run ./run.sh once, then `source venv/bin/activate`", "sent 0 rows in 0 batches\n"):
    import numpy as np
    import pyarrow as pa

    from bridge.clock import batches
    from bridge.outbox import Outbox
    from clickhouse import making
    from clickhouse.client import connect

TICKERS = "AAPL.N AMZN.N QQQ.N NVDA.N TSLA.N FB.N MSFT.N TLT.N XIV.N YY.N CSCO.N GOOGL.N PCLN.N".split()
CLIENTS = "Homer Marge Bart Lisa Maggie Moe Lenny Carl Krusty".split()


class Stocks:
    """Trades: each column of a batch is made at once."""

    database, table = "stocks", "stock_values"
    columns = {"timestamp": "DateTime64(9, 'UTC')", "ticker": "String", "client": "String"}
    columns |= dict.fromkeys(["open", "high", "low", "close"], "Float64")
    columns |= {"volume": "UInt32", "date": "Date"}
    arrow = [pa.timestamp("ns"), pa.string(), pa.string(), *[pa.float64()] * 4, pa.uint32(), pa.date32()]
    schema = pa.schema(list(zip(columns, arrow, strict=True)))

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.usual = self.random.uniform(50, 350, len(TICKERS))  # the price that each ticker is drawn back to
        self.price = self.usual.copy()

    def gen_data(self, stamps):
        """Random trades as columns, one for each timestamp (ns); every ticker's price is a random walk."""
        rows = len(stamps)
        ticker, client = (self.random.integers(len(names), size=rows) for names in (TICKERS, CLIENTS))
        moves, opening, closing = self.random.normal(0, 0.0008, rows), np.empty(rows), np.empty(rows)
        for k in np.unique(ticker):
            of_ticker = np.flatnonzero(ticker == k)
            pull = 0.02 * np.log(self.usual[k] / self.price[k]) / len(of_ticker)
            walk = self.price[k] * np.exp(np.cumsum(np.insert(moves[of_ticker] + pull, 0, 0)))
            opening[of_ticker], closing[of_ticker], self.price[k] = walk[:-1], walk[1:], walk[-1]
        spread = self.random.uniform(0, 0.001, (2, rows))
        values = [opening, np.maximum(opening, closing) * (1 + spread[0])]
        values += [np.minimum(opening, closing) * (1 - spread[1]), closing, self.random.integers(10_000, 100_001, rows)]
        names = [np.array(TICKERS)[ticker], np.array(CLIENTS)[client]]
        dates = [stamp // (86_400 * 10**9) for stamp in stamps]  # days since 1970
        columns = [list(stamps), *(each.tolist() for each in (*names, *values)), dates]
        return dict(zip(self.columns, columns, strict=True))


DATASETS = {"stocks": Stocks}


def insert_data(target, data):
    """Stores a batch as a whole. The same batch again, sent because of a failure, is stored once, too."""
    rows = pa.table([pa.array(data[field.name], field.type) for field in Stocks.schema], Stocks.schema)
    for token in target.tokens(data):  # one; none if the batch is found after a failure
        settings = {"async_insert": 0, "insert_deduplicate": 1, "insert_deduplication_token": token}
        target.client.insert_arrow(target.table, rows, target.database, settings)


def create_clickhouse_connection(dsn, database, producer):
    """(the table to insert into, with its connection; its timestamp units per second). Makes what is missing."""
    target = making.Target(connect(dsn), database, Stocks.table, Stocks.columns, producer)
    return target, target.units_per_s


def main():
    args = options.producer(__doc__, DATASETS, options.CLICKHOUSE)
    dataset = DATASETS[args.dataset](args.seed)
    arguments = (args.dsn, args.database, secrets.token_hex(8))
    with Outbox(create_clickhouse_connection, arguments, insert_data, **making.outbox_options(args)) as outbox:
        for stamps in batches(outbox, args):  # at full intervals of the clock, until SIGINT or SIGTERM
            outbox.put(dataset.gen_data(stamps))  # kept until ClickHouse has confirmed it
    return outbox.result()


if __name__ == "__main__":
    sys.exit(main())
