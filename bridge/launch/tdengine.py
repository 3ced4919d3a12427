"""The whole demo in one command: rows into TDengine, out of it, and into the page in your browser.

TDengine is, in this order: the one that TDENGINE_DSN names; one in Docker with --docker; one that answers on
localhost:6041; the one that ./install.sh --server has fetched; the stand-in that comes with the demo, its data in
.data. TDENGINE_PORT is used instead of 6041. Logs are in .logs. Stop with Ctrl-C.
"""

import os
import shutil

from .. import dsn, sql
from . import ROOT, Failed, Unusable, report, tdengine_server
from .launcher import flags, free_port, listens, port_of, rows_of_history
from .services import last_lines
from .watchdog import DATABASE, PRODUCER, SERVER

PROG, FOLDER, INSTALL = "./run.sh", ROOT, []
TABLES = {"stocks": ("stocks", "stocks_values"), "meters": ("power", "meters")}  # of each dataset: database, table
LOCAL = "ws://root:taosdata@localhost:{port}"


def add_arguments(parser):
    add = parser.add_argument
    add("--dataset", choices=["stocks", "meters", "all"], help="which data (default stocks)")
    add(
        "--table",
        action="append",
        metavar="DB.TABLE",
        help="show this table of yours too, or, without --dataset, only it; may be repeated",
    )
    add("--docker", action="store_true", help="TDengine in Docker, by docker.sh; it goes on when the demo ends")
    add("--stand-in", action="store_true", help="the stand-in for TDengine, whatever else is there")
    add("--node", action="store_true", help="producer and server in Node.js (node/) instead of Python")
    add("--subscribe", action="store_true", help="TDengine pushes rows to the server, instead of being polled for them")


def check(args):
    """Unusable when arguments contradict each other."""
    if args.node and (args.subscribe or args.history):
        raise Unusable(f"--node polls, without --{'subscribe' if args.subscribe else 'history'}")
    if args.rows and not datasets(args):
        raise Unusable("--rows is of the demo's own rows, and with --table alone none are made: leave it out")
    if args.docker and args.stand_in:
        raise Unusable("--docker and --stand-in contradict each other")
    port_of("TDENGINE_PORT", 6041)
    try:
        for table in args.table or ():
            sql.split_name(table)
    except ValueError as error:
        raise Unusable(f"--table: {error}") from None


def datasets(args):
    """Those that producers make rows of."""
    chosen = args.dataset or ("" if args.table else "stocks")
    return [name for name in TABLES if chosen in (name, "all")]


async def database(launcher):
    """Finds or starts the database and says which one it is; puts TDENGINE_DSN into the services' environment."""
    args, port = launcher.args, port_of("TDENGINE_PORT", 6041)
    given, local = os.environ.get("TDENGINE_DSN"), LOCAL.format(port=port)
    if args.stand_in:
        status, text = await launcher.probe("bridge.launch.probe", local) if listens(port) else (4, "")
        if status == 0 and not text[:1].isdigit():
            launcher.env["TDENGINE_DSN"] = local
            return report(f"using {named(text)}, which answers on localhost:{port} already")
        return await stand_in(launcher, port, "--stand-in")
    if given:
        launcher.env["TDENGINE_DSN"] = given
        return await use_given(launcher, given)
    launcher.env["TDENGINE_DSN"] = local
    if args.docker:
        if await launcher.services.run("docker.sh", ROOT / "docker.sh") != 0:
            raise Failed("")
        return report(f"using TDengine in Docker on port {port} (./docker.sh --stop ends it)")
    if listens(port):
        status, text = await launcher.probe("bridge.launch.probe", local)
        if status == 0:
            report(f"using {named(text)}, which answers on localhost:{port}")
            return writes(args, "")
        if status == 3:
            raise Failed(
                f"the TDengine on localhost:{port} refuses root with password taosdata: "
                f"TDENGINE_DSN=ws://USER:PASSWORD@localhost:{port} ./run.sh"
            )
        why = f"port {port} is taken by something that is no TDengine"
    else:
        why = f"no TDengine answers on localhost:{port}"
    if tdengine_server.is_installed():
        return await tdengine_server.start(launcher, port)
    return await stand_in(launcher, port, why)


