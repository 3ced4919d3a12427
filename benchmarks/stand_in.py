#!/usr/bin/env python3
"""What the database takes and how soon it answers a poll: the stand-in's own measure, and any TDengine's with a DSN.

    python benchmarks/stand_in.py [--batches N] [--dsn DSN] [--seconds S]

Rows taken: batches of 5,000 rows that were made beforehand, bound and executed one after the other by one client.
Poll: the newest 1,000 rows of the last second as the server reads them, fetched to Python, while a producer sends on.
"""

import json

import measure

ROWS_A_BATCH = 5000
# taosws can hang, so it runs in a process of its own
SENDS = """
import json, os, sys, time, taosws
sys.path.insert(0, ".")
import numpy as np
import producer
database, rows, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dsn = os.environ["TDENGINE_DSN"]
connection, statement, units_per_s = producer.open_statement(dsn, producer.Stocks, database, False)
columns, first = producer.Stocks(), time.time_ns() - batches * rows * 1000
views = [
    producer.Stocks.bind(
        first + (k * rows + np.arange(rows)) * 1000, columns.make(rows), taosws.nanos_timestamps_to_column, units_per_s
    )
    for k in range(batches)
]
started = time.perf_counter()
for view in views:
    statement.bind(view)
    statement.execute()
print(json.dumps(time.perf_counter() - started))
"""
POLLS = """
import json, os, sys, time, taosws
database, seconds = sys.argv[1], float(sys.argv[2])
sql = (
    "SELECT CAST(`timestamp` AS BIGINT), ticker, client, open, high, low, close, volume, CAST(`date` AS BIGINT) "
    f"FROM {database}.stocks_values WHERE `timestamp` >= NOW() - 1250a ORDER BY `timestamp` DESC LIMIT 1000"
)
connection = taosws.connect(os.environ["TDENGINE_DSN"])
times, end = [], time.perf_counter() + seconds
while time.perf_counter() < end:
    started = time.perf_counter()
    rows = len(list(connection.query(sql)))
    if rows == 1000:
        times.append((time.perf_counter() - started) * 1000)
    time.sleep(0.05)
print(json.dumps(times))
"""


def measure_database(chain, batches, seconds):
    """(rows/s taken, [ms of a poll])."""
    sends = chain.start("sends", "-c", SENDS, chain.database, ROWS_A_BATCH, batches)
    taken_s = json.loads(finished(sends))
    stored = chain.count()
    if stored != batches * ROWS_A_BATCH:
        raise measure.Unmeasured(f"{batches * ROWS_A_BATCH} rows sent, {stored} stored")
    producer = chain.producer()
    polls = chain.start("polls", "-c", POLLS, chain.database, seconds + 2)
    times = json.loads(finished(polls))
    producer.stop()
    if not times:
        raise measure.Unmeasured("no poll found 1,000 rows")
    return stored / taken_s, times


def finished(process):
    """Its last line, once it has ended well."""
    if process.wait(110):
        raise measure.Unmeasured(process.stderr().strip().splitlines()[-1])
    return process.stdout().splitlines()[-1]


def main():
    parser = measure.parser(__doc__, seconds=10)
    parser.add_argument("--batches", type=measure.number(1, 1000), default=100, metavar="N", help="default: 100")
    args = parser.parse_args()
    with measure.Chain(args.dsn) as chain:
        measure.tell_where(chain)
        taken, times = measure_database(chain, args.batches, args.seconds)
    name = "stand-in" if chain.stand_in() else "TDengine"
    measure.tell(f"{name}: rows taken", f"{taken:,.0f} rows/s", "at least 100,000 rows/s", taken >= 100_000)
    middle = measure.percentile(times, 50)
    measure.tell(
        f"{name}: poll of 1,000 rows, median",
        f"{middle:.1f} ms (99 %: {measure.percentile(times, 99):.1f} ms)",
        "under 10 ms",
        middle < 10,
    )


if __name__ == "__main__":
    measure.run(main)
