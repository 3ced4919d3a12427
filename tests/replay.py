"""Runs the calls of a recording through the real client against PORT: `python replay.py NAME PORT`.

Prints a JSON list of what each call gave, in the form of the recording's NAME.expected.json.
"""

import json
import pathlib
import sys

import taosws

RECORDINGS = pathlib.Path(__file__).resolve().parent / "recordings"


def shown(value):
    """A result as the recordings tell it."""
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return {"repr": type(value).__name__}


def run(source, names):
    try:
        try:
            code = compile(source, "recording", "eval")
        except SyntaxError:
            exec(source, names)
            return None
        return shown(eval(code, names))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"error": type(error).__name__, "message": str(error)}


def main():
    name, port = sys.argv[1], int(sys.argv[2])
    names = {"taosws": taosws, "PORT": port, "DSN": f"ws://root:taosdata@localhost:{port}"}
    results = []
    for source, _ in json.loads((RECORDINGS / f"{name}.expected.json").read_text()):
        results.append(run(source, names))
        print(json.dumps(results[-1]), flush=True)


if __name__ == "__main__":
    main()
