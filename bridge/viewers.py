"""The viewers' WebSockets: they may look, not touch, and none can stop the others.

viewers = Viewers(engine, place, max_viewers=200, host="127.0.0.1")
(r"/websocket", ReadOnlyHandler, {"viewers": viewers})                  a route for Tornado
"""

import asyncio
import collections
import logging
import struct
import time

import tornado.iostream
import tornado.websocket

from . import requests
from .origins import Origins
from .requests import Invalid, Refused
from .shared_views import SharedViews
from .viewer import Viewer

LOG = logging.getLogger(__name__)
MAX_UNSENT = 32 * 1024 * 1024  # bytes waiting for a viewer that reads too slowly
ENGINE_SHARE = 0.3  # seconds of the engine's time a second, and at once, for each viewer
BINARY = 0x82  # first byte of a frame that is a whole binary message
LOOK_S = 2.5  # after a question for /healthz or /metrics, somebody is looking
QUIET_S = 60  # between two lines in the log about refusals of one host

REFUSED, TRY_LATER, RESTART, GOING_AWAY = 1008, 1013, 1012, 1001  # codes that connections are closed with


class Viewers:
    """Who is connected, and who may be."""

    def __init__(self, engine, place, *, max_viewers=200, host="127.0.0.1", **origins):
        """`origins`: allow_origins, file_origin and allow_hosts, as in Origins."""
        self.engine, self.place, self.max_viewers = engine, place, max_viewers
        self.origins = Origins(host, **origins)
        self.may_come_from, self.knows_host = self.origins.may_come_from, self.origins.knows_host
        self.shared = SharedViews(engine, place.banned)
        self.connected = set()
        self.refusals, self.bytes_sent = collections.Counter(), 0  # by kind; to all viewers
        self.asked_at = -LOOK_S  # for health()
        self.quiet = {}  # host: refusals since the line in the log about it

    def are_looking(self):
        """Whether there is a viewer, or somebody has asked for health() within the last seconds."""
        return bool(self.connected) or time.monotonic() - self.asked_at < LOOK_S

    def refused(self, what, peer, reason):
        """Counts a refusal, and logs the first of each host in a minute; the others are summed up."""
        self.refusals[what] += 1
        host = peer.rpartition(":")[0]
        if host in self.quiet:
            self.quiet[host] += 1
            return
        self.quiet[host] = 0
        LOG.warning("viewer %s refused: %s", peer, reason)
        asyncio.get_running_loop().call_later(QUIET_S, self.sum_up, host)

    def sum_up(self, host):
        if count := self.quiet.pop(host):
            LOG.warning("viewers at %s refused %s more times within the last minute", host, count)

    def health(self):
        """What /healthz says about viewers."""
        self.asked_at = time.monotonic()
        return {
            "viewers": len(self.connected),
            "restarts": dict(self.place.restarts),
            "refused": dict(self.refusals),
            "sent_bytes": self.bytes_sent,
            "busy": self.engine.busy,
        }

    async def drop_table(self, name):
        """Deletes all views of a table, so that it can be deleted and hosted anew; their viewers connect again."""
        for connection in [each for each in self.connected if name in each.viewer.tables]:
            connection.disconnect(RESTART, "the table is hosted anew")
        await self.shared.drop(name)

    def close(self, code=GOING_AWAY, reason="server stops"):
        for connection in list(self.connected):
            connection.disconnect(code, reason)


