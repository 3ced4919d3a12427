"""HTTP beside the WebSocket: the page, its modules, Perspective's own browser files, /healthz and /metrics."""

import asyncio
import base64
import concurrent.futures
import functools
import gzip
import hashlib
import importlib.metadata
import importlib.resources
import pathlib
import re

import tornado.iostream
import tornado.web

from . import metrics
from .requests import LONGEST

ROOT = pathlib.Path(__file__).resolve().parent.parent
PERSPECTIVE = importlib.metadata.version("perspective-python")
# The browser side of Perspective as its wheel holds it: one ES module with everything inside, and all themes.
WHEEL_FILES = {
    "perspective.js": ("perspective-anywidget.js", "text/javascript; charset=utf-8"),
    "perspective.css": ("perspective-anywidget.css", "text/css; charset=utf-8"),
}
# The viewer's text filters have one inline handler, which makes them as wide as their text.
FILTER_HANDLER = b"this.parentNode.dataset.value=this.value"
STATUSES = ["waiting", "stale", "incomplete", "ok"]  # the worst first
PING_S = 20
WRITE_S = 120  # the longest that a reader of one answer may take
PART = 128 * 1024  # bytes of an answer that are given to the connection at once


class Plain(tornado.web.RequestHandler):
    """What all answers share: known hosts only, no version banner, no guessed types, errors of one line."""

    def initialize(self, viewers, **given):
        self.viewers, self.given = viewers, given

    def set_default_headers(self):
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-cache")

    def prepare(self):
        # A hostile name can be made to point at our address (DNS rebinding): its pages would be of our origin.
        if not self.viewers.knows_host(self.request.host):
            raise tornado.web.HTTPError(403, reason="Unknown Host, see --allow-host")

    def head(self, *args):
        return self.get(*args)

    def allow_origin(self):
        """Lets the pages that may open the WebSocket read this answer, and no others."""
        origin = self.request.headers.get("Origin")
        self.set_header("Vary", "Origin, Accept-Encoding")
        if origin and self.viewers.may_come_from(origin, self.request.host):
            self.set_header("Access-Control-Allow-Origin", origin)

    async def send(self, body):
        """Finishes the answer; a client that does not read it in time is disconnected."""
        try:
            await asyncio.wait_for(self.send_parts(body), WRITE_S)
        except TimeoutError:
            self.request.connection.close()
        except tornado.iostream.StreamClosedError:
            pass  # it has gone meanwhile

    async def send_parts(self, body):
        """A large file is not copied as a whole for each of those who read it slowly."""
        if len(body) > PART:
            self.set_etag_header()
            if self.check_etag_header():
                self.set_status(304)
                body = b""
            else:
                self.set_header("Content-Length", len(body))
            for start in range(0, len(body), PART):
                self.write(body[start : start + PART])
                await self.flush()
            body = None
        await self.finish(body)

    def write_error(self, status_code, **_):
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")


class NotFound(tornado.web.RequestHandler):
    """What is asked for at any other path."""

    set_default_headers = Plain.set_default_headers
    write_error = Plain.write_error

    def prepare(self):
        raise tornado.web.HTTPError(404)


class PageHandler(Plain):
    """prsp-viewer.html, with a Content-Security-Policy that lets it run its own scripts and nothing else."""

    async def get(self):
        server = self.get_query_argument("server", "")
        if not server.isascii():
            raise tornado.web.HTTPError(400)
        page = (ROOT / "prsp-viewer.html").read_bytes()
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", policy(page, [self.request.host, server]))
        await self.send(page)