async def use_given(launcher, given):
    status, text = await launcher.probe("bridge.launch.probe", given)
    if status == 2:
        raise Unusable(f"TDENGINE_DSN: {text}")
    found = dsn.tdengine(given)
    if status == 3:
        raise Failed(f"{found.shown} refuses the user or password in TDENGINE_DSN ({text}): correct TDENGINE_DSN")
    if status:
        raise Failed(f"no TDengine answers at {found.shown} ({text}): start it, or correct or unset TDENGINE_DSN")
    report(f"using {named(text)} at {found.shown} (TDENGINE_DSN)")
    writes(launcher.args, found.database)


def named(version):
    """The stand-in's version names it."""
    return f"TDengine {version}" if version[:1].isdigit() else version


def writes(args, database):
    """Says what will be stored, and made, in a TDengine that is not ours alone."""
    pace = 1000 * (args.rows or 250) / (args.interval or 250)
    for dataset in datasets(args):
        usual, table = TABLES[dataset]
        name = database or usual
        report(
            f"storing {pace:,.0f} rows/s in {name}.{table} there, each kept for a day if the demo makes this database; "
            f"DROP TABLE {name}.{table} removes them"
        )
    if args.subscribe:
        report(
            "--subscribe makes a topic for each table there, which stays: SHOW TOPICS names them, and TDengine drops "
            "no such table or database before DROP TOPIC"
        )


async def stand_in(launcher, wanted, why):
    """Starts the stand-in on TDengine's port, or on another one when something else has that."""
    port = free_port(wanted)
    report(f"using the stand-in for TDengine on port {port} ({why})")
    command = [launcher.python, "-m", "embedded", "--port", port, "--data", ".data"]
    service = await launcher.start("stand-in", *command, rank=DATABASE)
    await launcher.until_listening(service, port)
    launcher.env["TDENGINE_DSN"] = f"ws://root:taosdata@127.0.0.1:{port}"


async def start(launcher):
    """Starts the producers and the server."""
    args = launcher.args
    producer, server = [launcher.python, "producer.py"], [launcher.python, "perspective_server.py"]
    if args.node:
        await prepare_node(launcher)
        producer, server = ["node", "node/src/producer.js"], ["node", "node/src/server.js"]
    for dataset in datasets(args):
        options = flags(dataset=dataset, rows=args.rows, interval=args.interval)
        await launcher.start(f"producer-{dataset}", *producer, *options, rank=PRODUCER)
    options = flags(
        dataset=args.dataset or (None if args.table else "stocks"),
        table=args.table,
        port=args.port,
        source="subscribe" if args.subscribe else None,
        history=args.history,
        limit=args.limit or (rows_of_history(args) if args.history else None),
        interval=args.interval,
    )
    await launcher.start("perspective_server", *server, *options, rank=SERVER)


async def prepare_node(launcher):
    """Node 20 or newer, and the packages of node/, installed unless --no-install is given."""
    log = launcher.logs / "install-node.log"
    needs = "--node needs Node.js 20 or newer"
    if not shutil.which("node") or await launcher.services.run("node", "node", "--version", log=log, limit_s=20) != 0:
        raise Failed(f"{needs}, and there is no node on PATH")
    version = (last_lines(log, 1) or ["0"])[0].lstrip("v")
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 20:
        raise Failed(f"{needs}, this is {version}")
    packages, lock = ROOT / "node/node_modules/.package-lock.json", ROOT / "node/package-lock.json"
    if packages.exists() and packages.stat().st_mtime > lock.stat().st_mtime:  # npm writes the first when it is done
        return
    if launcher.args.no_install:
        raise Failed("no packages in node/node_modules: (cd node && npm ci), or leave out --no-install")
    if not shutil.which("npm"):
        raise Failed("--node needs npm, which comes with Node.js, for the packages of node/")
    report("installing the packages of node/package-lock.json into node/node_modules")
    command = ["npm", "ci", "--prefix", "node", "--omit=dev", "--no-audit", "--no-fund"]
    if await launcher.services.run("npm", *command, log=log, limit_s=600) != 0:
        why = next((line for line in last_lines(log, 100) if "npm error" in line), "no reason given")
        raise Failed(f"npm can't install the packages of node/: {why} (see {launcher.short(log)})")
