#!/usr/bin/env python3
"""The newest row's age when it reaches a viewer, and the server's share of a core: at 250 ms (the default) and at 50.

    python benchmarks/age.py [--interval MS]... [--dsn DSN] [--seconds S]

Age: the clock at arrival less the row's timestamp, at one viewer that is sent row deltas, at 1,000 rows/s. The interval
is the server's, with the producer at its default pace; a shorter one is measured again with the producer at it, too.
"""

import measure

BOUNDS = {250: (120, None), 50: (40, 6)}  # interval in ms: age in ms, server's % of a core
DEFAULT = 250  # the producer's interval in ms


def measure_age(chain, interval, beat, seconds, rows_per_s=1000):
    """(ages in ms, server's share of a core) with one viewer; `beat` is the producer's interval."""
    chain.producer("--interval", beat, "--rows", max(rows_per_s * beat // 1000, 1))
    server = chain.server("--interval", interval, "--limit", max(1000, 2 * rows_per_s))
    chain.wait_for_rows(max(1000, 2 * rows_per_s))
    return measure.ages_and_share(chain, server, seconds)


def main():
    parser = measure.parser(__doc__)
    parser.add_argument(
        "--interval", type=measure.number(10, 60_000), action="append", metavar="MS", help="default: 250 and 50"
    )
    args = parser.parse_args()
    intervals = args.interval or BOUNDS
    runs = [(each, beat) for each in intervals for beat in dict.fromkeys((DEFAULT, min(each, DEFAULT)))]
    for k, (interval, beat) in enumerate(runs):
        with measure.Chain(args.dsn) as chain:
            if not k:
                measure.tell_where(chain)
            ages, share = measure_age(chain, interval, beat, args.seconds)
        age, share_bound = BOUNDS.get(interval, (None, None))
        middle = measure.percentile(ages, 50)
        bound = f"under {age} ms" if age else ""
        bound += f", server under {share_bound} %" if share_bound else ""
        met = age and middle < age and (not share_bound or share < share_bound / 100)
        measure.tell(
            f"newest row's age on arrival, median, --interval {interval}"
            + (f", the producer's too, {1000 // beat} times a second" if beat < DEFAULT else ""),
            f"{middle:.0f} ms (99 %: {measure.percentile(ages, 99):.0f} ms), server {share:.1%} of a core",
            bound,
            met,
        )


if __name__ == "__main__":
    measure.run(main)