def policy(page, hosts):
    """The Content-Security-Policy of the page, which may open connections to these hosts ("" is none)."""
    scripts = re.findall(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", page.replace(b"\r\n", b"\n"), re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
    handler = base64.b64encode(hashlib.sha256(FILTER_HANDLER).digest()).decode()
    sockets = ""
    for host in hosts:
        if re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", host, re.ASCII):
            sockets += f" ws://{host} wss://{host} http://{host} https://{host}"
    return (
        "default-src 'none'; "
        # blob: the wheel's module holds others inside, which it imports so
        f"script-src 'self' blob: 'wasm-unsafe-eval' 'unsafe-hashes' 'sha256-{handler}' {hashes}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        f"connect-src 'self'{sockets}; "
        "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


class ModuleHandler(Plain):
    """The page's modules, viewer/NAME.js."""

    async def get(self, name):
        self.allow_origin()
        file = ROOT / "viewer" / name
        if not file.is_file():
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        await self.send(file.read_bytes())


class WheelHandler(Plain):
    """Perspective's browser files out of the installed wheel, under an address that holds the version."""

    async def get(self, version, name):
        self.allow_origin()
        if version != PERSPECTIVE:  # none, or that of a page that was opened before an upgrade
            self.redirect(f"{self.given['prefix']}/perspective/{PERSPECTIVE}/{name}")
            return
        gzipped = "gzip" in self.request.headers.get("Accept-Encoding", "")
        body = await asyncio.wrap_future(compressor().submit(wheel_file, name, gzipped))
        if gzipped:
            self.set_header("Content-Encoding", "gzip")
        self.set_header("Content-Type", WHEEL_FILES[name][1])
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        await self.send(body)

    def compute_etag(self):
        return f'"{PERSPECTIVE}"'  # instead of hashing megabytes for each answer


@functools.cache
def compressor():
    return concurrent.futures.ThreadPoolExecutor(1, "compress")


@functools.cache
def wheel_file(name, gzipped):
    """The file's bytes; read and compressed once, in the one thread of compressor(), as it takes half a second."""
    file = importlib.resources.files("perspective") / "widget" / "static" / WHEEL_FILES[name][0]
    return gzip.compress(file.read_bytes(), 6) if gzipped else file.read_bytes()


def health(tables, viewers):
    """The object that /healthz shows, see docs/operations.md."""
    found = {table.title: table.health() for table in tables}
    states = [table["status"] for table in found.values()] or ["waiting"]
    status = min(states, key=STATUSES.index)
    return {"status": status, "perspective": PERSPECTIVE, "tables": found, **viewers.health()}


class HealthHandler(Plain):
    """State of the tables as JSON; pages that may open the WebSocket may read it too."""

    async def get(self):
        self.allow_origin()
        self.set_header("Content-Type", "application/json; charset=utf-8")
        found = health(self.given["tables"], self.viewers)
        if origin := self.get_query_argument("origin", ""):  # asked by a page that can't connect
            found["obstacle"] = self.obstacle(origin)
        await self.send(found)

    def obstacle(self, origin):
        """Why a page of this origin can't open the WebSocket; None when it could if it got as far as us."""
        if not self.viewers.may_come_from(origin, self.request.host):
            return "origin"
        return "full" if len(self.viewers.connected) >= self.viewers.max_viewers else None


class MetricsHandler(Plain):
    """The same for Prometheus."""

    async def get(self):
        self.set_header("Content-Type", metrics.CONTENT_TYPE)
        found = health(self.given["tables"], self.viewers)
        counted = {"refused": dict(self.viewers.refusals), "sent_bytes": self.viewers.bytes_sent}
        await self.send(metrics.text(found | counted))


def routes(tables, viewers, prefix=""):
    """Tornado's routes of all that is not the WebSocket, under `prefix` ("" or as "/demo").

    `tables` may grow; each has .title and .health(). `viewers` says who may read (knows_host, may_come_from) and has
    .health().
    """
    path, shared = re.escape(prefix), {"viewers": viewers}
    return [
        (rf"{path}/", PageHandler, shared),
        (rf"{path}/viewer/([a-z]+\.js)", ModuleHandler, shared),
        (
            rf"{path}/perspective/(?:(\d+\.\d+\.\d+)/)?({'|'.join(map(re.escape, WHEEL_FILES))})",
            WheelHandler,
            {**shared, "prefix": prefix},
        ),
        (rf"{path}/healthz", HealthHandler, {**shared, "tables": tables}),
        (rf"{path}/metrics", MetricsHandler, {**shared, "tables": tables}),
    ]


SETTINGS = {
    "default_handler_class": NotFound,
    "websocket_max_message_size": LONGEST,
    "websocket_ping_interval": PING_S,
    "websocket_ping_timeout": PING_S,
}
