"""The part of TDengine's SQL that the stand-in knows: text into tokens, tokens into statements.

A statement or expression is a small dataclass. SQL that TDengine refuses gets TDengine's error; what TDengine knows and
the stand-in doesn't gets the syntax error with a text that says so.
"""

import dataclasses
import math
import re

from .types import BY_NAME, NCHAR, PRECISIONS, VARBINARY, VARCHAR, Column, TDengineError

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)|(?P<open>/\*)
    |(?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)(?P<unit>[buasmhdwnyBUASMHDWNY](?![A-Za-z0-9_]))?
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |`(?P<quoted>[^`]*)`
    |(?P<text>'[^'\\]*(?:(?:''|\\.)[^'\\]*)*'|"[^"\\]*(?:(?:""|\\.)[^"\\]*)*")
    |(?P<sign><=|>=|<>|!=|[-+*/%=<>(),.;?])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
QUOTED = re.compile(r"""('[^'\\]*(?:(?:''|\\.)[^'\\]*)*'|"[^"\\]*(?:(?:""|\\.)[^"\\]*)*"|`[^`]*`)""", re.DOTALL)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
# Words of TDengine's grammar: names only in back-quotes.
RESERVED = frozenset(
    """
    all and as asc between bool by cast create database delete desc describe distinct drop exists false from
    group having if import in insert int integer into interval is join like limit nchar not null offset on or
    order partition select session set show sliding smallint stable table tags tinyint timestamp topic true
    union unsigned use using values varbinary varchar where now today tbname binary bigint float double using
    match nmatch fill state_window event_window count_window slimit soffset case when then else end interp
    alter grant revoke explain describe flush compact balance redistribute merge split trim kill
    show stream user dnode json decimal blob geometry
""".split()
)
KNOWN_TO_TDENGINE = RESERVED | frozenset(
    """
    nulls escape inner left right outer full semi anti asof window with watermark trigger fill_history jlimit
    range every function account view
""".split()
)
STATEMENTS_OF_TDENGINE = frozenset(
    """
    alter grant revoke explain flush compact balance redistribute merge split trim kill show create drop
    delete reset restore pause resume import with recover s3migrate assign
""".split()
)
FUNCTIONS_OF_TDENGINE = frozenset(
    """
    abs acos asin atan ceil cos degrees exp floor ln log mod pi pow radians rand round sign sin sqrt tan trunc
    truncate ascii char char_length concat concat_ws length ltrim lpad rpad trim position repeat replace rtrim
    substr substring substring_index upper lower cast to_iso8601 to_json to_unixtimestamp to_char to_timestamp
    timediff timetruncate timezone week weekday weekofyear dayofweek date now today apercentile avg count
    elapsed leastsquares spread stddev stddev_pop stddev_samp std var_pop var_samp variance sum hyperloglog
    histogram percentile bottom top first last last_row interp max min mode sample tail unique csum derivative
    diff irate mavg statecount stateduration twa cols database client_version server_version server_status
    current_user user greatest least ifnull nvl nvl2 nullif isnull isnotnull coalesce if crc32 md5 sha sha1
    sha2 to_base64 from_base64 st_geomfromtext st_astext block_dist
