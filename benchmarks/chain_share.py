#!/usr/bin/env python3
"""Database, producer and server together at the default pace with one viewer: their share of one core.

    python benchmarks/chain_share.py [--dsn DSN] [--seconds S]

With a DSN the database is somewhere else and does not count.
"""

import measure
from server_share import measure_share


def main():
    parser = measure.parser(__doc__)
    args = parser.parse_args()
    with measure.Chain(args.dsn) as chain:
        measure.tell_where(chain)
        shares, _ = measure_share(chain, 1, 1000, args.seconds)
    parts = {"database": "stand-in", "producer": "producer", "server": "server"}
    counted = {name: shares[part] for part, name in parts.items() if part in shares}
    total = sum(counted.values())
    measure.tell(
        f"{', '.join(counted)} together, default pace, one viewer",
        f"{total:.1%} of a core (" + ", ".join(f"{name} {share:.1%}" for name, share in counted.items()) + ")",
        "under half a core",
        total < 0.5,
    )


if __name__ == "__main__":
    measure.run(main)
