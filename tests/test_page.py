"""prsp-viewer.html in a real Chromium, against a real server and real rows."""

import contextlib
import functools
import http.client
import http.server
import json
import re
import shutil
import signal
import socketserver
import subprocess
import threading
import urllib.parse
import urllib.request

import pytest
from browser import ALL, DEFAULT_PORT, QUICK, SHOWS_S, Page, chromium, launched
from chain import Chain, Database, behind_a_proxy
from helpers import ROOT, free_port, get, wait_until
from playwright.sync_api import Error
from proxy import Proxy

from bridge import web

LAYOUTS = {
    "meters_values": {"grid": "Datagrid", "lines": "Y Line", "heatmap": "Heatmap"},
    "stock_values": {"grid": "Datagrid", "prices": "Y Line", "treemap": "Treemap", "candlestick": "Candlestick"},
}
SLOW = ["--interval", "1000"]  # each update is drawn, which takes a tenth of a second of a core
SMALL = (640, 400)  # a chart costs by its pixels
TICKERS = """async () => {
  const table = await document.querySelector("perspective-viewer").getTable();
  const view = await table.view({ group_by: ["ticker"], columns: ["ticker"] });
  return (await view.to_json()).map((row) => row.__ROW_PATH__);
}"""
PLUGINS = """async () => {
  const plugins = document.querySelector("perspective-viewer").getAllPlugins();
  return (await Promise.all(plugins.map((plugin) => plugin.get_static_config()))).map(({ name }) => name);
}"""
RESTORE = """async (config) => {
  try { await document.querySelector("perspective-viewer").restore(config); } catch (error) { return String(error); }
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium(QUICK) as browser:
        yield browser


@contextlib.contextmanager
def charts_site(kind, folder, trouble, within_s):
    """A chain of this kind of both datasets with enough history for charts; its page is at site.address."""
    database = Database(folder)
    try:
        with kind(database, folder) as chain:
            server = chain.server("--dataset", "all", "--port", DEFAULT_PORT, *SLOW, limit=3000)
            for dataset in ("stocks", "meters"):
                chain.producer("--dataset", dataset, "--rows", "200", *SLOW)
            chain.address = f"http://127.0.0.1:{chain.port}/"
            for dataset in ("stocks", "meters"):
                chain.wait_for_rows(800, within_s, dataset)
            yield chain
            assert trouble not in server.stderr(), server.log()
    finally:
        database.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with charts_site(Chain, tmp_path_factory.mktemp("site"), "Traceback", 60) as site:
        yield site


@pytest.fixture
def chain(database, tmp_path):
    """A Chain of this test's own."""
    with behind_a_proxy(Chain, database, tmp_path) as chain:
        yield chain


def serve(chain, *args, limit=20_000, **kwargs):
    """Starts a server on the chain's port, the same one each time; returns the Process."""
    chain.port = chain.port or free_port()
    chain.address = f"http://127.0.0.1:{chain.port}/"
    return chain.server("--port", chain.port, *args, limit=limit, **kwargs)


# What it shows


def test_tables_of_more_columns_than_views_of_groups_and_views_at_all_may_have(browser, chain):
    database, names = chain.database, [f"größe_{k}".ljust(60, "x") for k in range(250)]
    database.query("CREATE DATABASE {db} PRECISION 'us'")
    columns = ", ".join(f"`{name}` INT" for name in names)
    database.query(f"CREATE TABLE {{db}}.wide (ts TIMESTAMP, {columns}) TAGS (site INT)")
    database.query(f"CREATE TABLE {{db}}.widest (ts TIMESTAMP, {', '.join(f'c{k} INT' for k in range(2100))})")
    database.query(f"INSERT INTO {{db}}.widest VALUES (NOW, {', '.join(['7'] * 2100)})")

    def insert(number):
        row = ", ".join([str(number)] * len(names))
        database.query(f"INSERT INTO {{db}}.device USING {{db}}.wide TAGS (1) VALUES (NOW, {row})")

    insert(1)
    server = chain.server_of("{db}.wide", "{db}.widest", flags=["--history", "10m", *SLOW])
    with Page(browser) as page:
        for number, layout in enumerate(("newest", "latest"), 1):
            page.open(f"http://127.0.0.1:{chain.port}/?table=wide&layout={layout}")
            wait_until(lambda number=number: str(number) in page.cells(), SHOWS_S, page.log)
            insert(number + 1)
            wait_until(lambda number=number: str(number + 1) in page.cells(), SHOWS_S, page.log)
        wait_until(lambda: "100 of 253 columns" in page.message(), SHOWS_S, page.log)
        page.open(f"http://127.0.0.1:{chain.port}/?table=widest")
        wait_until(lambda: "7" in page.cells(), SHOWS_S, page.log)
        wait_until(lambda: "2,000 of 2,101 columns" in page.message(), SHOWS_S, page.log)
    assert "refused" not in server.stderr(), server.log()


