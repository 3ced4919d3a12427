"""A TCP proxy between the scripts and TDengine that plays the faults of a network and of a database.

It runs in a thread of the test: `with Proxy("127.0.0.1", 6041) as proxy:`, then connect to proxy.port and call
proxy.delay(1), proxy.cut(), proxy.silent(), proxy.refuse(), proxy.go_on() ... at any time, from any thread.
"""

import asyncio
import contextlib
import threading

STOP_S = 5  # bound of every wait for the proxy's thread


class Proxy:
    """Passes bytes on to host:port; tls: speaks TLS to the server; certificate: an SSLContext, TLS to the client."""

    def __init__(self, host, port, tls=False, certificate=None):
        self.host, self.upstream_port, self.tls, self.certificate = host, port, tls, certificate
        self.at = "127.0.0.1"  # where it listens
        self.delay_s = 0.0
        self.connections = 0  # accepted in all
        self.first_lines = []  # of each connection
        self.lost_replies = self.half_requests = 0  # how many of these faults are still to be played
        self.writers = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.passing = self.call(self.make_event())
        self.listener = self.call(asyncio.start_server(self.serve, self.at, 0, ssl=self.certificate))
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self.call(self.end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(STOP_S)

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(STOP_S)

    async def make_event(self):
        event = asyncio.Event()
        event.set()
        return event

    # the faults

    def go_on(self):
        """Ends every fault: accepts, passes on at once; connections that were silent speak again."""
        self.delay_s, self.lost_replies, self.half_requests = 0.0, 0, 0
        self.loop.call_soon_threadsafe(self.passing.set)
        self.call(self.listen())

    def delay(self, seconds):
        """Every reply arrives this much later."""
        self.delay_s = seconds

    def silent(self):
        """Accepts and never answers, also on the connections that are open."""
        self.loop.call_soon_threadsafe(self.passing.clear)

    def cut(self):
        """Resets all connections that are open; new ones are accepted."""
        self.call(self.reset())

    def refuse(self):
        """Resets all connections, and nothing listens any more."""
        self.call(self.close())

    def lose_replies(self, count=1):
        """The next `count` replies don't arrive: the server did what was asked, the client's connection is reset."""
        self.lost_replies = count

    def cut_requests(self, count=1):
        """Of the next `count` requests longer than 1,000 bytes, such as binds, only the first half arrives."""
        self.half_requests = count

    # how it is done, in the proxy's thread

    async def listen(self):
        if not self.listener.is_serving():
            self.listener = await asyncio.start_server(self.serve, self.at, self.port, ssl=self.certificate)

    async def reset(self):
        for writer in list(self.writers):
            writer.transport.abort()

    async def close(self):
        self.listener.close()
        await self.reset()

    async def end(self):
        await self.close()
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_S / 2)

    async def serve(self, reader, writer):
        self.connections += 1
        self.writers.add(writer)
        upstream = None
        try:
            await self.passing.wait()
            upstream_reader, upstream = await asyncio.open_connection(
                self.host, self.upstream_port, ssl=self.tls or None
            )
            self.writers.add(upstream)
            await asyncio.gather(self.requests(reader, upstream), self.replies(upstream_reader, writer))
        except OSError:
            pass  # a connection that ends, on either side, ends both
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self.writers.discard(each)
                    each.transport.abort()

    async def requests(self, reader, upstream):
        first = await reader.readline()
        self.first_lines.append(first.decode(errors="replace").strip())
        await self.passing.wait()
        upstream.write(first)
        while data := await reader.read(65536):
            await self.passing.wait()
            if self.half_requests and len(data) > 1000:
                self.half_requests -= 1
                upstream.write(data[: len(data) // 2])
                await upstream.drain()
                raise ConnectionResetError
            upstream.write(data)
            await upstream.drain()
        raise ConnectionResetError

    async def replies(self, upstream_reader, writer):
        late = asyncio.Queue()  # (when it may go, data): the order is kept, and many replies can be on their way

        async def deliver():
            while True:
                when, data = await late.get()
                await asyncio.sleep(max(when - self.loop.time(), 0))
                await self.passing.wait()
                writer.write(data)
                await writer.drain()

        delivery = asyncio.create_task(deliver())
        try:
            while data := await upstream_reader.read(65536):
                if self.lost_replies:
                    self.lost_replies -= 1
                    raise ConnectionResetError
                late.put_nowait((self.loop.time() + self.delay_s, data))
            raise ConnectionResetError
        finally:
            delivery.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await delivery
