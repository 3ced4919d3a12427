"""run.sh with the real services: what it reports, what it starts, and that it leaves nothing behind."""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time

import pytest
from chain import listens
from demo import ENDS_S, Demo, as_health, only_line, refused_arguments, sent, stand_in, table, write_script
from helpers import free_port, handles, health, proc, promised, running, wait_until

from bridge.launch import launcher, tdengine


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path)
    yield demo
    demo.close()


# Starting and ending


def test_stocks_flow_and_ctrl_c_ends_everything(demo):
    process = demo.start()
    shown = demo.wait_for_rows(process)
    assert f"using the stand-in for TDengine on port {demo.tdengine_port}" in shown
    assert list(health(demo.port)["tables"]) == ["stock_values"]
    assert f"port {demo.port} is taken" in only_line(demo.run("--no-install", "--port", demo.port))

    # another one uses the TDengine that answers already, says what it stores there, and has logs of its own
    port = free_port()
    other = demo.start("--dataset", "meters", port=port)
    shown = demo.wait_for_rows(other, port)
    assert f"answers on localhost:{demo.tdengine_port}" in shown
    assert "storing 1,000 rows/s in power.meters" in shown
    assert "DROP TABLE power.meters removes them" in shown
    assert list(health(port)["tables"]) == ["meters_values"]
    other.signal(signal.SIGTERM)
    assert other.ends_within(ENDS_S) == 0, demo.log(other)
    assert sent(other.stdout()) > 0
    assert (demo.folder / f".logs/{port}/producer-meters.log").exists()
    assert process.alive()
    assert demo.errors(other) == []

    demo.end(process, signal.SIGINT)
    assert demo.errors(process) == []
    assert sent(process.stdout()) > 0
    assert "sent" in (demo.folder / ".logs/producer-stocks.log").read_text()

    # a second start shows rows again
    process = demo.start("--dataset", "all", "--rows", 100, "--interval=200", "--limit", 500)
    demo.wait_for_rows(process)
    assert set(health(demo.port)["tables"]) == {"stock_values", "meters_values"}
    lines = demo.processes().values()
    for words in (
        "producer.py --dataset stocks --rows 100 --interval 200",
        "producer.py --dataset meters --rows 100 --interval 200",
        "--limit 500 --interval 200",
    ):
        assert any(words in line for line in lines), lines

    # what it has started ends with it also when it is killed
    process.signal(signal.SIGKILL)
    demo.wait_until_empty()
    # in order, as always: the producer could send its last rows
    assert sent((demo.folder / ".logs/producer-stocks.log").read_text()) > 0