def test_the_first_view_is_the_grouped_grid_and_its_numbers_change(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        config = page.config()
        assert (config["plugin"], config["theme"], config["settings"]) == ("Datagrid", "Pro Dark", True)
        assert config["group_by"] == ["ticker", "client"]
        assert config["plugin_config"].get("edit_mode", "READ_ONLY") == "READ_ONLY"
        assert config["columns"][:2] == ["close", "volume"]
        assert set(config["aggregates"].values()) == {"last", "sum"}  # which cost little
        headers = {text.strip() for text in page.grid()}
        assert {"AAPL.N", "Homer", "timestamp", "volume"} <= headers
        assert "Edit" not in headers
        numbers = r"[\d,]+ rows/s · ([\d,]+ of )?[\d,]+ rows · last row [\d,]+ ms ago · \d+ viewers?"
        assert re.fullmatch(numbers, page.numbers())
        export(page)
        arrange(page, group_by=["client"], columns=["spread"], expressions={"spread": '"high" - "low"'})
        page.wait_for_changing_cells()
        assert page.errors == []
        assert page.hosts_asked() == {f"127.0.0.1:{site.port}"}


def export(page):
    lines = page.viewer("export({ format: 'csv' })").splitlines()
    assert "volume" in lines[0]
    assert len(lines) > 100
    with page.page.expect_download() as download:
        page.viewer("download({ format: 'csv' })")
    with open(download.value.path()) as file:
        assert "volume" in file.read()


@pytest.mark.timeout(400)
def test_every_layout_and_every_other_chart_that_the_viewer_offers_is_drawn(browser, site):
    with Page(browser, f"{site.address}?table=meters_values", *SMALL) as page:
        page.wait_for("live")
        for table, layouts in LAYOUTS.items():
            choose(page, "tables", table)
            for name, plugin in layouts.items():
                draw_layout(page, name, plugin)
        choose_one_ticker(page)
        draw_other_plugins(page)
        # a map's tiles are another host's, which the page's policy forbids
        assert [error for error in page.errors if "openstreetmap" not in error] == []


def choose(page, name, value):
    page.page.locator(f"#{name} label:has([value='{value}'])").click()


def draw_layout(page, name, plugin):
    choose(page, "layouts", name)
    wait_until(lambda: page.config()["plugin"] == plugin, SHOWS_S, page.log)
    page.wait_for("live")
    if plugin == "Datagrid":
        page.wait_for_changing_cells()
    else:
        page.wait_for_chart()


def choose_one_ticker(page):
    """With one click, of the candlesticks that are shown."""
    assert page.config()["filter"] == [["ticker", "==", "AAPL.N"]]
    choose(page, "only", "NVDA.N")
    wait_until(lambda: page.config()["filter"] == [["ticker", "==", "NVDA.N"]], SHOWS_S, page.log)
    assert "only=NVDA.N" in page.page.url
    page.wait_for_chart()


def draw_other_plugins(page):
    """Until each of the viewer's charts that no layout is of has drawn something."""
    names, layouts = page.evaluate(PLUGINS), {plugin for layouts in LAYOUTS.values() for plugin in layouts.values()}
    assert {*layouts, "X Bar", "Sunburst"} <= set(names)
    for plugin in set(names) - layouts:
        layout = {"plugin": plugin, "columns": ["open", "close", "high", "low"], "group_rollup_mode": "flat"}
        layout |= {"group_by": ["ticker"], "aggregates": {"open": "last"}, "filter": [], "settings": False}
        if plugin.startswith("Map"):  # of degrees
            degrees = {"x": '"open" / 10', "y": '"close" / 10'}
            few = [["ticker", "==", "AAPL.N"]]
            layout |= {"columns": [*degrees], "group_by": [], "aggregates": {}, "expressions": degrees, "filter": few}
        assert page.evaluate(RESTORE, layout) is None
        wait_until(lambda: page.coloured() > 100, SHOWS_S, lambda plugin=plugin: f"{plugin}: {page.log()}")


# The switch


def chosen(page, name):
    return page.page.locator(f"#{name} input:checked").input_value()


def test_the_switch_by_keyboard_and_the_way_back(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        assert (chosen(page, "tables"), chosen(page, "layouts")) == ("stock_values", "grid")
        choose_by_keyboard(page)
        page.page.reload()  # the address has followed
        page.wait_for("live")
        assert (chosen(page, "tables"), chosen(page, "layouts")) == ("meters_values", "lines")
        for table, layout in (("meters_values", "grid"), ("stock_values", "grid")):
            page.page.go_back()
            wait_until(lambda table=table: page.config()["table"] == table, SHOWS_S, page.log)
            page.wait_for("live")
            assert (chosen(page, "tables"), chosen(page, "layouts")) == (table, layout)
        assert page.errors == []


def choose_by_keyboard(page):
    """The meters, their lines, and both buttons."""
    assert page.page.get_by_role("group", name="Table").is_visible()
    page.page.keyboard.press("Tab")
    focused = "() => [document.activeElement.name ?? document.activeElement.id, document.activeElement.value]"
    assert page.evaluate(focused) == ["tables", "stock_values"]
    outline = "() => getComputedStyle(document.activeElement.closest('label')).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == ["tables", "meters_values"]
    wait_until(lambda: page.config()["table"] == "meters_values", SHOWS_S, page.log)
    page.wait_for("live")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == ["layouts", "lines"]
    page.wait_for("live")
    page.wait_for_chart()  # beside the settings panel
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")  # closes the settings panel
    wait_until(lambda: page.config()["settings"] is False, SHOWS_S, page.log)
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Space")  # reset: opens it again
    wait_until(lambda: page.config()["settings"] is True, SHOWS_S, page.log)


def test_phone(browser, site):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with browser.new_context(**phone) as context, Page(browser, site.address, context=context) as page:
        page.wait_for("live")
        page.wait_for_changing_cells()
        assert page.config()["settings"] is False  # it would cover half of the screen
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
        assert page.page.locator("header").bounding_box()["height"] < 844 / 4
        grid = page.page.locator("perspective-viewer").bounding_box()
        assert (grid["width"], grid["x"]) == (390, 0)
        price = page.page.locator("perspective-viewer-datagrid td").first.bounding_box()
        assert price["x"] + price["width"] < 390  # seen without scrolling
        for label in ("Stocks", "Meters", "Grid", "Volume", "Settings"):
            box = page.page.get_by_text(label, exact=True).bounding_box()
            assert 0 <= box["x"] < box["x"] + box["width"] <= 390
            assert box["height"] >= 40  # for a finger
        draw_layout(page, "treemap", "Treemap")
        assert page.errors == []


# What the user has arranged


def arrange(page, **config):
    assert page.evaluate(RESTORE, config) is None
    wait_until(lambda: "client" in page.evaluate("() => JSON.stringify(localStorage)"), SHOWS_S, page.log)


def test_a_layout_is_kept_over_reloads_until_it_is_reset(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        assert page.evaluate("() => localStorage.length") == 0
        assert not page.page.get_by_text("Reset layout").is_visible()  # there is nothing to be reset
        arrange(page, group_by=["client"], sort=[["volume", "desc"]])
        page.page.get_by_text("Prices", exact=True).click()  # which stays as it is
        page.wait_for("live")
        assert page.config()["group_by"] == ["second"]
        page.page.get_by_text("Grid", exact=True).click()
        wait_until(lambda: page.config()["group_by"] == ["client"], SHOWS_S, page.log)
        page.page.reload()
        page.wait_for("live")
        assert (page.config()["group_by"], page.config()["sort"]) == (["client"], [["volume", "desc"]])
        page.page.get_by_text("Reset layout").click()
        wait_until(lambda: page.config()["group_by"] == ["ticker", "client"], SHOWS_S, page.log)
        assert page.config()["sort"] == []
        assert page.evaluate("() => localStorage.length") == 0
        keep_what_can_not_be_used(page)


def keep_what_can_not_be_used(page):
    """It is forgotten: a layout of an old version, an unknown column, an unknown plugin."""
    items = {
        "prsp-viewer/stock_values/grid": '{"plugin": "Datagrid", "group_by": ["client"]}',
        '["prsp-viewer/2","stock_values","grid"]': '{"plugin": "Datagrid", "group_by": ["no such column"]}',
        '["prsp-viewer/2","meters_values","grid"]': '{"plugin": "<b>none"}',
    }
    page.evaluate("(items) => Object.assign(localStorage, items) && null", items)
    page.page.reload()
    for table, by in (("stock_values", ["ticker", "client"]), ("meters_values", ["location"])):
        page.wait_for("live")
        choose(page, "tables", table)
        wait_until(lambda by=by: group_by(page) == by, SHOWS_S, page.log)
        page.wait_for_changing_cells()
    left = page.evaluate("() => JSON.stringify(localStorage)")
    assert not any(value in left for value in ("prsp-viewer/stock", "no such", "none"))


def group_by(page):
    """What it is grouped by; None while the page puts it in order again."""
    with contextlib.suppress(Error):
        return page.config()["group_by"]


def test_what_the_server_refuses_is_said_and_undone_and_harms_nobody(browser, site):
    with Page(browser, site.address) as page:
        page.wait_for("live")
        for config in (
            {"expressions": {"x": 'bucket("ticker", 1)'}, "columns": ["x"]},
            {"group_by": ["timestamp"], "split_by": ["close"], "columns": ["open"]},  # more than any screen shows
        ):
            page.evaluate(RESTORE, config)
            wait_until(lambda: "This was refused" in page.message(), SHOWS_S, page.log)
            page.wait_for("live", "This was refused")
            wait_until(lambda: group_by(page) == ["ticker", "client"], SHOWS_S, page.log)
            page.wait_for_changing_cells()
        wait_until(lambda: page.message() == "", SHOWS_S, page.log)
        edit_a_cell(page)
        paths = page.evaluate(TICKERS)
        assert len(paths) > 5
        assert not any("EDITED" in str(path) for path in paths)


def edit_a_cell(page):
    layout = {"group_by": [], "columns": ["ticker"], "plugin_config": {"edit_mode": "EDIT"}}
    assert page.evaluate(RESTORE, layout) is None
    cell = page.page.locator("perspective-viewer-datagrid td.psp-editable").first
    cell.click()
    page.page.keyboard.type("EDITED")
    page.page.keyboard.press("Enter")
    page.wait_for("live", "tables can be looked at here, not changed")


# Where it comes from, and what the address may say


@contextlib.contextmanager
def static_server():
    """`python -m http.server` in the project's folder; yields its port."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=ROOT)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_from_disk_and_from_any_web_server_it_finds_port_8080(browser, site):
    with static_server() as port:
        for address in ((ROOT / "prsp-viewer.html").as_uri(), f"http://localhost:{port}/prsp-viewer.html"):
            with Page(browser, address, *SMALL) as page:
                page.wait_for("live")
                page.wait_for_changing_cells()
                assert "localhost:8080" in page.hosts_asked()
                if address.startswith("file:"):  # where a chart's worker has an address of its own
                    draw_layout(page, "treemap", "Treemap")


BAD = {  # one of each kind; viewer/test has more
    "table=<img src=x onerror=alert(1)>": "no table <img",
    "table=meters_values&layout=<b>": "no layout <b>",
    "server=<script>alert(1)</script>": "<script>alert(1)",
}


def test_an_address_that_can_not_be_used_ends_in_a_message_and_what_healthz_knows_is_said(browser, site):
    with Page(browser) as page:
        for query, message in BAD.items():
            page.open(f"{site.address}?{urllib.parse.quote(query, safe='=&')}")
            page.wait_for("error", message)
            assert page.page.locator("#message img, #message b, #message script").count() == 0
            assert page.page.locator("#message a").count() > 0
        page.page.locator("#message a").first.click()  # there is a way out of it
        page.wait_for("live")
        change_healthz(page, site)
        page.open(f"{site.address}?server=127.0.0.1:{free_port()}")
        page.wait_for("away", "No answer from http://127.0.0.1:")


def change_healthz(page, site):
    more = {}

    def route(route):
        answer = json.loads(get(f"{site.address}healthz"))
        answer["tables"]["stock_values"] |= more
        answer |= {key: value for key, value in more.items() if key == "busy"}
        route.fulfill(json=answer)

    page.page.route("**/healthz", route)
    for state, words, more in (  # noqa: B007
        ("live", "", {}),
        ("live", "Loading history: 40 of 200 rows", {"history": {"loaded": 40, "of": 200}}),
        ("incomplete", "7 values could not be shown", {"unshown_values": 7, "status": "incomplete"}),
        ("incomplete", "1 row could not be shown", {"missed_rows": 1, "status": "incomplete"}),
        ("live", "at its limit", {"busy": True}),
        ("stale", "TDengine <b>is away", {"status": "stale", "error": "TDengine <b>is away"}),
    ):
        page.wait_for(state, words)
    assert page.page.locator("#message b").count() == 0
    page.page.unroute_all()


HTML = ["<img src=x onerror=hit()>", "<svg onload=hit()>", "<b onclick=hit()>", """'"><script>hit()</script><b>"""]
FOREIGN = f"""() => {{
  {ALL}
  const found = all(document).filter((each) => each.matches("img[src=x], [onload], [onerror], [onclick], b"));
  return found.map((each) => each.outerHTML);
}}"""


def assert_code_is_not_of_the_server_that_a_link_names(page, port):
    asked = [urllib.parse.urlsplit(url) for url in page.asked]
    hosts = {each.netloc for each in asked if each.path.startswith(("/viewer", "/perspective"))}
    assert hosts == {f"127.0.0.1:{port}"}
    assert f"localhost:{port}" in page.hosts_asked()  # where its rows come from


def test_names_and_values_with_html_are_shown_as_text(browser, chain):
    name, tag, column, value = HTML
    columns = f"ts TIMESTAMP, `{name}` NCHAR(60), `{column}` INT"
    chain.database.query("CREATE DATABASE {db}")
    chain.database.query(f"CREATE TABLE {{db}}.`{name}` ({columns}) TAGS (`{tag}` NCHAR(60))")
    quoted = value.replace("'", "\\'")
    chain.server_of(f"{{db}}.`{name}`", flags=["--history", "1h"])
    row = f"USING {{db}}.`{name}` TAGS ('{quoted}') VALUES (NOW(), '{quoted}', 1)"
    chain.database.query(f"INSERT INTO {{db}}.d_0 {row}")
    wait_until(lambda: chain.table_named(name)["rows"] == 1, 20, chain.health)
    query = urllib.parse.urlencode({"table": name, "server": f"localhost:{chain.port}"})
    with Page(browser, f"http://127.0.0.1:{chain.port}/?{query}", *SMALL) as page:
        wait_until(lambda: {value, *HTML[:3]} <= {text.strip() for text in page.grid()}, SHOWS_S, page.grid)
        assert_code_is_not_of_the_server_that_a_link_names(page, chain.port)
        shown = {
            "group_by": [name],
            "split_by": [tag],
            "columns": [column],
            "title": value,
            "expressions": {value: "1"},
        }
        for plugin in ("Datagrid", "Treemap", "Y Bar", "X/Y Scatter", "Heatmap"):
            assert page.evaluate(RESTORE, {**shown, "plugin": plugin}) is None
            box = page.page.locator("main").bounding_box()
            page.page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)  # what a chart says there
            assert page.evaluate(FOREIGN) == []
        refused = page.evaluate(RESTORE, {"filter": [[value, "==", value]], "group_by": [value * 2]})
        assert refused
        assert page.evaluate(FOREIGN) == []
        assert [error for error in page.errors if value not in error] == []  # nor has the policy stopped any


# Faults


@contextlib.contextmanager
def opened_before_its_server(browser, chain):
    """(a page from disk, its server): that came later, the rows still later, and more viewers than it takes."""
    chain.port = free_port()
    address = f"{(ROOT / 'prsp-viewer.html').as_uri()}?server=localhost:{chain.port}"
    with Page(browser, address, *SMALL) as page:
        page.wait_for("waiting", f"perspective_server.py at http://localhost:{chain.port}/")
        server = serve(chain, "--max-viewers", 2)
        with Page(browser, f"{chain.address}?layout=treemap", context=page.context) as other:
            wait_for_the_first_row(chain, page, other)
            with Page(browser, chain.address, context=page.context) as third:
                third.wait_for("away", "--max-viewers")
        assert page.hosts_asked() == {f"localhost:{chain.port}"}
        yield page, server


def test_a_page_that_was_opened_before_its_server_and_the_first_row_outlives_faults(browser, chain):
    with opened_before_its_server(browser, chain) as (page, server):
        page.evaluate("() => { window.not_reloaded = true; }")
        arrange(page, group_by=["client"], sort=[["volume", "desc"]])
        lose_the_database(chain, page)
        lose_the_server(chain, server, page)
        assert (page.config()["group_by"], page.config()["sort"]) == (["client"], [["volume", "desc"]])
        assert page.evaluate("() => window.not_reloaded")
        assert page.page.locator("perspective-viewer").count() == 1
        wait_until(lambda: chain.health()["viewers"] == 1, 10, chain.health)


def wait_for_the_first_row(chain, page, other):
    for each in (page, other):
        each.wait_for("waiting", f"start {chain.script}")
    chain.producer(*SLOW)
    for each in (page, other):
        each.wait_for("live")
    page.wait_for_changing_cells()
    other.wait_for_chart()
    assert other.errors == []


def lose_the_database(chain, page):
    page.errors.clear()  # of looking for the server
    chain.proxy.refuse()
    page.wait_for("stale", "TDengine")
    chain.proxy.go_on()
    page.wait_for("live")
    page.wait_for_changing_cells()
    assert page.errors == []


def lose_the_server(chain, server, page):
    """Until another one has taken its place."""
    server.signal(signal.SIGKILL)
    server.wait(10)
    page.wait_for("away", "No answer from")
    assert any(any(map(str.isdigit, text)) for text in page.cells())  # what was shown stays
    serve(chain)
    page.wait_for("live")
    page.wait_for_changing_cells()


def test_a_connection_that_is_frozen_is_replaced(browser, site):
    """Bytes of the WebSocket are swallowed, it is not closed; /healthz goes another way."""
    with Proxy("127.0.0.1", site.port) as proxy, Page(browser, None, *SMALL) as page:
        page.page.route("**/healthz*", lambda route: route.fulfill(body=get(f"{site.address}healthz")))
        page.open(f"http://127.0.0.1:{proxy.port}/")
        page.wait_for("live")
        arrange(page, group_by=["client"])
        for layout in (None, "Candles"):  # at rest, and during a change of layout
            proxy.silent()
            if layout:
                page.page.get_by_text(layout, exact=True).click()
            page.wait_for("away", "silent", timeout=15)
            proxy.go_on()
            page.wait_for("live")
        page.wait_for_chart()
        page.page.get_by_text("Grid", exact=True).click()
        page.wait_for("live")
        assert page.config()["group_by"] == ["client"]
        page.wait_for_changing_cells()


class Forgetful(socketserver.StreamRequestHandler):
    """A proxy that passes on one request of each connection, without its Upgrade header."""

    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (line := self.rfile.readline()):
                return
            if not line.lower().startswith((b"upgrade:", b"connection:")):
                head += line
        with contextlib.suppress(OSError):
            connection = http.client.socket.create_connection(("127.0.0.1", self.server.upstream), 10)
            connection.sendall(head[:-2] + b"Connection: close\r\n\r\n")
            while data := connection.recv(65536):
                self.wfile.write(data)


def test_a_proxy_that_forgets_the_upgrade_header_is_named(browser, site):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forgetful) as server:
        server.daemon_threads, server.upstream = True, site.port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Page(browser, f"http://127.0.0.1:{server.server_address[1]}/", *SMALL) as page:
            page.wait_for("away", "Upgrade header")
        server.shutdown()


def test_a_browser_that_can_draw_no_chart_says_so(browser, site):
    address = f"{site.address}?layout=treemap"
    with launched(browser.browser_type, QUICK, "--disable-3d-apis") as plain, Page(plain, address, *SMALL) as page:
        wait_until(lambda: "no WebGL" in page.message(), SHOWS_S, page.log)
        choose(page, "layouts", "grid")
        page.wait_for_changing_cells()
        wait_until(lambda: page.message() == "", SHOWS_S, page.log)


# HTTP


def ask(site, path, method="GET", **headers):
    """(status, headers, body) of one request, its path as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def test_http_answers_and_what_it_refuses(site):
    for path in ("/", "/healthz", "/metrics"):
        status, headers, body = ask(site, path)
        assert (status, *ask(site, path, "HEAD")[::2]) == (200, 200, b"")
        assert len(body) == int(headers["Content-Length"])
        assert ask(site, path, Host="evil.example")[0] == 403
        assert ask(site, path, "POST")[0] == 405
    for path in (
        "/viewer/../bridge/web.py",
        "/viewer/%2e%2e/prsp-viewer.html",
        "/viewer/biome.json",
        "/viewer/none.js",
        "/viewer//etc/passwd",
        f"/perspective/{web.PERSPECTIVE}/../perspective.js",
        f"/perspective/{web.PERSPECTIVE}/perspective-anywidget.js",
        "/perspective/perspective.js%00",
        "/bridge/web.py",
        "/etc/passwd",
    ):
        assert ask(site, path)[0] == 404
    assert ask(site, f"/?server={urllib.parse.quote('bücher.example')}")[0] == 400
    assert ask(site, "/?server=%ff")[0] == 400


def test_perspective_comes_out_of_the_wheel_at_an_address_that_holds_the_version(site):
    status, headers, _ = ask(site, "/perspective/perspective.js")
    assert (status, headers["Location"]) == (302, f"/perspective/{web.PERSPECTIVE}/perspective.js")
    path = headers["Location"]
    status, headers, plain = ask(site, path)
    assert (status, "immutable" in headers["Cache-Control"]) == (200, True)
    zipped = ask(site, path, Accept_Encoding="gzip, br")
    assert (zipped[1]["Content-Encoding"], len(zipped[2]) < 0.8 * len(plain)) == ("gzip", True)
    assert ask(site, path, If_None_Match=headers["ETag"])[0] == 304
    assert f"perspective-python=={web.PERSPECTIVE}\n" in (ROOT / "requirements.txt").read_text()


def test_other_origins_read_what_they_may(site):
    for path in ("/healthz", "/viewer/page.js", f"/perspective/{web.PERSPECTIVE}/perspective.css"):
        for origin in ("null", "http://localhost:81", "https://evil.example"):
            allowed = None if "evil" in origin else origin
            headers = ask(site, path, Origin=origin)[1]
            assert headers["Access-Control-Allow-Origin"] == allowed
            assert "Origin" in headers["Vary"]


def test_metrics_are_prometheus_text(site):
    text = ask(site, "/metrics")[2].decode()
    assert re.search(r'^perspective_rows_total\{table="stock_values"\} \d', text, re.MULTILINE)
    for name in ("missed_rows_total", "unshown_values_total", "lag_seconds", "viewers", "sent_bytes_total"):
        assert re.search(rf"^perspective_{name}\b", text, re.MULTILINE), name


def test_the_policy_is_that_of_what_browsers_hash(site):
    page = (ROOT / "prsp-viewer.html").read_bytes().replace(b"\r\n", b"\n")
    assert web.policy(page, []) == web.policy(page.replace(b"\n", b"\r\n"), [])
    assert "evil" not in web.policy(page, ["evil.example;script-src *", "evil example", "evil.example/x"])
    assert "ws://demo.example:81" in web.policy(page, ["demo.example:81"])


def test_the_published_lines_are_between_their_marks():
    text = (ROOT / "prsp-viewer.html").read_text()
    lines = text.partition("ANCHOR: perspective_viewer")[2].partition("ANCHOR_END: perspective_viewer")[0]
    for line in (
        "const websocket = await perspective.websocket(",
        "const table = await websocket.open_table(",
        "await viewer.load(websocket)",
        "await viewer.restore(",
    ):
        assert line in lines
    assert len(text.splitlines()) <= 120


@pytest.mark.skipif(not shutil.which("node"), reason="no Node.js on PATH")
def test_the_modules_by_themselves():
    command = ["node", "viewer/test/modules.test.js"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