def frame(message):
    """A message as one binary frame of a WebSocket, server to client (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:
        head = struct.pack("!BB", BINARY, size)
    elif size < 2**16:
        head = struct.pack("!BBH", BINARY, 126, size)
    else:
        head = struct.pack("!BBQ", BINARY, 127, size)
    return head + message


class ReadOnlyHandler(tornado.websocket.WebSocketHandler):
    """The connection of one viewer."""

    def initialize(self, viewers):
        self.viewers = viewers
        self.peer = "{}:{}".format(*self.request.connection.context.address[:2])

    def set_default_headers(self):
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")

    def check_origin(self, origin):
        return self.viewers.may_come_from(origin, self.request.host)

    async def get(self):
        origin = self.request.headers.get("Origin")
        if not self.viewers.knows_host(self.request.host):
            self.answer_http(403, "this server is not called so, see --allow-host")
        elif origin is not None and not self.check_origin(origin):
            # Tornado asks only when Origin and Host differ, which they don't after DNS rebinding
            self.answer_http(403, "pages of this origin may not connect, see --allow-origin")
        elif len(self.viewers.connected) >= self.viewers.max_viewers:
            self.answer_http(503, "too many viewers, see --max-viewers")
        else:
            await super().get()

    def answer_http(self, status, text):
        self.viewers.refused(f"http {status}", self.peer, text)
        self.set_status(status)
        self.finish(f"{text}\n")

    def open(self):
        self.viewer = Viewer(self.viewers.shared, self.send, self.charge)
        self.unsent, self.closing = 0, False
        self.credit, self.credit_at = ENGINE_SHARE, time.monotonic()  # seconds of the engine's time
        self.viewers.connected.add(self)

    # What is sent

    def send(self, message):
        """Sends unless the viewer reads too slowly: Tornado would keep what is not sent, without a bound."""
        if self.closing:
            return
        if self.unsent + len(message) > MAX_UNSENT:
            self.refuse(TRY_LATER, "reads too slowly", "slow")
            return
        if self.ws_connection is None or self.ws_connection.is_closing():
            return
        try:  # write_message would make a task of it, which costs as much as all the rest
            sent = self.ws_connection.stream.write(frame(message))
        except tornado.iostream.StreamClosedError:
            return
        self.viewers.bytes_sent += len(message)
        if not sent.done():
            self.unsent += len(message)
            sent.add_done_callback(lambda _: self.sent(len(message)))

    def sent(self, size):
        self.unsent -= size

    def refuse(self, code, reason, what="request"):
        """Closes the connection; what it still sends is not looked at."""
        if not self.closing:
            self.viewers.refused(what, self.peer, reason)
            self.disconnect(code, reason)

    def disconnect(self, code, reason):
        self.closing = True
        self.close(code, reason)

    # What it requests

    def on_message(self, message):
        """Tornado reads a connection's next message after this one's end: the order is kept, a flood waits outside."""
        if self.closing:
            return None
        if len(message) > requests.MAX_MESSAGE:
            return self.receive_large(message)
        return self.receive(message)

    async def receive_large(self, message):
        """What makes a view of a wide table; nothing else takes so much."""
        try:
            room = await self.viewers.shared.room(requests.wide_table(message), self.charge)
        except Refused as error:
            self.refuse(REFUSED, str(error))
        else:
            if answered := self.receive(message, room):
                await answered

    def receive(self, message, room=0):
        """Answers at once what is known already; else a coroutine that will."""
        try:
            request = requests.parse(message, room)
        except Refused as error:
            self.refuse(REFUSED, str(error))
            return None
        if tail := self.viewer.known(request):
            self.send(requests.head(request.number, request.entity) + tail)
            return None
        return self.respond(request)

    async def respond(self, request):
        try:
            await self.wait_for_credit()
            large = request.kind == "table_make_view" and requests.is_large(request.content)
            room = await self.viewers.shared.room(request.entity, self.charge) if large else 0
            requests.check_size(request.content, room)
            tail = await self.viewer.answer(request)
        except Invalid as error:
            self.viewers.refused(request.kind, self.peer, f"{request.kind}: {str(error)[:200]}")
            tail = requests.error(error)
        if tail is not None:
            self.send(requests.head(request.number, request.entity) + tail)

    def charge(self, seconds):
        """Pays for the engine's time, which comes back at ENGINE_SHARE a second."""
        now = time.monotonic()
        self.credit = min(ENGINE_SHARE, self.credit + (now - self.credit_at) * ENGINE_SHARE) - seconds
        self.credit_at = now

    async def wait_for_credit(self):
        self.charge(0)
        if self.credit < 0:
            await asyncio.sleep(-self.credit / ENGINE_SHARE)

    def on_close(self):
        self.closing = True
        if self in self.viewers.connected:
            self.viewers.connected.discard(self)
            asyncio.ensure_future(self.viewer.close())
