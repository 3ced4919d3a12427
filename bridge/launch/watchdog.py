"""Ends the demo's processes when the launcher was killed.

Reads "RANK GROUP" of each process group from a pipe that closes when the launcher ends, however that was.
"""

import contextlib
import os
import signal
import sys
import time

# Ranks: what ends last comes first. A producer still sends what it keeps, for up to 5 s.
DATABASE, ADAPTER, SERVER, PRODUCER = range(4)
LIMITS_S = {DATABASE: 4, ADAPTER: 1.5, SERVER: 1.5, PRODUCER: 6}


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
    for rank in sorted({rank for rank, _ in groups}, reverse=True):
        those = [group for each, group in groups if each == rank and is_alive(group)]
        for group in those:
            with contextlib.suppress(OSError):
                os.kill(group, signal.SIGTERM)  # its leader, which knows how to end the others
        deadline = time.monotonic() + LIMITS_S[rank]
        while any(map(is_alive, those)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for group in those:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end([tuple(map(int, line.split())) for line in sys.stdin])


if __name__ == "__main__":
    main()
