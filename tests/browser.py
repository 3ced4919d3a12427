"""A real Chromium, and what the page shows in it.

The page's Content-Security-Policy forbids eval, which Playwright's wait_for_function needs: wait_until waits.
"""

import base64
import contextlib
import os
import shutil
import urllib.parse

from helpers import free_port, wait_until
from playwright.sync_api import Error, sync_playwright

SHOWS_S = 60  # bound of the wait for what a page is to show, on a busy machine
# all elements, also those in shadow roots
ALL = """const all = (root) => [...root.querySelectorAll("*")].flatMap(
  (each) => [each, ...(each.shadowRoot ? all(each.shadowRoot) : [])]);"""
CELLS = f"""(tags) => {{
  {ALL}
  return all(document).filter((each) => tags.includes(each.tagName)).map((each) => each.textContent);
}}"""
# Of a picture: pixels that have a colour. Axes, lines of the grid and text are grey.
COLOURED = """async (picture) => {
  const bitmap = await createImageBitmap(await (await fetch(picture)).blob());
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  let found = 0;
  for (let k = 0; k < data.length; k += 4) {
    const [r, g, b] = [data[k], data[k + 1], data[k + 2]];
    found += Math.max(r, g, b) - Math.min(r, g, b) > 40;
  }
  return found;
}"""
DEFAULT_PORT = free_port()  # what the browser finds at localhost:8080
HOSTS = f"MAP localhost:8080 127.0.0.1:{DEFAULT_PORT}, MAP localhost 127.0.0.1, EXCLUDE 127.0.0.1, MAP * ~NOTFOUND"
# WebGL without a graphics card; nothing but this machine can be reached
ARGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--host-resolver-rules={HOSTS}"]
QUICK = "--disable-gpu-compositing"  # emulates a graphics card for the charts alone: all else takes a fifth of the time


@contextlib.contextmanager
def chromium(*args):
    """The system's Chromium, headless, with these arguments: QUICK where times are not what is measured."""
    with sync_playwright() as playwright, launched(playwright.chromium, *args) as browser:
        yield browser


@contextlib.contextmanager
def launched(kind, *args):
    """One of this kind, as the `browser_type` of another one: Playwright itself can be started once."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no chromium on PATH"
    # as root Chromium does not run with its sandbox
    args = [*ARGS, *args, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    browser = kind.launch(executable_path=found, args=args)
    try:
        yield browser
    finally:
        SPARE.pop(browser, None)
        browser.close()


# of each browser: (context, page) that no test uses now; to begin anew with one costs a third of what another does
SPARE = {}


class Page:
    """prsp-viewer.html in a context of its own, or in the one that is given."""

    def __init__(self, browser, address=None, width=960, height=600, context=None):
        self.browser, self.own = browser, context is None
        if self.own and SPARE.get(browser):
            self.context, self.page = SPARE[browser].pop()
            self.page.set_viewport_size({"width": width, "height": height})
        else:
            self.context = context or browser.new_context(viewport={"width": width, "height": height})
            self.page = self.context.new_page()
        self.painter, self.errors, self.asked = None, [], []
        self.listeners = {"console": self.take_message, "pageerror": self.take_error, "request": self.take_request}
        for event, listener in self.listeners.items():
            self.page.on(event, listener)
        if address:
            self.open(address)

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if failed and self.own:
            self.context.close()
            return
        if self.painter:
            self.painter.close()
        if not self.own:
            self.page.close()
            return
        self.page.unroute_all()
        self.page.goto("about:blank")  # where it can keep no layout any more
        session = self.context.new_cdp_session(self.page)
        session.send("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "local_storage"})
        session.detach()
        for event, listener in self.listeners.items():
            self.page.remove_listener(event, listener)
        SPARE.setdefault(self.browser, []).append((self.context, self.page))

    def take_message(self, message):
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def take_error(self, error):
        self.errors.append(f"{error.message}\n{error.stack}")

    def take_request(self, request):
        self.asked.append(request.url)

    def open(self, address):
        self.page.goto(address)

    def evaluate(self, script, argument=None):
        try:
            return self.page.evaluate(script, argument)
        except Error as error:
            if "because of a navigation" not in error.message:
                raise
            return self.page.evaluate(script, argument)  # the page has loaded itself anew just now

    def state(self):
        """live, waiting, stale, incomplete, away, error or loading."""
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

    def coloured(self):
        """How many pixels of the viewer have a colour, without its settings panel."""
        main = self.page.locator("main").bounding_box()
        panel = self.page.locator("perspective-viewer #settings_panel")
        width = panel.bounding_box()["x"] if panel.count() and panel.is_visible() else main["width"]
        picture = self.page.screenshot(clip={**main, "width": min(width, main["width"])})
        if not self.painter:
            self.painter = self.context.new_page()
            self.page.bring_to_front()
        return self.painter.evaluate(COLOURED, f"data:image/png;base64,{base64.b64encode(picture).decode()}")

    def wait_for_chart(self):
        """Until the active plugin has drawn something that has a colour."""
        wait_until(lambda: self.coloured() > 300, SHOWS_S, self.log)

    def log(self):
        return f"{self.page.url}: {self.state()} {self.numbers()} {self.message()} {self.errors}"

    def hosts_asked(self):
        return {urllib.parse.urlsplit(url).netloc for url in self.asked if url.startswith(("http", "ws"))}
