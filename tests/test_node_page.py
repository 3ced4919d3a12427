"""prsp-viewer.html in a real Chromium, served by the Node server."""

import shutil

import pytest
from browser import Page
from helpers import ROOT, Process, free_port, wait_until
from node_chain import NODE, NodeChain, skip_without_node
from test_page import (  # noqa: F401 (pytest runs them with this site and chain)
    SLOW,
    SMALL,
    browser,
    charts_site,
    opened_before_its_server,
    test_http_answers_and_what_it_refuses,
    test_metrics_are_prometheus_text,
    test_other_origins_read_what_they_may,
    test_perspective_comes_out_of_the_wheel_at_an_address_that_holds_the_version,
    test_tables_of_more_columns_than_views_of_groups_and_views_at_all_may_have,
    test_the_first_view_is_the_grouped_grid_and_its_numbers_change,
)

skip_without_node()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with charts_site(NodeChain, tmp_path_factory.mktemp("site"), " ERROR ", 60) as site:
        yield site


@pytest.fixture
def chain(database, tmp_path):
    with NodeChain(database, tmp_path) as chain:
        yield chain


def test_pages_that_were_opened_before_the_server_and_the_first_row_fill(browser, chain):  # noqa: F811
    with opened_before_its_server(browser, chain) as (page, _):
        assert page.config()["group_by"] == ["ticker", "client"]


@pytest.fixture
def without_python(site, tmp_path):
    """A NodeChain of the site's database in a project's folder that has no venv."""
    for name in ("bridge", "viewer", "prsp-viewer.html"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(NODE, tmp_path / "node", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "node/node_modules").symlink_to(NODE / "node_modules")
    with NodeChain(site.database, tmp_path) as chain:
        chain.scripts, chain.environment = tmp_path / "node/src", ""
        yield chain


def test_without_the_python_package_viewer_and_grid_come_from_npm(browser, without_python):  # noqa: F811
    without_python.server(*SLOW, limit=3000)
    with Page(browser, f"http://127.0.0.1:{without_python.port}/", *SMALL) as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        assert page.config()["group_by"] == ["ticker", "client"]
        assert any("/npm/" in url for url in page.asked)
        assert page.hosts_asked() == {f"127.0.0.1:{without_python.port}"}
        assert page.errors == []


def test_the_page_that_npm_run_dev_serves(browser, site, tmp_path):  # noqa: F811
    port = free_port()
    process = Process(["node", NODE / "src/page.js", port], tmp_path, "page")
    try:
        wait_until(lambda: "page at" in process.stderr(), 30, process.log)
        with Page(browser, f"http://localhost:{port}/", *SMALL) as page:
            page.wait_for("live")
            page.wait_for_changing_cells()
            assert page.hosts_asked() == {f"localhost:{port}", "localhost:8080"}
    finally:
        process.stop()
