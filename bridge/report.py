"""Lines for people on standard error; what can't be written there is not written, and work goes on."""

import contextlib
import logging
import os


def say(text, end="\n"):
    """A line on standard error; on a terminal it replaces the line that refreshes (end="")."""
    with contextlib.suppress(OSError):  # a full disk, a closed pipe
        start = "\r\033[K" if os.isatty(2) else ""
        os.write(2, f"{start}{text}{end}".encode(errors="backslashreplace"))


class Handler(logging.Handler):
    """Log records, each in one line: what came from outside can't begin a line of its own."""

    def emit(self, record):
        text = self.format(record)
        if record.exc_info is None:
            text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        say(text)


def log_to_stderr(level):
    handler = Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)  # nobody's requests fill the log


def print_result(text):
    """The one line on standard output, if anybody reads that."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would fail at its end, when it flushes
