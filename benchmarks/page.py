#!/usr/bin/env python3
"""`./run.sh` as it is, and a page in headless Chromium: until its first row, its first grid, the server's share.

    python benchmarks/page.py [--first] [--url URL]... [--times N] [--seconds S]

run.sh starts in a copy of the project. --first: without a virtual environment, so that it installs one; else with this
one. The first grid is timed by the page's own clock, in a fresh context; the share is with one page open on its grid.
--url: only the first grid of these pages, opened in turn, whoever serves them: so two versions are compared.
"""

import contextlib
import os
import pathlib
import secrets
import sys
import tempfile
import time
import urllib.parse

import measure
from browser import chromium
from chain import listens
from demo import Demo
from helpers import wait_until
from playwright.sync_api import Error

STARTS_S, INSTALLS_S = 60, 900
DRAWS_S = 60  # bound of the wait for a grid
SETTLE_S = 3
SHARE = 7  # bound, % of a core
DRAWN = """async (limit_ms) => {
  const inside = (root) => [...root.querySelectorAll("*")].some((each) =>
    (each.tagName === "TD" && /\\d/.test(each.textContent)) || (each.shadowRoot && inside(each.shadowRoot)));
  while (!inside(document) && performance.now() < limit_ms) await new Promise(requestAnimationFrame);
  return performance.now();
}"""


@contextlib.contextmanager
def copy_of_demo():
    """(a Demo of tests/demo.py, the environment for its run.sh): the stand-in, or a database of TDENGINE_DSN's."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        demo, env, dsn = Demo(pathlib.Path(folder)), {}, os.environ.get("TDENGINE_DSN")
        if dsn:
            path = f"/bench_{os.getpid()}_{secrets.token_hex(3)}"
            env["TDENGINE_DSN"] = urllib.parse.urlsplit(dsn)._replace(path=path).geturl()
        try:
            yield demo, env
        finally:
            demo.close()
            if dsn:
                measure.in_child(drop, dsn, path.strip("/"), timeout=20)


@contextlib.contextmanager
def run_sh(demo, env, install=False):
    """The process of run.sh, whose page answers."""
    process, limit_s = demo.start(install=install, **env), INSTALLS_S if install else STARTS_S
    try:
        wait_until(lambda: listens(demo.port) or not process.alive(), limit_s, lambda: demo.log(process))
        if not process.alive():
            raise measure.Unmeasured(f"run.sh ended: {process.stderr().strip() or process.stdout().strip()}")
        yield process
    finally:
        process.stop(20)


def drop(dsn, database):
    import taosws

    taosws.connect(dsn).execute(f"DROP DATABASE IF EXISTS `{database}`")


def database_name():
    return "real server" if os.environ.get("TDENGINE_DSN") else "stand-in"


def open_page(browser, url):
    """(the page's context, ms from opening it to the first cell with a number in it)."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    try:
        page.goto(url, wait_until="commit", timeout=DRAWS_S * 1000)
    except Error as error:
        raise measure.Unmeasured(f"no page there: {str(error).splitlines()[0]}") from None
    drawn_ms = page.evaluate(DRAWN, DRAWS_S * 1000)
    if drawn_ms >= DRAWS_S * 1000:
        raise measure.Unmeasured(f"no grid within {DRAWS_S} s")
    return context, drawn_ms


def row_of_grids(what, name, grids):
    figure = f"{measure.percentile(grids, 50):.2f} s ({min(grids):.2f} to {max(grids):.2f} s of {len(grids)})"
    measure.row(f"first grid of {what}, median", name, figure)


def measure_pages(urls, times):
    grids = {url: [] for url in urls}
    with chromium() as browser:
        for _ in range(times):
            for url in urls:
                context, drawn_ms = open_page(browser, url)
                context.close()
                grids[url].append(drawn_ms / 1000)
    for url in urls:
        row_of_grids(url, "its own", grids[url])


def main():
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--url", action="append", metavar="URL", help="of a page that is served already; may be repeated")
    add("--first", action="store_true", help="run.sh makes its virtual environment")
    add("--times", type=measure.number(1, 50), default=5, metavar="N", help="how often a page is opened (default: 5)")
    args = parser.parse_args()
    if args.url and args.first:
        parser.error("--first is of run.sh, --url of a page that is served already: choose one")
    if args.url:
        measure_pages(args.url, args.times)
        return
    grids = []
    with chromium() as browser, copy_of_demo() as (demo, env):
        if args.first:
            (demo.home / "venv").unlink()
        else:
            with run_sh(demo, env):  # makes the database, compiles the scripts
                pass
        started = time.monotonic()
        with run_sh(demo, env, args.first):
            url = f"http://localhost:{demo.port}/"
            context, _ = open_page(browser, url)
            start_s = time.monotonic() - started
            for _ in range(args.times):
                context.close()
                context, drawn_ms = open_page(browser, url)
                grids.append(drawn_ms / 1000)
            time.sleep(min(SETTLE_S, args.seconds))
            with measure.share(demo.pid("perspective_server.py")) as share:
                time.sleep(args.seconds)
    name = database_name()
    what = "first start, packages installed by it" if args.first else "later start"
    measure.row(f"`./run.sh`, {what}, until the page's first row", name, f"{start_s:.1f} s")
    row_of_grids("a page", name, grids)
    figure = f"server {share():.1%} of a core"
    measure.row("`./run.sh`, one page open on its grid", name, figure, f"{SHARE} %", share() <= SHARE / 100)


if __name__ == "__main__":
    sys.exit(measure.run(main))
