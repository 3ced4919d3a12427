"""The published guides, step by step as they are written, up to what each of them shows.

Where a guide has a port that another test may use just now, the step has another one. The environment that
./install.sh finds is the tests' own; test_install.py makes new ones, and does there with pip what the guides do.
"""

import json
import os
import shlex
import shutil
import sys

import pytest
from browser import DEFAULT_PORT, QUICK, Page, chromium
from chain import listens
from demo import ENDS_S, Demo, play_docker
from helpers import ROOT, Process, free_port, health, wait_until
from test_install import GOOD, serving

# Only one demo at a time is what the browser finds at localhost:8080
pytestmark = pytest.mark.xdist_group("clone")


class Guide(Demo):
    """The demo's folder, in which commands are typed; the browser finds `port` at localhost:8080."""

    def __init__(self, folder):
        super().__init__(folder)
        self.port = DEFAULT_PORT
        self.env["PYTHON"] = sys.executable

    def type(self, command, folder="", **env):
        """Starts a command line, as in a terminal of its own that is in this folder."""
        env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **self.env, **env}
        names = [f"{name}={value}" for name, value in env.items()]
        command = ["env", "-i", *names, "bash", "-c", f"exec {command}" if "&&" not in command else command]
        self.started.append(Process(command, self.outputs, "typed", cwd=self.folder / folder))
        return self.started[-1]

    def finish(self, command, timeout=400, **env):
        """A command line that ends by itself, well."""
        process = self.type(command, **env)
        assert process.wait(timeout) == 0, process.log()
        return process.stdout()

    def page(self, browser, address, table):
        """Until the page at this address shows numbers of this table that move; its cells, and the table's columns."""
        with Page(browser, address) as page:
            page.wait_for("live")
            assert page.config()["table"] == table
            assert not page.page.locator("#tables").is_visible()  # one table needs no switch
            page.wait_for_changing_cells()
            return [*page.grid(), *health(self.port)["tables"][table]["columns"]]


@pytest.fixture
def guide(tmp_path):
    guide = Guide(tmp_path)
    yield guide
    guide.close()


@pytest.fixture(scope="module")
def browser():
    with chromium(QUICK) as browser:
        yield browser


def test_tdengines_documentation(guide, browser):
    demo = guide.type(f"sh run.sh --dataset meters --port {guide.port} --no-install")
    guide.wait_for_rows(demo)
    static = free_port()
    web = guide.type(f"python3 -m http.server {static}")
    wait_until(lambda: listens(static), 30, "a static web server")
    shown = guide.page(browser, f"http://localhost:{static}/prsp-viewer.html", "meters_values")
    for words in ("location", "current", "voltage", "phase", "San Francisco"):
        assert any(words in cell for cell in shown), shown
    web.stop()
    guide.end(demo)


def test_the_stocks_demo(guide, browser):
    shown = guide.finish("./install.sh")
    assert "taosws needs no native driver; ./install.sh --native" in shown.splitlines()[-1]
    # Docker is played, the container's TDengine is the stand-in
    tdengine = guide.type(f"venv/bin/python -m embedded --port {guide.tdengine_port}")
    wait_until(lambda: listens(guide.tdengine_port), 30, tdengine.log)
    played = guide.outputs / "docker"
    played.mkdir()
    play_docker(played)
    image = json.dumps(["tdengine/tsdb:3.3.7.0"])
    state = '{"container": null, "fail": {}, "hang": [], "on_start": "running", "version": "Docker 28", "images": %s}'
    (played / "state.json").write_text(state % image)
    env = {"PATH": f"{played}:{os.environ['PATH']}", "FAKE_DOCKER": played}
    assert "database test, supertable meters" in guide.finish("./docker.sh --benchmark --no-pull", **env)

    activated = "source venv/bin/activate &&"
    # ls -l tdengine-client/driver/ shows a link libtaos.so
    with serving({"/client.tar.gz": GOOD}) as (address, _):
        guide.finish("./install.sh --native", TDENGINE_CLIENT_URL=f"{address}/client.tar.gz")
    assert "libtaos.so -> libtaos.so.3.3.7.0" in guide.finish("ls -l tdengine-client/driver/")

    dsn = f"ws://root:taosdata@localhost:{guide.tdengine_port}"
    producer = guide.type(f"{activated} exec python producer.py", TDENGINE_DSN=dsn)
    server = guide.type(f"{activated} exec python perspective_server.py --port {guide.port}", TDENGINE_DSN=dsn)
    wait_until(lambda: listens(guide.port), 60, server.log)
    shown = guide.page(browser, f"file://{guide.folder}/prsp-viewer.html", "stock_values")
    for words in ("ticker", "client", "open", "high", "low", "close", "volume", "AAPL.N"):
        assert any(words in cell for cell in shown), shown
    for process in (producer, server):
        process.signal(2)
        assert process.ends_within(ENDS_S) == 0, process.log()


def test_the_clickhouse_demo(guide, browser):
    # its own folder and environment; ClickHouse itself is the engine in process
    shutil.copytree(
        ROOT / "clickhouse", guide.folder / "clickhouse", dirs_exist_ok=True, ignore=shutil.ignore_patterns("venv")
    )
    port = guide.clickhouse_port
    python = shlex.quote(sys.executable)
    engine = guide.type(f"{python} embedded.py --port {port}", "clickhouse")
    wait_until(lambda: listens(port), 60, engine.log)
    dsn = f"clickhouse://default@localhost:{port}"
    guide.type(f"{python} producer.py", "clickhouse", CLICKHOUSE_DSN=dsn)
    server = guide.type(f"{python} perspective_server.py --port {guide.port}", "clickhouse", CLICKHOUSE_DSN=dsn)
    wait_until(lambda: listens(guide.port), 60, server.log)
    shown = guide.page(browser, f"file://{guide.folder}/prsp-viewer.html", "stock_values")
    assert any("AAPL.N" in cell for cell in shown), shown
