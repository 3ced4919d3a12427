"""The main job as a user does it: a fresh clone, ./run.sh with everything installed, the page in a real Chromium."""

import os
import re
import signal
import subprocess

import pytest
from browser import QUICK, Page, chromium
from demo import clone_of_the_project
from helpers import ROOT, health, wait_until

INSTALLS_S = 600  # bound of a first start on a slow network
pytestmark = pytest.mark.xdist_group("clone")


@pytest.fixture
def clone(tmp_path):
    demo = clone_of_the_project(tmp_path)
    yield demo
    demo.close()


def rows_shown(demo):
    return health(demo.port)["tables"]["stock_values"]["rows"]


@pytest.mark.timeout(INSTALLS_S + 120)
def test_a_fresh_clone_shows_a_live_page_with_one_command(clone):
    assert " " in str(clone.folder)
    # what earlier installs have fetched may be used again
    process = clone.start(install=True, PIP_CACHE_DIR=os.environ.get("PIP_CACHE_DIR", ROOT / ".cache/pip"))
    wait_until(
        lambda: "page at http://localhost:" in process.stdout() or not process.alive(),
        INSTALLS_S,
        lambda: clone.log(process),
    )
    assert process.alive(), clone.log(process)
    assert clone.errors(process) == []
    with chromium(QUICK) as browser, Page(browser, f"http://localhost:{clone.port}/") as page:
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
    # and all of it is gone again
    assert clone.run("--clean", stdin="y\n").returncode == 0
    status = subprocess.run(
        ["git", "status", "--short", "--ignored"], cwd=clone.folder, capture_output=True, text=True, timeout=60
    )
    assert status.stdout == "", status


def test_a_clone_with_windows_line_ends_has_none(tmp_path):
    folder = tmp_path / "clone"
    clone = ["git", "clone", "-q", "--no-local", "-c", "core.autocrlf=true", ROOT, folder]
    subprocess.run(clone, check=True, timeout=120)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, timeout=30, check=True)
    names = [name.decode() for name in listed.stdout.split(b"\0") if name]
    texts = [name for name in names if b"\0" not in (folder / name).read_bytes()]
    assert "run.sh" in texts
    assert [name for name in texts if b"\r\n" in (folder / name).read_bytes()] == []
