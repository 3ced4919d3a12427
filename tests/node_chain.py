"""The chain with the Node pair in place of the Python pair, for the same tests."""

import re
import shutil

import pytest
from chain import Chain
from helpers import ROOT, Process, wait_until

NODE = ROOT / "node"


def skip_without_node():
    """Skips the whole module where Node is missing; tests/run.sh has installed the packages otherwise."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm on PATH", allow_module_level=True)


class NodeChain(Chain):
    def node(self, name, script, *args, dsn=None):
        args = ["node", NODE / script, "--dataset", "stocks", *args]
        process = Process(args, self.folder, name, env={"TDENGINE_DSN": dsn or self.dsn})
        self.ended.callback(process.stop)
        return process

    def producer(self, *args, dsn=None):
        return self.node("producer", "producer.js", "--database", self.database.name, *args, dsn=dsn)

    def server(self, *args, limit=100_000, dsn=None):
        args = ["--port", "0", "--database", self.database.name, "--limit", limit, *args]
        process = self.node("server", "server.js", *args, dsn=dsn)
        page = wait_until(lambda: re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr()), 20, process.log)
        self.port = int(page[1])
        return process
