"""Which expressions (computed columns) the engine may be given: known functions, with arguments of the right kinds.

    kind = check("bucket(\"timestamp\", '1s')", {"timestamp": "datetime"})      Error when it is refused

Some crash the engine, as bucket() of a text does; loops, arrays and texts that grow could stop it for everyone. A value
is a number, boolean, text, datetime or date. The language is ExprTK's, with Perspective's functions.
"""

from .expression_functions import FUNCTIONS, KINDS, Value, call
from .expression_tokens import Error, tokenize

MAX_LENGTH = 4096  # characters of an expression
MAX_LITERAL = 256  # characters of a text in it
MAX_MADE = 4096  # characters of all texts that it makes of one row: the engine keeps each for good
COLUMN_TEXT = 64  # characters that a column's text counts
MAX_COST = 400  # of all steps for one row
MAX_DEPTH = 40  # of brackets

CONSTANTS = {"true": "b", "false": "b", "pi": "n", "epsilon": "n", "inf": "n"}
OTHER_WORDS = """var if else switch case default and nand or nor xor xnor mod null in like ilike while for repeat until
    break continue return swap""".split()
RESERVED = {*FUNCTIONS, *CONSTANTS, *OTHER_WORDS}
LETTERS = {"number": "n", "boolean": "b", "text": "t", "datetime": "d", "date": "c"}
BINARY = [  # from loose to tight, with the kinds that they take and make
    ({"or", "nor", "xor", "xnor", "|"}, "nb", "b"),
    ({"and", "nand", "&"}, "nb", "b"),
    ({"==", "=", "!=", "<>", "<", "<=", ">", ">="}, "nbtdc", "b"),
    ({"+", "-"}, "n", "n"),
    ({"*", "/", "%", "mod"}, "n", "n"),
    ({"^"}, "n", "n"),
]
ASSIGNMENTS = {":=", "+=", "-=", "*=", "/=", "%="}


def check(text, columns):
    """The kind of an expression's values; `columns` are the kinds of those that it may use, by name."""
    if len(text) > MAX_LENGTH:
        raise Error(f"this has more than {MAX_LENGTH} characters")
    value = Parser(text, columns).parse()
    if value.kind == "m":
        raise Error("its values are of different kinds: number, text, ...")
    return KINDS[value.kind]


