"""prsp-viewer.html in a real Chromium, against a real server and real rows."""

import contextlib
import json
import mimetypes
import pathlib
import re
import signal
import urllib.parse

import pytest
from browser import SHOWS_S, Page, chromium
from chain import Chain, Database
from helpers import ROOT, free_port, wait_until

CDN = "https://cdn.jsdelivr.net/npm/"
VERSION = json.loads((ROOT / "package.json").read_text())["dependencies"]["@perspective-dev/viewer"]
LAYOUTS = {
    "stock_values": {"grid": "Datagrid", "candlestick": "Candlestick", "prices": "Y Line", "treemap": "Treemap"},
    "meters_values": {"grid": "Datagrid", "lines": "Y Line", "heatmap": "Heatmap"},
}
DISTINCT = """async () => {
  const table = await document.querySelector("perspective-viewer").getTable();
  const view = await table.view();
  const rows = (await view.to_json()).map((row) => JSON.stringify(row));
  await view.delete();
  return [rows.length, new Set(rows).size];
}"""

TICKERS = """async () => {
  const table = await document.querySelector("perspective-viewer").getTable();
  const view = await table.view({ group_by: ["ticker"], columns: ["ticker"] });
  return (await view.to_json()).map((row) => row.__ROW_PATH__);
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@contextlib.contextmanager
def charts_site(kind, folder, trouble, within_s):
    """A chain of this kind of both datasets with enough history for charts; its page is at site.address."""
    database = Database(folder)
    try:
        with kind(database, folder) as chain:
            server = chain.server("--dataset", "all", limit=5000)
            for dataset in ("stocks", "meters"):
                chain.producer("--dataset", dataset)
            chain.address = f"http://127.0.0.1:{chain.port}/"
            for dataset in ("stocks", "meters"):
                chain.wait_for_rows(3000, within_s, dataset)
            yield chain
            assert trouble not in server.stderr(), server.log()
    finally:
        database.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with charts_site(Chain, tmp_path_factory.mktemp("site"), "Traceback", 30) as site:
        yield site


@pytest.fixture
def chain(database, tmp_path):
    """A Chain of this test's own."""
    with Chain(database, tmp_path) as chain:
        yield chain


def serve(chain, *args, limit=5000, **kwargs):
    """Starts a server on the chain's port, the same one each time; returns the Process."""
    chain.port = chain.port or free_port()
    chain.address = f"http://127.0.0.1:{chain.port}/"
    return chain.server("--port", chain.port, *args, limit=limit, **kwargs)


# What it shows


