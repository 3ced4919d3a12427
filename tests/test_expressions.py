"""Which expressions reach the engine: by what it would do with them, not by words in comments, texts and names."""

import contextlib

import pytest

from bridge.expression_tokens import Error
from bridge.expressions import check

COLUMNS = {
    "timestamp": "datetime",
    "date": "date",
    "ticker": "text",
    "client": "text",
    "open": "number",
    "close": "number",
    "forward": "number",
    "a 'b'": "number",
    "for": "boolean",
}
ACCEPTED = {
    "bucket(\"timestamp\", '1s')": "datetime",
    "bucket(\"timestamp\", 'M')": "datetime",
    "bucket(\"date\", '1Y')": "date",
    'bucket("open", 10)': "number",
    'bucket(float("open" / "close"), bucket(integer("ticker"), 0.5))': "number",
    '("close" - "open") / "open" * 100': "number",
    '// Price for each client\n"open"': "number",
    '# while (true)\n"open" /* repeat */': "number",
    "concat('waiting for parts', \"ticker\")": "text",
    '"forward" * 2': "number",
    '"for" and true': "boolean",
    "\"a 'b'\" + 1": "number",
    "replace(replace(\"ticker\", 'A', 'B'), '.N', '')": "text",
    "replace_all(\"ticker\", '[A-Z]', 'x')": "text",
    "match(\"ticker\", '\\\\.N')": "boolean",
    "if (\"open\" > 5) 'large'; else 'small'": "text",
    'if("open" > 5) { 1 } else if ("open" > 2) { 2 } else { 3 }': "number",
    "\"open\" > 5 ? 'large' : 'small'": "text",
    "switch { case \"open\" > 5 : 'a'; default : 'b'; }": "text",
    'var x := "open"; x += 1; x * 2': "number",
    'var s := upper("ticker"); concat(s, \' | \', string(floor(percent_of("open", "close"))), \'%\')': "text",
    "order(\"ticker\", 'AAPL.N', 'AMZN.N')": "number",
    'inrange(1, "open", 3)': "boolean",
    "'' == \"ticker\"": "boolean",
    "-2 ^ 2 % 3": "number",
    'date(2026, 1, 31) < "date"': "boolean",
    "hour_of_day(now())": "number",
    "IF (TRUE) PI; ELSE Min(1, 2)": "number",
    "// it's the client's\n\"open\"": "number",
}
CRASHING = ['bucket("ticker", 1)', 'bucket("timestamp", 5)', 'bucket("for", true)', "bucket(\"ticker\", '1s')"]
CRASHING += [
    "bucket(hypot(3, 4), 2)",
    'bucket("open" / 0, 2)',
    'bucket(-csc("open"), 2)',
    "bucket(coalesce(hypot(3, 4), 1), 2)",
    'bucket("open" > 5 ? hypot(3, 4) : 3, 2)',
    'var x := roundn("open", 2); bucket(x, 2)',
]
STOPPING = [
    "while (true) { 1; }; 1",
    "WHILE(1){1}",
    "for (var i := 0; i < 1e9; i += 1) { 1; }; 1",
    "repeat 1; until (false)",
    "1;\nw/**/hile; while\n(true) 1",
    "var v[1000000000]; 1",
    "var\n v [ 1000000000 ]; 1",
    "~{1, 2}",
    "return [1]",
    "1+" * 1500 + "1",
    "(" * 500 + "1" + ")" * 500,
    "-" * 1000 + "1",
]
GROWING = [
    "var s := concat('aaaa', 'b'); " + "s := concat(s, s); " * 12 + "s",
    'var s := "ticker"; ' + "s := replace_all(s, 'A', 'AAAAAAAA'); " * 4 + "s",
    'var s := "ticker"; ' + "s := replace(s, '(.*)', '\\\\1\\\\1\\\\1'); " * 6 + "s",
    "concat('" + "x" * 300 + '\', "ticker")',
    "concat(" + ", ".join(['upper("ticker")'] * 40) + ")",
]
MIXED = [
    "if (\"open\" > 5) 'x'; else 5",
    "true ? 1 : 'x'",
    "var x := 1; x := 'text'; x",
    "coalesce(1, 'x')",
    "coalesce()",
]
WRONG = [
    "",
    "// nothing",
    '"fo',
    "'it",
    '"nothing" + 1',
    "upper(",
    "1 2",
    '1 "open"',
    "1 +",
    "(1",
    "1)",
    "} 1",
    "nothing(1)",
    "var if := 1; 1",
    "var COLUMN0 := 1; COLUMN0",
    "\"ticker\" + 'x'",
    "upper(1)",
    "col('open')",
    "vlookup('open', 1)",
    "intern('x')",
    "1; while",
    "\x00",
    "é",
    "bucket(\"timestamp\", '7m')",
    "bucket(\"timestamp\", '99999999999999999999s')",
    'bucket("timestamp", "ticker")',
]
CUT_ELSEWHERE = [
    "'\"' == '\"'",
    "'a\\' == 'b'",
    "// it's\n'x'",
    "/* ' */ 'a'",
    "'' == 'a' ",
    '"a\\" + \'x\' + "',
    '"" + "open"',
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_useful_expressions_are_accepted(text):
    assert check(text, COLUMNS) == ACCEPTED[text]


@pytest.mark.parametrize("text", [*CRASHING, *STOPPING, *GROWING, *MIXED, *WRONG], ids=lambda text: text[:30])
def test_others_are_refused_with_a_reason_and_a_place(text):
    with pytest.raises(Error) as refused:
        check(text, COLUMNS)
    assert 5 < len(str(refused.value)) < 200
    assert refused.value.line <= text.count("\n")
    assert refused.value.column <= len(text)


@pytest.mark.parametrize("text", CUT_ELSEWHERE)
def test_what_the_engine_would_cut_at_other_quotes_is_refused(text):
    with pytest.raises(Error):
        check(text, COLUMNS)


def test_every_prefix_of_what_a_user_types_is_answered():
    for text in ACCEPTED:
        for end in range(len(text)):
            with contextlib.suppress(Error):
                check(text[:end], COLUMNS)
