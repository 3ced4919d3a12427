#!/usr/bin/env python3
"""Takes the README's pictures of the page, docs/stocks.png and docs/meters.png, from the running demo.

    ./run.sh --dataset all                        # in another terminal
    .venv/bin/python docs/pictures.py [ADDRESS]   # default: http://localhost:8080/

It needs Chromium, and Playwright, which tests/requirements.txt has.
"""

import json
import os
import pathlib
import shutil
import sys
import time
import urllib.request

from playwright.sync_api import Error, sync_playwright

PICTURES = {"stocks": "?table=stock_values&layout=grid", "meters": "?table=meters_values&layout=lines"}
ROWS, ROWS_S = 20_000, 60  # so many rows make a chart worth a look; bound of the wait for them
DRAWS_MS = 30_000  # bound of the wait for the page
SETTLES_MS = 2000  # a few updates: columns get their widths, scales their ends


def wait_for_rows(address):
    """Until each table was given ROWS rows."""
    deadline = time.monotonic() + ROWS_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{address}healthz", timeout=5) as answer:
            tables = json.load(answer)["tables"]
        if len(tables) == len(PICTURES) and all(table["rows"] >= ROWS for table in tables.values()):
            return
        time.sleep(0.5)
    sys.exit(f"docs/pictures.py: no {ROWS} rows of both tables at {address}: start ./run.sh --dataset all")


def take(browser, address, name):
    page = browser.new_page(viewport={"width": 960, "height": 500})
    page.goto(address, timeout=DRAWS_MS)
    page.locator("#state[data-state=live]").wait_for(timeout=DRAWS_MS)
    page.wait_for_timeout(SETTLES_MS)
    path = pathlib.Path(__file__).resolve().parent / f"{name}.png"
    page.screenshot(path=path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    page.close()


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080/"
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        wait_for_rows(address)
        with sync_playwright() as playwright:
            # as root Chromium does not run with its sandbox
            args = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=found, args=args)
            for name, query in PICTURES.items():
                take(browser, address + query, name)
            browser.close()
    except (OSError, Error) as error:
        sys.exit(f"docs/pictures.py: {str(error).splitlines()[0]}: is the demo running at {address}?")


if __name__ == "__main__":
    main()