def test_the_first_view_is_the_grouped_grid_and_its_numbers_change(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        config = page.config()
        assert (config["plugin"], config["theme"], config["settings"]) == ("Datagrid", "Pro Dark", True)
        assert config["group_by"] == ["ticker", "client"]
        assert config["plugin_config"].get("edit_mode", "READ_ONLY") == "READ_ONLY"
        expected = {"timestamp": "last", "open": "mean", "volume": "sum", "client": "dominant", "date": "dominant"}
        expected |= {"high": "avg", "low": "avg", "close": "avg"}
        assert config["aggregates"].items() >= expected.items()
        headers = {text.strip() for text in page.grid()}
        assert {"AAPL.N", "Homer", "timestamp", "volume"} <= headers
        assert re.search(r"[\d,]+ rows/s · [\d,]+ rows · newest [\d,]+ ms old · \d+ viewers?", page.numbers())
        assert page.errors == []
        assert page.hosts_asked() == {f"127.0.0.1:{site.port}"}


@pytest.mark.parametrize("table", LAYOUTS)
def test_every_layout_is_drawn(browser, site, table):
    with Page(browser, f"{site.address}?table={table}") as page:
        page.wait_for("live")
        assert page.page.locator("#layouts input").evaluate_all("all => all.map((each) => each.value)") == list(
            LAYOUTS[table]
        )
        for name, plugin in reversed(LAYOUTS[table].items()):
            page.page.locator(f"#layouts label:has([value={name}])").click()
            wait_until(lambda plugin=plugin: page.config()["plugin"] == plugin, SHOWS_S, page.log)
            if plugin == "Datagrid":
                page.wait_for_changing_cells()
            else:
                page.wait_for_chart()
        assert page.errors == []


@pytest.mark.parametrize(("table", "layout"), [("stock_values", "candlestick"), ("meters_values", "lines")])
def test_the_address_names_table_and_layout(browser, site, table, layout):
    with Page(browser, f"{site.address}?table={table}&layout={layout}") as page:
        page.wait_for("live")
        page.wait_for_chart()
        config = page.config()
        assert (config["table"], config["plugin"]) == (table, LAYOUTS[table][layout])
        if layout == "candlestick":
            assert config["aggregates"] == {"open": "first", "close": "last", "high": "max", "low": "min"}
        assert page.errors == []


def test_every_chart_that_the_viewer_offers_is_drawn(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for_changing_cells()
        names = page.evaluate(
            "() => document.querySelector('perspective-viewer').getAllPlugins().map((each) => each.name)"
        )
        assert {"Datagrid", "Y Line", "Candlestick", "Treemap", "Heatmap", "X Bar", "Sunburst"} <= set(names)
        for plugin in set(names) - {"Datagrid", "Debug"}:
            layout = {"plugin": plugin, "columns": ["open", "close", "high", "low"], "group_rollup_mode": "flat"}
            page.evaluate("(layout) => document.querySelector('perspective-viewer').restore(layout)", layout)
            assert page.config()["plugin"] == plugin
            page.wait_for_chart()
        assert page.errors == []


# The switch


def chosen(page, name):
    return page.page.locator(f"#{name} input:checked").input_value()


def test_the_switch_by_mouse(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        assert (chosen(page, "tables"), chosen(page, "layouts")) == ("stock_values", "grid")
        page.page.get_by_text("Meters", exact=True).click()
        wait_until(lambda: page.config()["table"] == "meters_values", SHOWS_S, page.log)
        assert page.config()["group_by"] == ["location"]
        page.wait_for_changing_cells()
        page.page.get_by_text("Heat map", exact=True).click()
        page.wait_for_chart()
        page.page.reload()  # the address has followed
        page.wait_for("live")
        page.wait_for_chart()
        assert (chosen(page, "tables"), chosen(page, "layouts")) == ("meters_values", "heatmap")


def test_the_switch_by_keyboard(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        assert page.page.get_by_role("group", name="Table").is_visible()
        page.page.keyboard.press("Tab")
        focused = "() => [document.activeElement.name ?? document.activeElement.id, document.activeElement.value]"
        assert page.evaluate(focused) == ["tables", "stock_values"]
        outline = "() => getComputedStyle(document.activeElement.closest('label')).outlineStyle"
        assert page.evaluate(outline) == "solid"
        page.page.keyboard.press("ArrowRight")
        assert page.evaluate(focused) == ["tables", "meters_values"]
        wait_until(lambda: page.config()["table"] == "meters_values", SHOWS_S, page.log)
        page.page.keyboard.press("Tab")
        page.page.keyboard.press("ArrowRight")
        assert page.evaluate(focused) == ["layouts", "lines"]
        page.wait_for_chart()
        page.wait_for("live")
        page.page.keyboard.press("Tab")
        page.page.keyboard.press("Enter")  # closes the settings panel
        wait_until(lambda: page.config()["settings"] is False, SHOWS_S, page.log)
        page.page.keyboard.press("Tab")
        page.page.keyboard.press("Space")  # reset: opens it again
        wait_until(lambda: page.config()["settings"] is True, SHOWS_S, page.log)


def test_one_table_needs_no_switch(browser, chain):
    serve(chain, "--dataset", "meters")
    chain.producer("--dataset", "meters")
    with Page(browser, chain.address) as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        assert page.config()["table"] == "meters_values"
        assert not page.page.locator("#tables").is_visible()


def test_phone_width(browser, site):
    with Page(browser, site.address, width=390, height=844) as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        assert page.config()["settings"] is False  # it would cover half of the screen
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
        assert page.page.locator("header").bounding_box()["height"] < 844 / 4
        grid = page.page.locator("perspective-viewer").bounding_box()
        assert (grid["width"], grid["x"]) == (390, 0)
        page.page.get_by_text("Settings", exact=True).click()
        wait_until(lambda: page.config()["settings"], SHOWS_S, page.log)
        for label in ("Stocks", "Meters", "Grid", "Volume", "Reset"):
            box = page.page.get_by_text(label, exact=True).bounding_box()
            assert 0 <= box["x"] < box["x"] + box["width"] <= 390
        page.page.get_by_text("Prices", exact=True).click()
        page.wait_for_chart()
        assert page.errors == []


# What the user has arranged


def arrange(page, **config):
    page.evaluate("(config) => document.querySelector('perspective-viewer').restore(config)", config)
    wait_until(lambda: "client" in page.evaluate("() => JSON.stringify(localStorage)"), SHOWS_S, page.log)


def test_a_layout_is_kept_over_reloads_until_it_is_reset(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        assert page.evaluate("() => localStorage.length") == 0
        arrange(page, group_by=["client"], sort=[["volume", "desc"]])
        page.page.get_by_text("Prices", exact=True).click()  # which stays as it is
        page.wait_for_chart()
        assert page.config()["group_by"] == ["second"]
        page.page.get_by_text("Grid", exact=True).click()
        wait_until(lambda: page.config()["group_by"] == ["client"], SHOWS_S, page.log)
        page.page.reload()
        page.wait_for("live")
        assert (page.config()["group_by"], page.config()["sort"]) == (["client"], [["volume", "desc"]])
        page.page.get_by_text("Reset", exact=True).click()
        wait_until(lambda: page.config()["group_by"] == ["ticker", "client"], SHOWS_S, page.log)
        assert page.config()["sort"] == []
        page.page.reload()
        page.wait_for("live")
        assert page.config()["group_by"] == ["ticker", "client"]
        assert page.errors == []


def test_a_kept_layout_that_can_not_be_used_is_forgotten(browser, site):
    with Page(browser, site.address) as page:
        for kept in (
            "nonsense",
            "5",
            '{"plugin": "Datagrid", "group_by": ["no such column"]}',
            '{"plugin": "<b>none"}',
        ):
            page.evaluate("(kept) => { localStorage['prsp-viewer/stock_values/grid'] = kept; }", kept)
            page.page.reload()
            page.wait_for("live")
            assert page.config()["group_by"] == ["ticker", "client"]
        page.wait_for_changing_cells()


# Where it comes from, and what the address may say


def from_disk(route):
    """Answers the CDN's addresses from node_modules, at the installed versions only."""
    url = route.request.url
    if url.startswith(("file:", "data:", "blob:")) or urllib.parse.urlsplit(url).hostname == "localhost":
        route.continue_()
        return
    match = re.fullmatch(rf"{re.escape(CDN)}(@perspective-dev/[a-z0-9-]+)@([^/]+)/(dist/[^?#]+)", url)
    package = match and ROOT / "node_modules" / match[1]
    if not match or json.loads((package / "package.json").read_text())["version"] != match[2]:
        route.abort()
        return
    file = package / match[3]
    kind = "application/wasm" if file.suffix == ".wasm" else mimetypes.guess_type(file)[0]
    route.fulfill(body=file.read_bytes(), content_type=kind, headers={"Access-Control-Allow-Origin": "*"})


@pytest.mark.parametrize("more", ["", "&mode=local"])
def test_from_disk_with_packages_from_the_cdn(browser, site, more):
    address = f"{(ROOT / 'prsp-viewer.html').as_uri()}?server=localhost:{site.port}{more}"
    with Page(browser, address, route=from_disk) as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        page.page.get_by_text("Volume", exact=True).click()
        page.wait_for_chart()
        assert "layout=treemap" in page.page.url
        # from disk Chromium makes no worker for the engine, which says so; but nothing was aborted
        assert [error for error in page.errors if "single-threaded mode" not in error] == []
        assert page.hosts_asked() == {"cdn.jsdelivr.net", f"localhost:{site.port}"}
        assert all(f"@{VERSION}/" in url for url in page.asked if url.startswith("https:"))


def test_from_disk_it_looks_for_a_server_on_port_8080(browser):
    with Page(browser, (ROOT / "prsp-viewer.html").as_uri(), route=from_disk) as page:
        wait_until(lambda: "http://localhost:8080/healthz" in page.asked, SHOWS_S, page.asked)


def test_served_under_a_prefix(browser, chain):
    serve(chain, "--prefix", "/demo")
    chain.producer()
    with Page(browser, f"{chain.address}demo/") as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        assert page.errors == []


BAD = {
    "table=no_such": "no table no_such",
    "table=__proto__": "no table __proto__",
    "table=<img src=x onerror=alert(1)>": "no table <img",
    "layout=constructor": "no layout constructor",
    "table=meters_values&layout=<b>": "no layout <b>",
    "server=no host": "server=no host",
    "server=evil.example/path": "server=evil.example/path",
    "server=localhost:99999": "localhost:99999",
    "server=<script>alert(1)</script>": "<script>alert(1)",
    "server=user:secret@localhost": "is not an address",
    "mode=remote": "mode=remote",
}


def test_an_address_that_can_not_be_used_ends_in_a_message(browser, site):
    with Page(browser) as page:
        for query, message in BAD.items():
            page.open(f"{site.address}?{urllib.parse.quote(query, safe='=&')}")
            page.wait_for("error", message)
            assert page.page.locator("#message img, #message b, #message script").count() == 0
            assert page.page.locator("#message a").count() > 0
        page.page.locator("#message a").first.click()  # there is a way out of it
        page.wait_for("live")
        assert page.errors == []


def test_a_server_that_is_not_there_is_named(browser, site):
    with Page(browser, f"{site.address}?server=127.0.0.1:{free_port()}") as page:
        page.wait_for("away", "No answer from http://127.0.0.1:")


def test_packages_that_can_not_be_loaded_are_told(browser, site):
    def route(route):
        route.abort() if "/npm/" in route.request.url else route.continue_()

    with Page(browser, site.address, route=route) as page:
        page.wait_for("error", "could not be loaded")
        assert "./install.sh" in page.message()


# Faults


def test_pages_that_were_opened_before_the_first_row_fill(browser, chain):
    serve(chain)
    layouts = ["grid", "prices", "grid", "grid", "grid"]  # grouped views all
    pages = [Page(browser, f"{chain.address}?layout={each}", width=640, height=360) for each in layouts]
    try:
        for page in pages:
            page.wait_for("waiting", "start producer.py")
        chain.producer()
        for page in pages:
            page.wait_for("live")
            wait_until(lambda page=page: page.config().get("table") == "stock_values", SHOWS_S, page.log)
        pages[0].wait_for_changing_cells()
        pages[1].wait_for_chart()
        for page in pages:
            assert page.errors == []
    finally:
        for page in pages:
            page.context.close()


@pytest.mark.parametrize("mode", ["", "?mode=local"])
def test_the_server_is_killed_and_started_again(browser, chain, mode):
    server = serve(chain)
    chain.producer()
    with Page(browser, chain.address + mode) as page:
        page.wait_for("live")
        page.evaluate("() => { window.not_reloaded = true; }")
        arrange(page, group_by=["client"], sort=[["volume", "desc"]])
        server.signal(signal.SIGKILL)
        server.wait(10)
        page.wait_for("away", "No answer from")
        shown = page.cells()
        assert any(any(map(str.isdigit, text)) for text in shown)  # what was shown stays
        serve(chain)
        page.wait_for("live")
        page.wait_for_changing_cells()
        assert (page.config()["group_by"], page.config()["sort"]) == (["client"], [["volume", "desc"]])
        assert page.evaluate("() => window.not_reloaded")
        assert page.page.locator("perspective-viewer").count() == 1
        wait_until(lambda: chain.health()["viewers"] == 1, 10, chain.health)


def test_a_server_that_is_silent_for_a_while(browser, chain):
    server = serve(chain)
    chain.producer()
    with Page(browser, chain.address) as page:
        page.wait_for("live")
        server.signal(signal.SIGSTOP)
        page.wait_for("away")
        server.signal(signal.SIGCONT)
        page.wait_for("live")
        page.wait_for_changing_cells()


def test_stale_while_the_database_is_away(browser, database, tmp_path):
    with database.proxy() as proxy, Chain(database, tmp_path, dsn=database.through(proxy)) as chain:
        serve(chain)
        chain.producer()
        with Page(browser, chain.address) as page:
            page.wait_for("live")
            page.evaluate("() => { window.not_reloaded = true; }")
            proxy.refuse()
            page.wait_for("stale", "TDengine does not answer")
            proxy.go_on()
            page.wait_for("live")
            page.wait_for_changing_cells()
            assert page.evaluate("() => window.not_reloaded")
            assert page.errors == []


def test_waiting_says_what_for(browser, database, chain):
    with database.proxy() as proxy:
        serve(chain, dsn=database.through(proxy, password="not-the-password"))
        with Page(browser, chain.address) as page:
            page.wait_for("waiting", "refuses this user or password")
            assert page.errors == []


def test_a_server_that_has_enough_viewers_says_so(browser, chain):
    serve(chain, "--max-viewers", "0")
    with Page(browser, chain.address) as page:
        page.wait_for("away", "--max-viewers")


# ?mode=local


def test_a_local_copy_has_each_row_once(browser, chain):
    serve(chain, limit=100_000)
    producer = chain.producer("--interval", "50", "--rows", "50")
    chain.wait_for_rows(2000, 30)
    with Page(browser, f"{chain.address}?mode=local") as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        chain.wait_for_rows(4000, 30)
        producer.stop()
        rows = chain.database.count()
        size = "getTable().then((table) => table.size())"
        wait_until(lambda: page.viewer(size) >= rows, SHOWS_S, lambda: (rows, page.viewer(size), page.log()))
        assert page.evaluate(DISTINCT) == [rows, rows]
        assert chain.table()["rows"] == rows
        assert page.errors == []


def test_a_local_copy_keeps_to_the_limit_and_holds_the_newest_rows(browser, chain):
    serve(chain, limit=1000)
    producer = chain.producer()
    chain.wait_for_rows(1500, 30)  # the server's table is full: its oldest row is somewhere in the middle
    with Page(browser, f"{chain.address}?mode=local") as page, Page(browser, chain.address) as other:
        for each in (page, other):
            each.wait_for("live")
        chain.wait_for_rows(600, 30)
        producer.stop()

        def same():
            total = (
                "getView().then((view) => view.to_json({ end_row: 1 })).then(([row]) => [row.volume, row.timestamp])"
            )
            return page.evaluate(DISTINCT) == [1000, 1000] and page.viewer(total) == other.viewer(total)

        wait_until(same, SHOWS_S, lambda: (page.log(), other.log()))


# Looking, not touching


def test_editing_a_cell_harms_nobody(browser, chain):
    serve(chain)
    chain.producer()
    with Page(browser, chain.address) as page, Page(browser, chain.address) as other:
        for each in (page, other):
            each.wait_for("live")
        page.evaluate(
            "() => document.querySelector('perspective-viewer').restore("
            "{ group_by: [], columns: ['ticker'], plugin_config: { edit_mode: 'EDIT' } })"
        )
        cell = page.page.locator("perspective-viewer-datagrid td[contenteditable]").first
        cell.click()
        page.page.keyboard.type("EDITED")
        page.page.keyboard.press("Enter")
        page.wait_for("live", "The server refused the last request")
        other.wait_for_changing_cells()
        paths = other.evaluate(TICKERS)
        assert len(paths) > 5
        assert not any("EDITED" in str(path) for path in paths)
        assert other.errors == []


def test_exports_and_expressions(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        lines = page.viewer("export('csv')").splitlines()
        assert "volume" in lines[0]
        assert len(lines) > 100
        with page.page.expect_download() as download:
            page.viewer("download('csv')")
        assert "volume" in pathlib.Path(download.value.path()).read_text()
        arrange(page, group_by=["client"], columns=["spread"], expressions={"spread": '"high" - "low"'})
        page.wait_for_changing_cells()
        assert page.errors == []


# Versions


def test_the_versions_are_equal_everywhere():
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    ours = {name: each for name, each in lock.items() if name.startswith("node_modules/@perspective-dev/")}
    assert {each["version"] for each in ours.values()} == {VERSION}
    assert {f"node_modules/{name}" for name in lock[""]["dependencies"]} == set(ours)
    assert set(json.loads((ROOT / "package.json").read_text())["dependencies"].values()) == {VERSION}
    assert f"perspective-python=={VERSION}\n" in (ROOT / "requirements.txt").read_text()
    page = (ROOT / "prsp-viewer.html").read_text()
    assert re.findall(r"\b\d+\.\d+\.\d+\b", page) == [VERSION]
