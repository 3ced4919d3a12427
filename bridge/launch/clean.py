"""run.sh --clean: names what the demo has put into its folder and removes it after a question."""

import fcntl
import pathlib
import shutil
import sys

from . import ROOT, complain, install, report

OWN = [".cache", ".data", ".logs", "node/node_modules", "tdengine-client", "tdengine-server", "env.sh"]
OWN += ["clickhouse/.cache", "clickhouse/.data", "clickhouse/.logs", "clickhouse/.password"]
OWN += [".pytest_cache", ".ruff_cache"]
STAYS = """Rows in a TDengine or ClickHouse of yours stay. To remove those, too:
    in TDengine     DROP TABLE stocks.stocks_values; DROP TABLE power.meters
    in ClickHouse   DROP TABLE stocks.stock_values
    after --subscribe first DROP TOPIC what SHOW TOPICS names; of a database that a DSN names its name instead
    in Docker       ./docker.sh --stop && docker volume rm tdengine-perspective-data (or clickhouse-...)"""


def found():
    """What is there of the demo's own; an environment only when install.sh has made it, and here."""
    paths = [ROOT / name for name in OWN]
    folders = [folder for folder in (ROOT, ROOT / "clickhouse") if install.stamp(folder) is not None]
    paths += [folder / "venv" for folder in folders if not (folder / "venv").is_symlink()]
    inside = [path.relative_to(ROOT) for path in ROOT.rglob("__pycache__")]
    paths += [ROOT / path for path in inside if not {"venv", "node_modules"} & set(path.parts)]
    return [path for path in paths if path.exists() or path.is_symlink()]


def size_mb(path):
    if path.is_symlink() or not path.is_dir():
        return 0
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir()) / 1e6


def in_use():
    """Whether a demo runs in this folder."""
    for lock in [ROOT / ".logs/lock", ROOT / "clickhouse/.logs/lock"]:
        if lock.exists():
            with lock.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
    return False


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        pathlib.Path(path).unlink()


def main():
    """The exit status: 0 when nothing of it is there any more."""
    if in_use():
        complain("run.sh: a demo runs in this folder: end it first")
        return 1
    paths = found()
    for path in paths:
        report(f"    {path.relative_to(ROOT)}  ({size_mb(path):,.0f} MB)")
    report(STAYS)
    if not paths:
        return 0
    report(f"Remove the above from {ROOT}? [y/N] ", end="")
    if sys.stdin is None or sys.stdin.readline().strip().lower() not in ("y", "yes"):
        complain("run.sh: nothing removed")
        return 1
    try:
        for path in paths:
            remove(path)
    except OSError as error:
        complain(f"run.sh: can't remove {error.filename}: {error.strerror}")
        return 1
    return 0
