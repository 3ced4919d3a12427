"""Cuts an expression (ExprTK's language) into tokens, and finds the quotes that the engine would get wrong."""

import re

TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>//[^\n]*|\#[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^'\\]|\\.)*')
    |(?P<column>"(?:[^"\\]|\\.)*")
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<symbol>:=|\+=|-=|\*=|/=|%=|<=|>=|<>|!=|==|[-+*/%^=<>(){},;:?&|])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# How the engine finds columns and texts, before it parses: it looks neither at comments nor at each other.
ENGINE_CUTS = {"column": re.compile(r'"(.*?[^\\])"'), "text": re.compile(r"'.*?[^\\]'")}


class Error(Exception):
    """Why an expression is refused, for the user who wrote it, with the line and column where."""

    def __init__(self, message, text="", at=0):
        super().__init__(message)
        self.line = text.count("\n", 0, at)
        self.column = at - (text.rfind("\n", 0, at) + 1)


def tokenize(text):
    """[(what, token, where it begins)] without space and comments; `what` is a name of the groups above."""
    at, tokens, comments = 0, [], []
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            missing = {"'": "the text that begins here has no end", '"': "the column name that begins here has no end"}
            raise Error(missing.get(text[at], f"unexpected {text[at]}"), text, at)
        if found.lastgroup == "comment":
            comments.append(found.span())
        elif found.lastgroup != "space":
            tokens.append((found.lastgroup, found[0], at))
        at = found.end()
    check_cuts(text, tokens, comments)
    return tokens


def check_cuts(text, tokens, comments):
    """Refuses what the engine would cut elsewhere than we do; within a comment, it may cut as it likes."""
    rest = text
    for kind, pattern in ENGINE_CUTS.items():
        ours = {(at, at + len(token)) for what, token, at in tokens if what == kind and len(token) > 2}
        theirs = {found.span() for found in pattern.finditer(rest)}
        for begin, end in sorted(ours ^ theirs):
            if not any(first <= begin and end <= last for first, last in comments):
                raise Error("Perspective doesn't understand this quote", text, begin)
        rest = pattern.sub(lambda found: "_" * len(found[0]), rest)
