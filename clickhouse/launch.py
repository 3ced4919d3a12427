"""The whole demo with ClickHouse in one command: rows into ClickHouse, out of it, and into the page in your browser.

ClickHouse is, in this order: the one that CLICKHOUSE_DSN names; one in Docker with --docker; one that answers on
localhost:8123; its engine in process (embedded.py), its data in .data. CLICKHOUSE_PORT is used instead of 8123.
Logs are in .logs. Stop with Ctrl-C.
"""

import os
import sys

from bridge import dsn
from bridge.launch import ROOT, Failed, Unusable, launcher, report
from bridge.launch.launcher import flags, free_port, listens, port_of, rows_of_history
from bridge.launch.watchdog import DATABASE, PRODUCER, SERVER

PROG, FOLDER, INSTALL = "clickhouse/run.sh", ROOT / "clickhouse", ["--clickhouse"]


def add_arguments(parser):
    add = parser.add_argument
    add("--dataset", choices=["stocks"], help="stocks, the only one here")
    add("--docker", action="store_true", help="ClickHouse in Docker, by docker.sh; it goes on when the demo ends")
    add("--install", action="store_true", help="only install what is missing")
    add("--embedded", action="store_true", help="ClickHouse's engine in process, whatever else is there")


def check(args):
    """Unusable when arguments contradict each other."""
    if args.docker and args.embedded:
        raise Unusable("--docker and --embedded contradict each other")
    if args.install and args.no_install:
        raise Unusable("--install and --no-install contradict each other")
    port_of("CLICKHOUSE_PORT", 8123)


def with_password(port):
    """The DSN of the ClickHouse that docker.sh has started, by the password that it has made; None without one."""
    try:
        return f"clickhouse://default:{(FOLDER / '.password').read_text()}@localhost:{port}"
    except OSError:
        return None


async def database(launcher):
    """Finds or starts the database and says which one it is; puts CLICKHOUSE_DSN into the services' environment."""
    args, port = launcher.args, port_of("CLICKHOUSE_PORT", 8123)
    given = os.environ.get("CLICKHOUSE_DSN")
    if args.embedded:
        return await embedded(launcher, port, "--embedded")
    if given:
        launcher.env["CLICKHOUSE_DSN"] = given
        return await use_given(launcher, given)
    if args.docker:
        if await launcher.services.run("docker.sh", FOLDER / "docker.sh") != 0:
            raise Failed("")
        launcher.env["CLICKHOUSE_DSN"] = with_password(port)
        return report(f"using ClickHouse in Docker on port {port} (./docker.sh --stop ends it)")
    why = f"no ClickHouse answers on localhost:{port}"
    if listens(port):
        for local in filter(None, (f"clickhouse://default@localhost:{port}", with_password(port))):
            launcher.env["CLICKHOUSE_DSN"] = local
            status, text = await launcher.probe("clickhouse.probe", local)
            if status == 0:
                return report(f"using ClickHouse {text}, which answers on localhost:{port}")
        if status == 3:
            raise Failed(
                f"the ClickHouse on localhost:{port} refuses default without a password: "
                f"CLICKHOUSE_DSN=clickhouse://USER:PASSWORD@localhost:{port} ./run.sh"
            )
        why = f"port {port} is taken by something that is no ClickHouse"
    return await embedded(launcher, port, why)


async def use_given(launcher, given):
    status, text = await launcher.probe("clickhouse.probe", given)
    if status == 2:
        raise Unusable(f"CLICKHOUSE_DSN: {text}")
    found = dsn.clickhouse(given)
    shown, name = found.shown, found.database or "stocks"
    if status == 3:
        raise Failed(f"{shown} refuses the user or password in CLICKHOUSE_DSN ({text}): correct CLICKHOUSE_DSN")
    if status:
        raise Failed(f"no ClickHouse answers at {shown} ({text}): start it, or correct or unset CLICKHOUSE_DSN")
    report(f"using ClickHouse {text} at {shown} (CLICKHOUSE_DSN)")
    report(f"storing rows in {name}.stock_values there; DROP TABLE {name}.stock_values removes them")


async def embedded(launcher, wanted, why):
    """Starts the embedded engine on ClickHouse's port, or on another one when something else has that."""
    port = free_port(wanted)
    report(f"using ClickHouse's engine in process on port {port} ({why})")
    command = [launcher.python, "embedded.py", "--port", port, "--data", ".data"]
    service = await launcher.start("embedded", *command, rank=DATABASE)
    await launcher.until_listening(service, port)
    launcher.env["CLICKHOUSE_DSN"] = f"clickhouse://default@127.0.0.1:{port}"


async def start(launcher):
    """Starts the producer and the server."""
    args = launcher.args
    options = flags(rows=args.rows, interval=args.interval)
    await launcher.start("producer", launcher.python, "producer.py", *options, rank=PRODUCER)
    options = flags(
        port=args.port,
        limit=args.limit or (rows_of_history(args) if args.history else None),
        history=args.history,
        interval=args.interval,
    )
    await launcher.start("perspective_server", launcher.python, "perspective_server.py", *options, rank=SERVER)


if __name__ == "__main__":
    sys.exit(launcher.main(sys.modules[__name__]))