def test_a_terminal_is_shown_one_line_that_changes_and_ctrl_c_ends_it(demo):
    # the terminal's SIGINT goes to all of its foreground processes: the services must be out of its reach
    leader, follower = os.openpty()
    flags = ["--no-install", "--port", demo.port, "--subscribe", "--rows", 100, "--interval", 200, "--history", "1m"]
    process = subprocess.Popen(
        [demo.folder / "run.sh", *map(str, flags)],
        cwd=demo.outputs,
        env=demo.environ | demo.env,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(follower)
    shown = b""
    try:
        while shown.count(b"rows/s, ") < 2:
            shown += os.read(leader, 4096)
        assert re.search(rb"\r[\d,.]+ rows/s, ", shown)
        words = "--source subscribe --history 1m --limit 30000 --interval 200"
        assert any(words in line for line in demo.processes().values()), demo.processes()
        assert health(demo.port)["tables"]["stock_values"]["source"] == "subscribe"
        os.write(leader, b"\x03")
        promised(lambda: process.poll() is not None, ENDS_S, demo.service_logs)
        assert process.returncode == 0
        while b"sent" not in shown:
            shown += os.read(leader, 4096)
        assert b"Traceback" not in shown
        assert b"not sent" not in (demo.folder / ".logs/producer-stocks.log").read_bytes()
        demo.wait_until_empty()
    finally:
        process.kill()
        process.wait(10)
        os.close(leader)


def test_the_limit_holds_the_history_up_to_a_bound(demo):
    demo.fake_services(as_health(table()))
    process = demo.start("--subscribe", "--rows", 100, "--interval", 200, "--history", "1h")
    wait_until(lambda: "page at" in process.stdout(), 30, lambda: demo.log(process))
    assert "--source subscribe --history 1h --limit 60000" in (demo.folder / "arguments").read_text()
    demo.end(process)


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"]], ids=" ".join)
def test_runs_by_any_shell_from_any_folder_through_a_link(demo, shell):
    if not shutil.which(shell[0]):
        pytest.skip(f"no {shell[0]}")
    others = ["install.sh", "docker.sh", "clickhouse/run.sh", "clickhouse/docker.sh"]  # made as run.sh is
    for name in ["run.sh", *(others if shell == ["sh"] else [])]:
        (demo.outputs / name).parent.mkdir(exist_ok=True)
        (demo.outputs / name).symlink_to(demo.folder / name)
        done = subprocess.run(
            [*shell, name, "--help"], cwd=demo.outputs, capture_output=True, text=True, timeout=60, check=True
        )
        assert re.match(rf"usage: \S*{os.path.basename(name)} ", done.stdout), name
    (demo.folder / "embedded/__main__.py").write_text("raise SystemExit('the stand-in was here')")
    done = subprocess.run(
        [*shell, "run.sh", "--no-install", "--port", str(demo.port)],
        cwd=demo.outputs,
        env=demo.environ | demo.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "the stand-in was here" in done.stderr


def test_a_background_job_of_a_script_ends_on_sigint(demo):
    # such a job starts with SIGINT ignored, which no trap of a shell can change
    demo.fake_services(as_health(table(dataset="stocks")))
    script = '"$@" & echo $! >pid; wait $!; echo "status $?"'
    command = ["bash", "-c", script, "-", demo.folder / "run.sh", "--no-install", "--port", demo.port]
    with running(["env", "-u", "TDENGINE_DSN", *command], demo.outputs, "job", cwd=demo.outputs, env=demo.env) as job:
        demo.wait_for_rows(job)
        os.kill(int((demo.outputs / "pid").read_text()), signal.SIGINT)
        promised(lambda: "status 0" in job.stdout(), ENDS_S, lambda: demo.log(job))
        demo.wait_until_empty()


def test_ends_when_nobody_reads_its_output(demo):
    demo.fake_services(as_health(table(dataset="stocks")))
    process = subprocess.Popen(
        [demo.folder / "run.sh", "--no-install", "--port", str(demo.port)],
        cwd=demo.outputs,
        env=demo.environ | demo.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert b"using" in process.stdout.readline()
        assert b"page at" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 1
        assert b"nobody reads" in process.stderr.read()
        demo.wait_until_empty()
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


@pytest.mark.parametrize("redirection", [">/dev/full 2>/dev/full", ">&- 2>&-", "2>&- | cat"])
def test_goes_on_when_nothing_can_be_reported(demo, redirection):
    demo.fake_services(as_health(table(dataset="stocks")), "import signal; print('here', flush=True); signal.pause()")
    script = f'exec "$0" --no-install --port {demo.port} {redirection}'
    demo.start(script=["bash", "-c", script, demo.folder / "run.sh"])
    asked = demo.folder / "asked"
    wait_until(lambda: asked.exists() and len(asked.read_text().splitlines()) > 3, 60, demo.service_logs)
    assert (demo.folder / ".logs/producer-stocks.log").read_text() == "here\n"
    os.kill(demo.pid("-m bridge.launch"), signal.SIGTERM)
    demo.assert_ended(demo.started[-1], 0)


@pytest.mark.parametrize(("number", "after_ms"), [(signal.SIGINT, 0), (signal.SIGTERM, 90), (signal.SIGINT, 240)])
def test_a_signal_at_once_ends_it_with_status_0(demo, number, after_ms):
    def is_python(pid):  # or env, in which the signal waits for it
        return b"bridge.launch" in proc(pid, "cmdline") and (handles(pid, number) or handles(pid, number, "SigBlk"))

    process = demo.start()
    wait_until(lambda: is_python(process.pid), 10, process.log)
    time.sleep(after_ms / 1000)
    demo.end(process, number)
    assert demo.errors(process) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_shell_looks_for_python_ends_it_with_status_0(demo, number):
    asked, answer, python = (demo.outputs / name for name in ("asked", "answer", "python"))
    write_script(python, f'#!/bin/sh\n>"{asked}"; until [ -e "{answer}" ]; do sleep 0.05; done\n')
    (demo.folder / "venv").unlink()
    process = demo.start(PYTHON=python)
    wait_until(asked.exists, 10, process.log)
    process.signal(number)
    answer.touch()
    demo.assert_ended(process, 0)
    assert demo.errors(process) == []


def test_the_death_of_a_service_ends_all(demo):
    # of a producer's: test_clickhouse_run.py; of real services': test_tdengine_server.py
    demo.fake_services(as_health(table(dataset="stocks")))
    process = demo.start()
    demo.wait_for_rows(process)
    os.kill(demo.pid("-m embedded"), signal.SIGKILL)
    demo.assert_ended(process, 1)
    assert demo.errors(process) == [
        "run.sh: stand-in has ended with status 137; the end of .logs/stand-in.log:",
        "listening",
    ]


def test_a_service_that_hangs_does_not_delay_the_end(demo):
    demo.fake_services(as_health(table(dataset="stocks")))
    process = demo.start()
    demo.wait_for_rows(process)
    for words in ("producer.py", "perspective_server.py", "-m embedded"):
        os.kill(demo.pid(words), signal.SIGSTOP)
    started = time.monotonic()
    demo.end(process)
    assert time.monotonic() - started > 5  # the producer has time


@pytest.mark.parametrize("status", [1, 2])
def test_a_service_that_can_not_start_is_named(demo, status):
    text = f"import sys; print('no producer today', file=sys.stderr); sys.exit({status})"
    demo.fake_services("{}", text)
    result = demo.run("--no-install", "--port", demo.port)
    assert result.returncode == status
    assert result.stderr.splitlines() == [
        f"run.sh: producer-stocks has ended with status {status}; the end of .logs/producer-stocks.log:",
        "no producer today",
    ]
    demo.wait_until_empty()


def test_a_log_that_is_no_file_is_not_read(demo):
    demo.fake_services("{}", "import time; time.sleep(1)")
    logs = demo.folder / ".logs"
    logs.mkdir()
    (logs / "producer-stocks.log").symlink_to("/dev/zero")
    result = demo.run("--no-install", "--port", demo.port)
    assert "producer-stocks has ended with status 0" in only_line(result)
    (logs / "producer-stocks.log").unlink()
    os.mkfifo(logs / "producer-stocks.log")  # that nobody reads
    assert "can't write" in only_line(demo.run("--no-install", "--port", demo.port))


def test_a_folder_that_can_not_be_written_is_named(demo):
    (demo.folder / ".logs").write_text("a file where a folder should be")
    assert f"can't write into {demo.folder}" in only_line(demo.run("--no-install", "--port", demo.port))


# What it reports


def test_incomplete_is_running_and_said_and_so_is_an_error_while_it_runs(demo):
    demo.fake_services(as_health(table("incomplete", missed_rows=3, unshown_values=1, dataset="stocks")))
    process = demo.start()
    wait_until(lambda: "3 rows and 1 values could not be shown" in process.stdout(), 30, lambda: demo.log(process))
    assert "page at" in process.stdout()
    (demo.folder / "health.json").write_text(as_health(table("stale", dataset="stocks", error="TDengine is\naway")))
    wait_until(lambda: "(stale: TDengine is away)" in process.stdout(), 30, lambda: demo.log(process))
    (demo.folder / "health.json").write_text(as_health(table("stale", dataset="stocks")))
    wait_until(lambda: "(stale: no new rows" in process.stdout(), 30, lambda: demo.log(process))
    demo.end(process)


def test_what_is_waited_for_is_reported_within_5_s(demo):
    error = "TDengine does not answer"
    waits = "import sys, signal; print('waiting for TDengine', file=sys.stderr, flush=True); signal.pause()"
    demo.fake_services(as_health(table("waiting", dataset="stocks", error=error)), waits)
    process = demo.start()
    wait_until(lambda: "arguments" in os.listdir(demo.folder), 30, lambda: demo.log(process))
    promised(lambda: error in process.stderr(), 5, lambda: demo.log(process))
    assert "producer-stocks: waiting for TDengine" in process.stderr()
    assert "page at" not in process.stdout()
    demo.end(process)
    assert process.stderr().count(error) == 1


def test_a_table_of_the_users_own_has_no_producer_and_may_have_no_rows(demo):
    demo.fake_services(as_health(table("waiting", error="factory.sensors has no rows")))
    process = demo.start("--table", "factory.sensors", "--table", "factory.`Machine Log`")
    wait_until(lambda: "page at" in process.stdout(), 30, lambda: demo.log(process))
    assert "factory.sensors has no rows" in process.stderr()
    arguments = (demo.folder / "arguments").read_text()
    assert arguments.startswith("--table factory.sensors --table factory.`Machine Log` --port")
    assert not any("producer.py" in line for line in demo.processes().values())
    demo.end(process)


def test_a_table_beside_a_dataset_has_the_datasets_producer_and_open_opens_the_page_once_rows_flow(demo):
    demo.fake_services(as_health(table(), table("waiting", dataset="meters")))
    opened, browser = demo.outputs / "opened", demo.outputs / "browser"
    write_script(browser, f'#!/bin/sh\necho "$1" >"{opened}"\n')
    process = demo.start("--dataset", "meters", "--table", "factory.sensors", "--open", BROWSER=browser)
    wait_until((demo.folder / "asked").exists, 30, lambda: demo.log(process))
    assert not opened.exists()
    (demo.folder / "health.json").write_text(as_health(table(), table(dataset="meters")))
    wait_until(lambda: "2.0 rows/s, 10 rows total\n" in process.stdout(), 30, lambda: demo.log(process))
    wait_until(lambda: opened.exists() and opened.read_text(), 30, lambda: demo.log(process))
    assert opened.read_text() == f"http://localhost:{demo.port}/\n"
    assert (demo.folder / "arguments").read_text().startswith("--dataset meters --table factory.sensors")
    assert any("producer.py --dataset meters" in line for line in demo.processes().values())
    demo.end(process)


# Which TDengine


def test_uses_the_tdengine_of_the_environment(demo):
    port = free_port()
    with stand_in(demo, port):
        dsn = f"ws://root:taosdata@127.0.0.1:{port}/own_database"
        process = demo.start("--docker", "--subscribe", TDENGINE_DSN=dsn)
        shown = demo.wait_for_rows(process)
        assert f"at ws://127.0.0.1:{port} (TDENGINE_DSN)" in shown
        assert "in own_database.stocks_values there" in shown
        assert "--subscribe makes a topic for each table there, which stays" in shown
        lines = demo.processes().values()
        assert not any("-m embedded" in line for line in lines)
        # anybody may read a command line
        assert not any("taosdata" in line for line in lines)
        assert "taosdata" not in process.stdout() + process.stderr() + demo.service_logs()
        demo.end(process, signal.SIGINT)

        dsn = f"ws://root:a%20secret@127.0.0.1:{port}"
        line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_DSN=dsn))
        assert "refuses the user or password" in line
        assert "secret" not in line

        # the same server where one is expected without TDENGINE_DSN
        demo.fake_pair(as_health(table(dataset="stocks")))
        (demo.folder / "docker.sh").write_text("#!/bin/sh\necho 'docker.sh was here'\n")
        process = demo.start("--docker", TDENGINE_PORT=port)
        shown = demo.wait_for_rows(process)
        assert "docker.sh was here" in shown
        assert f"TDengine in Docker on port {port}" in shown
        demo.end(process)


UNSENT = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.sigwait({signal.SIGTERM})
print("producer.py: 30 rows not sent, or sent without confirmation", file=sys.stderr, flush=True)
sys.exit(print("sent 10 rows in 1 batches", flush=True) or 1)
"""


def test_rows_that_a_producer_could_not_send_are_told_at_the_end(demo):
    demo.fake_services(as_health(table(dataset="stocks")), UNSENT)
    process = demo.start()
    demo.wait_for_rows(process)
    process.signal(signal.SIGINT)
    demo.assert_ended(process, 1)
    assert sent(process.stdout()) == 10
    assert demo.errors(process) == [
        "run.sh: producer-stocks: producer.py: 30 rows not sent, or sent without confirmation"
    ]


def test_stand_in_is_insisted_on(demo):
    demo.fake_services(as_health(table(dataset="stocks")))
    process = demo.start("--stand-in", TDENGINE_DSN="ws://root:taosdata@db.example:6041")
    shown = demo.wait_for_rows(process)
    assert f"using the stand-in for TDengine on port {demo.tdengine_port} (--stand-in)" in shown
    demo.end(process)


def test_a_failure_of_docker_ends_it(demo):
    (demo.folder / "docker.sh").write_text("#!/bin/sh\necho 'docker.sh: no docker' >&2; exit 1\n")
    result = demo.run("--docker", "--no-install", "--port", demo.port)
    assert (result.returncode, result.stderr) == (1, "docker.sh: no docker\n")


def test_a_tdengine_that_does_not_answer(demo):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            dsn = f"ws://root:secret@127.0.0.1:{port}/x"
            line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_DSN=dsn))
            assert f"no TDengine answers at ws://127.0.0.1:{port}" in line
            assert "secret" not in line


@pytest.mark.parametrize("dsn", ["localhost:6041", "ws://root:se/cret@localhost"])
def test_an_invalid_dsn(demo, dsn):
    line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_DSN=dsn), status=2)
    assert "TDENGINE_DSN" in line
    assert "cret" not in line


def test_a_tdengine_that_refuses_the_default_password(demo):
    (demo.outputs / "password").write_text("other\n")
    with stand_in(demo, demo.tdengine_port, "--password-file", demo.outputs / "password"):
        line = only_line(demo.run("--no-install", "--port", demo.port))
    assert "refuses root" in line
    assert "TDENGINE_DSN=" in line


def test_another_program_on_tdengines_port(demo):
    demo.fake_services(as_health(table(dataset="stocks")))
    args = [sys.executable, "-m", "http.server", demo.tdengine_port, "--bind", "127.0.0.1"]
    with running(args, demo.outputs, "other", cwd=demo.outputs) as other:
        wait_until(lambda: listens(demo.tdengine_port), 30, other.log)
        process = demo.start()
        shown = demo.wait_for_rows(process)
        assert f"port {demo.tdengine_port} is taken by something that is no TDengine" in shown
        demo.end(process)


# Installing, arguments, cleaning


def test_installs_first_and_a_signal_ends_that_too(demo):
    (demo.folder / "requirements.txt").write_text("a-package-that-is-not-there==1.0\n")
    script = "#!/bin/bash\necho installing; sleep 60 & trap 'kill $!; exit 1' TERM; wait\n"
    write_script(demo.folder / "install.sh", script)
    process = demo.start(install=True)
    wait_until(lambda: "installing" in process.stdout(), 30, process.log)
    demo.end(process, signal.SIGINT)


def test_a_failure_of_install_ends_it(demo):
    (demo.folder / "requirements.txt").write_text("a-package-that-is-not-there==1.0\n")
    write_script(demo.folder / "install.sh", "#!/bin/sh\necho 'install.sh: no Python' >&2; exit 1\n")
    result = demo.run("--port", demo.port)
    assert (result.returncode, result.stderr) == (1, "install.sh: no Python\n")


def test_without_install_there_must_be_an_environment(demo):
    (demo.folder / "venv").unlink()
    assert "./install.sh" in only_line(demo.run("--no-install", "--port", demo.port))


def test_an_environment_without_taosws_is_named(demo):
    (demo.folder / "venv").unlink()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", demo.folder / "venv"], check=True, timeout=60)
    with socket.create_server(("127.0.0.1", 0)) as other:
        line = only_line(demo.run("--no-install", "--port", demo.port, TDENGINE_PORT=str(other.getsockname()[1])))
    assert "No module named 'taosws'" in line
    assert "./install.sh" in line


@pytest.mark.parametrize(
    "args",
    [
        ["extra"],
        ["--dataset"],
        ["--dataset", "shares"],
        ["--port", "0"],
        ["--port", "65536"],
        ["--port=x"],
        ["--limit", "0"],
        ["--rows", "-1"],
        ["--interval", "1.5"],
        ["--history", "10"],
        ["--history=0m"],
        ["--subscribe=yes"],
        ["--docker=yes"],
        ["--node", "--history", "1m"],
        ["--table", "nodot"],
        ["--table", "d.t", "--rows", "9"],
    ],
    ids=" ".join,
)
def test_invalid_arguments(args, capsys, monkeypatch):
    refused_arguments("run.sh", lambda: launcher.main(tdengine), args, capsys, monkeypatch)


def test_invalid_arguments_begin_nothing(demo):
    assert "--unknown" in only_line(demo.run("--unknown"), status=2)
    assert "contradict" in only_line(demo.run("--docker", "--stand-in"), status=2)
    assert not (demo.folder / ".logs").exists()


def test_a_port_in_the_environment_that_is_none(demo):
    assert "TDENGINE_PORT" in only_line(demo.run("--no-install", TDENGINE_PORT="x"), status=2)


def test_help(demo):
    result = demo.run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    flags = "dataset table port docker stand-in node subscribe history limit rows interval open no-install clean"
    for name in flags.split():
        assert f"--{name}" in result.stdout
    assert "TDENGINE_DSN" in result.stdout


def test_clean_removes_what_the_demo_has_put_there_after_a_question(demo):
    demo.fake_services(as_health(table(dataset="stocks")))
    process = demo.start()
    demo.wait_for_rows(process)
    assert "a demo runs" in only_line(demo.run("--clean"))
    demo.end(process)
    (demo.folder / "env.sh").write_text("")
    (demo.folder / "mine.txt").write_text("mine")
    before = {path.name for path in demo.folder.iterdir()}
    assert {".logs", ".data"} < before
    result = demo.run("--clean", stdin="no\n")
    assert "nothing removed" in only_line(result)
    assert {path.name for path in demo.folder.iterdir()} == before
    result = demo.run("--clean", stdin="y\n")
    assert result.returncode == 0, result
    for name in (".logs", ".data", "env.sh", "DROP TABLE stocks.stocks_values"):
        assert name in result.stdout
    # an environment that install.sh has not made stays
    assert before - {path.name for path in demo.folder.iterdir()} == {".logs", ".data", ".cache", "env.sh"}
    assert not re.search("removed|Remove", demo.run("--clean").stdout)
