"""TDengine's own archives: the client driver for install.sh --native, the server for install.sh --server.

Each is unpacked beside its final place and moved there when it is whole; what was there before stays until then.
"""

import contextlib
import hashlib
import os
import platform
import shlex
import shutil

from . import ROOT, Failed, report
from .services import last_lines

DRIVER_VERSION = "3.3.7.0"  # of the server that docker.sh starts
SERVER_VERSION = "3.4.0.9"
PLACE = "https://downloads.tdengine.com/tdengine-tsdb-oss/{version}/"
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
LOG = ROOT / ".logs/install.log"
PROGRAMS = ("taosd", "taosadapter")


class Archive:
    """What to fetch into a folder of the project; `variable` begins the names of its environment variables."""

    def __init__(self, services, folder, variable, what, name):
        self.services, self.folder, self.variable, self.what = services, ROOT / folder, variable, what
        self.new = ROOT / f"{folder}.new"
        self.url = os.environ.get(f"{variable}_URL") or PLACE
        if self.url.endswith("/"):
            self.url += name
        self.sha256 = os.environ.get(f"{variable}_SHA256", "").lower()

    def is_there(self):
        with contextlib.suppress(OSError):
            return (self.folder / ".stamp").read_text() == f"{self.url} {self.sha256}\n"
        return False

    def failed(self, why):
        return Failed(f"no {self.what} from {self.url}: {why} ({self.variable}_URL names another place)")

    async def run(self, name, *command, limit_s, otherwise):
        """Runs a command; Failed with its last words, which are the last line of the log, when it fails."""
        status = await self.services.run(name, *command, log=LOG, limit_s=limit_s)
        if status != 0:
            full = shutil.disk_usage(self.new).free < 2**20  # then there is no log either
            unknown = "No space left on the disk" if full else "no reason given"
            why = f"it took longer than {limit_s} s" if status is None else (last_lines(LOG, 1) or [unknown])[0]
            raise self.failed(f"{otherwise} ({why})" if otherwise else why)

    async def download(self):
        """The archive's path, its checksum compared."""
        if not shutil.which("curl"):
            raise Failed(f"curl is needed to fetch the {self.what}")
        report(f"fetching {self.url}")
        archive = self.new / "archive"
        limits = ["--connect-timeout", "10", "--speed-limit", "1000", "--speed-time", "15", "--max-time", "1200"]
        command = ["curl", "--fail", "--silent", "--show-error", "--location", "--output", archive, *limits, self.url]
        await self.run("curl", *command, limit_s=1230, otherwise="")
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if self.sha256 and found != self.sha256:
            raise self.failed(f"its SHA-256 is {found}, not {self.sha256} as {self.variable}_SHA256 says")
        return archive

    async def unpack(self, archive, target):
        """Tar itself refuses names that lead out of the folder."""
        command = ["tar", "-xzf", archive, "--no-same-owner", "-C", target]
        await self.run("tar", *command, limit_s=300, otherwise="a broken archive")
        archive.unlink()

    async def fetch(self, unpacked):
        """Fetches it unless it is there; `unpacked(archive)` is a coroutine function, its result the folder to keep."""
        if self.is_there():
            report(f"{self.folder.name} is up to date")
            return
        shutil.rmtree(self.new, ignore_errors=True)
        try:
            self.new.mkdir()
            root = await unpacked(await self.download())
            (root / ".stamp").write_text(f"{self.url} {self.sha256}\n")
            shutil.rmtree(self.folder, ignore_errors=True)
            root.rename(self.folder)
        except OSError as error:
            raise self.failed(error.strerror) from None
        finally:
            shutil.rmtree(self.new, ignore_errors=True)


