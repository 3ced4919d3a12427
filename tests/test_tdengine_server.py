"""install.sh --server and what run.sh does with it: an archive as TDengine's, whose programs start the stand-in."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib

import pytest
from demo import Demo, as_health, only_line, stand_in, table
from helpers import health, wait_until
from test_install import archive, serving

VERSION = "3.4.0.9"
NAME = f"tdengine-tsdb-oss-{VERSION}"
# A first line for sh, which Python reads as a text: the path of the tests' Python may have a space
PYTHON = f"""#!/bin/sh
'''exec' "{sys.executable}" "$0" "$@" #'''
"""
TAOSD = f"""{PYTHON}
import os, pathlib, re, socket, sys
assert "tdengine-server/driver" in os.environ["LD_LIBRARY_PATH"]
text = pathlib.Path(sys.argv[sys.argv.index("-c") + 1], "taos.cfg").read_text()
print("taosd starts", flush=True)
with socket.create_server(("127.0.0.1", int(re.search("serverPort (.*)", text)[1]))) as server:
    while True:
        server.accept()[0].close()
"""
TAOSADAPTER = f"""{PYTHON}
import os, sys, tomllib
with open(sys.argv[sys.argv.index("-c") + 1], "rb") as file:
    port = tomllib.load(file)["port"]
