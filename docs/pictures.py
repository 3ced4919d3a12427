#!/usr/bin/env python3
"""Takes the README's pictures of the page, docs/*.png and the moving docs/stocks.gif, from the running demo.

    ./run.sh --dataset all                        # in another terminal
    venv/bin/python docs/pictures.py [ADDRESS]    # default: http://localhost:8080/

It needs Chromium, Playwright and Pillow, which tests/requirements.txt has.
"""

import io
import json
import os
import pathlib
import shutil
import sys
import time
import urllib.request

from PIL import Image
from playwright.sync_api import Error, sync_playwright

PICTURES = {"stocks": "?table=stock_values&layout=prices", "meters": "?table=meters_values&layout=lines"}
MOVING, FRAMES, FRAME_MS = "?table=stock_values&layout=grid", 12, 500
ROWS, ROWS_S = 20_000, 60  # so many rows make a chart worth a look; bound of the wait for them
DRAWS_MS = 30_000  # bound of the wait for the page
SETTLES_MS = 3000  # a few updates: columns get their widths, scales their ends
HERE = pathlib.Path(__file__).resolve().parent
CHROMIUM = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # charts are drawn by WebGL


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


def open_page(browser, address, width, height):
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(address, timeout=DRAWS_MS)
    page.locator("#state[data-state=live]").wait_for(timeout=DRAWS_MS)
    page.evaluate("document.querySelector('perspective-viewer').restore({ settings: false })")
    page.wait_for_timeout(SETTLES_MS)
    return page


def report(path):
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def take(browser, address, name):
    page, path = open_page(browser, address, 960, 480), HERE / f"{name}.png"
    page.screenshot(path=path)
    report(path)
    page.close()


def film(browser, address, name):
    page, path, frames = open_page(browser, address, 760, 400), HERE / f"{name}.gif", []
    for _ in range(FRAMES):
        picture = Image.open(io.BytesIO(page.screenshot()))
        frames.append(picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=48))
        page.wait_for_timeout(FRAME_MS)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, optimize=True)
    report(path)
    page.close()


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080/"
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        wait_for_rows(address)
        with sync_playwright() as playwright:
            # as root Chromium does not run with its sandbox
            args = [*CHROMIUM, "--no-sandbox"] if os.geteuid() == 0 else CHROMIUM
            browser = playwright.chromium.launch(executable_path=found, args=args)
            for name, query in PICTURES.items():
                take(browser, address + query, name)
            film(browser, address + MOVING, "stocks")
            browser.close()
    except (OSError, Error) as error:
        sys.exit(f"docs/pictures.py: {str(error).splitlines()[0]}: is the demo running at {address}?")


if __name__ == "__main__":
    main()
