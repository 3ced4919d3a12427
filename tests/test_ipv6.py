"""A host that knows IPv6 only: database, producer, server and viewer find each other at ::1."""

import contextlib
import json
import re
import socket

import clickhouse_chain
import pytest
from chain import Chain, sent, stop_producers
from clickhouse_chain import ClickHouse
from counting_viewer import Viewer
from helpers import ROOT, get, wait_until
from node_chain import NODE, NodeChain, is_there

SERVER = ROOT / "perspective_server.py"
KINDS = {  # chain, and the servers with their flags
    "python": (Chain, [SERVER, "--source", "poll"], [SERVER, "--source", "subscribe"]),
    "clickhouse": (clickhouse_chain.Chain, [ROOT / "clickhouse/perspective_server.py"]),
    "node": (NodeChain, [NODE / "src/server.js"]),
}


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as s:
        s.bind(("::1", 0))
        return True
    return False


def handshake(port, **headers):
    """The first line of the answer to a WebSocket handshake."""
    headers = {"Host": f"[::1]:{port}", "Upgrade": "websocket", "Connection": "Upgrade", **headers}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    lines = ["GET /websocket HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection(("::1", port), 10) as connection:
        connection.sendall("\r\n".join([*lines, "\r\n"]).encode())
        return connection.makefile("rb").readline().decode()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_at_an_ipv6_address(kind, request, tmp_path):
    if kind == "node" and not is_there():
        pytest.skip("no node on PATH, or no packages in node/node_modules")
    make_chain, *servers = KINDS[kind]
    with contextlib.ExitStack() as stack:
        if kind == "clickhouse":
            database = ClickHouse(tmp_path)
            stack.callback(database.close)
        else:
            database = request.getfixturevalue("database")
        proxy = database.proxy()
        proxy.at = "::1"
        stack.enter_context(proxy)
        dsn = database.through(proxy).replace("127.0.0.1", "[::1]")
        chain = stack.enter_context(make_chain(database, tmp_path, dsn))
        args = ["--host", "::1", "--port", "0", "--database", database.name]
        servers = [chain.run("server", script, *args, *flags) for script, *flags in servers]
        ports = list(map(port_of, servers))
        producer = chain.producer("--rows", 50)
        viewers = [Viewer(f"ws://[::1]:{port}/websocket", "stock_values") for port in ports]
        for viewer in viewers:
            stack.callback(viewer.close)
            wait_until(lambda viewer=viewer: viewer.distinct() >= 200, 60, lambda: logs(producer, *servers))
        stop_producers(producer)
        for viewer, port, server in zip(viewers, ports, servers, strict=True):
            wait_until(lambda viewer=viewer: viewer.distinct() == sent(producer), 20, viewer.report)
            assert viewer.report()["twice"] == 0
            assert json.loads(get(f"http://[::1]:{port}/healthz"))["viewers"] == 1
            assert f"[::1]:{proxy.port}" in server.stderr()
        port = ports[0]
        assert get(f"http://[::1]:{port}/").startswith(b"<!doctype html>")
        for origin in (f"http://[::1]:{port}", "http://localhost:3000", "null"):
            assert " 101 " in handshake(port, Origin=origin)
        assert " 403 " in handshake(port, Origin="http://[::2]:80")
        assert " 403 " in handshake(port, Host="[::1].evil.example")


def port_of(server):
    page = wait_until(lambda: re.search(r"page at http://\[::1\]:(\d+)/, reading", server.stderr()), 60, server.log)
    return int(page[1])


def logs(*processes):
    return "\n".join(process.log() for process in processes)
