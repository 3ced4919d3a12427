"""A host that knows IPv6 only: database, producer, server and viewer find each other at ::1."""

import contextlib
import json
import re
import socket

import clickhouse_chain
import pytest
from chain import Chain, Database, sent, stop_producers
from clickhouse_chain import ClickHouse
from counting_viewer import Viewer
from helpers import ROOT, get, wait_until
from node_chain import NODE, NodeChain, is_there

KINDS = {  # database, chain, the server and its flags
    "poll": (Database, Chain, ROOT / "perspective_server.py", "--source", "poll"),
    "subscribe": (Database, Chain, ROOT / "perspective_server.py", "--source", "subscribe"),
    "clickhouse": (ClickHouse, clickhouse_chain.Chain, ROOT / "clickhouse/perspective_server.py"),
    "node": (Database, NodeChain, NODE / "src/server.js"),
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
def test_all_of_it_at_an_ipv6_address(kind, tmp_path):
    if kind == "node" and not is_there():
        pytest.skip("no node on PATH, or no packages in node/node_modules")
    make_database, make_chain, script, *flags = KINDS[kind]
    with contextlib.ExitStack() as stack:
        database = make_database(tmp_path)
        stack.callback(database.close)
        proxy = database.proxy()
        proxy.at = "::1"
        stack.enter_context(proxy)
        dsn = database.through(proxy).replace("127.0.0.1", "[::1]")
        chain = stack.enter_context(make_chain(database, tmp_path, dsn))
        args = ["--host", "::1", "--port", "0", "--database", database.name, *flags]
        server = chain.run("server", script, *args)
        page = wait_until(lambda: re.search(r"page at http://\[::1\]:(\d+)/, reading", server.stderr()), 60, server.log)
        port = int(page[1])
        producer = chain.producer("--rows", 50)
        viewer = Viewer(f"ws://[::1]:{port}/websocket", "stock_values")
        stack.callback(viewer.close)
        wait_until(lambda: viewer.distinct() >= 200, 60, lambda: server.log() + producer.log())
        stop_producers(producer)
        wait_until(lambda: viewer.distinct() == sent(producer), 20, viewer.report)
        assert viewer.report()["twice"] == 0
        assert get(f"http://[::1]:{port}/").startswith(b"<!doctype html>")
        assert json.loads(get(f"http://[::1]:{port}/healthz"))["viewers"] == 1
        for origin in (f"http://[::1]:{port}", "http://localhost:3000", "null"):
            assert " 101 " in handshake(port, Origin=origin)
        assert " 403 " in handshake(port, Origin="http://[::2]:80")
        assert " 403 " in handshake(port, Host="[::1].evil.example")
        assert f"[::1]:{proxy.port}" in server.stderr()
