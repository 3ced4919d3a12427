"""Requests of which two programs may see different ends (request smuggling): directly, and by way of nginx."""

import contextlib
import re
import shutil
import socket
import ssl
import sys

import pytest
from chain import listens
from helpers import ROOT, free_port, running, wait_until
from node_chain import NODE, is_there
from test_deploy import configuration

ANSWER_S, QUIET_S = 10, 0.5
SECRET = b"# TYPE"  # what only /metrics answers: nobody has asked for it but by a hidden request
HIDDEN = b"GET /demo/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
SIZE, SIZE_16 = b"%d" % len(HIDDEN), b"%x" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
LAST_REQUEST = b"GET /demo/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# name: (headers, what follows them). Each is one request to the one who counts as the name says.
ATTACKS = {
    "CL.TE": ([b"Content-Length: %d" % len(LAST + HIDDEN), CHUNKED], LAST + HIDDEN),
    "TE.CL": ([CHUNKED, b"Content-Length: %d" % len(SIZE_16 + b"\r\n")], SIZE_16 + b"\r\n" + HIDDEN + b"\r\n" + LAST),
    "CL.0": ([b"Content-Length: " + SIZE], HIDDEN),
    "two lengths": ([b"Content-Length: 0", b"Content-Length: " + SIZE], HIDDEN),
    "two lengths, the other way": ([b"Content-Length: " + SIZE, b"Content-Length: 0"], HIDDEN),
    "a list of lengths": ([b"Content-Length: 0, " + SIZE], HIDDEN),
    "a signed length": ([b"Content-Length: +" + SIZE], HIDDEN),
    "a negative length": ([b"Content-Length: -" + SIZE], HIDDEN),
    "a length with an underscore": ([b"Content-Length: 0_" + SIZE], HIDDEN),
    "a length of 16s": ([b"Content-Length: 0x0"], HIDDEN),
    "a space before the colon": ([b"Content-Length : " + SIZE], HIDDEN),
    "a folded length": ([b"X: y\r\n Content-Length: " + SIZE], HIDDEN),
    "a folded encoding": ([b"Transfer-Encoding:\r\n chunked"], LAST + HIDDEN),
    "an encoding, a space before the colon": ([b"Content-Length: " + SIZE, b"Transfer-Encoding : chunked"], HIDDEN),
    "an encoding twice": ([CHUNKED, CHUNKED], LAST + HIDDEN),
    "an encoding that is none": ([b"Content-Length: " + SIZE, b"Transfer-Encoding: xchunked"], HIDDEN),
    "an encoding and identity": ([CHUNKED, b"Transfer-Encoding: identity"], LAST + HIDDEN),
    "an encoding after a tab": ([b"Content-Length: 0", b"Transfer-Encoding:\x0bchunked"], LAST + HIDDEN),
    "a chunk's size with an underscore": ([CHUNKED], b"0_0\r\n\r\n" + HIDDEN),
    "a negative chunk": ([CHUNKED], b"-1\r\n\r\n" + HIDDEN),
    "a chunk's size of 16s": ([CHUNKED], b"0x0\r\n\r\n" + HIDDEN),
    "a chunk that is too short": ([CHUNKED], b"1\r\nxx\r\n" + LAST + HIDDEN),
    "lines that end with LF": ([b"X: y\nContent-Length: " + SIZE], HIDDEN),
    "lines that end with CR": ([b"X: y\rContent-Length: " + SIZE], HIDDEN),
    "a NUL": ([b"X: \0y", b"Content-Length: " + SIZE], HIDDEN),
    "an empty name": ([b": y", b"Content-Length: " + SIZE], HIDDEN),
    "an upgrade that is none": ([b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: " + SIZE], HIDDEN),
    "an upgrade to HTTP/2": ([b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AA"], b""),
}


def command(kind):
    if kind == "python":
        return [sys.executable, ROOT / "perspective_server.py"]
    if not is_there():
        pytest.skip("no node on PATH, or no packages in node/node_modules")
    return ["node", NODE / "src/server.js"]


@pytest.fixture(scope="module", params=["python", "node"])
def site(request, tmp_path_factory):
    """A server and nginx in front of it: {name of the way: connect()}."""
    folder, port = tmp_path_factory.mktemp("site"), free_port()
    program, nginx = command(request.param), shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if nginx is None:
        pytest.skip("no nginx (Debian, Ubuntu: apt install nginx-light)")
    args = [*program, "--port", port, "--prefix", "/demo", "--allow-host", "localhost"]
    outside = configuration(folder, port, port)
    context = ssl.create_default_context(cafile=folder / "ca.pem")

    def direct():
        return socket.create_connection(("127.0.0.1", port), ANSWER_S)

    def through_nginx():
        plain = socket.create_connection(("127.0.0.1", outside), ANSWER_S)
        return context.wrap_socket(plain, server_hostname="localhost")

    with (
        running(args, folder, env={"TDENGINE_DSN": f"ws://127.0.0.1:{free_port()}"}) as server,
        running([nginx, "-p", folder, "-c", "nginx.conf", "-e", "stderr"], folder, "nginx") as proxy,
    ):
        wait_until(lambda: listens(port) and listens(outside), 60, lambda: server.log() + proxy.log())
        yield {"direct": direct, "nginx": through_nginx}
        assert server.alive(), server.log()
        assert "Traceback" not in server.stderr(), server.log()
        assert " ERROR " not in server.stderr(), server.log()


def exchange(connection, request):
    """All that is answered until the other side closes, or waits for more of a body."""
    found = b""
    with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
        connection.sendall(request + LAST_REQUEST)
        connection.settimeout(QUIET_S)
        while some := connection.recv(2**16):
            found += some
    return found


def attacked(connect, method, headers, body):
    """What one who hides a request is answered, and then an honest viewer."""
    lines = [method.encode() + b" /demo/healthz HTTP/1.1", b"Host: localhost", *headers]
    with contextlib.closing(connect()) as connection:
        answer = exchange(connection, b"\r\n".join([*lines, b"", body]))
    with contextlib.closing(connect()) as connection:
        return answer, exchange(connection, b"")


@pytest.mark.parametrize("way", ["direct", "nginx"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hidden_request_is_not_answered(site, way, method):
    for attack, (headers, body) in ATTACKS.items():
        answer, honest = attacked(site[way], method, headers, body)
        assert SECRET not in answer, attack
        assert honest.count(b"HTTP/1.1 ") == 1, (attack, honest)
        assert re.match(rb"HTTP/1.1 200 .*<!doctype html>", honest, re.DOTALL), (attack, honest)


@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_a_request_behind_another_is_answered_when_it_is_one(site, way):
    with contextlib.closing(site[way]()) as connection:
        assert SECRET in exchange(connection, b"GET /demo/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN)
