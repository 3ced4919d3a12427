"""TDengine's SQL as tokens, and a parser's steps through them. The statements are in the other modules."""

import pathlib
import re
import typing

from .errors import STAND_IN, TDengineError

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<duration>\d{1,18}[buasmhdwBUASMHDW])(?![A-Za-z0-9_])
    |(?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)(?![A-Za-z0-9_])
    |(?P<int>\d{1,80})(?![A-Za-z0-9_])
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |`(?P<quoted>[^`]+)`
    |(?P<text>'[^'\\]*(?:(?:''|\\.)[^'\\]*)*'|"[^"\\]*(?:(?:""|\\.)[^"\\]*)*")
    |(?P<sign><=|>=|<>|!=|[-+*=<>(),.;?])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
QUOTED = re.compile(r"""('[^'\\]*(?:(?:''|\\.)[^'\\]*)*'|"[^"\\]*(?:(?:""|\\.)[^"\\]*)*"|`[^`]*`)""", re.DOTALL)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "%": "\\%", "_": "\\_", "x": "\\x"}
NANOSECONDS = {"b": 1, "u": 10**3, "a": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
NANOSECONDS["w"] = 7 * NANOSECONDS["d"]
# Names only in back-quotes: the reserved words of TDengine 3.3.6 that its grammar does not take as names as well.
RESERVED = frozenset(pathlib.Path(__file__).with_name("reserved_words.txt").read_text().split())
LONGEST_SQL = 2**20  # characters


class Token(typing.NamedTuple):
    kind: str  # one of TOKEN's groups, or end, bad
    value: object  # words are lower-cased; a duration is in nanoseconds
    start: int
    end: int


def tokenize(sql):
    """The tokens of the first statement, an end token last. What is no token is a bad one, before the end."""
    at = 0
    while at < len(sql):
        match = TOKEN.match(sql, at)
        kind = match.lastgroup if match else "bad"
        text, start, at = match[kind] if match else "", at, match.end() if match else len(sql)
        if text == ";" and kind == "sign":
            at = start
            break
        if kind == "word":
            text = text.lower()
        elif kind == "text":
            text = unquote(text)
        elif kind == "int":
            text = int(text)
        elif kind == "duration":
            text = int(text[:-1]) * NANOSECONDS[text[-1].lower()]
        elif kind == "quoted" and not text.isprintable():  # no UTF-8, or a control character
            kind = "bad"
        if kind != "space":
            yield Token(kind, text, start, at)
    yield Token("end", None, at, at)


def unquote(text):
    quote, text = text[0], text[1:-1]
    if "\\" not in text:
        return text.replace(quote * 2, quote)
    pattern = re.compile(rf"\\(.)|{quote}{quote}", re.DOTALL)
    return pattern.sub(lambda m: ESCAPES.get(m[1], m[1]) if m[1] else quote, text)


def lower_outside_quotes(text):
    """SQL text as TDengine repeats it, in names of result columns and in messages."""
    return "".join(part if k % 2 else part.lower() for k, part in enumerate(QUOTED.split(text)))


class Parser:
    """One statement's tokens and where we are in them."""

    def __init__(self, sql):
        """TDengineError when there is no statement."""
        if len(sql) > LONGEST_SQL:
            raise TDengineError(0x0217, f"SQL statement too long: {LONGEST_SQL} characters at most ({STAND_IN})")
        self.sql = sql.split("\0")[0]
        self.tokens, self.at = list(tokenize(self.sql)), 0
        if self.token.kind == "end":
            raise self.refused()

    @property
    def token(self):
        return self.tokens[self.at]

    def refused(self, token=None):
        """The error for what TDengine or this stand-in does not know, at this token."""
        token = token or self.token
        if token.kind == "end":
            return TDengineError(0x2601, "Incomplete SQL statement")
        near = lower_outside_quotes(self.sql[token.start : token.start + 200])
        return TDengineError(0x2600, f'syntax error near "{near}": not in the SQL of this stand-in for TDengine')

    def next(self):
        token = self.token
        self.at += token.kind != "end"
        return token

    def is_next(self, *values):
        """Whether the next tokens are these words or signs."""
        for at, value in enumerate(values, self.at):
            if self.tokens[at].value != value or self.tokens[at].kind not in ("word", "sign"):
                return False  # at the end token at the latest
        return True

    def accept(self, *values):
        """Skips these words or signs if they come next, in this order."""
        found = self.is_next(*values)
        self.at += len(values) * found
        return found

    def expect(self, *values):
        if not self.accept(*values):
            raise self.refused()

    def expect_kind(self, kind):
        if self.token.kind != kind:
            raise self.refused()
        return self.next().value

    def one_of(self, *words):
        """The next word, which must be one of these."""
        if self.token.kind != "word" or self.token.value not in words:
            raise self.refused()
        return self.next().value

    def name(self):
        token = self.token
        if token.kind != "quoted" and (token.kind != "word" or token.value in RESERVED):
            raise self.refused()
        return self.next().value

    def table_name(self):
        """(database or None, table)"""
        first = self.name()
        return (first, self.name()) if self.accept(".") else (None, first)

    def listed(self, element):
        """( element, element, ... )"""
        self.expect("(")
        elements = [element()]
        while self.accept(","):
            elements.append(element())
        self.expect(")")
        return elements

    def time(self, now):
        """NOW, NOW() or TODAY() plus or minus durations, if it comes next: nanoseconds since 1970, else None."""
        if not (self.is_next("now") or self.is_next("today")):
            return None
        moment = now if self.next().value == "now" else now - now % NANOSECONDS["d"]
        if self.accept("("):
            self.expect(")")
        while self.is_next("+") or self.is_next("-"):
            sign = 1 if self.next().value == "+" else -1
            moment += sign * self.expect_kind("duration")
        if abs(moment) >= 2**63:
            raise TDengineError(0x060B, "Timestamp data out of range")
        return moment

    def end(self):
        if self.token.kind != "end":
            raise self.refused()
