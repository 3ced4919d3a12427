#!/usr/bin/env python3
"""The server's share of one core at 1,000 rows/s, its reader included: without a viewer, and with 20 grouped ones.

    python benchmarks/server_share.py [--viewers N]... [--rows-per-s N] [--dsn DSN] [--seconds S]

Each viewer reads its view, grouped by ticker and client, again on every update.
"""

import measure

BOUNDS = {0: 2, 20: 12}  # viewers: % of a core


def measure_share(chain, viewers, rows_per_s, seconds):
    """Shares of a core (server, producer, database, load), and rows/s shown."""
    rows = max(rows_per_s // 4, 1)
    producer = chain.producer("--rows", rows)
    limit = max(1000, 2 * rows_per_s) if rows_per_s != 1000 else 1000  # a poll must not leave rows out
    server = chain.server("--limit", limit)
    chain.wait_for_rows(limit)
    pids = {"server": server.pid, "producer": producer.pid}
    if chain.database_process:
        pids["database"] = chain.database_process.pid
    load = chain.load()
    if viewers:
        load.measure(viewers, 0.5)
    before = chain.health()["rows"]
    window = measure.Window(**pids)
    seen = load.measure(viewers, seconds)
    shares = window.shares() | {"load": seen["share"]}
    return shares, (chain.health()["rows"] - before) / window.passed_s


def main():
    parser = measure.parser(__doc__)
    parser.add_argument(
        "--viewers", type=measure.number(0, 500), action="append", metavar="N", help="default: 0 and 20"
    )
    parser.add_argument("--rows-per-s", type=measure.number(4, 10**6), default=1000, metavar="N", help="default: 1000")
    args = parser.parse_args()
    for k, viewers in enumerate(args.viewers or BOUNDS):
        with measure.Chain(args.dsn) as chain:
            if not k:
                measure.tell_where(chain)
            shares, shown = measure_share(chain, viewers, args.rows_per_s, args.seconds)
        who = f"{viewers} grouped viewers" if viewers else "no viewer"
        bound = BOUNDS.get(viewers) if args.rows_per_s == 1000 else None
        measure.tell(
            f"server with its reader, {who}, {args.rows_per_s:,} rows/s",
            f"{shares['server']:.1%} of a core ({shown:,.0f} rows/s shown)",
            f"at most {bound} %" if bound else "",
            shares["server"] <= bound / 100 if bound else None,
        )


if __name__ == "__main__":
    measure.run(main)
