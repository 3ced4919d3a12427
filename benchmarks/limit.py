#!/usr/bin/env python3
"""What `--limit 1000000` costs once it is filled: the server's memory, and an update of 250 rows.

    python benchmarks/limit.py [--limit N]... [--dsn DSN] [--seconds S]

Memory is that of a server with its reader, filled by a producer. The update is timed in a server's own code, with the
same rows, in a process of its own: without a view, and with a page's view grouped by ticker and client.
"""

import json
import time

import measure

ROWS_PER_S = 40_000
FILLS_S = 90  # bound of the filling
UPDATES = """
import json, sys, time
sys.path.insert(0, ".")
import perspective
import numpy as np
import perspective_server, producer
limit, seconds = int(sys.argv[1]), float(sys.argv[2])
server = perspective.Server()
client = server.new_local_client()
feed = perspective_server.Feed(perspective_server.DATASETS["stocks"], "stocks", None, client, None, limit)
feed.units_per_ms = 10**6
stocks = producer.Stocks()

def columns(rows):
    # what the reader hands over: newest first
    made, now = stocks.make(rows), time.time_ns()
    return [
        (now - np.arange(rows) * 1000).tolist(),
        [producer.TICKERS[k] for k in made["ticker"].tolist()],
        [producer.CLIENTS[k] for k in made["client"].tolist()],
        *(made[name].tolist() for name in ("open", "high", "low", "close", "volume")),
        [now // (86400 * 10**9) * 86400 * 10**9] * rows,
    ]

def updates():
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        new = columns(250)
        started = time.perf_counter()
        feed.update(new, list(range(249, -1, -1)))
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[len(times) // 2]

left = limit
while left > 0:
    rows = min(left, 50_000)
    feed.update(columns(rows), list(range(rows - 1, -1, -1)))
    left -= rows
without = updates()
view = feed.table.view(group_by=["ticker", "client"])
view.on_update(lambda *_: None)
print(json.dumps([feed.table.size(), without, updates()]))
"""


def measure_update(chain, limit, seconds):
    """(ms without a view, ms with a grouped view): medians of an update of 250 rows in a full table."""
    updates = chain.start("updates", "-c", UPDATES, limit, seconds)
    if updates.wait(100):
        raise measure.Unmeasured(updates.stderr().strip().splitlines()[-1])
    size, without, grouped = json.loads(updates.stdout().splitlines()[-1])
    if size != limit:
        raise measure.Unmeasured(f"the table holds {size:,} rows")
    return without, grouped


def measure_memory(chain, limit):
    """MB of a server with its reader, its table of `limit` rows filled, and how long filling took."""
    pace = min(ROWS_PER_S, max(1000, limit))
    chain.producer("--rows", pace // 4)
    server = chain.server("--limit", limit)
    started = time.monotonic()
    chain.wait_for_rows(limit, FILLS_S)
    passed = time.monotonic() - started
    time.sleep(1)  # a few more updates of the ring
    mb = measure.memory_mb(server.pid)
    for process in chain.processes:
        if process is not chain.database_process:
            process.stop()
    return mb, passed


def main():
    parser = measure.parser(__doc__, seconds=4)
    parser.add_argument(
        "--limit", type=measure.number(1000, 10**7), action="append", metavar="N", help="default: 1000000"
    )
    args = parser.parse_args()
    for k, limit in enumerate(args.limit or [10**6]):
        with measure.Chain(args.dsn) as chain:
            if not k:
                measure.tell_where(chain)
            mb, passed = measure_memory(chain, limit)
            without, grouped = measure_update(chain, limit, args.seconds)
        measure.tell(
            f"server's memory, --limit {limit:,} filled",
            f"{mb:,.0f} MB (after {passed:.0f} s)",
            "under 1 GB",
            mb < 1000,
        )
        measure.tell(
            f"update of 250 rows, --limit {limit:,} filled",
            f"{without:.1f} ms, with a grouped view {grouped:.1f} ms",
            "under 10 ms",
            grouped < 10,
        )


if __name__ == "__main__":
    measure.run(main)