os.execv(sys.executable, [sys.executable, "-m", "embedded", "--port", str(port), "--data", ".data/fake"])
"""
PROGRAMS = {
    "bin/taosd": TAOSD.encode(),
    "bin/taosadapter": TAOSADAPTER.encode(),
    "cfg/taos.cfg": b"",
    "inc/taos.h": b"",
}


def server_archive(programs=PROGRAMS):
    libraries = {f"{NAME}/driver/lib{name}.so.{VERSION}": b"\x7fELF" for name in ("taos", "taosnative")}
    others = {f"{NAME}/install.sh": b"#!/bin/sh\necho 'must not be run' >&2; exit 1\n"}
    return archive({**libraries, **others, f"{NAME}/package.tar.gz": archive(programs)})


HEALTH = as_health(table(dataset="stocks"))


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path)
    demo.env["PYTHON"] = sys.executable
    yield demo
    demo.close()


def install(demo, body, times=1):
    """install.sh --server with an archive, which is fetched once; the result of each time."""
    with serving({"/server.tar.gz": body}) as (address, asked):
        env = {
            "TDENGINE_SERVER_URL": f"{address}/server.tar.gz",
            "TDENGINE_SERVER_SHA256": hashlib.sha256(body).hexdigest(),
        }
        done = [
            subprocess.run(
                [demo.folder / "install.sh", "--server"],
                env=demo.environ | demo.env | env,
                capture_output=True,
                text=True,
                timeout=100,
            )
            for _ in range(times)
        ]
    assert len(asked) == 1
    return done


@pytest.fixture
def installed(demo):
    (done,) = install(demo, server_archive())
    assert done.returncode == 0, done
    return demo


def test_is_fetched_once_and_nothing_of_it_is_run(demo):
    for done in install(demo, server_archive(), times=2):
        assert (done.returncode, done.stderr) == (0, "")
    folder = demo.folder / "tdengine-server"
    assert os.access(folder / "bin/taosd", os.X_OK)
    for name in ("libtaos.so", "libtaos.so.1", "libtaosnative.so"):
        assert os.readlink(folder / "driver" / name) == f"{name.partition('.')[0]}.so.{VERSION}"
    assert not (demo.folder / "tdengine-server.new").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (archive([f"{NAME}/install.sh"]), "no package.tar.gz"),
        (archive({f"{NAME}/package.tar.gz": b"nothing"}), "broken archive"),
        (server_archive({"bin/taosd": b""}), "no bin/taosadapter"),
    ],
    ids=["no package", "broken package", "no adapter"],
)
def test_says_why_there_is_no_server_and_leaves_nothing_half(demo, body, words):
    # what is the same for all archives: test_install.py
    (done,) = install(demo, body)
    line = only_line(done, script="install.sh")
    assert words in line
    assert "TDENGINE_SERVER_URL names another place" in line
    assert not list(demo.folder.glob("tdengine-server*"))


def test_a_full_disk_is_named(demo):
    small = demo.outputs / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small]
    if os.geteuid() or subprocess.run(mount, capture_output=True, timeout=20).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        shutil.copytree(demo.folder, small, symlinks=True, dirs_exist_ok=True)
        demo.folder = small
        (done,) = install(demo, server_archive(PROGRAMS | {"bin/taos": os.urandom(5_000_000)}))
        line = only_line(done, script="install.sh")
        assert re.search("write|No space", line), line
    finally:
        subprocess.run(["umount", small], check=True, timeout=20)


def test_run_sh_uses_it_and_starts_a_dead_adapter_again(installed):
    demo = installed
    port = demo.tdengine_port
    process = demo.start()
    shown = demo.wait_for_rows(process)
    assert "using TDengine of ./install.sh --server on ports" in shown
    assert str(port) in shown
    # the stand-in behind it can't change a password, as TDengine can: that is reported
    assert "anybody who reaches this machine can log in to it" in shown
    configuration = (demo.folder / ".data/tdengine/cfg/taos.cfg").read_text()
    for line in ("fqdn localhost", "monitor 0", "telemetryReporting 0", "crashReporting 0"):
        assert line in configuration.splitlines()
    assert f"dataDir {demo.folder}/.data/tdengine/data" in configuration
    with (demo.folder / ".data/tdengine/cfg/taosadapter.toml").open("rb") as file:
        toml = tomllib.load(file)
    assert (toml["port"], toml["monitor"]["disable"]) == (port, True)
    assert toml["taosConfigDir"] == str(demo.folder / ".data/tdengine/cfg")

    os.kill(demo.pid(f"-m embedded --port {port}"), signal.SIGKILL)
    wait_until(lambda: "starting it again" in process.stderr(), 20, lambda: demo.log(process))
    assert "taosadapter has ended with status 137; the end of .logs/taosadapter.log:" in process.stderr()
    rows = health(demo.port)["tables"]["stock_values"]["rows"]
    wait_until(lambda: health(demo.port)["tables"]["stock_values"]["rows"] > rows + 2000, 60, lambda: demo.log(process))
    demo.end(process, signal.SIGINT)

    # the stand-in on request
    demo.fake_services(HEALTH)
    process = demo.start("--stand-in")
    assert "using the stand-in" in demo.wait_for_rows(process)
    demo.end(process)


def test_the_password_of_an_earlier_start_is_used_and_the_death_of_taosd_ends_all(installed):
    password = installed.folder / ".data/tdengine/password"
    password.parent.mkdir(parents=True)
    password.write_text("Aa1secret")
    adapter = installed.folder / "tdengine-server/bin/taosadapter"
    adapter.write_text(adapter.read_text().replace('".data/fake"]', f'".data/fake", "--password-file", "{password}"]'))
    process = installed.start()
    shown = installed.wait_for_rows(process)
    assert "anybody" not in shown
    assert "Aa1secret" not in shown + process.stderr() + installed.service_logs()
    assert not any("Aa1secret" in line for line in installed.processes().values())

    # the death of taosd ends all
    os.kill(installed.pid("bin/taosd"), signal.SIGKILL)
    installed.assert_ended(process, 1)
    assert installed.errors(process) == [
        "run.sh: taosd has ended with status 137; the end of .logs/taosd.log:",
        "taosd starts",
    ]


def test_a_program_that_can_not_run_here_is_named(installed):
    (installed.folder / "tdengine-server/bin/taosd").write_bytes(b"\x7fELF of another machine")
    line = only_line(installed.run("--no-install", "--port", installed.port))
    assert "can't start taosd" in line


def test_ports_that_are_taken_are_replaced(installed):
    installed.fake_pair(HEALTH)
    with socket.create_server(("127.0.0.1", installed.tdengine_port)):
        process = installed.start()
        shown = installed.wait_for_rows(process)
    port = int(re.search(r"on ports (\d+)", shown)[1])
    assert port != installed.tdengine_port
    assert f"{port} instead of {installed.tdengine_port}" in shown
    installed.end(process)


def test_a_tdengine_that_answers_already_comes_first(installed):
    installed.fake_pair(HEALTH)
    with stand_in(installed, installed.tdengine_port):
        process = installed.start()
        shown = installed.wait_for_rows(process)
        assert f"answers on localhost:{installed.tdengine_port}" in shown
        installed.end(process)
