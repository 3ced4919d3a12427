"""TDengine's own server out of install.sh --server: taosd and taosadapter as unprivileged processes of the demo."""

import asyncio
import time

from . import ROOT, Failed, complain, report
from .launcher import ADAPTER, DATABASE, free_port

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
    report(
        "it listens on all of this machine's addresses, which TDengine has no setting for; root's password is taosdata"
    )
    for name in ("cfg", "data", "log", "temp"):
        (DATA / name).mkdir(parents=True, exist_ok=True)
    (DATA / "cfg/taos.cfg").write_text(TAOSD.format(port=port, data=DATA))
    toml = DATA / "cfg/taosadapter.toml"
    toml.write_text(ADAPTER_TOML.format(adapter_port=adapter_port, data=DATA))
    launcher.env["TDENGINE_DSN"] = f"ws://root:taosdata@localhost:{adapter_port}"
    taosd = await start_program(launcher, "taosd", DATA / "cfg", DATABASE)
    await launcher.until_listening(taosd, port)
    adapter = await start_program(launcher, "taosadapter", toml, ADAPTER)
    await launcher.until_listening(adapter, adapter_port)
    launcher.guards.append(asyncio.ensure_future(keep_adapter(launcher, adapter, toml)))
    await until_answering(launcher, taosd)


async def start_program(launcher, name, configuration, rank):
    env = {"LD_LIBRARY_PATH": str(FOLDER / "driver")}
    return await launcher.start(name, FOLDER / "bin" / name, "-c", configuration, rank=rank, env=env)


async def until_answering(launcher, taosd):
    """taosd listens before it can answer."""
    deadline = time.monotonic() + ANSWER_LIMIT_S
    while True:
        status, text = await launcher.probe("tdengine", launcher.env["TDENGINE_DSN"])
        if status == 0:
            return
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
