#!/usr/bin/env python3
"""How many rows a second `producer.py --interval 0 --rows 5000` gets stored, and whether its memory stays flat.

    python benchmarks/producer_speed.py [--rows N] [--dsn DSN]

Ends after 10 million rows, or after 90 seconds. What counts is what COUNT(*) finds afterwards; the time is that of the
whole run less that of a run of one batch (start of Python, connecting, making the table).
"""

import signal
import time

import measure

ROWS_A_BATCH = 5000
LONGEST_S = 90
FLAT = 1.1  # memory at the end, over that after a fifth of the rows


def measure_speed(chain, rows, rows_a_batch=ROWS_A_BATCH, longest_s=LONGEST_S):
    """(rows/s stored, rows stored, [MB] over the run)."""

    def run(batches):
        """(seconds, MB again and again) of a producer that sends so many batches."""
        args = ["--interval", 0, "--rows", rows_a_batch, "--batches", batches, "--backlog", 10 * rows_a_batch]
        started, memory = time.monotonic(), []
        producer = chain.producer(*args)
        while producer.alive() and time.monotonic() - started < longest_s:
            time.sleep(0.02 if batches == 1 else 0.25)
            memory.append(measure.memory_mb(producer.pid))
        if producer.alive():
            producer.signal(signal.SIGTERM)
        status = producer.wait(10)
        if status:
            raise measure.Unmeasured(f"the producer ended with {status}: {producer.stderr().strip()}")
        return time.monotonic() - started, [mb for mb in memory if mb]

    start_s, _ = run(1)
    seconds, memory = run(max(rows // rows_a_batch, 2))
    stored = chain.count()
    return (stored - rows_a_batch) / max(seconds - start_s, 0.01), stored, memory


def main():
    parser = measure.parser(__doc__)
    parser.add_argument(
        "--rows", type=measure.number(5000, 10**8), default=10**7, metavar="N", help="default: 10000000"
    )
    args = parser.parse_args()
    with measure.Chain(args.dsn) as chain:
        measure.tell_where(chain)
        pace, stored, memory = measure_speed(chain, args.rows)
        real = not chain.stand_in()
    measure.tell(
        f"producer --interval 0 --rows {ROWS_A_BATCH}, stored",
        f"{pace:,.0f} rows/s" + ("" if real else " (stand-in on the same cores)"),
        "at least 300,000 rows/s against a real server",
        pace >= 300_000 if real else None,
    )
    early, end = memory[len(memory) // 5], memory[-1]
    measure.tell(
        f"... its memory over {stored:,} rows",
        f"{early:.0f} MB after a fifth, {max(memory):.0f} MB at most, {end:.0f} MB at the end",
        "flat over 10 million rows",
        end < FLAT * early,
    )


if __name__ == "__main__":
    measure.run(main)
