#!/usr/bin/env python3
"""The producer at its default pace: its share of one core, its sender included, and how well it keeps its beat.

    python benchmarks/producer_beat.py [--dsn DSN] [--seconds S]

A relay between producer and database notes when each batch's first byte leaves the producer. Batches are due at full
intervals of the clock; the beat is how long after that they leave, so it holds the making and binding of the rows too.
"""

import asyncio
import contextlib
import ssl
import threading
import time
import urllib.parse

import measure

INTERVAL_MS = 250
STOP_S = 5  # bound of every wait for the relay's thread


class Relay:
    """Passes bytes on to TDengine; `sent`: the clock (ns) whenever a client spoke after half an interval's silence."""

    def __init__(self, dsn, interval_ms):
        parts = urllib.parse.urlsplit(dsn)
        tls = parts.scheme in ("wss", "https")
        self.upstream = {
            "host": parts.hostname,
            "port": parts.port or (443 if tls else 6041),
            "ssl": ssl.create_default_context() if tls else None,
        }
        self.parts, self.silence_s, self.sent = parts, interval_ms / 2000, []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self.serve, "127.0.0.1", 0), self.loop)
        port = listening.result(STOP_S).sockets[0].getsockname()[1]
        user = self.parts.netloc.rpartition("@")[0]
        self.dsn = self.parts._replace(scheme="ws", netloc=f"{user}@127.0.0.1:{port}").geturl()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(STOP_S)

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError):
            answers, database = await asyncio.open_connection(**self.upstream)
            await asyncio.gather(self.pass_on(reader, database, True), self.pass_on(answers, writer, False))

    async def pass_on(self, source, target, is_client):
        spoke = time.monotonic()
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 20):
                if is_client and time.monotonic() - spoke > self.silence_s:
                    self.sent.append(time.time_ns())
                spoke = time.monotonic()
                target.write(data)
                await target.drain()
        target.close()


def measure_beat(chain, seconds):
    """(share of a core, [ms after the beat])."""
    with Relay(chain.dsn, INTERVAL_MS) as relay:
        producer = chain.start(
            "producer", measure.ROOT / "producer.py", "--database", chain.database, TDENGINE_DSN=relay.dsn
        )
        chain.wait_for(producer, lambda: len(relay.sent) > 8, "the first batches")
        relay.sent.clear()
        window = measure.Window(producer=producer.pid)
        time.sleep(seconds)
        share = window.shares()["producer"]
        sent = list(relay.sent)
        producer.stop()
    interval_ns = INTERVAL_MS * 10**6
    # in the middle of the interval before: a batch that is early counts as early, not as almost an interval late
    beats = [((at + interval_ns // 2) % interval_ns - interval_ns // 2) / 1e6 for at in sent]
    if not beats:
        raise measure.Unmeasured(f"no batch within {seconds} s")
    return share, beats


def main():
    parser = measure.parser(__doc__)
    args = parser.parse_args()
    with measure.Chain(args.dsn) as chain:
        measure.tell_where(chain)
        share, beats = measure_beat(chain, args.seconds)
    measure.tell(
        "producer with its sender, default pace", f"{share:.1%} of a core", "at most 2 % of a core", share <= 0.02
    )
    off = measure.percentile([abs(beat) for beat in beats], 99)
    measure.tell(
        "producer's beat, 99th percentile",
        f"within {off:.1f} ms (median {measure.percentile(beats, 50):.1f} ms after it, {len(beats)} batches)",
        "within 5 ms",
        off < 5,
    )


if __name__ == "__main__":
    measure.run(main)
