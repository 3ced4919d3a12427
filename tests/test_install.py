"""install.sh in copies of its own, in a path with a space; the packages come from pip's own index."""

import contextlib
import hashlib
import http.server
import io
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading

import pytest
from helpers import ROOT, Process, free_port

SMALL = "tornado==6.6.1\n"  # one small package is enough for most of these tests


class Copy:
    """install.sh in a folder with a space in its name, with a home and programs of its own on PATH."""

    def __init__(self, folder, requirements=SMALL):
        self.folder = folder / "a copy"
        self.home, self.programs = folder / "home", folder / "programs"
        for each in (self.folder, self.home, self.programs):
            each.mkdir()
        shutil.copy(ROOT / "install.sh", self.folder)
        (self.folder / "requirements.txt").write_text(requirements)
        (self.folder / "package-lock.json").write_text('{"packages": {"": {}, "node_modules/a": {"version": "1.0.0"}}}')
        self.program("npm", "exit 1")
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            # what was fetched for other tests need not be fetched again
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(ROOT / ".cache" / "pip")),
        }

    def program(self, name, script):
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def install(self, *args, timeout=120, **env):
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

    def venv(self, code):
        python = self.folder / ".venv" / "bin" / "python"
        return subprocess.check_output([python, "-c", code], text=True, timeout=30).strip()

    def prepare_venv(self):
        """A .venv that install.sh takes for whole, without packages: for tests of what comes after it."""
        (self.folder / "requirements.txt").write_text("")
        (self.folder / ".venv" / "bin").mkdir(parents=True)
        (self.folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
        checksum = subprocess.check_output(["cksum"], input=b"")
        (self.folder / ".venv" / ".stamp").write_bytes(checksum)


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def only_line(result, status=1):
    assert result.returncode == status, result
    (line,) = result.stderr.splitlines()
    assert line.startswith("install.sh: ")
    return line


# .venv


VERSION = "import importlib.metadata as m; print(m.version('tornado'))"
WITHOUT_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}


def test_installs_exact_versions_once_and_repairs_what_is_broken(copy):
    result = copy.install(PIP_CACHE_DIR=None)
    assert result.returncode == 0, result
    assert copy.venv(VERSION) == "6.6.1"
    # nothing outside the folder; pip asks rustc, where there is one, for its version, which makes .rustup
    assert {path.name for path in copy.home.iterdir()} <= {".rustup"}

    # a second run needs no index, as it installs nothing
    result = copy.install(**WITHOUT_INDEX)
    assert result.returncode == 0, result
    assert ".venv is up to date" in result.stdout

    site = pathlib.Path(copy.venv("import tornado; print(tornado.__path__[0])")).parent

    def remove_a_package():
        shutil.rmtree(site / "tornado")

    def cut_a_file():
        (site / "tornado" / "web.py").write_text("")

    def half_made():
        shutil.rmtree(copy.folder / ".venv")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", copy.folder / ".venv"], check=True, timeout=60)

    def interpreter_gone():
        for link in (copy.folder / ".venv" / "bin").glob("python*"):
            link.unlink()
            link.symlink_to("/nowhere/python3")

    for damage in (remove_a_package, cut_a_file, half_made, interpreter_gone):
        damage()
        result = copy.install()
        assert result.returncode == 0, (damage, result)
        assert copy.venv("import tornado.web; print(len(open(tornado.web.__file__).read()) > 1000)") == "True", damage
        result = copy.install(**WITHOUT_INDEX)
        assert result.returncode == 0, (damage, result)

    # another version in requirements.txt is installed, too
    (copy.folder / "requirements.txt").write_text("# a comment\ntornado==6.5.2  # another\n")
    assert copy.install().returncode == 0
    assert copy.venv(VERSION) == "6.5.2"


def test_without_an_index_there_is_one_line_and_a_log(copy):
    result = copy.install(PIP_INDEX_URL=f"http://127.0.0.1:{free_port()}/simple", PIP_RETRIES="1", PIP_FIND_LINKS="")
    line = only_line(result)
    assert "no connection" in line
    assert ".logs/install.log" in line
    assert "tornado" in (copy.folder / ".logs" / "install.log").read_text()


def test_a_version_that_does_not_exist_is_named(copy):
    (copy.folder / "requirements.txt").write_text("tornado==0.0.0.1\n")
    assert "tornado==0.0.0.1" in only_line(copy.install())


