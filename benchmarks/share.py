#!/usr/bin/env python3
"""The server's share of one core at 1,000 rows/s, its processes together: without a viewer, and with 20 grouped ones.

python benchmarks/share.py [--viewers N]... [--limit N] [--seconds S]
"""

import time

import load
import measure

BOUNDS = {0: 1.5, 20: 4}  # viewers: % of a core, at the default limit
ASKED_S = 3  # after /healthz was asked for, the server takes it that somebody looks


def measure_share(chain, viewers, limit, seconds):
    _, server = measure.start(chain, viewers=viewers, limit=limit)
    with load.Load(chain.port) as viewing:
        viewing.measure(viewers, 1)
        time.sleep(0 if viewers else ASKED_S)
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
    add("--limit", type=measure.number(100, 10**7), metavar="N", help="default: 20000, and 1000 with viewers")
    args = parser.parse_args()
    for viewers in args.viewers or BOUNDS:
        default = 1000 if viewers else 20_000
        limit = args.limit or default
        with measure.chain() as (chain, name):
            share = measure_share(chain, viewers, limit, args.seconds)
        bound = BOUNDS.get(viewers) if limit == default else None
        measure.row(
            f"server, {f'{viewers} grouped viewers' if viewers else 'no viewer'}, limit {limit:,}",
            name,
            f"{share:.1%} of a core",
            f"{bound} %" if bound else "",
            share <= bound / 100 if bound else None,
        )


if __name__ == "__main__":
    measure.run(main)
