#!/usr/bin/env python3
"""Poll and subscribe side by side: the newest row's age at a viewer, the server's share of a core, a flood of rows.

    python benchmarks/source.py [--source poll|subscribe]... [--dsn DSN] [--seconds S]

Age: the clock at arrival less the row's timestamp, at the producer's default pace with one viewer that is sent row
deltas. The share is that of the server with its processes. Flood: 10,000 rows/s, rows shown of those that were sent.
"""

import measure

AGE_MS = {"stand-in": 25, "TDengine": 15}  # bounds of subscribe
FLOOD = 10_000  # rows/s


def measure_age(chain, source, seconds):
    """(ages in ms, server's share of a core) at the default pace."""
    chain.producer()
    server = chain.server("--source", source)
    chain.wait_for_rows(2000)
    return measure.ages_and_share(chain, server, seconds)


def measure_flood(chain, source, seconds):
    """(rows sent, rows shown), one viewer watching."""
    batches = max(round(4 * seconds), 4)
    # of the limit so much that no poll has to leave rows out, also on a busy machine
    chain.server("--source", source, "--limit", 10 * FLOOD)
    producer = chain.producer("--rows", FLOOD // 4, "--batches", batches)
    chain.wait_for_rows(FLOOD // 4)
    chain.load("local").measure(1, 0.5)
    if producer.wait(seconds + 30):
        raise measure.Unmeasured((producer.stderr().strip().splitlines() or ["the producer failed"])[-1])
    sent = batches * (FLOOD // 4)
    chain.wait_for_rows(sent)
    return sent, chain.health()["rows"]


def main():
    parser = measure.parser(__doc__)
    sources = ["poll", "subscribe"]
    parser.add_argument("--source", choices=sources, action="append", help="default: both, one after the other")
    args = parser.parse_args()
    shares = {}
    for k, source in enumerate(args.source or sources):
        with measure.Chain(args.dsn) as chain:
            if not k:
                measure.tell_where(chain)
            ages, shares[source] = measure_age(chain, source, args.seconds)
            limit_ms = AGE_MS["stand-in" if chain.stand_in() else "TDengine"]
        middle, bound, met = measure.percentile(ages, 50), "", None
        if source == "subscribe":
            bound, met = f"under {limit_ms} ms", middle < limit_ms
            if "poll" in shares:
                bound += ", server no more than with poll"
                # processor time is told in ticks, of which each of its three processes may have one more or less
                ticks = 3 / measure.TICKS_PER_S / args.seconds
                met = met and shares["subscribe"] <= shares["poll"] + ticks
        measure.tell(
            f"newest row's age on arrival, median, --source {source}",
            f"{middle:.0f} ms (99 %: {measure.percentile(ages, 99):.0f} ms), server {shares[source]:.1%} of a core",
            bound,
            met,
        )
        with measure.Chain(args.dsn) as chain:
            sent, shown = measure_flood(chain, source, args.seconds)
        measure.tell(
            f"{FLOOD:,} rows/s, --source {source}", f"{shown:,} of {sent:,} rows shown", "all of them", shown == sent
        )


if __name__ == "__main__":
    measure.run(main)
