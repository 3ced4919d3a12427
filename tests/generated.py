"""Expressions and requests made by chance: some as a viewer would send them, some as nobody should."""

from bridge import perspective_pb2 as pb
from bridge import requests, view_config
from bridge.expression_functions import FUNCTIONS

COLUMNS = "timestamp ticker client open high low close volume date".split()
TEXTS = [
    "'1s'",
    "'5m'",
    "'1D'",
    "'x'",
    "''",
    "'A'",
    "'(.)'",
    "'%'",
    "'\\\\d+'",
    "'[a'",
    "'3Y'",
    "'99999999999999999999s'",
]
NUMBERS = ["0", "1", "2.5", "1e300", "-1", "100000", "0.0000001", "1e-320"]
OPERATORS = "+ - * / % ^ < <= > >= == != = and or nand nor xor & |".split()
NAMES = [*FUNCTIONS, "col", "vlookup", "index", "indexof", "intern", "diff3", "while", "return", "nothing"]


def expression(chance, depth=3):
    """The text of an expression."""
    roll = chance.random()
    if depth == 0 or roll < 0.25:
        leaves = [
            f'"{chance.choice(COLUMNS)}"',
            chance.choice(TEXTS),
            chance.choice(NUMBERS),
            "true",
            "pi",
            "null",
            "x",
        ]
        return chance.choices(leaves, [8, 4, 4, 1, 1, 0.1, 0.5])[0]
    deeper = [expression(chance, depth - 1) for _ in range(3)]
    if roll < 0.6:
        return call(chance, deeper)
    if roll < 0.8:
        return f"({deeper[0]} {chance.choice(OPERATORS)} {deeper[1]})"
    return chance.choice(
        [
            f"if ({deeper[0]}) {deeper[1]}; else {deeper[2]}",
            f"({deeper[0]} ? {deeper[1]} : {deeper[2]})",
            f"var x := {deeper[0]}; x",
            f"var x := {deeper[0]}; if ({deeper[1]}) {{ x := {deeper[2]} }}; x",
            f"switch {{ case {deeper[0]} : {deeper[1]}; default : {deeper[2]}; }}",
            f"-{deeper[0]}",
            f"// it's\n{deeper[0]}",
            f"{deeper[0]}; {deeper[1]}",
            f"{deeper[0]} {deeper[1]}",
            f"x := {deeper[0]}",
            f"[{deeper[0]}]",
        ]
    )


ARGUMENTS = {
    "n": ['"open"', '"volume"', "2", "0.5", 'length("ticker")'],
    "t": ['"ticker"', "'A'", 'upper("client")', "concat(\"ticker\", 'x')"],
    "l": ["'A'", "'1s'", "'(.)'", "'5m'", "'1D'", "'.N'"],
    "b": ["true", '("open" > 100)', 'is_null("ticker")'],
    "d": ['"timestamp"', "now()", "datetime(1e12)", "bucket(\"timestamp\", '1m')"],
    "c": ['"date"', "today()", "date(2026, 1, 31)"],
}


def call(chance, deeper):
    """A call of a function, mostly of a known one with arguments that suit it."""
    name = chance.choice(NAMES)
    if name not in FUNCTIONS or chance.random() < 0.3:
        return f"{name}({', '.join(deeper[: chance.randrange(4)])})"
    kinds = chance.choice(FUNCTIONS[name][0].split("|"))
    arguments = []
    while kinds:
        group, _, kinds = kinds[1:].partition("]") if kinds[0] == "[" else (kinds[0], "", kinds[1:])
        arguments += [chance.choice(ARGUMENTS[chance.choice(group)])] * (1 + (kinds[:1] == "+") * chance.randrange(3))
        kinds = kinds.lstrip("+?")
    return f"{name}({', '.join(arguments)})"


def name(chance):
    return chance.choice(["e", "w", "nothing", ""] if chance.random() < 0.05 else COLUMNS)


