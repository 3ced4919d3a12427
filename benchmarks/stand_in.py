#!/usr/bin/env python3
"""What the database takes, and how soon it answers a poll: the stand-in, or the TDengine that TDENGINE_DSN names.

    python benchmarks/stand_in.py [--rows N] [--seconds S]

Rows of one client, made beforehand, in batches of 5,000 by prepared statement, and of 1,000 by literal INSERT. Polls:
the newest 1,000 rows of the last second as Python values, while a producer sends on.
"""

import random
import time

import measure
import taosws

import producer

PREPARED, LITERAL = 5000, 1000  # rows a batch
POLLED = 1000  # rows
BOUNDS = {"prepared": 300_000, "literal": 10_000, "poll": 10}  # rows/s, rows/s, ms
CALLS_S = 300  # bound of all calls of a measurement
SELECT = """SELECT CAST(`timestamp` AS BIGINT), `ticker`, `client`, `open`, `high`, `low`, `close`, `volume`,
CAST(`date` AS BIGINT) FROM `{}`.`stocks_values` WHERE `timestamp` >= NOW() - 2s ORDER BY `timestamp` DESC LIMIT 1000"""


def insert_prepared(dsn, database, rows):
    """Rows taken a second."""
    handle, _ = producer.create_tdengine_connection(dsn, producer.Stocks, database, "")
    stocks, first = producer.Stocks(1), time.time_ns() - rows * 1000
    data = [
        stocks.gen_data(range(first + at * 1000, first + (at + PREPARED) * 1000, 1000))
        for at in range(0, rows, PREPARED)
    ]
    started = time.perf_counter()
    for batch in data:
        stocks.insert_data(handle, batch)
    return rows / (time.perf_counter() - started)


def insert_literal(dsn, database, rows):
    """Rows taken a second."""
    connection, first = taosws.connect(dsn), time.time_ns() - rows * 1000
    values = [
        f"({first + at * 1000}, 'AAPL.N', 'Homer', {random.uniform(1, 500):.2f}, 2.5, 1.5, 2, 10000, {first})"
        for at in range(rows)
    ]
    texts = [", ".join(values[at : at + LITERAL]) for at in range(0, rows, LITERAL)]
    started = time.perf_counter()
    for text in texts:
        connection.execute(f"INSERT INTO `{database}`.`stocks_values` VALUES {text}")
    return rows / (time.perf_counter() - started)


def poll(dsn, database, seconds):
    """[ms] of polls that found 1,000 rows."""
    connection, times, end = taosws.connect(dsn), [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        if len(list(connection.query(SELECT.format(database)))) == POLLED:
            times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.05)
    return times


def main():
    parser = measure.parser(__doc__, seconds=10)
    add = parser.add_argument
    add("--rows", type=measure.number(PREPARED, 10**7), default=500_000, metavar="N", help="default: 500000")
    args = parser.parse_args()
    rows = args.rows // PREPARED * PREPARED
    with measure.chain() as (chain, name):
        where = (chain.dsn, chain.database.name)
        prepared = measure.in_child(insert_prepared, *where, rows, timeout=CALLS_S)
        literal = measure.in_child(insert_literal, *where, max(rows // 10, LITERAL), timeout=CALLS_S)
        chain.producer()
        times = measure.in_child(poll, *where, args.seconds + 3, timeout=CALLS_S + args.seconds)
    if not times:
        raise measure.Unmeasured(f"no poll found {POLLED:,} rows")
    for kind, pace in (("prepared", prepared), ("literal", literal)):
        what = {"prepared": "prepared statement", "literal": "literal INSERT"}[kind]
        bound = BOUNDS[kind]
        measure.row(f"rows taken by {what}", name, f"{pace:,.0f} a second", f"{bound:,}", pace >= bound)
    median = measure.percentile(times, 50)
    figure = f"{median:.1f} ms (99 %: {measure.percentile(times, 99):.1f} ms)"
    measure.row(f"poll of {POLLED:,} rows, median", name, figure, f"{BOUNDS['poll']} ms", median < BOUNDS["poll"])


if __name__ == "__main__":
    measure.run(main)
