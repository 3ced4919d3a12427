"""Debian's Firefox, by WebDriver BiDi (https://w3c.github.io/webdriver-bidi): Playwright asks for more of it."""

import asyncio
import contextlib
import itertools
import json
import re

import tornado.websocket
from browser import CELLS, COLOURED, SHOWS_S
from helpers import Process, wait_until

ANSWER_S = 60
WEBGL = 'user_pref("webgl.force-enabled", true);'  # without a graphics card
MOST_BYTES = 64 * 2**20  # of a message: pictures


class Firefox:
    """A page in Firefox; `errors` are those of its console."""

    def __init__(self, address):
        """address: the remote end's WebSocket."""
        self.loop, self.numbers, self.errors = asyncio.new_event_loop(), itertools.count(1), []
        self.socket = self.run(self.connect(f"{address}/session"))
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])
        self.page, self.painter = (self.command("browsingContext.create", type="tab")["context"] for _ in range(2))

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, ANSWER_S))

    async def connect(self, address):
        return await tornado.websocket.websocket_connect(address, max_message_size=MOST_BYTES)

    def command(self, method, **params):
        """Its result; AssertionError with Firefox's words when it fails."""
        return self.run(self.answer(method, params))

    async def answer(self, method, params):
        number = next(self.numbers)
        await self.socket.write_message(json.dumps({"id": number, "method": method, "params": params}))
        while (message := await self.socket.read_message()) is not None:
            found = json.loads(message)
            if found["type"] == "event" and found["params"].get("level") == "error":
                self.errors.append(found["params"]["text"])
            if found.get("id") == number:
                assert found["type"] == "success", found
                return found["result"]
        raise AssertionError("Firefox has closed the connection")

    def open(self, address):
        self.command("browsingContext.setViewport", context=self.page, viewport={"width": 960, "height": 600})
        self.command("browsingContext.activate", context=self.page)
        self.command("browsingContext.navigate", context=self.page, url=address, wait="complete")

    def evaluate(self, function, argument=None, context=None):
        """What a function of JavaScript returns, as JSON."""
        expression = f"(async () => JSON.stringify(await ({function})({json.dumps(argument)})))()"
        target = {"context": context or self.page}
        found = self.command("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    def message(self):
        return self.evaluate("() => document.getElementById('message').textContent")

    def cells(self):
        return self.evaluate(CELLS, ["TD"])

    def wait_for_changing_cells(self):
        for _ in range(2):
            before = self.cells()
            wait_until(lambda b=before: any(self.cells()) and self.cells() != b, SHOWS_S, lambda: self.errors)

    def coloured(self):
        picture = self.command("browsingContext.captureScreenshot", context=self.page)["data"]
        return self.evaluate(COLOURED, f"data:image/png;base64,{picture}", self.painter)


@contextlib.contextmanager
def firefox(folder):
    """A Firefox with a profile of its own, on a screen of Xvfb's: without one it has no WebGL."""
    profile = folder / "profile"
    profile.mkdir()
    (profile / "user.js").write_text(WEBGL)
    with contextlib.ExitStack() as ended:
        screen = Process(["Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"], folder, "xvfb")
        ended.callback(screen.stop)
        display = wait_until(lambda: re.fullmatch(r"(\d+)\n", screen.stdout()), ANSWER_S, screen.log)[1]
        args = ["firefox-esr", "--no-remote", "--remote-debugging-port", "0", "--profile", profile, "about:blank"]
        process = Process(args, folder, "firefox", env={"HOME": str(folder), "DISPLAY": f":{display}"})
        ended.callback(process.stop)
        listening = r"WebDriver BiDi listening on (ws://\S+)"
        yield Firefox(wait_until(lambda: re.search(listening, process.stderr()), ANSWER_S, process.log)[1])
