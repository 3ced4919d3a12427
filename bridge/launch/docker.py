"""docker.sh: TDengine or ClickHouse as a container, of which a query is answered before this ends.

python -m bridge.launch.docker tdengine|clickhouse [--benchmark] [--no-pull] [--data FOLDER] [--stop]
"""

import argparse
import asyncio
import os
import pathlib
import re
import shutil
import time
import urllib.error
import urllib.request

from . import Failed, Unusable, report, running
from .launcher import port_of
from .services import last_lines

# What docker says of a failure, in lower case, and what is wrong then
FAILURES = [
    (r"permission denied.*(daemon|docker\.sock|podman\.sock)",
     'no permission to use Docker: sudo usermod -aG docker "$USER" and log in again, or sudo ./docker.sh'),
    (r"cannot connect to the docker daemon|is the docker daemon running|failed to connect to the docker api|"
     r"error during connect|(cannot|unable to) connect to podman",
     "the Docker daemon is not running: start it (sudo systemctl start docker, or Docker Desktop)"),
    (r"port is already allocated|address already in use|ports are not available|bind for .* failed",
     "port {ports} is taken: end what listens there, or {variable}_PORT={other} ./docker.sh"),
    (r"manifest unknown|manifest for .*not found|pull access denied|repository does not exist|invalid reference",
     "there is no image {image}: correct {variable}_IMAGE"),
    (r"no such host|dial tcp|i/o timeout|network is unreachable|connection refused|tls handshake|request canceled|"
     r"name resolution", "can't {doing}: no network, or the registry does not answer ({last})"),
    (r"no space left", "can't {doing}: no space left on the disk (docker system df shows what uses it)"),
    (r"is already in use", "can't {doing}: there is a container {container} already: ./docker.sh --stop removes it"),
]  # fmt: skip


class Docker:
    """The docker command, its output in a log."""

    def __init__(self, services, kind, args):
        self.services, self.kind, self.args = services, kind, args
        self.image = os.environ.get(f"{kind.variable}_IMAGE") or kind.image
        self.port = port_of(f"{kind.variable}_PORT", kind.port)
        self.wait_s = int(os.environ.get(f"{kind.variable}_WAIT_S") or 60)
        self.native = getattr(args, "native", False)
        self.volume = f"{kind.container}-data"
        self.storage = args.data or self.volume
        self.log = kind.folder / f".logs/docker.{os.getpid()}"

    async def run(self, limit_s, *arguments):
        """Whether docker has done this within the limit."""
        status = await self.services.run("docker", "docker", *arguments, log=self.log, limit_s=limit_s)
        if status is None:
            self.log.write_text(f"docker {arguments[0]} took longer than {limit_s} s\n")
        return status == 0

    async def must(self, doing, limit_s, *arguments):
        if not await self.run(limit_s, *arguments):
            raise self.failed(doing)

    def failed(self, doing):
        """Failed, with what docker has just said in other words where they are known."""
        lines = last_lines(self.log, 50) or ["no reason given"]
        values = {
            "doing": doing, "last": lines[-1], "image": self.image, "container": self.kind.container,
            "variable": self.kind.variable, "other": self.port + 1,
            "ports": f"{self.port} or {self.kind.native_port}" if self.native else self.port,
        }  # fmt: skip
        for pattern, text in FAILURES:
            if re.search(pattern, " ".join(lines).lower()):
                return Failed(text.format(**values))
        return Failed(f"can't {doing}: {lines[-1]}")

    def failed_with_logs(self, text):
        return Failed("\n".join([f"{text}; the end of its log:", *last_lines(self.log, 15)]))

    async def query(self, sql, limit_s):
        """The answer to a query on our port, also when it is an error's text; "" without one."""

        def answer():
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(self.kind.request(self.port, sql), timeout=limit_s) as response:
                    return response.read().decode(errors="replace")
            except urllib.error.HTTPError as error:
                return error.read().decode(errors="replace")
            except OSError:
                return ""

        return await asyncio.to_thread(answer)

    async def until_answering(self):
        """Waits until a query is answered: the database's version."""
        deadline = time.monotonic() + self.wait_s
        title, container = self.kind.title, self.kind.container
        while True:
            version = self.kind.version(await self.query(self.kind.version_query, 3), self.port)
            if version:
                return version
            known = await self.run(30, "inspect", "--format", "{{.State.Status}}", container)
            if known and re.search("exited|dead", "".join(last_lines(self.log, 1))):
                await self.run(30, "logs", "--tail", "15", container)
                raise self.failed_with_logs(f"the container has ended before {title} answered on port {self.port}")
            if time.monotonic() > deadline:
                await self.run(30, "logs", "--tail", "15", container)
                raise self.failed_with_logs(
                    f"{title} does not answer a query on port {self.port} within {self.wait_s} s "
                    f"({self.kind.variable}_WAIT_S)"
                )
            await asyncio.sleep(0.3)

    async def name_registry(self):
        """Podman asks which registry is meant, unless the image's name has it."""
        await self.run(30, "--version")
        first, slash, _ = self.image.partition("/")
        named = slash and (first == "localhost" or re.search("[.:]", first))
        if not named and "podman" in "\n".join(last_lines(self.log)).lower():
            self.image = f"docker.io/{self.image}"

    async def start(self):
        """Makes the container run: a new one, or ours that is there already."""
        container = self.kind.container
        form = '{{.State.Status}}|{{.Config.Image}}|{{index .Config.Labels "demo-settings"}}'
        settings = f"{self.port} {self.storage}" + (
            f" {'yes' if self.native else 'no'}" if self.kind.native_port else ""
        )
        if not await self.run(30, "inspect", "--type", "container", "--format", form, container):
            return await self.create(settings)
        state, image, label = (last_lines(self.log, 1)[0].split("|") + ["", ""])[:3]
        stop = "./docker.sh --stop removes it (the data stays)"
        if image and image.removeprefix("docker.io/") != self.image.removeprefix("docker.io/"):
            raise Failed(f"there is a container {container} with another image, {image}: {stop}")
        if label and label != settings:
            raise Failed(f"there is a container {container} with other settings ({label}, not {settings}): {stop}")
        if state == "running":
            return report(f"container {container} runs already")
        report(f"starting container {container} again")
        return await self.must(f"start container {container}", 60, "start", container)

    async def create(self, settings):
        await self.get_image()
        kind = self.kind
        report(f"starting {self.image} as container {kind.container}")
        published = ["--publish", f"127.0.0.1:{self.port}:{kind.inner_port}"]
        if self.native:
            published += ["--publish", f"127.0.0.1:{kind.native_port}:{kind.native_port}"]
        command = ["run", "--detach", "--name", kind.container, "--label", f"demo-settings={settings}", *kind.options]
        command += [*published, "--volume", f"{self.storage}:{kind.data_folder}", self.image]
        if not await self.run(120, *command):
            failed = self.failed(f"start {self.image}")
            await self.run(30, "rm", "--force", kind.container)  # Docker leaves it when it can't be started
            raise failed

    async def get_image(self):
        if self.args.no_pull:
            if not await self.run(30, "image", "inspect", self.image):
                raise Failed(f"image {self.image} is not here: leave out --no-pull")
            return
        report(f"pulling {self.image} (some hundred MB the first time)")
        if not await self.run(1800, "pull", "--quiet", self.image):
            failed = self.failed(f"pull {self.image}")
            if not await self.run(30, "image", "inspect", self.image):
                raise failed
            report("can't pull it now: using the one that is here")

    async def stop(self):
        container = self.kind.container
        if not await self.run(30, "inspect", "--type", "container", container):
            return report(f"there is no container {container}")
        await self.must(f"stop container {container}", 60, "stop", "-t", "20", container)
        await self.must(f"remove container {container}", 60, "rm", container)
        return report(
            f"container {container} is removed; its data stays (docker volume rm {self.volume} removes that, too)"
        )

    async def work(self):
        try:
            (self.kind.folder / ".logs").mkdir(exist_ok=True)
            self.kind.prepare()
        except OSError as error:
            raise Failed(f"can't write into {self.kind.folder}: {error.strerror}") from None
        try:
            await self.must("reach the Docker daemon", 30, "info")
            if self.args.stop:
                return await self.stop()
            await self.name_registry()
            await self.start()
            version = await self.until_answering()
            if self.args.benchmark:
                await self.kind.benchmark(self)
            where = self.args.data or f"volume {self.volume}"
            address = self.kind.address.format(port=self.port)
            report(
                f"{self.kind.title} {version} answers at {address}, its data is in {where}; ./docker.sh --stop ends it"
            )
        finally:
            self.log.unlink(missing_ok=True)
        return 0


