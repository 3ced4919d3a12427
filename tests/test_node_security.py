"""Attacks on the Node server, each beside an honest viewer that must stay served, as on the Python server."""

import contextlib
import re
import signal
import subprocess
import sys
import time
import urllib.parse

import pytest
from engine_site import Site
from helpers import free_port, health, running, wait_until
from node_chain import NODE, PROGRAM, skip_without_node
from security_viewers import plain
from test_security import (  # noqa: F401 (pytest runs them with this module's servers)
    silent,
    test_a_hostile_host_header_does_not_get_into_the_policy,
    test_a_hostile_name_that_points_at_this_machine_is_refused,
    test_a_message_that_is_too_large_closes_its_connection,
    test_a_name_that_is_not_ours_gets_nothing,
    test_a_viewer_that_does_not_read_is_dropped_before_its_backlog_grows_and_others_stay_served,
    test_allowed_origins_are_let_in,
    test_half_frames_and_half_requests_harm_nobody,
    test_half_http_requests_and_large_ones_harm_nobody,
    test_large_files_that_nobody_reads_are_not_copied_for_each,
    test_nothing_but_the_pages_files_can_be_read,
    test_other_methods_are_refused,
    test_pages_from_disk_are_let_in_unless_told_otherwise,
    test_pages_of_other_origins_are_refused,
    test_pages_of_the_server_itself_and_of_localhost_are_let_in,
    test_programs_send_no_origin_and_are_let_in,
    test_security_headers,
    test_subscriptions_that_ended_do_not_count,
    test_two_thousand_hostile_messages,
    test_viewers_beyond_the_limit_are_refused_in_words_and_places_become_free,
    test_what_is_no_request_closes_its_connection,
    test_what_perspectives_own_client_can_do_to_a_table_is_refused,
    test_wrong_frames_close_their_connection_only,
)

from bridge.web import PING_S

skip_without_node()
PASSWORD, QUOTED = "p@ss/w:ord %&+?#é", "p%40ss%2Fw%3Aord%20%25%26%2B%3F%23%C3%A9"
SCRIPTS = ["src/producer.js", "src/server.js"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Rows flow into the table at site.port."""
    port = free_port()
    args = [*PROGRAM, NODE / "test/site.js", port, "--rows", 50]
    with running(args, tmp_path_factory.mktemp("site"), "site") as process:
        site = Site(port, process)
        wait_until(lambda: site.health().get("status") == "ok", 60, process.log)
        yield site
        assert process.alive(), site.log()
        assert " ERROR " not in site.log(), site.log()[-3000:]


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A server with other settings, without a database: (port, its folder, Process)."""
    folder = tmp_path_factory.mktemp("strict")
    args = ["--port", "0", "--no-file-origin", "--max-viewers", "20", "--allow-host", "proxied.example"]
    args += ["--allow-origin", "https://demo.example", "--allow-origin", "http://demo.example:9000/"]
    env = {"TDENGINE_DSN": f"ws://127.0.0.1:{free_port()}", "VIRTUAL_ENV": sys.prefix}
    with running([*PROGRAM, NODE / "src/server.js", *args], folder, env=env) as process:
        page = wait_until(lambda: re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr()), 60, process.log)
        yield int(page[1]), folder, process
        assert process.alive(), process.log()


def test_connections_beyond_the_descriptors_are_closed_and_their_end_lets_others_in(tmp_path):
    args = ["bash", "-c", 'ulimit -n 256; exec "$@"', "-", *PROGRAM, NODE / "src/server.js", "--port", "0"]
    with contextlib.ExitStack() as stack:
        env = {"TDENGINE_DSN": f"ws://127.0.0.1:{free_port()}"}
        process = stack.enter_context(running(args, tmp_path, "server", env=env))
        page = wait_until(lambda: re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr()), 60, process.log)
        port = int(page[1])
        silent = [plain(port) for _ in range(300)]
        for each in silent:
            stack.enter_context(each)
        wait_until(lambda: "new connections are closed: 192 are open" in process.stderr(), 20, process.log)
        for each in silent:
            each.close()
        wait_until(lambda: health(port), 20, process.log)
        assert process.stderr().count("new connections are closed") == 1
        process.signal(signal.SIGTERM)
        assert process.ends_within(10) == 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_signal_at_once_ends_it_with_status_0(tmp_path, script):
    # before its first line node itself has the signals
    told = "process.on('newListener',name=>name==='SIGTERM'&&process.stderr.write('listens'))"
    env = {"NODE_OPTIONS": f"--import=data:text/javascript,{urllib.parse.quote(told)}"}
    for k in range(3):
        args = ["node", NODE / script, "--dsn", f"ws://127.0.0.1:{free_port()}"]
        with running([*args, *(["--port", "0"] if "server" in script else [])], tmp_path, env=env) as process:
            wait_until(lambda process=process: "listens" in process.stderr(), 20, process.log)
            time.sleep(0.1 * k)  # where it has got to meanwhile
            process.signal(signal.SIGTERM)
            assert process.ends_within(10) == 0, process.log()
            assert process.stdout() == ("sent 0 rows in 0 batches\n" if "producer" in script else "")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", ["TDENGINE_DSN", "--password-file"])
def test_a_password_is_nowhere_to_be_read(tmp_path, database, script, way):
    user, args = f"root:{QUOTED}@", [*PROGRAM, NODE / script]
    if way == "--password-file":
        (tmp_path / "password").write_text(PASSWORD + "\n")
        user, args = "", [*args, way, tmp_path / "password"]
    if "server" in script:
        args += ["--port", "0"]
    address = database.dsn.rpartition("@")[2]
    with running(args, tmp_path, env={"TDENGINE_DSN": f"ws://{user}{address}"}) as process:
        wait_until(lambda: "refuses this user or password" in process.stderr(), 60, process.log)
    for secret in (PASSWORD, QUOTED, "p@ss", "p%40ss", "w:ord", "w%3Aord"):
        assert secret not in process.stdout() + process.stderr()


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_its_packages_the_server_says_in_one_line_what_to_do(tmp_path, script):
    (tmp_path / "node/src").mkdir(parents=True)
    for each in ("src", "package.json"):
        subprocess.run(["cp", "-r", NODE / each, tmp_path / "node"], check=True)
    args = ["node", tmp_path / "node" / script, "--dsn", f"ws://127.0.0.1:{free_port()}"]
    if "producer" in script:
        args += ["--help"]  # it needs none
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    if "producer" in script:
        assert done.returncode == 0, done.stderr
    else:
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert "npm ci" in done.stderr


# The end of what is connected since the beginning


def test_a_viewer_that_answers_no_pings_is_dropped(silent):  # noqa: F811
    silent.received(PING_S * 3)  # which ends when the server closes
