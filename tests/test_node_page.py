"""prsp-viewer.html in a real Chromium, served by the Node server."""

import pytest
from browser import SHOWS_S, Page
from helpers import wait_until
from node_chain import NodeChain, skip_without_node
from test_page import (  # noqa: F401 (pytest runs them with this module's site and chain)
    browser,
    charts_site,
    test_editing_a_cell_harms_nobody,
    test_every_chart_that_the_viewer_offers_is_drawn,
    test_every_layout_is_drawn,
    test_exports_and_expressions,
    test_one_table_needs_no_switch,
    test_the_first_view_is_the_grouped_grid_and_its_numbers_change,
    test_the_server_is_killed_and_started_again,
)

skip_without_node()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with charts_site(NodeChain, tmp_path_factory.mktemp("site"), " ERROR ", 40) as site:
        yield site


@pytest.fixture
def chain(database, tmp_path):
    with NodeChain(database, tmp_path) as chain:
        yield chain


def test_five_pages_that_were_opened_before_the_first_row_fill(browser, chain):  # noqa: F811
    chain.server(limit=5000)
    pages = [Page(browser, f"http://127.0.0.1:{chain.port}/") for _ in range(5)]
    try:
        for page in pages:
            page.wait_for("waiting", "start producer.js")
        chain.producer()
        for page in pages:
            page.wait_for("live")
            wait_until(lambda page=page: page.config().get("table") == "stock_values", SHOWS_S, page.log)
        pages[0].wait_for_changing_cells()
        for page in pages:
            assert page.errors == []
    finally:
        for page in pages:
            page.context.close()
