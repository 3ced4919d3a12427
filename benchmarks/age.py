#!/usr/bin/env python3
"""The newest row's age when it reaches a viewer, and the server's share of a core: poll, subscribe, and 50 ms.

    python benchmarks/age.py [--source poll|subscribe]... [--interval MS]... [--seconds S]

Age: the clock at arrival less the row's timestamp, at one viewer that is sent row deltas, at 1,000 rows/s. Producer and
server have the same interval.
"""

import asyncio
import time

import measure
import perspective
import pyarrow
import tornado.websocket

RUNS = [("poll", 250), ("subscribe", 250), ("poll", 50)]  # source, interval in ms
AGE_MS = {("poll", 250): 80, ("subscribe", 250): 10}  # bounds
SHARE = {("poll", 50): 6}  # % of a core


async def watch(port, seconds):
    """Ages in ms of the newest row of each update, on arrival."""
    socket = await tornado.websocket.websocket_connect(
        f"ws://127.0.0.1:{port}/websocket", connect_timeout=10, max_message_size=2**26
    )
    client = perspective.AsyncClient(lambda message: socket.write_message(message, binary=True))
    ages = []

    def updated(_, delta):
        now = time.time() * 1000
        stamps = pyarrow.ipc.open_stream(bytes(delta)).read_all()["timestamp"]
        ages.append(now - max(stamps.cast(pyarrow.timestamp("ms")).cast(pyarrow.int64()).to_pylist()))

    async def receive():
        while (message := await socket.read_message()) is not None:
            await client.handle_response(message)
        raise measure.Unmeasured(f"the server closed the connection ({socket.close_code})")

    receiving = asyncio.create_task(receive())
    table = await client.open_table("stock_values")
    view = await table.view()
    await view.on_update(updated, mode="row")
    await asyncio.wait([receiving], timeout=seconds)
    receiving.cancel()
    return ages


def measure_age(chain, source, interval, seconds):
    """(ages in ms, server's share of a core)."""
    _, server = measure.start(chain, interval=interval, source=source, limit=2000)
    with measure.share(server.pid) as share:
        ages = asyncio.run(watch(chain.port, seconds))
    if not ages:
        raise measure.Unmeasured(f"no row reached the viewer within {seconds} s")
    return ages, share()


def main():
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--source", choices=["poll", "subscribe"], action="append", help="default: both, at 250 ms, and poll at 50 ms")
    add("--interval", type=measure.number(10, 60_000), action="append", metavar="MS", help="default: 250")
    args = parser.parse_args()
    runs = [(source, interval) for source in args.source or ["poll"] for interval in args.interval or [250]]
    for run in runs if args.source or args.interval else RUNS:
        with measure.chain() as (chain, name):
            ages, share = measure_age(chain, *run, args.seconds)
        median = measure.percentile(ages, 50)
        bounds = [f"{AGE_MS[run]} ms"] if run in AGE_MS else [f"server {SHARE[run]} %"] if run in SHARE else []
        met = median <= AGE_MS[run] if run in AGE_MS else share <= SHARE[run] / 100 if run in SHARE else None
        measure.row(
            "newest row's age, median, {}, {} ms".format(*run),
            name,
            f"{median:.0f} ms (99 %: {measure.percentile(ages, 99):.0f} ms), server {share:.1%} of a core",
            "".join(bounds),
            met,
        )


if __name__ == "__main__":
    measure.run(main)
