#!/usr/bin/env python3
"""How long a page takes from opening to its first drawn grid, in headless Chromium, with its packages local.

    python benchmarks/page.py [--times N] [--dsn DSN]

The server runs and has rows. Each time is a browser of its own, with nothing in its cache; the clock is the page's.
"""

import os
import shutil

import measure
from playwright.sync_api import Error, sync_playwright

DRAWS_S = 30  # bound of the wait for a grid
# Playwright asks again on every frame of the page; performance.now() counts from the opening
DRAWN = """() => {
  const inside = (root) => {
    for (const cell of root.querySelectorAll("td")) if (cell.textContent.match(/\\d/)) return true;
    for (const each of root.querySelectorAll("*")) if (each.shadowRoot && inside(each.shadowRoot)) return true;
    return false;
  };
  return inside(document) && performance.now();
}"""


def browser(playwright):
    """Headless Chromium: the system's, else Playwright's own."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        # as root Chromium does not run with its sandbox
        return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
    except Error as error:
        raise measure.Unmeasured(f"no Chromium: {str(error).splitlines()[0]}") from None


def opening_ms(browser, address):
    """Milliseconds from opening the address to the first cell with a number in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        page.goto(address, wait_until="commit", timeout=DRAWS_S * 1000)
        return page.wait_for_function(DRAWN, timeout=DRAWS_S * 1000).json_value()
    except Error as error:
        raise measure.Unmeasured(f"no grid within {DRAWS_S} s: {str(error).splitlines()[0]}") from None
    finally:
        context.close()


def measure_page(chain, times):
    """[ms] of so many openings."""
    if not (measure.ROOT / "node_modules").is_dir():
        raise measure.Unmeasured("the page's packages are not installed: ./install.sh, with Node's npm at hand")
    chain.producer()
    chain.server()
    chain.wait_for_rows(1000)
    found = []
    for _ in range(times):
        with sync_playwright() as playwright, browser(playwright) as opened:
            found.append(opening_ms(opened, f"http://localhost:{chain.port}/"))
            measure.note(f"  {found[-1]:.0f} ms")
    return found


def main():
    parser = measure.parser(__doc__)
    parser.add_argument("--times", type=measure.number(1, 50), default=5, metavar="N", help="default: 5")
    args = parser.parse_args()
    with measure.Chain(args.dsn) as chain:
        measure.tell_where(chain)
        found = measure_page(chain, args.times)
    middle = measure.percentile(found, 50)
    measure.tell(
        "page: from opening to the first drawn grid, packages local, median",
        f"{middle / 1000:.2f} s ({min(found) / 1000:.2f} to {max(found) / 1000:.2f} s of {len(found)})",
        "under 2 s",
        middle < 2000,
    )


if __name__ == "__main__":
    measure.run(main)
