"""docs/engine-faults.md is true for the installed version: an upgrade that mends a fault is noticed here."""

import re
import signal
import subprocess
import sys

import pytest
from helpers import ROOT

SECTIONS = re.findall(
    r"^## (.*?)\n(.*?)(?=^## |\Z)", (ROOT / "docs/engine-faults.md").read_text(), re.DOTALL | re.MULTILINE
)
BLOCKS = {title: found[1] for title, text in SECTIONS if (found := re.search(r"```python\n(.*?)```", text, re.DOTALL))}
NOT_ALWAYS = {  # by the state of memory, or of threads
    "A read that begins beyond the last column",
    "The depth of a view without subtotals",
    "One column sorted twice, by rows and by columns, without a split",
    "Requests from several threads",
    "Rows for an empty table with several grouped views",
}
LEAKS = "Texts are never given back"
SUMS = "Sums of narrow integers overflow as rows leave a table"


@pytest.mark.parametrize("title", [title for title in BLOCKS if title not in {*NOT_ALWAYS, LEAKS, SUMS}])
def test_a_fault_is_there(title):
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", BLOCKS[title]], capture_output=True, timeout=60)
        if -done.returncode in (signal.SIGSEGV, signal.SIGABRT):
            return
    pytest.fail(f"no crash: {done}")


def test_sums_of_narrow_integers_overflow():
    done = subprocess.run([sys.executable, "-c", BLOCKS[SUMS]], capture_output=True, text=True, timeout=60)
    assert int(done.stdout) != 2


def test_each_block_is_at_most_20_lines_of_python():
    for title, block in BLOCKS.items():
        assert len(block.splitlines()) <= 20, title
        compile(block, title, "exec")
