"""The functions of expressions: the kinds of arguments that the engine survives, and what is known of their results."""

import dataclasses
import re

TEXT_COST = 10  # of a step with texts, others cost 1
LONGEST_STRING = 32  # characters of a number or time as a text

# Arguments as a regular expression over their kinds (n number, b boolean, t text, l text written out, d datetime,
# c date), and the kind of the result, * being that of the first argument.
FUNCTIONS = {
    **dict.fromkeys(
        """abs acos acosh asin asinh atan atanh ceil cos cosh cot csc deg2grad deg2rad erf erfc exp expm1 floor frac
        grad2deg log log10 log1p log2 ncdf rad2deg round sec sgn sin sinc sinh sqrt tan tanh trunc""".split(),
        ("n", "n"),
    ),
    **dict.fromkeys(["atan2", "hypot", "logn", "percent_of", "pow", "root", "roundn"], ("nn", "n")),
    **dict.fromkeys(["avg", "max", "min", "mul", "sum"], ("n+", "n")),
    **dict.fromkeys(["clamp", "iclamp"], ("nnn", "n")),
    **dict.fromkeys(["integer", "float"], ("[nbtldc]", "n")),
    **dict.fromkeys(["is_null", "is_not_null", "boolean"], ("[nbtldc]", "b")),
    **dict.fromkeys(["upper", "lower"], ("[tl]", "t")),
    **dict.fromkeys(["match", "match_all", "contains"], ("[tl]l", "b")),
    **dict.fromkeys(["replace", "replace_all"], ("[tl]l[tl]", "t")),
    **dict.fromkeys(["day_of_week", "month_of_year"], ("[dc]", "t")),
    "bucket": ("nn|[dc]l", "*"),
    "coalesce": ("n+|[tl]+|b+|d+|c+", "*"),
    "concat": ("[tl]+", "t"),
    "date": ("nnn", "c"),
    "datetime": ("n", "d"),
    "hour_of_day": ("[dc]", "n"),
    "inrange": ("nnn|ddd|ccc", "b"),
    "length": ("[tl]", "n"),
    "not": ("[nb]", "b"),
    "now": ("", "d"),
    "order": ("[tl]l+", "n"),
    "random": ("", "n"),
    "search": ("[tl]l", "t"),
    "string": ("[nbtldc]", "t"),
    "substring": ("[tl]nn?", "t"),
    "today": ("", "c"),
}
BUCKET = re.compile(r"1?[smhDWMY]|(?:5|10|15|20|30)[sm]|(?:2|3|4|6|12)h|[2346]M|\d{1,3}Y")
KINDS = {"n": "number", "b": "boolean", "t": "text", "l": "text", "d": "datetime", "c": "date"}


@dataclasses.dataclass(slots=True)
class Value:
    """What is known of a value before there is a row."""

    kind: str  # a letter as above; m when it is now this, now that
    size: int = 0  # characters of a text, at most
    literal: str = ""  # a text that is written out
    sure: bool = False  # a number that the engine gives its type; to others, as those of hypot() or 1/0, it gives any


def call(name, arguments):
    """(Value, cost, characters of new texts) of a call; ValueError when it can't be made."""
    kinds, result = FUNCTIONS[name]
    given = "".join(each.kind for each in arguments)
    if not re.fullmatch(kinds, given):
        words = ", ".join(KINDS.get(each.kind, "several kinds") for each in arguments) or "nothing"
        raise ValueError(f"{name}() can't be used with {words}")
    if name == "bucket" and given != "nn" and not BUCKET.fullmatch(arguments[1].literal):
        raise ValueError("bucket() of a time needs s, m, h, D, W, M or Y, with a number that divides, as '5m'")
    if name == "bucket" and given == "nn" and not arguments[0].sure:
        raise ValueError("bucket() of a calculated number needs float() around that, as bucket(float(1 / 3), 5)")
    kind = given[0].replace("l", "t") if result == "*" else result
    size = length(name, arguments) if kind == "t" else 0
    value = Value(kind, size, sure=name in ("integer", "float", "bucket"))
    return value, TEXT_COST if kind == "t" or "t" in given else 1, size


def length(name, arguments):
    """The most characters that the text which a function makes can have."""
    sizes = [each.size for each in arguments]
    if name == "concat":
        return sum(sizes)
    if name in ("replace", "replace_all"):
        text, _, replacement = sizes
        again = arguments[2].literal.count("\\") * text  # \\1 is a part of the text once more
        places = text + 1 if name == "replace_all" else 1
        return text + again + places * replacement
    return max(sizes, default=0) or LONGEST_STRING