def test_ends_on_a_signal_while_pip_waits(copy, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        env = copy.env | {"PIP_INDEX_URL": index, "PIP_FIND_LINKS": ""}
        process = Process([copy.folder / "install.sh"], tmp_path, env=env)
        try:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                process.signal(signal.SIGTERM)
                assert process.wait(5) == 1
                # the other end is closed, so pip has ended, too
                connection.settimeout(5)
                while connection.recv(4096):
                    pass
            assert process.stderr() == "install.sh: interrupted\n"
        finally:
            process.stop()


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
def test_says_why_a_python_will_not_do(copy, code, words):
    python = pretend(copy, "some-python", code)
    line = only_line(copy.install(PYTHON=python))
    assert words in line
    assert python in line
    assert not (copy.folder / ".venv").exists()


def test_takes_the_first_python_that_will_do_and_says_which(copy):
    copy.prepare_venv()
    (copy.folder / ".venv" / ".stamp").unlink()
    old = pretend(copy, "python3", "import sys; sys.version_info = (3, 10, 0, 'final', 0)")
    new = pretend(copy, "python3.14", "")
    result = copy.install(PYTHON=None)
    assert result.returncode == 0, result
    assert f"{old} is Python 3.10, older than 3.11" in result.stdout
    assert f"Python: {new}" in result.stdout


def test_no_python_at_all(copy):
    line = only_line(copy.install(PYTHON="no-such-python"))
    assert "3.11 or newer" in line
    assert "PYTHON=" in line


# The viewer's packages


def test_npm_installs_once(copy):
    copy.prepare_venv()
    called = copy.home / "called"
    package = "node_modules/a/package.json"
    copy.program("npm", f'echo "$@" >>"{called}"; mkdir -p node_modules/a; echo \'{{"version": "1.0.0"}}\' >{package}')
    for _ in range(2):
        assert copy.install().returncode == 0
    (call,) = called.read_text().splitlines()
    assert call.startswith("ci ")
    (copy.folder / package).unlink()  # damaged: again
    assert copy.install().returncode == 0
    assert len(called.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "npm", [None, "mkdir node_modules; echo 'npm error network refused' >&2; exit 1"], ids=["missing", "fails"]
)
def test_without_npm_or_network_the_page_takes_the_cdn(copy, npm):
    copy.prepare_venv()
    if npm:
        copy.program("npm", npm)
        result = copy.install()
    else:
        (copy.programs / "npm").unlink()
        for name in ("bash", "dirname", "mkdir", "cksum", "rm"):
            (copy.programs / name).symlink_to(
                subprocess.check_output(["bash", "-c", f"type -P {name}"], text=True).strip()
            )
        result = copy.install(PATH=str(copy.programs))
    assert result.returncode == 0, result
    (line,) = [line for line in result.stdout.splitlines() if "CDN" in line]
    assert "npm" in line
    assert not (copy.folder / "node_modules").exists()


# --native


def archive(names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"\x7fELF"))
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
            "TDENGINE_CLIENT_SHA256": hashlib.sha256(GOOD).hexdigest(),
        }
        for _ in range(2):
            result = copy.install("--native", **env)
            assert result.returncode == 0, result
    assert len(asked) == 1  # nothing is fetched twice
    link = copy.folder / "tdengine-client" / "driver" / "libtaos.so"
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
    copy.program("uname", '[ "$1" = -m ] && echo arm64 || echo Darwin')
    copy.program("pkgutil", '[ "$1" = --expand-full ] && mkdir "$3" && tar -xzf "$2" -C "$3"')
    package = archive(["Payload/usr/local/lib/libtaos.3.3.7.0.dylib", "Payload/usr/local/bin/taos"])
    with serving({"/client.pkg": package}) as (address, _):
        result = copy.install("--native", TDENGINE_CLIENT_URL=f"{address}/client.pkg")
    assert result.returncode == 0, result
    assert os.readlink(copy.folder / "tdengine-client/driver/libtaos.dylib") == "libtaos.3.3.7.0.dylib"
    assert "DYLD_LIBRARY_PATH" in (copy.folder / "env.sh").read_text()
    assert not (copy.folder / "tdengine-client.new").exists()


@pytest.mark.parametrize(
    ("body", "sha256", "words"),
    [
        (b"", None, "404"),
        (GOOD[:100], None, "broken archive"),
        (b"<html>not here</html>", None, "broken archive"),
        (archive(["TDengine-client/readme"]), None, "no driver/libtaos.so"),
        (GOOD, "0" * 64, "SHA-256"),
        (None, None, "too slow"),
    ],
    ids=["not there", "cut off", "no archive", "no driver", "another file", "stalls"],
)
def test_native_says_why_there_is_no_driver(copy, body, sha256, words):
    copy.prepare_venv()
    old = copy.folder / "tdengine-client" / "driver" / "libtaos.so"
    old.parent.mkdir(parents=True)
    old.write_text("the one from before")
    with serving({} if body == b"" else {"/client.tar.gz": body}) as (address, _):
        result = copy.install("--native", TDENGINE_CLIENT_URL=f"{address}/client.tar.gz", TDENGINE_CLIENT_SHA256=sha256)
    assert words in only_line(result)
    assert old.read_text() == "the one from before"
    assert not (copy.folder / "tdengine-client.new").exists()


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("Linux", "x86_64", "linux-x64.tar.gz"),
        ("Linux", "aarch64", "linux-arm64.tar.gz"),
        ("Darwin", "arm64", "macos-arm64.pkg"),
        ("Linux", "riscv64", None),
    ],
)
def test_native_asks_for_the_machines_own_architecture(copy, system, machine, name):
    copy.prepare_venv()
    copy.program("uname", f'[ "$1" = -m ] && echo {machine} || echo {system}')
    with serving({}) as (address, asked):
        line = only_line(copy.install("--native", TDENGINE_CLIENT_URL=f"{address}/"))
    if name:
        assert name in asked[0]
    else:
        assert asked == []
        assert machine in line


# Arguments


def test_help_and_unusable_arguments(copy):
    result = copy.install("--help")
    assert result.returncode == 0
    assert "--native" in result.stdout
    assert "--nativ " in only_line(copy.install("--nativ"), status=2) + " "
    assert not (copy.folder / ".venv").exists()


def test_wants_to_write_into_its_folder(copy):
    (copy.folder / ".logs").write_text("a file where a folder should be")
    assert "can't write" in only_line(copy.install())