def number(chance):
    return chance.choice([0, 0, 1, 2, 9, 50, 1000, 20_000, 2**31 - 1, 2**31, 2**32 - 1])


def scalar(chance):
    return chance.choice(
        [
            pb.Scalar(float=chance.choice([0, 1, -1, 250.5, 1e300, 5e10])),
            pb.Scalar(string=chance.choice(["", "A", "AAPL.N", "2026-01-01", "1", "nonsense", "x" * 300])),
            pb.Scalar(bool=True),
            pb.Scalar(null=0),
            pb.Scalar(),
        ]
    )


FILTERS = "== != > >= < <= in contains matches".split() + ["not in", "is null", "is not null", "begins with", "nothing"]
AGGREGATES = (
    """sum count mean avg any last first median q1 q3 unique dominant stddev var high low max min join mul
    and or""".split()
    + ["distinct count", "weighted mean", "max by", "min by", "pct sum parent", "last by index", "x"]
)


def config(chance):
    """A ViewConfig."""
    some = lambda most, make: [make(chance) for _ in range(chance.choice([0, 0, 1, 1, most]))]  # noqa: E731
    made = pb.ViewConfig(group_by=some(3, name), split_by=some(2, name) if chance.random() < 0.3 else [])
    if chance.random() < 0.8:
        made.columns.columns.columns.extend(some(4, name))
    for _ in range(chance.choice([0, 0, 1, 2])):
        values = some(2, scalar) if chance.random() < 0.3 else [scalar(chance)]
        made.filter.add(column=name(chance), op=chance.choice(FILTERS), value=values)
    for _ in range(chance.choice([0, 0, 1, 2])):
        made.sort.add(column=name(chance), op=chance.randrange(9) if chance.random() < 0.97 else 9)
    for _ in range(chance.choice([0, 0, 1, 2])):
        made.aggregates[name(chance)].aggregations.extend(
            [chance.choice(AGGREGATES), *some(1, name)][: chance.choice([1, 2])]
        )
    if chance.random() < 0.3:
        made.expressions["e"] = expression(chance, 2)
    if chance.random() < 0.1:
        window = made.windows["w"]
        window.source, window.op = name(chance), chance.choice(view_config.WINDOWS)
        window.partition_by.extend(some(1, name))
        if chance.random() < 0.5:
            window.order_by.column = name(chance)
        how = chance.choice(["rows", "range", "cumulative", "offset", "alpha"])
        setattr(window, how, {"alpha": 0.5, "cumulative": 0}.get(how, number(chance)))
    if chance.random() < 0.2:
        made.group_rollup_mode = chance.randrange(3)
    if chance.random() < 0.1:
        made.split_rollup_mode = chance.randrange(2)
    if chance.random() < 0.1:
        made.group_by_depth = chance.choice([0, 1, 2, 8, number(chance)])
    made.filter_op = chance.randrange(3)
    return made


def content(chance, kind):
    """What is in a request of this kind, except those that make a view."""
    made = requests.KINDS[kind]()
    if kind in requests.READS:
        for field in ("start_row", "end_row", "start_col", "end_col"):
            if chance.random() < 0.5:
                setattr(made.viewport, field, number(chance))
        if kind == "view_to_arrow" and chance.random() < 0.3:
            made.compression = chance.choice(["lz4", "zstd", "x", ""])
        if kind not in ("view_to_arrow", "view_to_csv"):
            made.id, made.index, made.formatted = (chance.random() < 0.3 for _ in range(3))
    elif isinstance(made, pb.ColumnPaths):
        made.start_col, made.end_col = number(chance), number(chance)
    elif isinstance(made, pb.Column):
        made.column_name = name(chance)
    elif isinstance(made, pb.Row):
        made.row_index = number(chance)
    elif isinstance(made, pb.Depth):
        made.depth = number(chance)
    elif isinstance(made, pb.OnUpdate) and chance.random() < 0.5:
        made.mode = chance.randrange(2)
    elif isinstance(made, pb.Expressions):
        made.column_to_expr["e"] = expression(chance)
    return made
