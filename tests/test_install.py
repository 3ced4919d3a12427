"""install.sh in copies of its own, in a path with a space; the packages come from pip's own index."""

import asyncio
import contextlib
import hashlib
import http.server
import io
import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading

import pip
import pytest
import tornado
from demo import only_line as only_line_of
from helpers import PATIENCE, ROOT, Process, free_port, wait_until

from bridge.launch import Failed, fetch, install

SMALL = "tornado==6.6.1\n"  # one small package is enough for most of these tests
ENDS_S = 10


def only_line(result, status=1):
    return only_line_of(result, status, "install.sh")


def link_package(package, site):
    """A package of the tests' own environment in another one."""
    site.mkdir(parents=True, exist_ok=True)
    own = pathlib.Path(package.__path__[0])
    for part in (own, *own.parent.glob(f"{own.name}-*.dist-info")):
        (site / part.name).symlink_to(part)


class Copy:
    """install.sh in a folder with a space in its name, with a home and programs of its own on PATH."""

    def __init__(self, folder, requirements=SMALL):
        self.folder = folder / "a copy"
        self.home, self.programs = folder / "home", folder / "programs"
        for each in (self.folder, self.home, self.programs):
            each.mkdir()
        for name in ("install.sh", "bridge/__init__.py", "bridge/options.py", "bridge/dsn.py", "bridge/sql.py"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        shutil.copytree(ROOT / "bridge/launch", self.folder / "bridge/launch")
        (self.folder / "requirements.txt").write_text(requirements)
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            # what was fetched for other tests need not be fetched again
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(ROOT / ".cache/pip")),
        }

    def program(self, name, script):
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def install(self, *args, timeout=150, **env):
        env = {**os.environ, **self.env, **env}
        return subprocess.run(
            [self.folder / "install.sh", *args],
            cwd=self.home,
            env={name: value for name, value in env.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def start(self, folder, *args, **env):
        return Process([self.folder / "install.sh", *args], folder, env=self.env | env)

    def venv(self, code):
        return subprocess.check_output([self.folder / "venv/bin/python", "-c", code], text=True, timeout=30).strip()

    def stamp(self):
        return (self.folder / "venv/.stamp").read_text()

    def prepare_venv(self):
        """An environment with what is needed, not made by install.sh: for tests of what comes after it."""
        (self.folder / "venv/bin").mkdir(parents=True)
        (self.folder / "venv/bin/python").symlink_to(sys.executable)
        link_package(tornado, self.folder / "venv/lib/python3.x/site-packages")


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment without packages, to be copied: pip is the tests' own, as ensurepip takes seconds."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    (site,) = folder.glob("lib/python3.*/site-packages")
    link_package(pip, site)
    return folder


@pytest.fixture
def begun(copy, environment):
    """A Copy whose environment has no packages yet, as an interruption leaves it."""
    shutil.copytree(environment, copy.folder / "venv", symlinks=True)
    (copy.folder / "venv/.stamp").write_text("incomplete\n")
    return copy


# venv


VERSION = "import importlib.metadata as m; print(m.version('tornado'))"
WITHOUT_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}


def test_installs_exact_versions_once_and_makes_anew_what_is_broken(begun):
    # an interruption may leave an environment that does not run
    for link in (begun.folder / "venv/bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python3")
    result = begun.install(PIP_CACHE_DIR=None)
    assert result.returncode == 0, result
    assert begun.venv(VERSION) == "6.6.1"
    assert "taosws needs no native driver; ./install.sh --native" in result.stdout.splitlines()[-1]
    # nothing outside the folder; pip asks rustc, where there is one, for its version, which makes .rustup
    assert {path.name for path in begun.home.iterdir()} <= {".rustup"}

    # after what the published guides do with the environment, a second run needs no index, as it installs nothing
    guide = "source venv/bin/activate; pip install --upgrade pip && pip install --upgrade -r requirements.txt"
    subprocess.run(
        ["bash", "-ec", guide], cwd=begun.folder, env={**os.environ, **begun.env}, capture_output=True, timeout=300,
        check=True,
    )  # fmt: skip
    result = begun.install(**WITHOUT_INDEX)
    assert result.returncode == 0, result
    assert "venv is up to date" in result.stdout

    site = pathlib.Path(begun.venv("import tornado; print(tornado.__path__[0])")).parent
    (site / "pip").rename(site / "away")
    assert not install.runs(begun.folder / "venv/bin/python")  # what does not run is made anew
    (site / "away").rename(site / "pip")

    def remove_a_file():
        (site / "tornado/web.py").unlink()

    def cut_a_file():
        (site / "tornado/web.py").write_text("")

    for damage in (remove_a_file, cut_a_file):
        damage()
        assert install.damaged(begun.folder) == ["tornado==6.6.1"], damage
    result = begun.install()
    assert result.returncode == 0, result
    assert begun.venv("import tornado.web; print(len(open(tornado.web.__file__).read()) > 1000)") == "True"

    # another version in requirements.txt is installed, too
    (begun.folder / "requirements.txt").write_text("# a comment\ntornado==6.5.2  # another\n")
    assert begun.install().returncode == 0
    assert begun.venv(VERSION) == "6.5.2"


def test_an_environment_that_it_has_not_made_is_left_alone(begun):
    (begun.folder / "venv/.stamp").unlink()
    (begun.folder / "venv/mine").write_text("mine")
    before = sorted(path.name for path in begun.folder.glob("venv/**/*"))
    line = only_line(begun.install())
    assert "venv was not made by install.sh and lacks tornado==6.6.1" in line
    assert sorted(path.name for path in begun.folder.glob("venv/**/*")) == before
    # one that has what is needed is used
    shutil.rmtree(begun.folder / "venv")
    begun.prepare_venv()
    result = begun.install()
    assert result.returncode == 0, result
    assert "venv has what is needed (not made by install.sh)" in result.stdout


def test_without_an_index_there_is_one_line_and_a_log(begun):
    result = begun.install(PIP_INDEX_URL=f"http://127.0.0.1:{free_port()}/simple", PIP_RETRIES="1", PIP_FIND_LINKS="")
    line = only_line(result)
    assert "no connection" in line
    assert ".logs/install.log" in line
    assert "tornado" in (begun.folder / ".logs/install.log").read_text()


def test_a_version_that_does_not_exist_is_named(begun):
    (begun.folder / "requirements.txt").write_text("tornado==0.0.0.1\n")
    assert "tornado==0.0.0.1" in only_line(begun.install())


@contextlib.contextmanager
def silent_index():
    """A server that accepts and says nothing; yields it, and the environment that makes pip wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(90)
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        yield silent, {"PIP_INDEX_URL": index, "PIP_FIND_LINKS": "", "PIP_DEFAULT_TIMEOUT": "600"}


def wait_until_closed(connection):
    """Until the other end is: pip's, which has ended then."""
    with connection:
        connection.settimeout(PATIENCE * ENDS_S)
        while connection.recv(4096):
            pass


def test_the_next_one_waits_and_goes_on_where_an_interruption_has_left_off(begun, tmp_path):
    with silent_index() as (silent, env), contextlib.ExitStack() as ended:
        first = begun.start(tmp_path, **env)
        ended.callback(first.stop)
        connection, _ = silent.accept()
        second = begun.start(tmp_path, **env)
        ended.callback(second.stop)
        words = "waiting for another installation in this folder"
        wait_until(lambda: words in second.stdout(), 30, second.log)
        # what it has started ends with it, also when it is killed
        first.signal(signal.SIGKILL)
        wait_until_closed(connection)
        connection, _ = silent.accept()
        second.signal(signal.SIGINT)
        assert second.ends_within(ENDS_S) == 0, second.log()
        wait_until_closed(connection)
        assert second.stderr() == "install.sh: interrupted: run it again\n"
    assert begun.stamp() == "incomplete\n"


# Which Python


def pretend(copy, name, code):
    """A Python on PATH in which code has run before anything else."""
    folder = copy.programs / f"{name}-site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    copy.program(name, f'PYTHONPATH="{folder}" exec "{sys.executable}" "$@"')
    return str(copy.programs / name)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.version_info = (3, 9, 1, 'final', 0)", "is Python 3.9, older than 3.11"),
        ("import sys; sys.modules['ensurepip'] = None", "has no venv module"),
        ("import os; os.confstr = lambda name: 'glibc 2.27'", "glibc 2.28 or newer"),
        ("import os; os.confstr = lambda name: None", "musl"),
        ("import platform; platform.machine = lambda: 'riscv64'", "is on riscv64"),
        (
            "import sys, platform; sys.platform = 'darwin'; platform.mac_ver = lambda: ('13.6', '', ''); "
            "platform.machine = lambda: 'arm64'",
            "macOS 14 or newer",
        ),
        (
            "import sys, platform; sys.platform = 'darwin'; platform.mac_ver = lambda: ('15.0', '', ''); "
            "platform.machine = lambda: 'x86_64'",
            "Apple silicon",
        ),
        ("import sys; sys.exit(3)", "does not run"),
    ],
)
def test_says_why_a_python_is_not_suitable(copy, code, words):
    python = pretend(copy, "some-python", code)
    line = only_line(copy.install(PYTHON=python))
    assert words in line
    assert python in line
    assert not (copy.folder / "venv").exists()


