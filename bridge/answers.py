"""Equal questions are answered once, until a table changes."""

import asyncio

MAX_ANSWERS = 100  # that are kept of one view


class Answers:
    """Answers by (kind, body): tails, as requests.tail makes them, true as long as engine.changes stays.

    Who asks while one is being made waits for the same.
    """

    def __init__(self, engine):
        self.engine, self.found, self.waiting = engine, {}, {}

    def get(self, key):
        changes, tail = self.found.get(key, (None, None))
        return tail if changes == self.engine.changes else None

    async def get_or_make(self, key, make):
        """`make` is a coroutine function that returns (engine.changes, tail)."""
        if (tail := self.get(key)) is not None:
            return tail
        if key not in self.waiting:
            self.waiting[key] = asyncio.ensure_future(make())
            self.waiting[key].add_done_callback(lambda made: self.made(key, made))
        return (await asyncio.shield(self.waiting[key]))[1]

    def made(self, key, made):
        del self.waiting[key]
        if not made.cancelled() and made.exception() is None:
            if len(self.found) >= MAX_ANSWERS:
                self.found.clear()
            self.found[key] = made.result()
