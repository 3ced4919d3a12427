#!/usr/bin/env python3
"""How long `./run.sh` takes when everything is installed: from its start until the page shows a first row.

    python benchmarks/start.py [--times N] [--dsn DSN]

A browser is open already and asks for the page until it answers. run.sh runs in a copy of the project's folder, and
starts its stand-in; with a DSN it uses a database of the benchmark's there.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import measure
import page
from playwright.sync_api import sync_playwright

STARTS_S = 60  # bound of a start
ENDS_S = 15


def copy_project(folder):
    """The project's files in `folder`, with what is installed in this one: the start in it is a second start."""
    for name in (".venv", "node_modules"):
        if not (measure.ROOT / name).is_dir():
            raise measure.Unmeasured(f"no {name} here: ./install.sh, with Node's npm at hand")
    shutil.copytree(
        measure.ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", "node_modules", ".data", ".logs", ".cache")
    )
    for name in (".venv", "node_modules"):
        (folder / name).symlink_to(measure.ROOT / name)


def start_s(browser, folder, dsn):
    """Seconds from the start of run.sh to the page's first row."""
    port = measure.free_port()
    environment = {name: value for name, value in os.environ.items() if name != "TDENGINE_DSN"}
    if dsn:
        environment["TDENGINE_DSN"] = dsn
    else:
        environment["TDENGINE_PORT"] = str(measure.free_port())  # where no TDengine answers: a stand-in is started
    with (folder / "run.out").open("wb") as out:
        started = time.monotonic()
        run = subprocess.Popen(
            ["./run.sh", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            while not measure.listens(port):
                if run.poll() is not None or time.monotonic() - started > STARTS_S:
                    words = (folder / "run.out").read_text().strip().splitlines() or ["nothing"]
                    raise measure.Unmeasured(f"run.sh did not start: {words[-1]}")
                time.sleep(0.02)
            page.opening_ms(browser, f"http://localhost:{port}/")
            return time.monotonic() - started
        finally:
            run.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(ENDS_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait(ENDS_S)


def measure_start(chain, times, with_dsn):
    """[s] of so many starts, after a first one that does not count: it makes the database and compiles the scripts."""
    folder = chain.folder / "a copy"
    copy_project(folder)
    dsn = chain.dsn_of_database() if with_dsn else None
    found = []
    with sync_playwright() as playwright, page.browser(playwright) as browser:
        for _ in range(1 + times):
            found.append(start_s(browser, folder, dsn))
            measure.note(f"  {found[-1]:.2f} s")
    return found[1:]


def main():
    parser = measure.parser(__doc__)
    parser.add_argument("--times", type=measure.number(1, 20), default=3, metavar="N", help="default: 3")
    args = parser.parse_args()
    with measure.Chain(args.dsn) as chain:
        measure.tell_where(chain)
        found = measure_start(chain, args.times, bool(args.dsn))
    middle = measure.percentile(found, 50)
    with_what = ", TDengine already up" if args.dsn else ""
    measure.tell(
        f"./run.sh, second start: until the page's first row, median{with_what}",
        f"{middle:.2f} s ({min(found):.2f} to {max(found):.2f} s of {len(found)})",
        "under 4 s",
        middle < 4,
    )


if __name__ == "__main__":
    measure.run(main)
