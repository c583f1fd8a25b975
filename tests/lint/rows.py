#!/usr/bin/env python3
"""Every row of the specification's tables has a test.

tests/golden/spec-rows.txt names the rows. A row is tested by test-tables.py,
or by a test elsewhere that says `row: NAME` in a comment. Speaks TAP.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(os.environ.get("top_srcdir") or Path(__file__).parents[2])
TESTS = TOP / "tests"


def listed():
    lines = (TESTS / "golden/spec-rows.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def tested():
    names = subprocess.run(
        [sys.executable, "-B", str(TESTS / "io/test-tables.py"), "--rows"],
        check=True, text=True, stdout=subprocess.PIPE).stdout.split()
    for path in TESTS.glob("*/*test*"):
        if path.suffix in (".c", ".py"):
            names += re.findall(r"\brow: ([0-9]\S*/[^\s,;]+)",
                                path.read_text())
    return names


def report(number, name, found):
    print(f"{'not ' if found else ''}ok {number} - {name}")
    for line in found:
        print("#", line)
    return bool(found)


def main():
    wanted, there = listed(), tested()
    print("1..3")
    failed = report(1, "every row has a test", sorted(set(wanted) - set(there)))
    failed |= report(2, "every tested row is listed",
                     sorted(set(there) - set(wanted)))
    failed |= report(3, "names are unique",
                     sorted({n for n in wanted if wanted.count(n) > 1}))
    return failed


sys.exit(main())
