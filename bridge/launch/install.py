"""install.sh: makes the virtual environment; fetches TDengine's client driver and server on request.

python -m bridge.launch.install [--native] [--server] [--clickhouse]
"""

import asyncio
import contextlib
import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
import zlib

from . import ROOT, Failed, report, running
from .services import last_lines

PIP_LIMIT_S = 900
LOCK_LIMIT_S = 1200
OFFLINE = re.compile(
    r"NewConnectionError|ConnectTimeout|name resolution|Connection refused|Network is unreachable", re.IGNORECASE
)
EPILOG = """
Makes venv/ with the packages of requirements.txt. A second run installs nothing twice; what is broken is repaired.

environment:
  PYTHON                  the Python to use instead of the first suitable one on PATH (3.11 or newer)
  PIP_CACHE_DIR           default: .cache/pip in this folder
  TDENGINE_CLIENT_URL     the driver's archive (.tar.gz; .pkg on macOS), or a folder of them when it ends in /
  TDENGINE_CLIENT_SHA256  the archive's checksum, compared when given
  TDENGINE_SERVER_URL, TDENGINE_SERVER_SHA256  the same for the server's archive
"""


def checksum(folder):
    return str(zlib.crc32((folder / "requirements.txt").read_bytes()))


def requirements(folder):
    """[(name, version)] of requirements.txt."""
    lines = [line.split("#")[0].strip() for line in (folder / "requirements.txt").read_text().splitlines()]
    return [tuple(line.split("==")) for line in lines if line]


def damaged(folder):
    """The requirements that are missing in folder's venv, incomplete, or not of their exact version."""
    site = sorted((folder / "venv").glob("lib/python3.*/site-packages"))[-1:]
    found = {plain(each.name): each for each in importlib.metadata.distributions(path=list(map(str, site)))}
    listed = requirements(folder)
    return [f"{name}=={version}" for name, version in listed if not is_whole(found.get(plain(name)), version)]


def plain(name):
    """A package's name as pip compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_whole(package, version):
    with contextlib.suppress(OSError, TypeError):
        return (
            package is not None
            and package.version == version
            and all(
                file.size is None or os.path.getsize(package.locate_file(file)) == file.size for file in package.files
            )
        )
    return False


def stamp(folder):
    """What install.sh has noted in its environment: of which requirements it is, or "incomplete"; None: not its own."""
    with contextlib.suppress(OSError):
        return (folder / "venv/.stamp").read_text().strip()
    return None


def runs(python):
    """Whether the environment's Python and its pip run."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        code = "import sys, pip, venv; sys.exit(sys.version_info < (3, 11))"
        return subprocess.run([python, "-c", code], capture_output=True, timeout=30).returncode == 0
    return False


def is_complete(folder):
    """Whether the environment has what requirements.txt asks for; quick, so that run.sh can look at every start."""
    if stamp(folder) not in (None, checksum(folder)) or not os.access(folder / "venv/bin/python", os.X_OK):
        return False
    return not damaged(folder)


def reason(log):
    """The line of pip's log that tells most about a failure."""
    lines = [line.strip() for line in last_lines(log, 200) if line.strip()]
    if any(map(OFFLINE.search, lines)):
        return "no connection to the package index (offline? behind a proxy: set HTTPS_PROXY)"
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no message"])[-1]


@contextlib.asynccontextmanager
async def only_one(folder):
    """One installation at a time in a folder; others wait."""
    with (folder / ".cache/install.lock").open("w") as lock:
        waiting, deadline = False, time.monotonic() + LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    report("waiting for another installation in this folder")
                waiting = True
                if time.monotonic() > deadline:
                    raise Failed(f"another installation in {folder} has not ended") from None
                await asyncio.sleep(0.2)
        yield


