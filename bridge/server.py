"""Serves a Tornado application on sockets that are listening already, with bounds on what clients may hold."""

import asyncio
import contextlib
import logging
import resource
import time

import tornado.httpserver
import tornado.ioloop
import tornado.iostream
import tornado.netutil

LOG = logging.getLogger(__name__)
SPARE_DESCRIPTORS = 64  # kept for the reader, files and pipes
IDLE_S = 20  # a connection without a request is closed
PAUSE_S, QUIET_S = 1, 60


@contextlib.asynccontextmanager
async def listening(app, args, place, viewers):
    """Serves `app` until the block ends; the sockets stay the parent's."""
    most = max(raise_limit() - SPARE_DESCRIPTORS, 16)
    http = tornado.httpserver.HTTPServer(app, idle_connection_timeout=IDLE_S, body_timeout=10, max_body_size=64 * 1024)
    acceptors = [Acceptor(each, http, args.tls, most) for each in place.sockets]
    scheme, port = "https" if args.tls else "http", place.sockets[0].getsockname()[1]
    host = f"[{args.host}]" if ":" in args.host else args.host
    LOG.info("page at %s://%s:%s%s/, reading %s", scheme, host, port, args.prefix, args.dsn.shown)
    yield
    for each in acceptors:
        each.close()
    viewers.close()
    await asyncio.sleep(0.1)  # for the close frames


def raise_limit():
    """Raises the limit of open descriptors as far as allowed; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Acceptor:
    """Accepts connections while fewer than `most` are open and descriptors are left; others wait in the queue.

    Tornado's own would try again at once, for ever, when there is no descriptor left.
    """

    def __init__(self, listener, http, tls, most):
        self.listener, self.http, self.tls, self.most = listener, http, tls, most
        self.streams, self.closed, self.warned_at = set(), False, -QUIET_S
        self.listener.setblocking(False)
        self.resume()

    def resume(self):
        if not self.closed:
            tornado.ioloop.IOLoop.current().add_handler(self.listener, self.accept, tornado.ioloop.IOLoop.READ)

    def accept(self, *_):
        for _ in range(64):  # then others get a turn
            self.streams = {stream for stream in self.streams if not stream.closed()}
            if len(self.streams) >= self.most:
                self.pause(f"{len(self.streams)} are open")
                return
            try:
                connection, address = self.listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self.pause(error.strerror)
                return
            stream = self.stream(connection)
            self.streams.add(stream)
            self.http.handle_stream(stream, address)

    def stream(self, connection):
        if self.tls is None:
            return tornado.iostream.IOStream(connection)
        wrapped = tornado.netutil.ssl_wrap_socket(connection, self.tls, server_side=True, do_handshake_on_connect=False)
        return tornado.iostream.SSLIOStream(wrapped, ssl_options=self.tls)

    def pause(self, reason):
        loop = tornado.ioloop.IOLoop.current()
        loop.remove_handler(self.listener)
        loop.call_later(PAUSE_S, self.resume)
        if time.monotonic() - self.warned_at > QUIET_S:
            LOG.warning("new connections have to wait: %s", reason)
            self.warned_at = time.monotonic()

    def close(self):
        self.closed = True
        with contextlib.suppress(OSError, KeyError, ValueError):
            tornado.ioloop.IOLoop.current().remove_handler(self.listener)
