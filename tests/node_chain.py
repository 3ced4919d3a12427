"""The chain with the Node pair in place of the Python pair, for the same tests."""

import re
import shutil
import sys

import pytest
from chain import Chain
from helpers import ROOT, wait_until

NODE = ROOT / "node"
PROGRAM = ["node", "--liftoff-only"]  # V8's second, better compilation of the engine is most of what a start costs


def is_there():
    """Whether Node and its packages are; tests/run.sh has installed them otherwise."""
    return shutil.which("node") is not None and (NODE / "node_modules/ws").is_dir()


def skip_without_node():
    """Skips the whole module where they are missing."""
    if not is_there():
        pytest.skip("no node on PATH, or no packages in node/node_modules", allow_module_level=True)


class NodeChain(Chain):
    """Polls only: --source subscribe is the Python server's."""

    script = "producer.js"
    has_workers = False
    scripts = NODE / "src"
    environment = sys.prefix  # where Perspective's browser files are looked for

    def run(self, name, *args, dsn=None):
        """A Python script of the tests, or a script of node/src."""
        program = PROGRAM if str(args[0]).endswith(".js") else [sys.executable]
        return super().run(name, *args, dsn=dsn, program=program, VIRTUAL_ENV=self.environment)

    def producer(self, *args, dsn=None):
        return self.run("producer", self.scripts / self.script, "--database", self.database.name, *args, dsn=dsn)

    def serve(self, *args, dsn=None):
        process = self.run("server", self.scripts / "server.js", *args, dsn=dsn)
        page = wait_until(lambda: re.search(r"page at https?://127\.0\.0\.1:(\d+)/", process.stderr()), 40, process.log)
        self.port = int(page[1])
        return process
