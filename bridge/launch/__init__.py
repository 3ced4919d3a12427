"""What run.sh, install.sh and docker.sh do: make the environment, start the demo's processes, watch and end them."""

import contextlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Failed(Exception):
    """What is wrong and what to do, in one line; `status` is the exit status."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.status = status


class Unusable(Failed):
    """Of arguments and environment variables."""

    def __init__(self, text):
        super().__init__(text, 2)


def one_line(text):
    return " ".join(str(text).split())


def report(text, end="\n"):
    """Prints a line. One that can't be written is no reason to end; BrokenPipeError when nobody reads any more."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError):
        pass


def complain(text):
    """Prints a line on standard error, whatever became of that."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
