"""deploy/: nginx in front of two servers, with viewers in a browser; the container files as far as they can be run."""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request

import pytest
import trustme
from browser import QUICK, Page, chromium
from chain import Chain, listens
from helpers import ROOT, free_port, get, health, promised, running, wait_until

DEPLOY = ROOT / "deploy"
BACK_S = 5  # after which the viewers of a server that died are served by the other one


@pytest.fixture
def chain(database, tmp_path):
    with Chain(database, tmp_path) as chain:
        yield chain


def configuration(folder, *ports):
    """deploy/nginx.conf with a certificate and ports of its own, in a folder; the port of https."""
    port = free_port()
    text = (DEPLOY / "nginx.conf").read_text()
    changes = {"listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "demo.example;": "localhost;"}
    changes |= dict(zip(("127.0.0.1:8081", "127.0.0.1:8082"), (f"127.0.0.1:{each}" for each in ports), strict=True))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    # an unprivileged nginx keeps its own folders here, too
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    text = text.replace("http {", "http {\n" + "".join(f"    {kind}_temp_path temp_{kind};\n" for kind in kinds))
    if os.geteuid() == 0:  # whose temporary folders nobody else may enter
        text = "user root;\n" + text
    (folder / "nginx.conf").write_text(text)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return port


@pytest.fixture
def site(chain, tmp_path):
    """nginx over two servers and a producer: (https port, {port: server's process}, nginx' folder)."""
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        pytest.skip("no nginx (Debian, Ubuntu: apt install nginx-light)")
    servers = {}
    for _ in range(2):
        process = chain.server("--prefix", "/demo", "--allow-host", "localhost", limit=20_000)
        servers[chain.port] = process
    chain.producer("--interval", 500, "--rows", 100)
    folder = tmp_path / "nginx"
    folder.mkdir()
    port = configuration(folder, *servers)
    command = [shutil.which("nginx", path="/usr/sbin:/usr/bin"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
    with running(command, tmp_path, "nginx") as nginx:
        wait_until(lambda: listens(port) or not nginx.alive(), 20, nginx.log)
        assert nginx.alive(), nginx.log()
        yield port, servers, folder


def viewers(port):
    """How many viewers a server has; 0 when it does not answer."""
    try:
        return json.loads(get(f"http://127.0.0.1:{port}/demo/healthz"))["viewers"]
    except OSError:
        return 0


def test_viewers_of_a_server_that_dies_are_back_on_the_other(site):
    port, servers, folder = site
    ports = list(servers)
    with chromium(QUICK) as browser:
        settings = {"ignore_https_errors": True, "viewport": {"width": 640, "height": 360}}
        contexts = [browser.new_context(**settings) for _ in range(2)]
        pages = [Page(browser, f"https://localhost:{port}/demo/", context=context) for context in contexts]
        for page in pages:
            page.wait_for("live")
            page.wait_for_changing_cells()
        assert sorted(map(viewers, ports)) == [1, 1]
        # the large files come out of nginx' cache
        version = importlib.metadata.version("perspective-python")
        module = f"https://localhost:{port}/demo/perspective/{version}/perspective.js"
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        for _ in range(2):
            with urllib.request.urlopen(module, timeout=30, context=context) as answer:
                cached = answer.headers["X-Cache"]
        assert cached == "HIT"

        servers[ports[0]].signal(signal.SIGKILL)
        promised(lambda: viewers(ports[1]) == 2, BACK_S, lambda: [page.state() for page in pages])
        for page in pages:
            page.wait_for("live")
            page.wait_for_changing_cells()


# In containers


def steps():
    """[(instruction, its words)] of the Dockerfile."""
    lines = [line.split(maxsplit=1) for line in (DEPLOY / "Dockerfile").read_text().splitlines()]
    return [(line[0], line[1]) for line in lines if line and not line[0].startswith("#")]


def test_what_the_image_holds_can_serve_and_produce(chain, tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    command = None
    for instruction, words in steps():
        if instruction == "COPY":
            *sources, target = words.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, folder / target)
                else:
                    shutil.copy(ROOT / source, folder / target)
        elif instruction == "CMD":
            command = json.loads(words)
    installed = next(shlex.split(words) for instruction, words in steps() if instruction == "RUN")
    assert installed[:2] == ["pip", "install"]
    done = subprocess.run(
        [sys.executable, "-m", *installed, "--dry-run"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr  # its flags are pip's, its versions exist
    port = free_port()
    server = [sys.executable, *command[1:], "--port", port, "--database", chain.database.name]
    producer = [sys.executable, "producer.py", "--database", chain.database.name]
    env = {"TDENGINE_DSN": chain.dsn}
    with (
        running(server, tmp_path, "server", cwd=folder, env=env) as server,
        running(producer, tmp_path, "producer", cwd=folder, env=env) as producer,
    ):
        wait_until(lambda: (health(port) or {}).get("status") == "ok", 60, lambda: server.log() + producer.log())


def test_only_what_is_copied_is_sent_to_docker():
    listed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    copied = [name for instruction, words in steps() if instruction == "COPY" for name in words.split()[:-1]]
    assert sorted(listed) == sorted(copied)


def test_the_compose_file_is_valid_and_has_the_versions_of_docker_sh():
    schema = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    done = subprocess.run([sys.executable, *schema], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    images = re.findall(r"tdengine/tsdb:[\d.]+", (DEPLOY / "compose.yaml").read_text())
    assert images == re.findall(r"tdengine/tsdb:[\d.]+", (ROOT / "bridge/launch/container.py").read_text())
