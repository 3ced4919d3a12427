"""Who hears of which updates: one viewer first, the others a moment later in parts, so that their reads fit between."""

import collections

from . import requests

AT_ONCE = 50  # viewers that hear of an update together
PART_S, MOST_WAITING = 0.004, 2500  # until the next ones hear of it, as these read it now; not while so many wait
FIRST_S = 0.004  # by which one viewer hears of it before: what it reads is then there for all


class Subscribers:
    """Viewers by the number of the engine's subscription that they share; `loop` is where events go out."""

    def __init__(self, loop):
        self.loop = loop
        self.of = {}  # number of a subscription: {(viewer, its number): its name of the view}
        self.waiting = collections.deque()  # events that are not sent yet, as send() takes them

    def add(self, number, viewer, theirs, entity):
        self.of.setdefault(number, {})[viewer, theirs] = entity

    def remove(self, number, viewer, theirs):
        """Whether it was the last one."""
        found = self.of.get(number, {})
        if found.pop((viewer, theirs), None) is None or found:
            return False
        del self.of[number]
        return True

    def deliver(self, number, tail):
        """An event of a subscription goes to all who have it; one hears of it first, and asks for the others, too."""
        subscribers = self.of.get(number, {}).items()
        events = [(viewer, theirs, entity, tail) for (viewer, theirs), entity in subscribers]
        for event in events[:1]:
            send(*event)
        if events[1:]:
            self.loop.call_later(FIRST_S, self.deliver_others, events[1:])

    def deliver_others(self, others):
        is_idle = not self.waiting
        self.waiting.extend(others)
        if is_idle:
            self.deliver_part()

    def deliver_part(self):
        """Between two parts, the reads of those who got theirs are answered: else the last reads wait for all."""
        for _ in range(min(AT_ONCE, len(self.waiting))):
            send(*self.waiting.popleft())
        if self.waiting:
            self.loop.call_later(PART_S if len(self.waiting) < MOST_WAITING else 0, self.deliver_part)


def send(viewer, number, entity, tail):
    viewer.send(requests.head(number, entity) + tail)
