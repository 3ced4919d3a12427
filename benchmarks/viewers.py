#!/usr/bin/env python3
"""How many grouped viewers one core serves at 1,000 rows/s, the 99th percentile of a read under 100 ms; their memory.

    python benchmarks/viewers.py [--steps N,N,...] [--seconds S]

The server's processes have one core for themselves, everything else has the others.
"""

import os

import load
import measure

STEPS = [250, 500, 750, 1000]
ENOUGH, WAIT_MS, MEMORY_KB = 1000, 100, 100  # bounds: viewers, of a read, of a viewer
READS_PER_S = 4  # of each viewer that gets every update


def measure_steps(chain, steps, seconds, until_ms=WAIT_MS):
    """Yields for each number of viewers {viewers, p99_ms, p50_ms, reads_per_s (a viewer's), share, load_share, kb}.

    Ends after the first number at which the 99th percentile of a read passes until_ms.
    """
    producer, server = measure.start(chain, viewers=max(steps))
    family, cores = measure.family(server.pid), sorted(os.sched_getaffinity(0))
    with load.Load(chain.port) as viewing:
        if len(cores) > 1:
            measure.pin(family, cores[:1])
            others = [process.pid for process in (producer, chain.database.process) if process]
            measure.pin([viewing.pid, *(each for pid in others for each in measure.family(pid))], cores[1:])
        viewing.measure(1, 1)
        alone_mb = measure.memory_mb(*family)
        for viewers in steps:
            viewing.measure(viewers, 0.5)
            with measure.share(server.pid) as share:
                seen = viewing.measure(viewers, seconds)
            reads = seen["reads_ms"] or [1000 * seconds]
            yield {
                "viewers": viewers,
                "p99_ms": measure.percentile(reads, 99),
                "p50_ms": measure.percentile(reads, 50),
                "reads_per_s": len(seen["reads_ms"]) / viewers / seconds,
                "share": share(),
                "load_share": seen["share"],
                "kb": (measure.memory_mb(*family) - alone_mb) * 1024 / max(viewers - 1, 1),
            }
            if measure.percentile(reads, 99) > until_ms:
                return


def describe(step):
    return (
        f"{step['viewers']} viewers: 99 % {step['p99_ms']:.0f} ms, median {step['p50_ms']:.0f} ms, "
        f"{step['reads_per_s']:.1f} reads/s each, server {step['share']:.0%} of its core, load {step['load_share']:.0%}"
    )


def steps_of(text):
    try:
        return sorted(int(step) for step in text.split(","))
    except ValueError:
        raise measure.argparse.ArgumentTypeError(f"'{text}' is not a list of numbers such as 250,500") from None


def main():
    parser = measure.parser(__doc__, seconds=10)
    parser.add_argument("--steps", type=steps_of, default=STEPS, metavar="N,N,...", help="default: 250,500,750,1000")
    args = parser.parse_args()
    served = last = None
    with measure.chain() as (chain, name):
        for last in measure_steps(chain, args.steps, args.seconds):
            measure.note(describe(last))
            # a server that skips every other update does not serve
            if last["p99_ms"] < WAIT_MS and last["reads_per_s"] > READS_PER_S / 2:
                served = last
    figure = describe(served) if served else "fewer: " + describe(last)
    met = bool(served) and served["viewers"] >= ENOUGH
    if served is last and not met:  # more were not tried
        figure, met = f"at least {figure}", None
    what = f"grouped viewers a core, limit 1,000, 99 % of reads under {WAIT_MS} ms"
    measure.row(what, name, figure, f"{ENOUGH:,}", met)
    measure.row("memory a viewer", name, f"{last['kb']:.0f} KB", f"under {MEMORY_KB} KB", last["kb"] < MEMORY_KB)


if __name__ == "__main__":
    measure.run(main)