def test_uses_the_first_suitable_python_and_says_which(copy, tmp_path):
    pretend(copy, "python3", "import sys; sys.version_info = (3, 10, 0, 'final', 0)")
    copy.program("python3.14", f'echo was here >"{tmp_path}/used"; exec "{sys.executable}" "$@"')
    process = copy.start(tmp_path, PYTHON="")
    try:
        wait_until(lambda: f"Python: {os.path.realpath(sys.executable)[:5]}" in process.stdout(), 30, process.log)
        assert (tmp_path / "used").exists()
    finally:
        process.stop()


def test_no_python_at_all(copy):
    line = only_line(copy.install(PYTHON="no-such-python"))
    assert "there is no no-such-python;" in line
    assert "3.11 or newer" in line
    assert "PYTHON=" in line


# --native


def archive(names):
    """A .tar.gz of {name: bytes}, or of names with some bytes each; all are executable."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in (names if isinstance(names, dict) else dict.fromkeys(names, b"\x7fELF")).items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


GOOD = archive(["TDengine-client-3.3.7.0/driver/libtaos.so.3.3.7.0", "TDengine-client-3.3.7.0/install_client.sh"])


@contextlib.contextmanager
def serving(answers):
    """An HTTP server that answers {path: bytes, or None to fall silent}; yields its address and the paths asked for."""
    asked, done = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path not in answers:
                self.send_error(404)
                return
            body = answers[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body or GOOD)))
            self.end_headers()
            self.wfile.write(body or GOOD[:20])
            if body is None:
                done.wait(60)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        done.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_native_installs_the_driver_and_env_sh(tmp_path):
    folder = tmp_path / "it's"
    folder.mkdir()
    copy = Copy(folder)
    copy.prepare_venv()
    with serving({"/client.tar.gz": GOOD}) as (address, asked):
        env = {
            "TDENGINE_CLIENT_URL": f"{address}/client.tar.gz",
            "TDENGINE_CLIENT_SHA256": hashlib.sha256(GOOD).hexdigest().upper(),
        }
        for _ in range(2):
            result = copy.install("--native", **env)
            assert result.returncode == 0, result
    assert len(asked) == 1  # nothing is fetched twice
    link = copy.folder / "tdengine-client/driver/libtaos.so"
    assert os.readlink(link) == "libtaos.so.3.3.7.0"
    assert link.read_bytes() == b"\x7fELF"
    script = '. ./env.sh && . ./env.sh && printf %s "$LD_LIBRARY_PATH"'
    shown = subprocess.check_output(
        ["sh", "-euc", script], cwd=copy.folder, env={"LD_LIBRARY_PATH": "/opt/lib"}, text=True
    )
    assert shown.split(":")[0] == str(link.parent)
    assert shown.endswith(":/opt/lib")
    assert list(copy.home.iterdir()) == []  # no shell profile was written
    assert not (copy.folder / "tdengine-client.new").exists()


def test_native_takes_the_driver_out_of_a_macos_package(copy):
    copy.prepare_venv()
    copy.program("pkgutil", '[ "$1" = --expand-full ] && mkdir "$3" && tar -xzf "$2" -C "$3"')
    package = archive(["Payload/usr/local/lib/libtaos.3.3.7.0.dylib", "Payload/usr/local/bin/taos"])
    python = on(copy, "Darwin", "arm64")
    with serving({"/client.pkg": package}) as (address, _):
        result = copy.install("--native", TDENGINE_CLIENT_URL=f"{address}/client.pkg", PYTHON=python)
    assert result.returncode == 0, result
    assert os.readlink(copy.folder / "tdengine-client/driver/libtaos.dylib") == "libtaos.3.3.7.0.dylib"
    assert "DYLD_LIBRARY_PATH" in (copy.folder / "env.sh").read_text()
    assert not (copy.folder / "tdengine-client.new").exists()


def on(copy, system, machine):
    """A Python that takes itself for one of another machine, once it has been found suitable."""
    code = "import platform, sys\nif 'python_check' not in ' '.join(sys.orig_argv):\n"
    code += f"    platform.system = lambda: {system!r}; platform.machine = lambda: {machine!r}\n"
    return pretend(copy, f"{system}-{machine}", code)


BROKEN = [
    (b"", None, "404"),
    (GOOD[:100], None, "broken archive"),
    (archive(["TDengine-client/readme"]), None, "no driver/libtaos.so"),
    (GOOD, "0" * 64, "SHA-256"),
    (None, None, "too slow"),
]


@pytest.mark.parametrize(
    ("body", "sha256", "words"),
    BROKEN,
    ids=["not there", "cut off", "no driver", "another file", "stalls"],
)
def test_native_says_why_there_is_no_driver(copy, body, sha256, words):
    copy.prepare_venv()
    old = copy.folder / "tdengine-client/driver/libtaos.so"
    old.parent.mkdir(parents=True)
    old.write_text("the one from before")
    with serving({} if body == b"" else {"/client.tar.gz": body}) as (address, _):
        result = copy.install("--native", TDENGINE_CLIENT_URL=f"{address}/client.tar.gz", TDENGINE_CLIENT_SHA256=sha256)
    assert words in only_line(result)
    assert old.read_text() == "the one from before"
    assert not (copy.folder / "tdengine-client.new").exists()


@pytest.mark.parametrize(
    ("fetched", "system", "machine", "name"),
    [
        (fetch.driver, "Linux", "x86_64", "client-3.3.7.0-linux-x64.tar.gz"),
        (fetch.driver, "Linux", "aarch64", "client-3.3.7.0-linux-arm64.tar.gz"),
        (fetch.driver, "Darwin", "arm64", "client-3.3.7.0-macos-arm64.pkg"),
        (fetch.driver, "Linux", "riscv64", None),
        (fetch.server, "Linux", "x86_64", "tdengine-tsdb-oss-3.4.0.9-linux-x64.tar.gz"),
        (fetch.server, "Linux", "aarch64", "tdengine-tsdb-oss-3.4.0.9-linux-arm64.tar.gz"),
        (fetch.server, "Darwin", "arm64", None),
    ],
)
def test_fetches_for_the_machines_own_architecture(monkeypatch, fetched, system, machine, name):
    async def asked_for(archive, unpacked):
        raise Failed(archive.url)

    monkeypatch.setattr(fetch.Archive, "fetch", asked_for)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for kind in ("CLIENT", "SERVER"):
        monkeypatch.setenv(f"TDENGINE_{kind}_URL", "http://127.0.0.1:9/")
    with pytest.raises(Failed) as failed:
        asyncio.run(fetched(None))
    assert str(failed.value).endswith(name) if name else "TDengine has no" in str(failed.value)


# Arguments


def test_help_and_invalid_arguments(copy):
    result = copy.install("--help")
    assert result.returncode == 0
    for words in ("--native", "--server", "TDENGINE_SERVER_URL", "PYTHON"):
        assert words in result.stdout
    assert "--nativ " in only_line(copy.install("--nativ"), status=2) + " "
    assert not (copy.folder / "venv").exists()


def test_wants_to_write_into_its_folder(copy):
    (copy.folder / ".logs").write_text("a file where a folder should be")
    assert "can't write" in only_line(copy.install())
