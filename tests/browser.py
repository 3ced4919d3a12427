"""A real Chromium, and what the page shows in it.

The page's Content-Security-Policy forbids eval, which Playwright's wait_for_function needs: wait_until waits.
"""

import contextlib
import os
import shutil
import urllib.parse

from helpers import wait_until
from playwright.sync_api import sync_playwright

SHOWS_S = 60  # bound of the wait for what a page is to show, on a busy machine
# all elements, also those in shadow roots
ALL = """const all = (root) => [...root.querySelectorAll("*")].flatMap(
  (each) => [each, ...(each.shadowRoot ? all(each.shadowRoot) : [])]);"""
CELLS = f"""(tags) => {{
  {ALL}
  return all(document).filter((each) => tags.includes(each.tagName)).map((each) => each.textContent);
}}"""
# Of the plugin that is active: pixels of its canvases and shapes of its drawings that have a colour. Axes, lines of the
# grid and text are grey.
COLOURED = """async () => {
  ALL
  const coloured = ([r, g, b, a]) => a > 40 && Math.max(r, g, b) - Math.min(r, g, b) > 25;
  const plugin = await document.querySelector("perspective-viewer")?.getPlugin();
  let found = 0;
  if (!plugin) return found;
  for (const each of all(plugin.shadowRoot ?? plugin)) {
    if (each instanceof HTMLCanvasElement && each.width && each.height) {
      const { data } = each.getContext("2d").getImageData(0, 0, each.width, each.height);
      for (let k = 0; k < data.length; k += 4) found += coloured(data.subarray(k, k + 4));
    } else if (each instanceof SVGPathElement || each instanceof SVGRectElement) {
      const { fill, stroke } = getComputedStyle(each);
      const { width, height } = each.getBoundingClientRect();
      const colours = [fill, stroke].map((text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0]).map(Number));
      if (width + height > 10 && colours.some(([r, g, b, a = 1]) => coloured([r, g, b, a * 255]))) found += 100;
    }
  }
  return found;
}""".replace("ALL", ALL)


@contextlib.contextmanager
def chromium():
    """The system's Chromium, headless."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no chromium on PATH"
    # as root Chromium does not run with its sandbox
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=args)
        try:
            yield browser
        finally:
            browser.close()


class Page:
    """prsp-viewer.html in a context of its own (its own localStorage), or in the one that is given."""

    def __init__(self, browser, address=None, width=960, height=600, route=None, context=None):
        self.context = context or browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.errors, self.asked = [], []
        self.page.on("console", self.take_message)
        self.page.on("pageerror", lambda error: self.errors.append(f"{error.message}\n{error.stack}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        if route:
            self.page.route("**/*", route)
        if address:
            self.open(address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def take_message(self, message):
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def open(self, address):
        self.page.goto(address)

    def evaluate(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def state(self):
        """live, waiting, stale, away, error or loading."""
        return self.page.locator("#state").inner_text().split()[-1]

    def message(self):
        return self.page.locator("#message").text_content()

    def numbers(self):
        return self.page.locator("#numbers").text_content()

    def wait_for(self, state, message="", timeout=SHOWS_S):
        wait_until(
            lambda: self.state() == state and message in self.message(),
            timeout,
            lambda: f"{state}, {message}: {self.state()} {self.numbers()} {self.message()} {self.errors}",
        )

    def viewer(self, call):
        """The result of a call of the viewer's, as `save()`."""
        return self.evaluate(f"async () => document.querySelector('perspective-viewer').{call}")

    def config(self):
        return self.viewer("save()")

    def cells(self):
        """Texts of the grid's cells."""
        return self.evaluate(CELLS, ["TD"])

    def grid(self):
        """Texts of the grid's cells and headers, also those of its rows."""
        return self.evaluate(CELLS, ["TD", "TH"])

    def wait_for_changing_cells(self):
        """Until the grid has numbers, and they change twice."""
        wait_until(lambda: any(any(map(str.isdigit, text)) for text in self.cells()), SHOWS_S, self.log)
        for _ in range(2):
            before = self.cells()
            wait_until(lambda before=before: self.cells() != before, SHOWS_S, self.log)

    def wait_for_chart(self):
        """Until the active plugin has drawn something that has a colour."""
        wait_until(lambda: self.evaluate(COLOURED) > 50, SHOWS_S, self.log)

    def log(self):
        return f"{self.page.url}: {self.state()} {self.numbers()} {self.message()} {self.config()} {self.errors}"

    def hosts_asked(self):
        return {urllib.parse.urlsplit(url).netloc for url in self.asked if url.startswith(("http", "ws"))}
