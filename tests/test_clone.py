"""The main job as a user does it: a fresh clone, ./run.sh with everything installed, the page in a real Chromium."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from browser import Page, chromium
from helpers import ROOT, health, wait_until
from test_run import Demo

INSTALLS_S = 600  # bound of a first start on a slow network


@pytest.fixture
def clone(tmp_path):
    """A Demo in a folder of what git tracks, as a clone has it, without anything that is installed."""
    demo = Demo(tmp_path)
    shutil.rmtree(demo.folder)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        (demo.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, demo.folder / name)
    yield demo
    demo.close()


def rows_shown(demo):
    return health(demo.port)["tables"]["stock_values"]["rows"]


@pytest.mark.timeout(INSTALLS_S + 120)
@pytest.mark.skipif(not shutil.which("npm"), reason="no npm: the page's packages would come from the CDN")
def test_a_fresh_clone_shows_a_live_page_with_one_command(clone):
    assert " " in str(clone.folder)
    # what earlier installs have fetched may be used again
    caches = {"PIP_CACHE_DIR": ROOT / ".cache/pip", "npm_config_cache": ROOT / ".cache/npm"}
    caches = {name: os.environ.get(name, path) for name, path in caches.items()}
    process = clone.start(install=True, **caches)
    wait_until(
        lambda: "page at http://localhost:" in process.stdout() or not process.alive(),
        INSTALLS_S,
        lambda: clone.log(process),
    )
    assert process.alive(), clone.log(process)
    assert process.stderr() == ""
    with chromium() as browser, Page(browser, f"http://localhost:{clone.port}/") as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        before = rows_shown(clone)
        wait_until(lambda: rows_shown(clone) > before + 1000, 20, lambda: clone.log(process))
        page.page.get_by_text("Volume", exact=True).click()
        page.wait_for_chart()
        assert page.errors == []
        assert page.hosts_asked() == {f"localhost:{clone.port}"}
    process.signal(signal.SIGINT)
    clone.assert_ended(process, 0)
    assert re.search(r"sent [1-9]\d* rows in \d+ batches", process.stdout())
