"""TDengine's SQL as tokens, and a parser's steps through them. The statements are in the other modules."""

import pathlib
import re
import typing

from .errors import STAND_IN, SYNTAX, TDengineError, refuse

TOKEN = re.compile(
    r"""(?:\s+|--[^\n]*|/\*.*?\*/)*+(?:
     (?P<duration>\d{1,18}[buasmhdw])(?!\w)
    |(?P<float>(?:\d+\.\d*|\.\d+)(?:e[+-]?\d+)?|\d+e[+-]?\d+)(?!\w)
    |(?P<int>\d{1,80})(?!\w)
    |(?P<bool>(?:true|false)(?!\w))
    |(?P<word>[a-z_]\w*)
    |`(?P<quoted>[^`]+)`
    |(?P<text>'(?:[^'\\]+|''|\\.)*+'|"(?:[^"\\]+|""|\\.)*+")
    |(?P<sign><=|>=|<>|!=|[-+*=<>(),.?])
    |(?P<end>;|\Z)
    |(?P<bad>.))""",
    re.VERBOSE | re.DOTALL | re.ASCII | re.IGNORECASE,
)
# What most INSERTs hold by the thousand, and what takes ten times as long token by token
LITERAL = r"-?\d{1,80}(?:\.\d+)?(?:e[+-]?\d+)?|'[^'\\]*+'|null|true|false"
FLAGS = re.ASCII | re.IGNORECASE
ROW = r"\(\s*+{}\s*+\)\s*+,?+\s*+"
SEVERAL = rf"(?:{LITERAL})(?:\s*+,\s*+(?:{LITERAL}))*+"
ROWS = re.compile(rf"\s*+(?P<rows>(?:{ROW.format(SEVERAL)})++)", FLAGS)
QUOTED = re.compile(r"""('(?:[^'\\]+|''|\\.)*+'|"(?:[^"\\]+|""|\\.)*+"|`[^`]*`)""", re.DOTALL)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "%": "\\%", "_": "\\_", "x": "\\x"}
NANOSECONDS = {"b": 1, "u": 10**3, "a": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
NANOSECONDS["w"] = 7 * NANOSECONDS["d"]
# Names only in back-quotes: the reserved words of TDengine 3.3.6 that its grammar does not take as names as well.
RESERVED = frozenset(pathlib.Path(__file__).with_name("reserved_words.txt").read_text().split())
LONGEST_SQL = 2**20  # characters
MOST_LISTED = 4096  # elements of a list


class Token(typing.NamedTuple):
    kind: str  # one of TOKEN's groups
    value: str  # words are lower-cased, texts without their quotes
    start: int
    end: int


def tokenize(sql):
    """The tokens of the first statement; the last is an end or a bad token. Rows of literals behind VALUES are one."""
    at, kind, value = 0, "", ""
    while kind not in ("end", "bad"):
        match = ROWS.match(sql, at) if (kind, value) == ("word", "values") else None
        match = match or TOKEN.match(sql, at)
        kind, at = match.lastgroup, match.end()
        value, span = match[kind], match.span(kind)
        if kind == "word":
            value = value.lower()
        elif kind == "text":
            value = unquote(value)
        elif kind == "quoted" and not value.isprintable():  # no UTF-8, or a control character
            kind = "bad"
        yield Token(kind, value, *span)


def plain_rows(text, n):
    """The texts of n literals of each row of a token; None for a row that has not as many."""
    row = re.compile(ROW.format(r"\s*+,\s*+".join([f"({LITERAL})"] * n)), FLAGS)
    at = 0
    while at < len(text):
        match = row.match(text, at)
        yield match and match.groups()
        at = match.end()


def unquote(text):
    quote, text = text[0], text[1:-1]
    pattern = rf"\\(.)|{quote}{quote}"
    return re.sub(pattern, lambda m: ESCAPES.get(m[1], m[1]) if m[1] else quote, text, flags=re.DOTALL)


def lower_outside_quotes(text):
    """SQL text as TDengine repeats it, in names of result columns and in messages."""
    return "".join(part if k % 2 else part.lower() for k, part in enumerate(QUOTED.split(text)))


def nanoseconds(duration):
    return int(duration[:-1]) * NANOSECONDS[duration[-1].lower()]


class Parser:
    """One statement's tokens and where we are in them."""

    def __init__(self, sql):
        refuse(len(sql) > LONGEST_SQL, 0x0217, f"SQL statement too long: {LONGEST_SQL} characters at most ({STAND_IN})")
        self.sql, self.tokens, self.at = sql, list(tokenize(sql)), 0
        self.codes = {}  # of errors: those to replace by others, or by None where it is no error, as after IF EXISTS

    @property
    def token(self):
        return self.tokens[self.at]

    def refuse(self, when=True, token=None):
        """The error for what TDengine or this stand-in does not know, at this token, if that holds."""
        if when:
            token = token or self.token
            refuse(token.kind == "end", 0x2601, "Incomplete SQL statement")
            near = lower_outside_quotes(self.sql[token.start : token.start + 200])
            raise TDengineError(SYNTAX, f'syntax error near "{near}": not in the SQL of this stand-in for TDengine')

    def next(self):
        token = self.token
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def is_next(self, *values):
        """Whether the next tokens are these words or signs."""
        for at, value in enumerate(values, self.at):
            if self.tokens[at].value != value or self.tokens[at].kind not in ("word", "sign"):
                return False  # at the last token at the latest
        return True

    def accept(self, *values):
        """Skips these words or signs if they come next, in this order."""
        found = self.is_next(*values)
        self.at += len(values) * found
        return found

    def expect(self, *values):
        self.refuse(not self.accept(*values))

    def expect_kind(self, kind):
        self.refuse(self.token.kind != kind)
        return self.next().value

    def one_of(self, *words):
        """The next word or sign, which must be one of these."""
        self.refuse(self.token.kind not in ("word", "sign") or self.token.value not in words)
        return self.next().value

    def name(self):
        self.refuse(self.token.kind != "quoted" and (self.token.kind != "word" or self.token.value in RESERVED))
        return self.next().value

    def table_name(self):
        """(database or None, table)"""
        first = self.name()
        return (first, self.name()) if self.accept(".") else (None, first)

    def several(self, element):
        """element, element, ..."""
        elements = [element()]
        while self.accept(","):
            self.refuse(len(elements) == MOST_LISTED, self.tokens[0])
            elements.append(element())
        return elements

    def listed(self, element):
        """( element, element, ... )"""
        self.expect("(")
        elements = self.several(element)
        self.expect(")")
        return elements

    def time(self, now):
        """NOW, NOW() or TODAY() plus or minus durations, if it comes next: nanoseconds since 1970, else None."""
        if not (self.is_next("now") or self.is_next("today")):
            return None
        moment = now if self.next().value == "now" else now - now % NANOSECONDS["d"]
        self.accept("(", ")")
        while self.is_next("+") or self.is_next("-"):
            sign = 1 if self.next().value == "+" else -1
            moment += sign * nanoseconds(self.expect_kind("duration"))
        refuse(abs(moment) >= 2**63, 0x060B, "Timestamp data out of range")
        return moment
