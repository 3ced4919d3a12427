#!/usr/bin/env python3
"""Draws what viewers cost, up to 2,000 of them: docs/cost-viewers.png.

    python benchmarks/pictures.py [--steps N,N,...] [--out FOLDER] [--seconds S]

Needs matplotlib (benchmarks/requirements.txt).
"""

import pathlib
import sys

import measure
import viewers

STEPS = [1, 20, 100, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]


def draw(pyplot, steps, name, file):
    figure, (waits, shares) = pyplot.subplots(1, 2, figsize=(8.8, 3.2), dpi=90, layout="constrained")
    counts = [step["viewers"] for step in steps]
    figure.suptitle("Grouped viewers of a server on one core, 1,000 rows/s, limit 1,000", fontsize=11)
    waits.plot(counts, [step["p99_ms"] for step in steps], marker="o", label="99th percentile")
    waits.plot(counts, [step["p50_ms"] for step in steps], marker=".", linestyle=":", label="median")
    waits.axhline(viewers.WAIT_MS, color="gray", linewidth=0.8, label="bound")
    waits.set(xlabel="viewers", ylabel="a read, ms", ylim=(0, None))
    shares.plot(counts, [100 * step["share"] for step in steps], marker="o", label="server")
    shares.plot(counts, [100 * step["load_share"] for step in steps], marker=".", linestyle=":", label="load")
    shares.set(xlabel="viewers", ylabel="% of a core", ylim=(0, None))
    for each in (waits, shares):
        each.grid(alpha=0.3)
        each.legend(fontsize=8)
    figure.supxlabel(f"{name}; {measure.machine()}", fontsize=6, color="gray")
    figure.savefig(file)


def main():
    parser = measure.parser(__doc__, seconds=10)
    add = parser.add_argument
    add("--steps", type=viewers.steps_of, default=STEPS, metavar="N,N,...", help="default: 1 to 2000")
    add("--out", type=pathlib.Path, default=measure.ROOT / "docs", metavar="FOLDER", help="default: docs")
    args = parser.parse_args()
    try:
        import matplotlib
    except ImportError:
        sys.exit("pictures.py: no matplotlib: venv/bin/python -m pip install -r benchmarks/requirements.txt")
    matplotlib.use("Agg")  # without a screen, to be chosen first
    from matplotlib import pyplot

    steps = []
    with measure.chain() as (chain, name):
        for step in viewers.measure_steps(chain, args.steps, args.seconds, until_ms=float("inf")):
            measure.note(viewers.describe(step))
            steps.append(step)
    draw(pyplot, steps, name, args.out / "cost-viewers.png")
    last = steps[-1]
    measure.row(f"{last['viewers']} grouped viewers, limit 1,000", name, viewers.describe(last))


if __name__ == "__main__":
    measure.run(main)