def link_libraries(folder, suffix):
    """Links without the version to the shared libraries, whose names end in it: libtaos.so to libtaos.so.3.3.7.0."""
    for library in [*folder.glob(f"lib*.{suffix}.*"), *folder.glob(f"lib*.[0-9]*.{suffix}")]:
        if library.is_file() and not library.is_symlink():
            short = library.name.partition(".")[0]
            for link in (f"{short}.{suffix}", f"{short}.{suffix}.1" if suffix == "so" else f"{short}.1.{suffix}"):
                with contextlib.suppress(FileNotFoundError):
                    (folder / link).unlink()
                (folder / link).symlink_to(library.name)


def machine(what, systems):
    """(system, machine) as TDengine's archives name them; Failed where it has none for this machine."""
    system, processor = platform.system(), platform.machine().lower()
    if system not in systems:
        raise Failed(
            f"TDengine has no {what} for {system} that can be used here: {' and '.join(systems)} only (./docker.sh)"
        )
    if processor not in MACHINES:
        raise Failed(f"TDengine has no {what} for {processor}: x86_64 and arm64 only")
    return {"Linux": "linux", "Darwin": "macos"}[system], MACHINES[processor]


async def driver(services):
    """tdengine-client/driver with libtaos, and env.sh for shells that are to find it."""
    system, processor = machine("client driver", ("Linux", "Darwin"))
    suffix, ending, variable = "so", "tar.gz", "LD_LIBRARY_PATH"
    if system == "macos":
        suffix, ending, variable = "dylib", "pkg", "DYLD_LIBRARY_PATH"
    name = f"tdengine-tsdb-oss-client-{DRIVER_VERSION}-{system}-{processor}.{ending}"
    archive = Archive(services, "tdengine-client", "TDENGINE_CLIENT", "client driver", name)
    archive.url = archive.url.format(version=DRIVER_VERSION)

    async def unpacked(file):
        if archive.url.endswith(".pkg"):  # unpacked, not installed: nothing outside this folder changes
            command = ["pkgutil", "--expand-full", file, archive.new / "package"]
            await archive.run("pkgutil", *command, limit_s=120, otherwise="a broken package")
        else:
            await archive.unpack(file, archive.new)
        found = next((path.parent for path in archive.new.rglob("libtaos.*") if path.is_file()), None)
        if found is None:
            raise archive.failed(f"no driver/libtaos.{suffix} in the archive")
        link_libraries(found, suffix)
        if not (found / f"libtaos.{suffix}").exists():
            raise archive.failed(f"no driver/libtaos.{suffix} in the archive")
        if found.name == "driver":
            return found.parent
        root = archive.new / "renamed"  # a package may have it in a folder of another name
        root.mkdir()
        return found.rename(root / "driver").parent

    await archive.fetch(unpacked)
    folder = shlex.quote(str(archive.folder / "driver"))
    (ROOT / "env.sh").write_text(
        "# source this in a shell that is to find TDengine's native client driver\n"
        f"export {variable}={folder}${{{variable}:+:${variable}}}\n"
    )
    report("native driver in tdengine-client/driver; for a shell of yours:  . ./env.sh")


async def server(services):
    """tdengine-server/ with bin/taosd, bin/taosadapter and driver/. Its own install.sh is not run: it needs root."""
    system, processor = machine("server", ("Linux",))
    name = f"tdengine-tsdb-oss-{SERVER_VERSION}-{system}-{processor}.tar.gz"
    archive = Archive(services, "tdengine-server", "TDENGINE_SERVER", "server", name)
    archive.url = archive.url.format(version=SERVER_VERSION)

    async def unpacked(file):
        await archive.unpack(file, archive.new)
        inner = next(archive.new.glob("*/package.tar.gz"), None)
        if inner is None:
            raise archive.failed("no package.tar.gz in the archive")
        root = inner.parent
        await archive.unpack(inner, root)
        missing = [program for program in PROGRAMS if not os.access(root / "bin" / program, os.X_OK)]
        if missing:
            raise archive.failed(f"no bin/{missing[0]} in the archive")
        link_libraries(root / "driver", "so")
        return root

    await archive.fetch(unpacked)
    report("TDengine's server is in tdengine-server; ./run.sh uses it from now on (--stand-in: the stand-in)")
