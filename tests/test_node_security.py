"""Attacks on the Node server: the same ones as on the Python server, each beside an honest viewer."""

import json
import re
import shutil
import subprocess

import pytest
from helpers import ROOT, free_port, running, wait_until
from node_chain import NODE, NodeChain, skip_without_node
from security_viewers import http, make_view
from test_security import (  # noqa: F401 (pytest runs them with this module's site and strict)
    HOSTED,
    NAME,
    assert_all_refused,
    attack,
    of_views_and_validation,
    test_a_denied_kind_changes_nothing,
    test_a_hostile_host_header_does_not_get_into_the_policy,
    test_a_hostile_name_that_points_at_this_machine_is_refused,
    test_a_kind_that_nobody_knows_is_denied,
    test_a_message_that_is_too_large_closes_its_connection,
    test_a_name_of_a_view_that_is_taken_or_none_is_refused,
    test_a_view_of_another_connection_is_out_of_reach,
    test_a_view_with_the_tables_name_does_not_touch_the_table,
    test_a_viewer_that_answers_no_pings_is_dropped,
    test_a_viewer_that_does_not_read_is_dropped_before_its_backlog_grows_and_others_stay_served,
    test_allowed_origins_are_let_in,
    test_an_allowed_kind_with_nothing_in_it_is_answered_and_the_connection_stays,
    test_an_expression_that_could_stop_the_engine_cannot_be_smuggled,
    test_an_expression_that_could_stop_the_engine_is_refused,
    test_half_frames_and_half_requests_harm_nobody,
    test_half_http_requests_and_large_ones_harm_nobody,
    test_more_viewers_than_allowed_are_refused_with_a_clear_status,
    test_nothing_but_the_packages_can_be_read,
    test_other_methods_are_refused,
    test_pages_from_disk_are_let_in_unless_told_otherwise,
    test_pages_of_other_origins_are_refused,
    test_pages_of_the_server_itself_and_of_localhost_are_let_in,
    test_ports_are_not_made,
    test_programs_send_no_origin_and_are_let_in,
    test_security_headers,
    test_smuggled_requests_are_refused,
    test_subscriptions_per_connection_are_limited,
    test_subscriptions_that_ended_do_not_count,
    test_the_viewers_packages_are_served,
    test_two_thousand_hostile_messages,
    test_useful_expressions_are_calculated,
    test_views_per_connection_are_limited,
    test_what_perspectives_own_client_can_do_to_a_table_is_refused,
    test_wrong_frames_close_their_connection_only,
    watched_site,
)

import perspective_server
from perspective_server import encode

skip_without_node()
PASSWORD, QUOTED = "p@ss/w:ord %&+?#é", "p%40ss%2Fw%3Aord%20%25%26%2B%3F%23%C3%A9"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with watched_site(NodeChain, tmp_path_factory.mktemp("site"), " ERROR ") as site:
        yield site


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A server with other settings and a node_modules of its own, without a database: (port, its folder, Process)."""
    folder = tmp_path_factory.mktemp("strict site")
    shutil.copy(ROOT / "prsp-viewer.html", folder)
    (folder / "node").mkdir()
    for file in ("server.js", "package.json"):
        shutil.copy(NODE / file, folder / "node")
    (folder / "node/node_modules").symlink_to(NODE / "node_modules")
    package = folder / "node_modules/@perspective-dev/viewer"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "4.3.0"}')
    (package / "dist/viewer.js").write_text("// served\n")
    (folder / "secret.txt").write_text("a secret beside the script")
    (package / "dist/secret.js").symlink_to(folder / "secret.txt")
    (package / "outside").symlink_to(folder)
    args = ["--port", "0", "--no-file-origin", "--max-viewers", "3"]
    args += ["--allow-origin", "https://demo.example", "--allow-origin", "http://demo.example:9000/"]
    args = ["node", folder / "node/server.js", *args]
    with running(args, folder, env={"TDENGINE_DSN": f"ws://127.0.0.1:{free_port()}"}) as process:
        page = wait_until(lambda: re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr()), 20, process.log)
        yield int(page[1]), folder, process
        assert process.alive(), process.log()


def test_the_same_kinds_are_allowed_and_denied_as_in_python():
    script = 'const s = await import("./server.js"); console.log(JSON.stringify([s.ALLOWED, s.DENIED]))'
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script], cwd=NODE, capture_output=True, text=True, timeout=20
    )
    allowed, denied = json.loads(done.stdout)
    assert {int(kind): name for kind, name in allowed.items()} == perspective_server.ALLOWED
    assert {int(kind): name for kind, name in denied.items()} == perspective_server.DENIED


DEEP = ["-(" * 40 + "1" + ")" * 40, "abs(" * 60 + "1" + ")" * 60, "2^" * 80 + "1", "1?1:" * 80 + "1", "{" * 90]


@pytest.mark.parametrize("expression", DEEP, ids=lambda expression: expression[:6])
def test_an_expression_that_the_engines_small_stack_cannot_hold_is_refused(site, expression):
    assert_all_refused(site, of_views_and_validation([encode((1, b"e"), (2, expression.encode()))]), "expression")


def test_a_view_with_many_levels_is_refused(site):
    config = b"".join(encode((1 + k % 2, b"ticker")) for k in range(13))
    assert_all_refused(site, [encode((1, 1), (2, HOSTED), (6, make_view(NAME, config)))], "more than 12 groups")


@pytest.mark.parametrize("script", ["producer.js", "server.js"])
@pytest.mark.parametrize("way", ["TDENGINE_DSN", "--password-file"])
def test_a_password_is_nowhere_to_be_read(tmp_path, database, script, way):
    user, args = f"root:{QUOTED}@", ["node", NODE / script]
    if way == "--password-file":
        (tmp_path / "password").write_text(PASSWORD + "\n")
        user, args = "", [*args, way, tmp_path / "password"]
    if script == "server.js":
        args += ["--port", "0"]
    address = database.dsn.rpartition("@")[2]
    with running(args, tmp_path, env={"TDENGINE_DSN": f"ws://{user}{address}"}) as process:
        wait_until(lambda: "refuses this user or password" in process.stderr(), 20, process.log)
        if script == "server.js":
            port = re.search(r"page at http://127\.0\.0\.1:(\d+)/", process.stderr())[1]
            assert b"p@ss" not in http(int(port), b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for secret in (PASSWORD, QUOTED, "p@ss", "p%40ss", "w:ord", "w%3Aord"):
        assert secret not in process.stdout() + process.stderr()


@pytest.mark.parametrize("script", ["producer.js", "server.js"])
def test_a_malformed_dsn_is_refused_without_showing_the_password(script):
    for dsn in (
        f"root:{QUOTED}@localhost",
        f"ws://root:{PASSWORD}@localhost:6041",
        f"ws://root:{QUOTED}@localhost:6041/no-name",
        f"ws://root:{QUOTED}@",
        f"ws://root:{QUOTED}@[::1:6041",
        f"mysql://root:{QUOTED}@localhost",
    ):
        done = subprocess.run(["node", NODE / script, "--dsn", dsn], capture_output=True, text=True, timeout=20)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), (dsn, done.stderr)
        assert "p@ss" not in done.stderr + done.stdout
        assert "p%40ss" not in done.stderr + done.stdout