class Environment:
    """venv/ in a folder, of the requirements.txt there."""

    def __init__(self, services, folder):
        self.services, self.folder, self.venv = services, folder, folder / "venv"
        self.python, self.log = self.venv / "bin/python", folder / ".logs/install.log"

    def note(self, text):
        (self.venv / ".stamp.new").write_text(f"{text}\n")
        (self.venv / ".stamp.new").replace(self.venv / ".stamp")

    async def logged(self, name, *command, limit_s, what):
        status = await self.services.run(name, *command, log=self.log, append=True, limit_s=limit_s)
        if status != 0:
            why = f"it took longer than {limit_s} s" if status is None else reason(self.log)
            raise Failed(f"{what}: {why} (see {self.log.relative_to(ROOT)})")

    async def pip(self, *arguments, what):
        command = [self.python, "-m", "pip", "install", "--no-input", "--only-binary=:all:", *arguments]
        await self.logged("pip", *command, limit_s=PIP_LIMIT_S, what=what)

    async def make(self):
        """Makes or repairs it, and says so."""
        shown = self.venv.relative_to(ROOT)
        if is_complete(self.folder) and (stamp(self.folder) is None or runs(self.python)):
            report(
                f"{shown} is up to date"
                if stamp(self.folder)
                else f"{shown} has what is needed (not made by install.sh)"
            )
            return
        if self.venv.exists() and stamp(self.folder) is None:
            lacks = " ".join(damaged(self.folder)) or "a Python that runs"
            raise Failed(
                f"{shown} was not made by install.sh and lacks {lacks}: move it away, or install into it yourself"
            )
        self.log.write_text("")
        if not runs(self.python):
            await self.remake(shown)
        self.note("incomplete")
        report(f"installing the packages of requirements.txt into {shown}, which takes a minute the first time")
        await self.pip("-r", self.folder / "requirements.txt", what="pip can't install requirements.txt")
        for requirement in damaged(self.folder):
            await self.pip("--force-reinstall", "--no-deps", requirement, what=f"pip can't repair {requirement}")
        if damaged(self.folder):
            raise Failed(f"packages in {shown} stay damaged: remove {shown} and run ./install.sh again")
        self.note(checksum(self.folder))

    async def remake(self, shown):
        """A new environment. What was left of it by an interruption is known by the stamp, which comes first."""
        if self.venv.exists():
            if stamp(self.folder) != "incomplete":
                report(f"recreating {shown}: its Python or its pip does not run any more")
            for entry in self.venv.iterdir():
                if entry.name != ".stamp":
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        self.venv.mkdir(exist_ok=True)
        self.note("incomplete")
        python = sys._base_executable  # not the one of an environment that is active, which may be this one
        report(f"Python: {python} ({sys.version.split()[0]})")
        await self.logged("venv", python, "-m", "venv", self.venv, limit_s=120, what=f"{python} -m venv failed")


def prepare(folder):
    """Folders for logs and caches, and pip's settings; Failed when they can't be made."""
    try:
        for name in (".logs", ".cache"):
            (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise Failed(f"can't write into {folder}: {error.strerror}") from None
    os.environ.setdefault("PIP_CACHE_DIR", str(ROOT / ".cache/pip"))
    os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    os.environ.setdefault("PIP_DEFAULT_TIMEOUT", "30")


def main():
    parser = running.Parser("./install.sh", "Installs what the demo needs into this folder.")
    parser.epilog = EPILOG
    parser.add_argument("--native", action="store_true", help="also fetch TDengine's native client driver (libtaos)")
    parser.add_argument("--server", action="store_true", help="also fetch TDengine's server, which run.sh then uses")
    parser.add_argument(
        "--clickhouse", action="store_true", help="what clickhouse/ needs instead, into clickhouse/venv"
    )
    args = parser.parse_args()
    folder = ROOT / "clickhouse" if args.clickhouse else ROOT

    async def work(services):
        from . import fetch

        prepare(folder)
        async with only_one(folder):
            await Environment(services, folder).make()
            if args.native:
                await fetch.driver(services)
            if args.server:
                await fetch.server(services)
        if not (args.native or args.clickhouse):
            report("taosws needs no native driver; ./install.sh --native fetches one for other tools")
        return 0

    return running.run("install.sh", work, when_stopped="interrupted: run it again")


if __name__ == "__main__":
    sys.exit(main())
