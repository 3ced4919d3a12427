"""TDengine's own server out of install.sh --server: taosd and taosadapter as unprivileged processes of the demo."""

import asyncio
import base64
import json
import os
import secrets
import time
import urllib.request

from . import ROOT, Failed, complain, report
from .launcher import free_port
from .watchdog import ADAPTER, DATABASE

FOLDER, DATA = ROOT / "tdengine-server", ROOT / ".data/tdengine"
ANSWER_LIMIT_S = 60
RESTARTS, RESTARTS_S = 5, 60  # so many restarts of taosadapter in so long are too many
TAOSD = """firstEp localhost:{port}
fqdn localhost
serverPort {port}
dataDir {data}/data
logDir {data}/log
tempDir {data}/temp
monitor 0
telemetryReporting 0
crashReporting 0
"""
ADAPTER_TOML = """port = {adapter_port}
taosConfigDir = "{data}/cfg"
[log]
path = "{data}/log"
[monitor]
disable = true
[uploadKeeper]
enable = false
"""


def is_installed():
    return (FOLDER / "bin/taosd").exists() and (FOLDER / ".stamp").exists()


async def start(launcher, wanted):
    """Starts both; TDENGINE_DSN for the services. taosadapter is started again when it dies."""
    port, adapter_port = free_port(6030), free_port(wanted)
    others = [f"{mine} instead of {usual}" for mine, usual in ((port, 6030), (adapter_port, wanted)) if mine != usual]
    ports = f"ports {adapter_port} and {port}" + (f" ({', '.join(others)}, taken)" if others else "")
    report(f"using TDengine of ./install.sh --server on {ports}, its data in .data/tdengine")
    for name in ("cfg", "data", "log", "temp"):
        (DATA / name).mkdir(parents=True, exist_ok=True)
    (DATA / "cfg/taos.cfg").write_text(TAOSD.format(port=port, data=DATA))
    toml = DATA / "cfg/taosadapter.toml"
    toml.write_text(ADAPTER_TOML.format(adapter_port=adapter_port, data=DATA))
    taosd = await start_program(launcher, "taosd", DATA / "cfg", DATABASE)
    await launcher.until_listening(taosd, port)
    adapter = await start_program(launcher, "taosadapter", toml, ADAPTER)
    await launcher.until_listening(adapter, adapter_port)
    launcher.guards.append(asyncio.ensure_future(keep_adapter(launcher, adapter, toml)))
    launcher.env["TDENGINE_DSN"] = await log_in(launcher, taosd, adapter_port)


async def log_in(launcher, taosd, port):
    """The DSN with which TDengine answers.

    It listens on all of this machine's addresses, which it has no setting for; so root gets another password than the
    one that everybody knows. The file holds it before TDengine does: an interruption between the two loses nothing.
    """
    file, local = DATA / "password", f"ws://root:{{}}@localhost:{port}"
    if file.exists() and await answers(launcher, taosd, local.format(file.read_text())):
        return local.format(file.read_text())
    if not await answers(launcher, taosd, local.format("taosdata")):
        raise Failed("TDengine refuses root's password in .data/tdengine/password, and taosdata: remove .data/tdengine")
    password = f"Aa1{secrets.token_hex(6)}"  # TDengine wants three kinds of characters
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(password)
    status, text = await asyncio.to_thread(execute, port, f"ALTER USER root PASS '{password}'")
    if status:
        file.unlink()
        report(f"anybody who reaches this machine can log in to it, as root with password taosdata ({text})")
        return local.format("taosdata")
    report("root's password is in .data/tdengine/password")
    if not await answers(launcher, taosd, local.format(password)):
        raise Failed("TDengine refuses the password that it has just been given")
    return local.format(password)


def execute(port, sql):
    """(code, text) of TDengine's answer to a statement by taosadapter's REST interface."""
    basic = base64.b64encode(b"root:taosdata").decode()
    headers = {"Authorization": f"Basic {basic}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/rest/sql", sql.encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            answer = json.load(response)
        return answer["code"], answer.get("desc", "")
    except (OSError, ValueError, KeyError) as error:
        return 1, str(error)


async def start_program(launcher, name, configuration, rank):
    env = {"LD_LIBRARY_PATH": str(FOLDER / "driver")}
    return await launcher.start(name, FOLDER / "bin" / name, "-c", configuration, rank=rank, env=env)


async def answers(launcher, taosd, dsn):
    """Waits until it answers, which it does some time after it listens: whether it accepts the login."""
    deadline = time.monotonic() + ANSWER_LIMIT_S
    while True:
        status, text = await launcher.probe("bridge.launch.probe", dsn)
        if status in (0, 3):
            return status == 0
        if taosd.ended.done():
            raise launcher.end_of(taosd)
        if time.monotonic() > deadline:
            raise Failed(f"TDengine does not answer after {ANSWER_LIMIT_S} s ({text}): see .data/tdengine/log")
        await asyncio.sleep(0.2)


async def keep_adapter(launcher, adapter, toml):
    """Starts taosadapter again whenever it has died, which other programs' requests can make it do."""
    deaths = []
    while True:
        adapter.watched = False
        await asyncio.wait([adapter.ended])
        launcher.services.running.remove(adapter)
        now = time.monotonic()
        deaths = [death for death in deaths if now - death < RESTARTS_S] + [now]
        if len(deaths) > RESTARTS:
            raise launcher.end_of(adapter)
        complain(f"{launcher.end_of(adapter)}\nstarting it again")
        adapter = await start_program(launcher, "taosadapter", toml, ADAPTER)
