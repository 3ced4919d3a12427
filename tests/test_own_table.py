"""The README's "Use it with your own table": its change is applied to a copy, whose page then shows the new table."""

import re
import shutil
import subprocess
import sys

from browser import Page, chromium
from chain import listens
from helpers import ROOT, free_port, health, running, wait_until

FILES = ["producer.py", "perspective_server.py", "prsp-viewer.html"]


def test_the_change_shows_the_new_table(tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    if (ROOT / "node_modules").exists():
        (folder / "node_modules").symlink_to(ROOT / "node_modules")
    section = (ROOT / "README.md").read_text().split("\n## Use it with your own table\n")[1].split("\n## ")[0]
    (change,) = re.findall(r"```diff\n(.*?)```", section, re.DOTALL)
    assert sorted(re.findall(r"^\+\+\+ b/(.*)$", change, re.MULTILINE)) == sorted(FILES)
    done = subprocess.run(["git", "apply", "-"], cwd=folder, input=change, text=True, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    changed = (folder / "prsp-viewer.html").read_text()
    shutil.copy(ROOT / "prsp-viewer.html", folder)  # at first as it was
    commands = re.findall(r"`python (\S+\.py) (--dataset \w+)`", section)
    assert [script for script, _ in commands] == FILES[:2]

    port, database_port = free_port(), free_port()
    env = {"TDENGINE_DSN": f"ws://root:taosdata@127.0.0.1:{database_port}"}
    data = ["--port", database_port, "--data", tmp_path / "data"]
    with running([sys.executable, "-m", "embedded", *data], tmp_path, "embedded") as database:
        wait_until(lambda: listens(database_port), 20, database.log)
        (made, flags), (shown, more) = commands
        with (
            running([sys.executable, folder / made, *flags.split()], tmp_path, "producer", env=env) as producer,
            running(
                [sys.executable, folder / shown, *more.split(), "--port", port], tmp_path, "server", env=env
            ) as server,
            chromium() as browser,
        ):
            wait_until(lambda: (health(port) or {}).get("status") == "ok", 30, lambda: producer.log() + server.log())
            with Page(browser, f"http://127.0.0.1:{port}/") as page:
                page.wait_for("live")
                page.wait_for_changing_cells()
                config = page.config()
                assert (config["columns"], config["group_by"]) == (["ts", "room", "temperature"], [])
                (folder / "prsp-viewer.html").write_text(changed)
                page.page.reload()
                page.wait_for("live")
                page.wait_for_changing_cells()
                config = page.config()
                assert (config["table"], config["group_by"]) == ("sensor_values", ["room"])
                wait_until(lambda: any("kitchen" in text for text in page.grid()), 20, page.log)
                assert page.errors == []
