"""Runs calls through the real client against PORT, one after the other: `python replay.py NAME PORT`.

NAME is a recording, whose calls these are, or `-`: then each line of standard input is a call, as a JSON string.
Prints what each call gave as a line of JSON, in the form of the recordings' NAME.expected.json.
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
    if value is None or isinstance(value, (bool, int, float, str, dict)):
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


def calls(name):
    if name == "-":
        return map(json.loads, sys.stdin)
    return [source for source, _ in json.loads((RECORDINGS / f"{name}.expected.json").read_text())]


class Statement1:
    """TaosStmt's calls, made by TaosStmt2: what the recordings insert with the former, which the stand-in has not."""

    def __init__(self, connection):
        self.statement, self.name, self.tags, self.views = connection.stmt2_statement(), "", None, []
        self.prepare, self.close, self.affect_rows = (
            self.statement.prepare,
            self.statement.close,
            self.statement.affect_rows,
        )

    def set_tbname_tags(self, name, tags):
        self.name, self.tags = name, tags

    def bind_param(self, columns):
        self.views.append(taosws.stmt2_bind_param_view(table_name=self.name, tags=self.tags, columns=columns))

    def add_batch(self):
        self.statement.bind(self.views)
        self.views = []

    def execute(self):
        return self.statement.execute()


def main():
    name, port = sys.argv[1], int(sys.argv[2])
    dsn = f"ws://root:taosdata@localhost:{port}"
    names = {"taosws": taosws, "PORT": port, "DSN": dsn, "Statement1": Statement1}
    for source in calls(name):
        print(json.dumps(run(source.replace("c.statement()", "Statement1(c)"), names)), flush=True)


if __name__ == "__main__":
    main()
