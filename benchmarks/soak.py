#!/usr/bin/env python3
"""`./run.sh` at 1,000 rows/s with a page open: whether the memory of every part stays flat after the first third.

    python benchmarks/soak.py [--minutes M]

Growth: the median of the last fifth of the samples over that of the fifth after the first third (of 15 minutes: the
first five).
"""

import os
import statistics
import sys
import time

import measure
import page
from browser import chromium
from chain import workers

SAMPLES = 60
BOUND = 5  # %


def parts(demo):
    """{part: process ids} of the running demo."""
    server = demo.pid("perspective_server.py")
    reader = workers(server, "spawn_main")
    found = {
        "run.sh": [demo.pid("bridge.launch")],
        "producer": measure.family(demo.pid("producer.py")),
        "server": [pid for pid in measure.family(server) if pid not in reader],
        "server's reader": reader,
        "page": workers(os.getpid(), "--type=renderer"),
    }
    if not os.environ.get("TDENGINE_DSN"):
        found["stand-in"] = measure.family(demo.pid("embedded"))
    return found


def growth(samples):
    """(MB after the first third, MB at the end, growth between them)."""
    fifth = max(len(samples) // 5, 1)
    early = statistics.median(samples[len(samples) // 3 :][:fifth])
    end = statistics.median(samples[-fifth:])
    return early, end, end / early - 1


def sample(demo, process, minutes):
    """{part: [MB]} over so many minutes."""
    found, samples = parts(demo), {}
    for k in range(SAMPLES):
        time.sleep(minutes * 60 / SAMPLES)
        if not process.alive() or parts(demo) != found:
            raise measure.Unmeasured("a part of the demo has ended or was replaced")
        for part, pids in found.items():
            samples.setdefault(part, []).append(measure.memory_mb(*pids))
        if k % (SAMPLES // 15) == 0:
            measure.note(", ".join(f"{part} {each[-1]:.1f} MB" for part, each in samples.items()))
    return samples


def main():
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--minutes", type=measure.number(0.05, 10_000, float), default=15, metavar="M", help="default: 15")
    args = parser.parse_args()
    with chromium() as browser, page.run_sh() as (demo, process):
        page.wait_for_page(demo, process, page.STARTS_S)
        page.open_page(browser, demo.port)
        samples = sample(demo, process, args.minutes)
    for part, each in samples.items():
        early, end, grown = growth(each)
        measure.row(
            f"memory of {part}, {args.minutes:g} minutes at 1,000 rows/s",
            page.database_name(),
            f"{early:.1f} to {end:.1f} MB ({grown:+.1%})",
            f"{BOUND} %",
            grown <= BOUND / 100,
        )


if __name__ == "__main__":
    sys.exit(measure.run(main))
