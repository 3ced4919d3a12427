"""What the engine has in hand, in memory that outlives its process: so the request that killed it is known."""

import mmap
import struct
import time

DIGEST = 16  # bytes that identify a request


class Mark:
    """What the engine has in hand, in memory that the parent can still read when the child has died.

    A call's kind, the digest that identifies the request, a text for the log, when it began. And the digests of young
    views, through which no update has gone yet: one of them is to blame when the engine dies of an update. More than
    MAX_YOUNG are not noted.
    """

    HEAD, YOUNG_AT, MAX_YOUNG = struct.Struct(f"<?d{DIGEST}sHH"), 2048, 100

    def __init__(self):
        self.memory = mmap.mmap(-1, 4096)  # shared with children that are forked

    def begin(self, kind, digest=bytes(DIGEST), text=""):
        kind, text = kind.encode()[:100], text.encode()[:1500]
        start = self.HEAD.size
        self.memory[start : start + len(kind) + len(text)] = kind + text
        self.memory[:start] = self.HEAD.pack(True, time.monotonic(), digest, len(kind), len(text))

    def end(self):
        self.memory[0] = 0

    def read(self):
        """(kind, digest, text, seconds since it began) of the call in hand, or None."""
        in_hand, began, digest, kind, text = self.HEAD.unpack(self.memory[: self.HEAD.size])
        if not in_hand:
            return None
        words = self.memory[self.HEAD.size : self.HEAD.size + kind + text]
        return words[:kind].decode(), digest, words[kind:].decode(errors="ignore"), time.monotonic() - began

    def add_young(self, digest):
        count = self.memory[self.YOUNG_AT]
        if count < self.MAX_YOUNG:
            at = self.YOUNG_AT + 1 + count * DIGEST
            self.memory[at : at + DIGEST] = digest
            self.memory[self.YOUNG_AT] = count + 1

    def young(self):
        start = self.YOUNG_AT + 1
        return [
            self.memory[at : at + DIGEST] for at in range(start, start + self.memory[self.YOUNG_AT] * DIGEST, DIGEST)
        ]

    def grown_up(self):
        self.memory[self.YOUNG_AT] = 0
