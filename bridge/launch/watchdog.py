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


def is_alive(pid):
    """Whether a process runs: not when it has ended and only waits for its new parent to notice."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return True  # no /proc here
    except OSError:
        return False


def end(groups):
    """Ends [(rank, process group)], the highest rank first; what has not ended in time is killed."""
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
