#!/usr/bin/env python3
"""The server's share of one core at 1,000 rows/s, its processes together: without a viewer, and with 20 grouped ones.

python benchmarks/share.py [--viewers N]... [--limit N] [--seconds S]
"""

import time

import load
import measure

BOUNDS = {0: 1.5, 20: 4}  # viewers: % of a core, at a limit of 1,000


def measure_share(chain, viewers, limit, seconds):
    _, server = measure.start(chain, viewers=viewers, limit=limit)
    with load.Load(chain.port) as viewing:
        viewing.measure(viewers, 1)
        with measure.share(server.pid) as share:
            if viewers:
                viewing.measure(viewers, seconds)
            else:
                time.sleep(seconds)
    return share()


def main():
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--viewers", type=measure.number(0, 5000), action="append", metavar="N", help="default: 0 and 20")
    add("--limit", type=measure.number(100, 10**7), default=1000, metavar="N", help="default: 1000")
    args = parser.parse_args()
    for viewers in args.viewers or BOUNDS:
        with measure.chain() as (chain, name):
            share = measure_share(chain, viewers, args.limit, args.seconds)
        bound = BOUNDS.get(viewers) if args.limit == 1000 else None
        measure.row(
            f"server, {f'{viewers} grouped viewers' if viewers else 'no viewer'}, limit {args.limit:,}",
            name,
            f"{share:.1%} of a core",
            f"{bound} %" if bound else "",
            share <= bound / 100 if bound else None,
        )


if __name__ == "__main__":
    measure.run(main)
