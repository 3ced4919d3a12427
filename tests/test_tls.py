"""TLS on both sides, tokens, a path prefix and log levels: what an installation needs that a trial doesn't."""

import ssl
import urllib.error
import urllib.request

import pytest
import trustme
from chain import Chain, assert_each_row_shown_once, behind_a_proxy, sent
from helpers import free_port, health, wait_until

TOKEN = "7d1f0token0of0the0cloud"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority that no system trusts: (path of its certificate, SSLContext of a server at 127.0.0.1)."""
    folder, authority = tmp_path_factory.mktemp("authority"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return folder, context


@pytest.fixture
def chain(database, tmp_path, authority):
    """A Chain whose scripts reach the database by wss only; its proxy is chain.proxy."""
    with behind_a_proxy(Chain, database, tmp_path, authority[1]) as chain:
        yield chain


def test_rows_go_through_tls_with_the_ca_that_the_system_trusts(chain, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0] / "ca.pem"))
    producer = chain.producer("--batches", 2)
    assert producer.wait(30) == 0, producer.log()


def test_a_certificate_that_nobody_vouches_for_is_refused(chain):
    server, producer = chain.server(), chain.producer()
    assert producer.wait(30) == 1, producer.log()
    assert "tls_ca" in producer.stderr().splitlines()[-1]
    assert "Traceback" not in producer.stderr()
    wait_until(lambda: "tls_ca" in (chain.table()["error"] or ""), 20, server.log)
    assert chain.health()["status"] == "waiting"


def test_a_ca_file_that_is_not_there_is_named(chain):
    chain.dsn += "?tls_ca=/nonexistent.pem"
    producer = chain.producer()
    assert producer.wait(30) == 2, producer.log()
    assert "tls_ca" in producer.stderr().splitlines()[-1]
    assert "no such file" in producer.stderr().lower()


def test_the_certificate_is_left_unlooked_at_only_when_the_dsn_says_so(chain):
    chain.dsn += "?tls_mode=none"
    producer = chain.producer("--batches", 2)
    assert producer.wait(30) == 0, producer.log()


def test_rows_go_through_tls_with_the_ca_that_the_dsn_names_and_its_token_into_no_log(chain, authority):
    chain.dsn += f"?tls_ca={authority[0] / 'ca.pem'}&token={TOKEN}"
    server = chain.server("--log-level", "debug")
    viewer, producer = chain.viewer(), chain.producer("--batches", 8)
    assert producer.wait(60) == 0, producer.log()
    assert_each_row_shown_once(chain, viewer, sent(producer))
    assert all(f"token={TOKEN}" in line for line in chain.proxy.first_lines), chain.proxy.first_lines
    chain.proxy.refuse()
    wait_until(lambda: chain.table()["error"], 20, server.log)
    for text in (server.stderr(), server.stdout(), producer.stderr(), producer.stdout(), str(chain.health())):
        assert TOKEN not in text, text


@pytest.fixture
def plain(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        yield chain


def fetch(url, folder):
    """(status, body) of a GET; the server's certificate must be the authority's."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_server_itself_behind_tls_and_a_prefix(plain, authority, monkeypatch):
    folder = authority[0]
    plain.scheme, plain.prefix = "https", "/demo"
    plain.server("--certfile", folder / "cert.pem", "--keyfile", folder / "key.pem", "--prefix", "/demo/")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))  # for the viewer
    viewer, producer = plain.viewer(), plain.producer("--batches", 4)
    assert producer.wait(30) == 0, producer.log()
    wait_until(lambda: viewer.distinct() == 1000, 20, viewer.report)
    at = f"https://127.0.0.1:{plain.port}"
    status, page = fetch(f"{at}/demo/", folder)
    assert (status, b"perspective-viewer" in page) == (200, True)
    assert fetch(f"{at}/demo/healthz", folder)[0] == 200
    for outside in ("/", "/healthz", "/websocket", "/npm/", "/demonstration/"):
        assert fetch(at + outside, folder)[0] == 404, outside
    with pytest.raises(OSError):  # noqa: PT011  (whatever way a plain request fails)
        urllib.request.urlopen(f"http://127.0.0.1:{plain.port}/demo/", timeout=5)


def test_the_log_level_says_how_much_is_told(plain):
    dsn, plain.port = "ws://root:taosdata@127.0.0.1:1", free_port()  # where nothing listens
    args = ["server", "perspective_server.py", "--log-level"]
    quiet = plain.run(*args, "error", "--port", plain.port, dsn=dsn)
    server = plain.run(*args, "info", "--port", 0, dsn=dsn)
    wait_until(lambda: "page at" in server.stderr() and "does not answer" in server.stderr(), 20, server.log)
    wait_until(lambda: health(plain.port) and plain.table()["error"], 20, quiet.log)
    assert quiet.alive()
    assert quiet.stderr() == ""
