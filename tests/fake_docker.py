"""Plays the `docker` command: records each call in calls.jsonl, keeps one container's state, fails as told.

Its folder is $FAKE_DOCKER. state.json there: {"container": null or {"state":, "image":, "settings":}, "images": [...],
"fail": {subcommand: text on stderr}, "hang": [subcommand], "on_start": "running" or "exited", "version": text}.
"""

import json
import os
import pathlib
import sys
import time

FOLDER = pathlib.Path(os.environ["FAKE_DOCKER"])


def main(args):
    state = json.loads((FOLDER / "state.json").read_text())
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(args) + "\n")
    command, container = args[0], state["container"]
    if "podman" in state["version"]:  # what Podman's docker says before anything else
        print("Emulate Docker CLI using podman. Create /etc/containers/nodocker to quiet msg.", file=sys.stderr)
    if command in state["hang"]:
        time.sleep(60)
    if command in state["fail"]:
        sys.exit(state["fail"][command])
    if command == "--version":
        print(state["version"])
    elif command == "image":
        if args[-1] not in state["images"]:
            sys.exit(f"Error response from daemon: No such image: {args[-1]}")
    elif command == "pull":
        state["images"].append(args[-1])
    elif command == "run":
        settings = args[args.index("--label") + 1].split("=", 1)[1]
        state["container"] = {"state": state["on_start"], "image": args[-1], "settings": settings}
        print("0123456789abcdef")
    elif command == "logs":
        print("the log of taosd")
    elif command != "info" and container is None:
        sys.exit(f"Error response from daemon: No such container: {args[-1]}")
    elif command == "inspect":
        form = args[args.index("--format") + 1] if "--format" in args else "[]"
        form = form.replace("{{.State.Status}}", container["state"]).replace("{{.Config.Image}}", container["image"])
        print(form.replace('{{index .Config.Labels "demo-settings"}}', container["settings"]))
    elif command == "start":
        container["state"] = "running"
    elif command == "stop":
        container["state"] = "exited"
    elif command == "rm":
        state["container"] = None
    elif command == "exec":
        print("SUCC: Spent 1.9 (real 1.6) seconds to insert rows: 1000000")
    (FOLDER / "state.json").write_text(json.dumps(state))


main(sys.argv[1:])