""".split()
)
LONGEST_SQL = 2**20  # characters
LONGEST_REST = 1000  # characters of the SQL that a message repeats
LONGEST_LIST = 4096  # columns of a SELECT, choices of an IN
FUNCTIONS_WITH_WORDS = frozenset({"trim", "substr", "substring", "position"})  # as in TRIM(LEADING FROM x)


# Statements and expressions


@dataclasses.dataclass
class Name:
    """A table, with the database if it was given; token is where it stands."""

    database: str | None
    table: str
    token: object = None


@dataclasses.dataclass
class CreateDatabase:
    name: str
    if_not_exists: bool
    precision: int
    keep_ms: int


@dataclasses.dataclass
class Drop:
    """what: database, table, stable or topic."""

    what: str
    name: Name
    if_exists: bool


@dataclasses.dataclass
class Use:
    name: str


@dataclasses.dataclass
class CreateTable:
    """tags is None for a plain table."""

    name: Name
    if_not_exists: bool
    columns: list
    tags: list | None


@dataclasses.dataclass
class CreateSubtable:
    name: Name
    if_not_exists: bool
    using: "Using"


@dataclasses.dataclass
class Using:
    """USING stable [(tags)] TAGS (values): values are Values."""

    stable: Name
    tags: list | None
    values: list


@dataclasses.dataclass
class Value:
    """A literal of an INSERT: kind int, float, text, bool, null, now, today or ?; shift: durations added to a time."""

    kind: str
    value: object
    token: object
    shift: tuple = ()


@dataclasses.dataclass
class Insert:
    """targets: [(name or None for `?`, using or None, column tokens or None, rows of Values)]"""

    targets: list


@dataclasses.dataclass
class Delete:
    name: Name
    where: object


@dataclasses.dataclass
class Describe:
    name: Name


@dataclasses.dataclass
class Show:
    """what: databases, tables, stables or topics."""

    what: str
    database: str | None


@dataclasses.dataclass
class CreateTopic:
    name: str
    if_not_exists: bool
    select: "Select"
    text: str


@dataclasses.dataclass
class Item:
    expression: object
    alias: str | None
    text: str


@dataclasses.dataclass
class Select:
    distinct: bool
    items: list
    source: Name | None
    alias: str | None
    where: object
    partition_by: list
    interval: object  # (Duration, offset Duration or None)
    group_by: list
    order_by: list  # (expression, descending, nulls first or None)
    limit: int | None
    offset: int


@dataclasses.dataclass
class ColumnRef:
    name: str
    table: str | None
    token: object


@dataclasses.dataclass
class Star:
    table: str | None
    token: object


@dataclasses.dataclass
class Literal:
    kind: str  # int, float, text, bool, null, ?
    value: object
    token: object


@dataclasses.dataclass
class Duration:
    count: int
    unit: str
    token: object


@dataclasses.dataclass
class Call:
    name: str
    arguments: list
    token: object


@dataclasses.dataclass
class Cast:
    expression: object
    column: Column  # its type and length
    token: object


@dataclasses.dataclass
class Operation:
    """operator: or and not, = < <= > >= <>, + - * / %, neg, like, not like, is null, is not null, in, not in, between,
    not between."""

    operator: str
    operands: list
    token: object


# Tokens


@dataclasses.dataclass(slots=True)
class Token:
    kind: str  # word, quoted, text, int, float, duration, sign, end, bad
    value: object  # words are lower-cased
    start: int
    end: int


def tokenize(sql):
    """The tokens of the first statement, an end token last. Behind a token that is none nothing is looked at."""
    tokens, at = [], 0
    while at < len(sql):
        match = TOKEN.match(sql, at)
        if match is None or match["open"] or not is_number_in_bounds(match["number"], match["unit"]):
            tokens.append(Token("bad", sql[at], at, at + 1))
            at = len(sql)
            break
        start, at = at, match.end()
        if match["space"] is not None:
            continue
        if match["number"] is not None:
            number = match["number"]
            if match["unit"]:
                token = Token("duration", (int(number), match["unit"].lower()), start, at)
            elif number.isdigit():
                token = Token("int", int(number), start, at)
            else:
                token = Token("float", float(number), start, at)
        elif match["word"] is not None:
            token = Token("word", match["word"].lower(), start, at)
        elif match["quoted"] is not None:
            token = Token("quoted", match["quoted"], start, at)
        elif match["text"] is not None:
            token = Token("text", unquote(match["text"]), start, at)
        else:
            if match["sign"] == ";":
                at = start
                break
            token = Token("sign", "<>" if match["sign"] == "!=" else match["sign"], start, at)
        tokens.append(token)
    tokens.append(Token("end", None, at, at))
    return tokens


def is_number_in_bounds(number, unit):
    """Whether it can be calculated with; a fraction has no unit (1.5s)."""
    if number is None:
        return True
    if number.isdigit():
        return len(number) <= (18 if unit else 300)
    return not unit and math.isfinite(float(number))


def unquote(text):
    quote = text[0]
    body = text[1:-1].replace(quote * 2, quote) if "\\" not in text else None
    if body is not None:
        return body
    pattern = re.compile(rf"\\(.)|{quote}{quote}", re.DOTALL)
    return pattern.sub(lambda m: replaced_escape(m[1]) if m[1] else quote, text[1:-1])


def replaced_escape(letter):
    """A backslash before % or _ stays, for LIKE; before other letters it goes."""
    return "\\" + letter if letter in "%_" else ESCAPES.get(letter, letter)


def lower_outside_quotes(text):
    """SQL text as TDengine repeats it, in names of result columns and in messages."""
    parts = QUOTED.split(text)
    return "".join(part if k % 2 else part.lower() for k, part in enumerate(parts))


class Parser:
    """One statement's tokens and where we are in them."""

    def __init__(self, sql):
        self.sql = sql.split("\0")[0]
        self.tokens = tokenize(self.sql)
        self.at = 0

    @property
    def token(self):
        return self.tokens[self.at]

    # Errors

    def rest(self, token):
        return lower_outside_quotes(self.sql[token.start : token.start + LONGEST_REST])

    def syntax_error(self, token=None):
        """TDengine's own error where TDengine refuses too; what TDengine knows and we don't is told as unsupported."""
        token = token or self.token
        if token.kind == "word" and token.value in KNOWN_TO_TDENGINE or token.value == "(" or token.kind == "bad":
            return self.unsupported(token)
        return self.refused(token)

    def refused(self, token):
        if token.kind == "end":
            return TDengineError(0x2601, "Incomplete SQL statement")
        return TDengineError(0x2600, f'syntax error near "{self.rest(token)}"')

    def unsupported(self, token=None):
        near = self.rest(token or self.token)
        return TDengineError(0x2600, f'syntax error near "{near}": not in the SQL of this stand-in for TDengine')

    def insert_error(self, token, reason):
        """Errors inside an INSERT look different. A text's rest is the text itself."""
        near = token.value if token.kind == "text" else self.rest(token)
        return TDengineError(0x0216, f"syntax error near '{near}' ({reason})")

    # Steps

    def next(self):
        token = self.token
        if token.kind != "end":
            self.at += 1
        return token

    def is_word(self, *words, ahead=0):
        token = self.tokens[min(self.at + ahead, len(self.tokens) - 1)]
        return token.kind == "word" and token.value in words

    def is_sign(self, sign, ahead=0):
        token = self.tokens[min(self.at + ahead, len(self.tokens) - 1)]
        return token.kind == "sign" and token.value == sign

    def accept(self, *words):
        """Takes these words if they come next, in this order."""
        if all(self.is_word(word, ahead=k) for k, word in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def accept_sign(self, sign):
        if self.is_sign(sign):
            self.at += 1
            return True
        return False

    def expect(self, *words):
        for word in words:
            if not self.accept(word):
                raise self.syntax_error()

    def expect_sign(self, sign):
        if not self.accept_sign(sign):
            raise self.syntax_error()

    def identifier(self):
        token = self.token
        if token.kind == "quoted" and token.value:
            return self.next().value
        if token.kind == "word" and token.value not in RESERVED:
            return self.next().value
        raise self.refused(token) if token.kind == "word" else self.syntax_error()

    def table_name(self):
        token = self.token
        first = self.identifier()
        if self.accept_sign("."):
            return Name(first, self.identifier(), token)
        return Name(None, first, token)

    def integer(self):
        if self.token.kind != "int":
            raise self.syntax_error()
        return self.next().value

    def end(self):
        if self.token.kind != "end":
            raise self.syntax_error()

    def listed(self, element, most=math.inf):
        """( element, element, ... )"""
        self.expect_sign("(")
        elements = [element()]
        while self.accept_sign(","):
            elements.append(element())
            if len(elements) > most:
                raise self.unsupported(self.tokens[0])
        self.expect_sign(")")
        return elements

    # Statements

    def statement(self):
        first = self.token
        if first.kind == "end":
            raise TDengineError(0x2601, "Incomplete SQL statement")
        if first.kind != "word":
            raise self.syntax_error()
        parse = {
            "select": self.select,
            "insert": self.insert,
            "import": self.insert,
            "create": self.create,
            "drop": self.drop,
            "use": self.use,
            "describe": self.describe,
            "desc": self.describe,
            "show": self.show,
            "delete": self.delete,
        }.get(first.value)
        if parse is None:
            raise (self.unsupported() if first.value in STATEMENTS_OF_TDENGINE else self.syntax_error())
        self.next()
        statement = parse()
        self.end()
        return statement

    def use(self):
        return Use(self.identifier())

    def describe(self):
        return Describe(self.table_name())

    def delete(self):
        self.expect("from")
        name = self.table_name()
        return Delete(name, self.condition() if self.accept("where") else None)

    def show(self):
        database = None
        if self.is_sign(".", ahead=1):
            database = self.identifier()
            self.expect_sign(".")
        if self.token.kind == "word" and self.token.value in ("databases", "tables", "stables", "topics"):
            what = self.next().value
            if database is not None and what not in ("tables", "stables"):
                raise self.syntax_error()
            return Show(what, database)
        raise self.syntax_error() if self.token.kind == "end" else self.unsupported()

    def drop(self):
        if self.token.kind == "word" and self.token.value in ("database", "table", "stable", "topic"):
            what = self.next().value
        else:
            raise self.syntax_error() if self.token.kind == "end" else self.unsupported()
        if_exists = self.accept("if", "exists")
        if what in ("database", "topic"):
            token = self.token
            return Drop(what, Name(None, self.identifier(), token), if_exists)
        name = self.table_name()
        if self.is_sign(","):
            raise self.unsupported()
        return Drop(what, name, if_exists)

    def create(self):
        if self.accept("database"):
            return self.create_database()
        if self.accept("topic"):
            return self.create_topic()
        if self.is_word("table", "stable"):
            is_stable = self.next().value == "stable"
            if_not_exists = self.accept("if", "not", "exists")
            name = self.table_name()
            if not is_stable and self.is_word("using"):
                using = self.using()
                if self.token.kind != "end":
                    raise self.unsupported()
                return CreateSubtable(name, if_not_exists, using)
            columns = self.listed(self.column_definition)
            tags = self.listed(self.column_definition) if self.accept("tags") else None
            if is_stable and tags is None:
                raise self.syntax_error()
            if self.token.kind != "end":
                raise self.unsupported()
            return CreateTable(name, if_not_exists, columns, tags)
        raise self.syntax_error() if self.token.kind == "end" else self.unsupported()

    def column_definition(self):
        name = self.identifier()
        column = self.data_type(name)
        if not (self.is_sign(",") or self.is_sign(")")):
            raise self.unsupported() if self.token.kind == "word" else self.syntax_error()
        return column

    def data_type(self, name):
        token = self.token
        if token.kind != "word":
            raise self.syntax_error()
        word = self.next().value.upper()
        if word in ("TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT") and self.accept("unsigned"):
            word += " UNSIGNED"
        if word not in BY_NAME:
            raise self.unsupported(token) if word.lower() in KNOWN_TO_TDENGINE else self.syntax_error(token)
        type, length = BY_NAME[word], 0
        if type in (VARCHAR, NCHAR, VARBINARY):
            if not self.is_sign("("):
                raise self.unsupported(token)  # TDengine knows a default length
            self.expect_sign("(")
            length = self.integer()
            self.expect_sign(")")
            if not 1 <= length <= (16379 if type is NCHAR else 65517):
                raise TDengineError(0x2642, "Invalid varbinary/binary/nchar column/tag length")
        return Column(name, type, length)

    def create_database(self):
        if_not_exists = self.accept("if", "not", "exists")
        name = self.identifier()
        precision, keep_ms = 0, 3650 * 86_400_000
        while self.token.kind != "end":
            option = self.next()
            if option.kind != "word":
                raise self.syntax_error(option)
            if option.value == "precision":
                if self.token.kind != "text":
                    raise self.syntax_error()
                text = self.next().value.lower()
                if text not in PRECISIONS:
                    raise TDengineError(0x2619, f"Invalid option precision: {text}")
                precision = PRECISIONS[text]
            elif option.value == "keep":
                keep_ms = self.span_in_days(("m", "h", "d"))
                while self.accept_sign(","):
                    keep_ms = self.span_in_days(("m", "h", "d"))
            elif option.value == "duration":
                self.span_in_days(("m", "h", "d"))
            elif option.value in ("buffer", "vgroups", "replica", "wal_retention_period", "wal_level", "pages"):
                self.integer()  # nothing here depends on it
            else:
                raise self.unsupported(option)
        return CreateDatabase(name, if_not_exists, precision, keep_ms)

    def span_in_days(self, units):
        """Milliseconds of a number of days, or of a duration."""
        if self.token.kind == "int":
            return self.next().value * 86_400_000
        if self.token.kind == "duration" and self.token.value[1] in units:
            count, unit = self.next().value
            return count * {"m": 60_000, "h": 3_600_000, "d": 86_400_000}[unit]
        raise self.syntax_error()

    def create_topic(self):
        if_not_exists = self.accept("if", "not", "exists")
        name = self.identifier()
        self.expect("as")
        start = self.token.start
        if self.is_word("stable", "database"):
            raise self.unsupported()
        self.expect("select")
        select = self.select()
        return CreateTopic(name, if_not_exists, select, self.sql[start : self.token.start].strip())

    # INSERT

    def insert(self):
        if not self.accept("into"):
            raise self.insert_error(self.token, "keyword INTO is expected")
        targets = []
        while not targets or self.token.kind != "end":
            targets.append(self.insert_target())
        return Insert(targets)

    def insert_target(self):
        name = None
        if self.token.kind == "end":
            raise self.insert_error(self.token, "table name is expected")
        if not self.accept_sign("?"):
            if self.token.kind not in ("word", "quoted"):
                raise self.insert_error(self.token, "table name is expected")
            name = self.table_name()
        using = columns = None
        if self.is_word("using"):
            using = self.using()
        if self.is_sign("("):
            columns = self.listed(self.column_token)
            if self.is_word("using"):
                raise self.unsupported()
        after_name = self.tokens[self.at - 1].end
        if not self.accept("values"):
            if self.is_word("file", "select"):
                raise self.unsupported()
            reason = "keyword VALUES or FILE is expected"
            raise self.insert_error(self.token, reason)
        rows = []
        while self.is_sign("("):
            self.next()
            rows.append(self.row())
            self.accept_sign(",")
        if not rows:
            raise (
                self.insert_error(self.token, "no any data points")
                if self.token.kind != "end"
                else TDengineError(0x0216, "syntax error near '' (no any data points)")
            )
        return name, using, columns, rows, after_name

    def using(self):
        self.expect("using")
        stable = self.table_name()
        tags = self.listed(self.column_token) if self.is_sign("(") else None
        if not self.accept("tags"):
            raise self.insert_error(self.token, "TAGS is expected")
        if not self.accept_sign("("):
            raise self.insert_error(self.token, "( is expected")
        return Using(stable, tags, self.row())

    def column_token(self):
        token = self.token
        if token.kind not in ("word", "quoted"):
            raise self.insert_error(token, "column name expected")
        return self.next()

    def row(self):
        """The values up to the closing parenthesis, each with the token that ends it for TDengine's messages."""
        values = [self.value()]
        while self.accept_sign(","):
            values.append(self.value())
        values.append(self.token)
        if not self.accept_sign(")"):
            raise self.insert_error(self.token, ") expected")
        return values

    def value(self):
        token = self.next()
        negative = False
        if token.kind == "sign" and token.value in "+-" and self.token.kind in ("int", "float"):
            negative, number = token.value == "-", self.next()
            value = -number.value if negative else number.value
            return Value(number.kind, value, Token(number.kind, value, token.start, number.end))
        if token.kind in ("int", "float", "text"):
            value = Value(token.kind, token.value, token)
        elif token.kind == "word" and token.value in ("true", "false"):
            return Value("bool", token.value == "true", token)
        elif token.kind == "word" and token.value == "null":
            return Value("null", None, token)
        elif token.kind == "word" and token.value in ("now", "today"):
            if self.accept_sign("("):
                self.expect_sign(")")
            value = Value(token.value, None, token)
        elif token.kind == "sign" and token.value == "?":
            return Value("?", None, token)
        else:
            raise self.insert_error(token, "invalid data or symbol")
        shift = []
        while self.token.kind == "sign" and self.token.value in "+-":
            sign = -1 if self.next().value == "-" else 1
            if self.token.kind != "duration":
                raise self.insert_error(token, "invalid timestamp")
            count, unit = self.next().value
            shift.append((sign * count, unit))
        value.shift = tuple(shift)
        return value

    # SELECT

    def select(self):
        distinct = self.accept("distinct")
        if self.is_word("all"):
            raise self.unsupported()
        items = [self.item()]
        while self.accept_sign(","):
            items.append(self.item())
            if len(items) > LONGEST_LIST:
                raise self.unsupported(self.tokens[0])
        select = Select(distinct, items, None, None, None, [], None, [], [], None, 0)
        if self.accept("from"):
            if self.is_sign("("):
                raise self.unsupported()
            select.source = self.table_name()
            if self.accept("as"):
                select.alias = self.identifier()
            elif self.token.kind == "quoted" or self.token.kind == "word" and self.token.value not in RESERVED:
                if self.token.value in KNOWN_TO_TDENGINE:
                    raise self.unsupported()
                select.alias = self.identifier()
            if self.is_sign(","):
                raise self.unsupported()
            if self.accept("where"):
                select.where = self.condition()
            if self.accept("partition", "by"):
                select.partition_by = self.expressions()
            if self.accept("interval"):
                select.interval = self.window()
            if self.accept("group", "by"):
                select.group_by = self.expressions()
        if self.accept("order", "by"):
            select.order_by = [self.order_item()]
            while self.accept_sign(","):
                select.order_by.append(self.order_item())
        if self.accept("limit"):
            select.limit = self.integer()
            if self.accept("offset"):
                select.offset = self.integer()
            elif self.accept_sign(","):
                select.offset, select.limit = select.limit, self.integer()
        return select

    def item(self):
        start = self.token.start
        if self.is_word("from") or self.token.kind == "end":
            raise self.syntax_error()
        expression = self.condition()
        text = self.sql[start : self.tokens[self.at - 1].end]
        alias = None
        if (
            self.accept("as")
            or self.token.kind == "quoted"
            or self.token.kind == "word"
            and self.token.value not in RESERVED
        ):
            alias = self.identifier()
        return Item(expression, alias and alias[:64], text)

    def window(self):
        self.expect_sign("(")
        spans = [self.duration()]
        if self.accept_sign(","):
            spans.append(self.duration())
        self.expect_sign(")")
        return spans[0], spans[1] if len(spans) > 1 else None

    def duration(self):
        if self.token.kind != "duration":
            raise self.syntax_error()
        token = self.next()
        return Duration(*token.value, token)

    def expressions(self):
        expressions = [self.condition()]
        while self.accept_sign(","):
            expressions.append(self.condition())
        return expressions

    def order_item(self):
        expression = self.condition()
        descending = False
        if self.accept("desc"):
            descending = True
        else:
            self.accept("asc")
        nulls_first = None
        if self.accept("nulls"):
            if not self.is_word("first", "last"):
                raise self.syntax_error()
            nulls_first = self.next().value == "first"
        return expression, descending, nulls_first

    # Expressions, by falling precedence from the end

    def condition(self):
        left = self.conjunction()
        while self.is_word("or"):
            token = self.next()
            left = Operation("or", [left, self.conjunction()], token)
        return left

    def conjunction(self):
        left = self.negation()
        while self.is_word("and"):
            token = self.next()
            left = Operation("and", [left, self.negation()], token)
        return left

    def negation(self):
        if self.is_word("not"):
            token = self.next()
            return Operation("not", [self.negation()], token)
        return self.comparison()

    def comparison(self):
        left = self.sum()
        token = self.token
        if token.kind == "sign" and token.value in ("=", "<>", "<", "<=", ">", ">="):
            self.next()
            return Operation(token.value, [left, self.sum()], token)
        if self.accept("is"):
            negated = self.accept("not")
            self.expect("null")
            return Operation("is not null" if negated else "is null", [left], token)
        negated = self.is_word("not") and self.is_word("in", "like", "between", ahead=1)
        if negated:
            self.next()
        prefix = "not " if negated else ""
        if self.accept("in"):
            return Operation(prefix + "in", [left, *self.listed(self.sum, LONGEST_LIST)], token)
        if self.accept("like"):
            return Operation(prefix + "like", [left, self.sum()], token)
        if self.accept("between"):
            low = self.sum()
            self.expect("and")
            return Operation(prefix + "between", [left, low, self.sum()], token)
        return left

    def sum(self):
        left = self.product()
        while self.token.kind == "sign" and self.token.value in "+-":
            token = self.next()
            left = Operation(token.value, [left, self.product()], token)
        return left

    def product(self):
        left = self.unary()
        while self.token.kind == "sign" and self.token.value in "*/%":
            token = self.next()
            left = Operation(token.value, [left, self.unary()], token)
        return left

    def unary(self):
        if self.token.kind == "sign" and self.token.value in "+-":
            token = self.next()
            operand = self.unary()
            if isinstance(operand, Literal) and operand.kind in ("int", "float"):
                return Literal(operand.kind, -operand.value if token.value == "-" else operand.value, token)
            return operand if token.value == "+" else Operation("neg", [operand], token)
        return self.primary()

    def primary(self):
        token = self.next()
        if token.kind in ("int", "float", "text"):
            return Literal(token.kind, token.value, token)
        if token.kind == "duration":
            return Duration(*token.value, token)
        if token.kind == "sign" and token.value == "(":
            if self.is_word("select"):
                raise self.unsupported()
            inner = self.condition()
            self.expect_sign(")")
            return inner
        if token.kind == "sign" and token.value == "*":
            return Star(None, token)
        if token.kind == "sign" and token.value == "?":
            return Literal("?", None, token)
        if token.kind == "word" and token.value in ("true", "false"):
            return Literal("bool", token.value == "true", token)
        if token.kind == "word" and token.value == "null":
            return Literal("null", None, token)
        if token.kind == "word" and token.value == "cast":
            return self.cast(token)
        if token.kind == "word" and token.value in ("now", "today"):
            if self.accept_sign("("):
                self.expect_sign(")")
            elif token.value == "today":
                raise self.syntax_error()
            return Call(token.value, [], token)
        if token.kind == "word" and token.value == "tbname":
            return ColumnRef("tbname", None, token)
        is_name = token.kind == "word" and (
            token.value not in RESERVED or token.value == "database" and self.is_sign("(")
        )
        if token.kind == "quoted" or is_name:
            return self.name_or_call(token)
        raise self.syntax_error(token)

    def name_or_call(self, token):
        if token.kind == "word" and self.accept_sign("("):
            arguments = []
            if not self.is_sign(")"):
                arguments = self.expressions()
            if not self.accept_sign(")"):
                raise self.syntax_error() if token.value in FUNCTIONS_WITH_WORDS else self.refused(self.token)
            return Call(token.value, arguments, token)
        if self.accept_sign("."):
            if self.is_sign("*"):
                return Star(token.value, self.next())
            if self.accept("tbname"):
                return ColumnRef("tbname", token.value, token)
            return ColumnRef(self.identifier(), token.value, token)
        return ColumnRef(token.value, None, token)

    def cast(self, token):
        self.expect_sign("(")
        expression = self.condition()
        self.expect("as")
        column = self.data_type("")
        self.expect_sign(")")
        return Cast(expression, column, token)


def parse(sql):
    """The statement of an SQL text; TDengineError when it is not one of ours."""
    if len(sql) > LONGEST_SQL:
        raise TDengineError(0x0217, f"SQL statement too long: {LONGEST_SQL} characters at most (stand-in for TDengine)")
    parser = Parser(sql)
    try:
        return parser.statement(), parser
    except RecursionError:
        raise parser.unsupported(parser.tokens[0]) from None
