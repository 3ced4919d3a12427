#!/usr/bin/env python3
"""How soon all viewers that connect at once have their first rows, at 1,000 rows/s.

python benchmarks/rush.py [--viewers N]
"""

import load
import measure

BOUND_S = 10


def main():
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--viewers", type=measure.number(1, 5000), default=500, metavar="N", help="default: 500")
    args = parser.parse_args()
    with measure.chain() as (chain, name):
        measure.start(chain, viewers=args.viewers)
        with load.Load(chain.port) as viewing:
            viewing.measure(0, 0)  # it has started
            opened_s = viewing.measure(args.viewers, 0)["opened_s"]
    measure.row(
        f"{args.viewers} viewers that connect at once",
        name,
        f"all served within {opened_s:.1f} s",
        f"{BOUND_S} s",
        opened_s < BOUND_S,
    )


if __name__ == "__main__":
    measure.run(main)
