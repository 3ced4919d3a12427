"""The page in Firefox: the grid, and one chart."""

import shutil

import pytest
from browser import SHOWS_S
from chain import Chain
from firefox import firefox
from helpers import wait_until

BARS = {"plugin": "Y Bar", "settings": False, "columns": ["close"], "group_by": ["ticker"], "split_by": []}
RESTORE = """(config) => document.querySelector("perspective-viewer").restore(config)"""

missing = [name for name in ("firefox-esr", "Xvfb") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(missing, reason=f"no {missing} on PATH (Debian: apt install firefox-esr xvfb)")


@pytest.fixture
def address(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        slow = ["--interval", "1000"]  # each update is drawn
        chain.server(*slow, limit=1000)
        chain.producer("--rows", "200", *slow)
        chain.wait_for_rows(200, 30)
        yield f"http://127.0.0.1:{chain.port}/"


def test_the_grid_and_a_chart_are_drawn(address, tmp_path):
    with firefox(tmp_path) as page:
        page.open(address)
        page.wait_for_changing_cells()
        before = page.coloured()
        page.evaluate(RESTORE, BARS)
        wait_until(lambda: page.coloured() > before + 5000, SHOWS_S, lambda: (before, page.coloured(), page.errors))
        assert page.message() == ""
        assert page.errors == []
