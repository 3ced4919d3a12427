#!/usr/bin/env python3
"""How many viewers a server on one core serves at 1,000 rows/s: the 99th percentile of their waits is under 100 ms.

    python benchmarks/viewers.py [--mode grouped|local] [--steps N,N,...] [--dsn DSN] [--seconds S]

grouped: each viewer reads its view, grouped by ticker and client, on every update; what counts is the time of a read.
local: each viewer holds its own copy and is sent row deltas; what counts is how much older the newest row is on arrival
than a lone viewer sees it, which holds the work on all deltas as well as their way.
The server has one core for itself, everything else has the others.
"""

import os

import measure

STEPS = {"grouped": [50, 100, 150, 200, 300, 400, 500], "local": [100, 250, 500, 750, 1000]}
BOUNDS = {"grouped": 150, "local": 500}  # viewers
WAIT_MS = 100
UPDATES_PER_S = 4


def measure_steps(chain, mode, steps, seconds, until_ms=WAIT_MS):
    """Yields (viewers, wait in ms at the 99th percentile, its median, share of server, of load) step by step.

    Ends after the first step that passes until_ms.
    """
    chain.producer()
    server = chain.server()
    chain.wait_for_rows(1000)
    load = chain.load(mode)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for process in chain.processes:
            measure.pin(process.pid, cores[1:])
        measure.pin(load.pid, cores[1:])
        measure.pin(server.pid, cores[:1])
    alone_ms = 0
    if mode == "local":
        alone_ms = measure.percentile(load.measure(1, seconds)["ages_ms"], 50)
    for viewers in steps:
        load.measure(viewers, 0.5)
        window = measure.Window(server=server.pid)
        seen = load.measure(viewers, seconds)
        shares = window.shares()
        waits = seen["reads_ms"] if mode == "grouped" else [age - alone_ms for age in seen["ages_ms"]]
        if len(waits) < 0.5 * viewers * UPDATES_PER_S * seconds:  # it no longer answers each update of each viewer
            waits += [10 * until_ms] * len(waits) + [10 * until_ms]
        wait_ms = measure.percentile(waits, 99)
        yield viewers, wait_ms, measure.percentile(waits, 50), shares["server"], seen["share"]
        if wait_ms > until_ms:
            return


def main():
    parser = measure.parser(__doc__, seconds=6)
    parser.add_argument("--mode", choices=list(STEPS), action="append", help="default: both, one after the other")
    parser.add_argument("--steps", metavar="N,N,...", help="numbers of viewers to try, rising")
    args = parser.parse_args()
    try:
        chosen = [int(step) for step in args.steps.split(",")] if args.steps else None
    except ValueError:
        parser.error(f"'{args.steps}' is not a list of numbers such as 50,100,150")
    for k, mode in enumerate(args.mode or STEPS):
        served = 0
        steps = chosen or STEPS[mode]
        measure.note(f"{mode}, viewers: median / 99th percentile, server's share, load's share of a core")
        with measure.Chain(args.dsn) as chain:
            if not k:
                measure.tell_where(chain)
            for viewers, wait_ms, middle_ms, share, load_share in measure_steps(chain, mode, steps, args.seconds):
                measure.note(f"  {viewers}: {middle_ms:.0f} / {wait_ms:.0f} ms, {share:.0%}, {load_share:.0%}")
                if wait_ms <= WAIT_MS:
                    served, at = viewers, (wait_ms, share, load_share)
        detail = f" ({at[0]:.0f} ms with a server share of {at[1]:.0%}, the load's {at[2]:.0%})" if served else ""
        at_least = "at least " if served == steps[-1] else ""
        what = "a read" if mode == "grouped" else "a delta"
        measure.tell(
            f"viewers served by one core, {mode}, 99th percentile of {what} under {WAIT_MS} ms",
            f"{at_least}{served}{detail}",
            f"at least {BOUNDS[mode]}",
            served >= BOUNDS[mode],
        )


if __name__ == "__main__":
    measure.run(main)