class Parser:
    """Goes through an expression as the engine would, with what is known of its values."""

    def __init__(self, text, columns):
        self.text, self.columns, self.variables = text, columns, {}
        self.tokens, self.at = [*tokenize(text), ("end", "", len(text))], 0
        self.cost = self.made = self.depth = 0

    def parse(self):
        value = self.statements()
        if self.tokens[self.at][0] != "end":
            self.fail("this is not expected here")
        return value

    def peek(self, symbols):
        what, token, _ = self.tokens[self.at]
        return what in ("symbol", "name") and token.lower() in symbols

    def skip(self, *symbols):
        """Whether the next token is one of these; then it is passed."""
        found = self.peek(symbols)
        self.at += found
        return found

    def expect(self, symbol):
        if not self.skip(symbol):
            self.fail(f"{symbol} is expected here")

    def fail(self, message, back=0):
        raise Error(message, self.text, self.tokens[self.at - back][2])

    def step(self, cost=1, made=0):
        self.cost, self.made = self.cost + cost, self.made + made
        if self.cost > MAX_COST:
            self.fail("this takes too long for each row")
        if self.made > MAX_MADE:
            self.fail("this makes texts that are too long")

    def statements(self):
        value = None
        while True:
            while self.skip(";"):
                pass
            if self.peek("}") or self.tokens[self.at][0] == "end":
                break
            value = self.statement()
            if not self.peek(";}") and self.tokens[self.at][0] != "end" and self.tokens[self.at - 1][1] != "}":
                self.fail("this is not expected here")
        if value is None:
            self.fail("there is nothing to calculate")
        return value

    def statement(self):
        if not self.skip("var"):
            return self.expression()
        what, token, _ = self.tokens[self.at]
        name = token.lower()
        if what != "name" or name in RESERVED or name in self.variables or name.startswith("column"):
            self.fail("this can't be the name of a new variable")
        self.at += 1
        value = self.expression() if self.skip(":=") else Value("n")
        self.variables[name] = Value("t" if value.kind == "l" else value.kind, value.size)
        return value

    def expression(self):
        what, token, _ = self.tokens[self.at]
        variable = self.variables.get(token.lower()) if what == "name" else None
        following = self.tokens[self.at + 1][1] if variable else ""
        if following in ASSIGNMENTS:
            self.at += 2
            value = self.expression()
            if value.kind.replace("l", "t") != variable.kind or following != ":=" and variable.kind != "n":
                self.fail(f"a variable stays of one kind, here {KINDS.get(variable.kind, 'mixed')}", back=1)
            self.step()
            variable.size = max(variable.size, value.size)
            return Value(variable.kind, variable.size)
        condition = self.binary()
        if not self.skip("?"):
            return condition
        self.check_condition(condition)
        first = self.expression()
        self.expect(":")
        return self.either(first, self.expression())

    def binary(self, level=0):
        if level == len(BINARY):
            return self.unary()
        operators, takes, makes = BINARY[level]
        left = self.binary(level + 1)
        while self.skip(*operators):
            right = self.binary(level + 1)
            for each in (left, right):
                if each.kind.replace("l", "t") not in takes:
                    self.fail(f"a {KINDS.get(each.kind, 'value of several kinds')} can't be used so", back=1)
            self.step()
            left = Value(makes)
        return left

    def unary(self):
        if not self.skip("-", "+"):
            return self.primary()
        value = self.nested(self.unary)
        if value.kind != "n":
            self.fail("only a number has a sign", back=1)
        self.step()
        return value

    def nested(self, parse):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("too many brackets within brackets")
        value = parse()
        self.depth -= 1
        return value

    def primary(self):
        what, token, _ = self.tokens[self.at]
        self.at += 1
        name = token.lower()
        if what == "number":
            return Value("n", sure=True)
        if what == "text":
            if len(token) > MAX_LITERAL:
                self.fail(f"a text of more than {MAX_LITERAL} characters", back=1)
            return Value("l", len(token) - 2, token[1:-1])
        if what == "column":
            if token[1:-1] not in self.columns:
                self.fail(f"there is no column {token}", back=1)
            kind = LETTERS[self.columns[token[1:-1]]]
            return Value(kind, COLUMN_TEXT if kind == "t" else 0, sure=True)
        if token == "(":
            value = self.nested(self.expression)
            self.expect(")")
            return value
        if name == "if":
            return self.nested(self.condition)
        if name == "switch":
            return self.nested(self.switch)
        if name in CONSTANTS:
            return Value(CONSTANTS[name])
        if name in self.variables:
            variable = self.variables[name]
            return Value(variable.kind, variable.size)
        if name in FUNCTIONS:
            return self.nested(lambda: self.function(name))
        return self.fail(f"{token} is not available here" if token else "something is missing at the end", back=1)

    def function(self, name):
        self.expect("(")
        arguments = []
        while not self.skip(")"):
            if arguments:
                self.expect(",")
            arguments.append(self.expression())
        try:
            value, cost, made = call(name, arguments)
        except ValueError as error:
            self.fail(str(error), back=1)
        self.step(cost, made)
        return value

    def check_condition(self, value):
        if value.kind not in "nb":
            self.fail("a condition is a boolean or a number", back=1)
        self.step()

    def condition(self):
        """Behind `if`: (condition, value, other value), or (condition) value; else other value."""
        self.expect("(")
        self.check_condition(self.expression())
        if self.skip(","):
            value = self.expression()
            self.expect(",")
            other = self.expression()
            self.expect(")")
            return self.either(value, other)
        self.expect(")")
        value = self.branch()
        if self.peek(";") and self.tokens[self.at + 1][1].lower() == "else":
            self.at += 1
        return self.either(value, self.branch()) if self.skip("else") else value

    def branch(self):
        if not self.skip("{"):
            return self.statement()
        value = self.statements()
        self.expect("}")
        return value

    def switch(self):
        """Behind `switch`: { case condition : value; ... default : value; }"""
        self.expect("{")
        values = []
        while self.skip("case"):
            self.check_condition(self.expression())
            self.expect(":")
            values.append(self.expression())
            self.expect(";")
        self.expect("default")
        self.expect(":")
        value = self.expression()
        self.expect(";")
        self.expect("}")
        for each in values:
            value = self.either(value, each)
        return value

    def either(self, one, other):
        """What is known when it is one of two values. Of two kinds, the engine would take one for the other."""
        self.step()
        kinds = {one.kind.replace("l", "t"), other.kind.replace("l", "t")}
        return Value(kinds.pop() if len(kinds) == 1 else "m", max(one.size, other.size))
