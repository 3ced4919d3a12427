"""Ends the demo's processes when the launcher was killed.

Reads "RANK GROUP" of each process group from a pipe that closes when the launcher ends, however that was.
"""

import contextlib
import os
import signal
import sys
import time

FIRST_LIMIT_S = 6  # for the highest rank: a producer sends for up to 5 s
LIMIT_S = 1.5  # for each other rank


def is_alive(group):
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def end(groups):
    """Ends [(rank, process group)]: terminated, the highest rank first; what has not ended in time is killed."""
    limit = FIRST_LIMIT_S
    for rank in sorted({rank for rank, _ in groups}, reverse=True):
        those = [group for each, group in groups if each == rank and is_alive(group)]
        for group in those:
            with contextlib.suppress(OSError):
                os.kill(group, signal.SIGTERM)  # its leader, which knows how to end the others
        deadline = time.monotonic() + limit
        while any(map(is_alive, those)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for group in those:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        limit = LIMIT_S


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end([tuple(map(int, line.split())) for line in sys.stdin])


if __name__ == "__main__":
    main()
