#!/usr/bin/env python3
"""Draws how cost grows with rows/s, viewers and limit: docs/cost-rows.png, docs/cost-viewers.png, docs/cost-limit.png.

    python benchmarks/pictures.py [--only rows|viewers|limit]... [--out FOLDER] [--dsn DSN] [--seconds S]

Needs benchmarks/requirements.txt besides the tests' requirements. Takes about 5 minutes; prints the numbers too.
"""

import pathlib

import limit
import matplotlib
import measure
import server_share
import viewers

matplotlib.use("Agg")
from matplotlib import pyplot, ticker  # noqa: E402  (after the choice of a backend without a screen)

ROWS_PER_S = [250, 1000, 4000, 10_000, 25_000, 50_000, 100_000]
VIEWERS = [1, 20, 50, 100, 200, 300, 400, 500]
LIMITS = [1000, 10_000, 100_000, 1_000_000]
ENOUGH = 0.95  # of the rows that were sent in the window


def panels(title, count):
    figure, axes = pyplot.subplots(1, count, figsize=(4.4 * count, 3.2), dpi=90, layout="constrained", squeeze=False)
    figure.suptitle(title, fontsize=11)
    for each in axes[0]:
        each.grid(alpha=0.3)
    return figure, axes[0]


def mark(axis, values):
    """Ticks at the values that were measured, on a logarithmic axis."""
    axis.set_xscale("log")
    axis.set_xticks(values, labels=[f"{value:,}" for value in values], rotation=30)
    axis.set_xticks([], minor=True)


def save(figure, out, name, where):
    figure.supxlabel(where, fontsize=6, color="gray")
    figure.savefig(out / name)
    pyplot.close(figure)
    measure.note(f"{out / name}")


def draw_rows(args):
    """Shares of a core of each part, by rows/s, with one viewer."""
    found = {}
    for rows_per_s in args.rows_per_s:
        with measure.Chain(args.dsn) as chain:
            shares, shown = server_share.measure_share(chain, 1, rows_per_s, args.seconds)
            where = chain.version
        found[rows_per_s] = shares | {"kept up": shown >= ENOUGH * rows_per_s}
        print(f"{rows_per_s:,} rows/s: {shown:,.0f} shown, " + ", ".join(f"{k} {v:.1%}" for k, v in shares.items()))
    figure, (axis,) = panels("Share of one core by rows/s, one viewer", 1)
    for part in ("server", "producer", "database"):
        if part in shares:
            axis.plot(list(found), [100 * each[part] for each in found.values()], marker="o", label=part)
    behind = [rows for rows, each in found.items() if not each["kept up"]]
    if behind:
        axis.axvspan(min(behind) * 0.8, max(found) * 1.25, color="tab:red", alpha=0.12, label="not all rows shown")
    mark(axis, list(found))
    axis.set(yscale="log", xlabel="rows/s", ylabel="% of a core")
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.legend(fontsize=8)
    save(figure, args.out, "cost-rows.png", where)


def draw_viewers(args):
    """What a viewer waits, and the server's share of a core, by viewers, in both modes."""
    figure, (waits, shares) = panels("Viewers of a server on one core, 1,000 rows/s", 2)
    for mode in ("grouped", "local"):
        with measure.Chain(args.dsn) as chain:
            steps = list(viewers.measure_steps(chain, mode, args.viewers, args.seconds, until_ms=1000))
            where = chain.version
        for count, wait_ms, middle_ms, share, load_share in steps:
            print(
                f"{count} viewers, {mode}: {middle_ms:.1f} ms, 99 % {wait_ms:.1f} ms, server {share:.1%}, "
                f"load {load_share:.1%}"
            )
        counts = [step[0] for step in steps]
        color = {"grouped": "tab:blue", "local": "tab:orange"}[mode]
        waits.plot(counts, [step[1] for step in steps], marker="o", color=color, label=f"{mode}, 99th percentile")
        waits.plot(counts, [step[2] for step in steps], marker=".", linestyle=":", color=color, label=f"{mode}, median")
        shares.plot(counts, [100 * step[3] for step in steps], marker="o", color=color, label=mode)
    waits.set(xlabel="viewers", ylabel="wait, ms", ylim=(0, None))
    shares.set(xlabel="viewers", ylabel="server, % of a core", ylim=(0, None))
    waits.legend(fontsize=8)
    shares.legend(fontsize=8)
    save(figure, args.out, "cost-viewers.png", where)


def draw_limit(args):
    """The server's memory and the time of an update, by limit."""
    memory, without, grouped = [], [], []
    for rows in args.limits:
        with measure.Chain(args.dsn) as chain:
            memory.append(limit.measure_memory(chain, rows)[0])
            for found, ms in zip((without, grouped), limit.measure_update(chain, rows, args.seconds), strict=True):
                found.append(ms)
            where = chain.version
        print(f"limit {rows:,}: {memory[-1]:.0f} MB, update {without[-1]:.2f} ms, grouped {grouped[-1]:.2f} ms")
    figure, (left, right) = panels("Cost of --limit, filled", 2)
    left.plot(args.limits, memory, marker="o")
    mark(left, args.limits)
    left.set(xlabel="limit (rows)", ylabel="server's memory, MB", ylim=(0, None))
    right.plot(args.limits, without, marker="o", label="no view")
    right.plot(args.limits, grouped, marker="o", label="a view grouped by ticker, client")
    mark(right, args.limits)
    right.set(xlabel="limit (rows)", ylabel="update of 250 rows, ms", ylim=(0, None))
    right.legend(fontsize=8)
    save(figure, args.out, "cost-limit.png", where)


DRAWN = {"rows": draw_rows, "viewers": draw_viewers, "limit": draw_limit}


def main():
    parser = measure.parser(__doc__, seconds=5)
    parser.add_argument("--only", choices=list(DRAWN), action="append", help="one of the pictures; may be repeated")
    parser.add_argument(
        "--out", type=pathlib.Path, default=measure.ROOT / "docs", metavar="FOLDER", help="default: docs"
    )
    parser.add_argument(
        "--points", type=measure.number(1, 9), default=9, metavar="N", help="at most N points a picture"
    )
    args = parser.parse_args()
    args.rows_per_s, args.viewers, args.limits = (points[: args.points] for points in (ROWS_PER_S, VIEWERS, LIMITS))
    args.out.mkdir(exist_ok=True)
    print(f"machine: {measure.machine()}")
    for name in args.only or DRAWN:
        DRAWN[name](args)


if __name__ == "__main__":
    measure.run(main)