def data_folder(text):
    """The folder's whole path, made when it is missing; from where docker.sh was called."""
    if not text or re.search(r"[:|]", text):
        raise argparse.ArgumentTypeError("Docker takes no folder with : or | in its name, and not ''")
    folder = pathlib.Path(os.environ.get("CALLED_FROM", "."), text).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise argparse.ArgumentTypeError(f"can't make the folder {text}") from None
    return folder.resolve()


def main(kind):
    """The exit status of docker.sh."""
    text = f"Starts {kind.title} ({kind.image}) in Docker, waits until a query is answered, and leaves it running."
    parser = running.Parser("./docker.sh", text)
    parser.epilog = (
        "Ports are on 127.0.0.1 only.\n\nenvironment:\n"
        f"  {kind.variable}_IMAGE   another image, with its exact version\n"
        f"  {kind.variable}_PORT    another port than {kind.port}\n"
        f"  {kind.variable}_WAIT_S  seconds until {kind.title} must answer (default 60)"
    )
    add = parser.add_argument
    add("--benchmark", action="store_true", help="then fill a database test (replacing it) with a million rows")
    add("--no-pull", action="store_true", help="use only an image that is here already")
    add(
        "--data",
        type=data_folder,
        metavar="FOLDER",
        help=f"keep the data there instead of in a volume {kind.container}-data",
    )
    if kind.native_port:
        add("--native", action="store_true", help=f"open port {kind.native_port}, too, for native client drivers")
    add("--stop", action="store_true", help="stop and remove the container; the data stays")
    args = parser.parse_args()

    async def work(services):
        if not re.fullmatch("[0-9]{1,5}", os.environ.get(f"{kind.variable}_WAIT_S") or "60"):
            raise Unusable(f"{kind.variable}_WAIT_S is not a number of seconds")
        if not shutil.which("docker"):
            raise Failed(
                "Docker is not installed, or not on PATH: install Docker or Podman's docker, or do without: ./run.sh"
            )
        return await Docker(services, kind, args).work() or 0

    return running.run("docker.sh", work, when_stopped="interrupted: run it again")
