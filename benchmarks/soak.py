#!/usr/bin/env python3
"""`./run.sh` at 1,000 rows/s with a page open: whether the memory of every part stays flat after the first third.

    python benchmarks/soak.py [--minutes M]

Growth: the median of the last fifth of the samples over that of the fifth after the first third (of 15 minutes: the
first five).
"""

import contextlib
import os
import pathlib
import statistics
import sys
import time

import measure
import page
from browser import QUICK, chromium

SAMPLES = 60
BOUND = 5  # %
COMMANDS = {"stand-in": "embedded", "producer": "producer.py", "server": "perspective_server.py"}


def command(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def parts(process):
    """{part: process ids} of the running run.sh, and of the page."""
    below = measure.family(process.pid)
    found = {"run.sh": below[:1]}
    for part, words in COMMANDS.items():
        for pid in [pid for pid in below if words in command(pid)][:1]:
            found[part] = measure.family(pid)
    found["page"] = [pid for pid in measure.family(os.getpid()) if "--type=renderer" in command(pid)]
    return found


def growth(samples):
    """(MB after the first third, MB at the end, growth between them)."""
    fifth = max(len(samples) // 5, 1)
    early = statistics.median(samples[len(samples) // 3 :][:fifth])
    end = statistics.median(samples[-fifth:])
    return early, end, end / early - 1


def sample(process, minutes):
    """{part: [MB]} over so many minutes."""
    found, samples, below = parts(process), {}, measure.family(process.pid)
    for k in range(SAMPLES):
        time.sleep(minutes * 60 / SAMPLES)
        if measure.family(process.pid) != below:
            raise measure.Unmeasured("a part of the demo has ended or was replaced")
        for part, pids in found.items():
            samples.setdefault(part, []).append(measure.memory_mb(*pids))
        if k % (SAMPLES // 15) == 0:
            measure.note(", ".join(f"{part} {each[-1]:.1f} MB" for part, each in samples.items()))
    return samples


def main():
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--minutes", type=measure.number(0.01, 10_000, float), default=15, metavar="M", help="default: 15")
    args = parser.parse_args()
    with chromium(QUICK) as browser, page.copy_of_demo() as (demo, env), page.run_sh(demo, env) as process:
        page.open_page(browser, f"http://localhost:{demo.port}/")
        samples = sample(process, args.minutes)
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
