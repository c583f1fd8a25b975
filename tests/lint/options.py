#!/usr/bin/env python3
"""The manual page of pct says what pct itself says.

Commands and options stand in tables; `pct help` prints them, and the sections
between the marks in docs/pct.1 are made of that by `options.py --write`.
Speaks TAP otherwise: the page is up to date, and every command has a
description of its own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(os.environ.get("top_srcdir") or Path(__file__).parents[2])
BUILD = Path(os.environ.get("top_builddir") or TOP / "build")
PAGE = TOP / "docs/pct.1"
BEGIN = '.\\" BEGIN {0}: made by tests/lint/options.py --write\n'
END = '.\\" END {0}\n'


def pct(*words):
    return subprocess.run([str(BUILD / "pct"), *words], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in ".'" else text


def commands():
    synopsis = pct("help", "--verbose", "0").splitlines()
    return [line.split()[1] for line in synopsis if line.startswith("       ")]


def options(command):
    """(name, type and default, text, [key lines]) of each."""
    rows = []
    for line in pct("help", command).splitlines()[2:]:
        found = re.match(r"  (--\S+) +(.*)$", line)
        if found:
            rows.append([found[1], found[2], "", []])
        elif rows and line.startswith(" " * 15) and not rows[-1][3] \
                and "=<" not in line:
            rows[-1][2] += " " + line.strip()
        elif rows and line.startswith(" " * 15):
            if re.match(r" {15}[a-z0-9_-]+=<", line):
                rows[-1][3].append(line.strip())
            else:
                rows[-1][3][-1] += " " + line.strip()
        elif rows and line.strip():
            rows[-1][2] += " " + line.strip()
    return rows


def container_options():
    """Those of create and set together, with a mark where one lacks it."""
    at = {name: {row[0]: row for row in options(name)}
          for name in ("create", "set")}
    own = {"--bwlimit", "--force", "--ha-managed", "--ignore-unpack-errors",
           "--password", "--pool", "--restore", "--ssh-public-keys", "--start",
           "--storage", "--unique", "--delete", "--digest", "--revert"}
    for name in sorted((set(at["create"]) | set(at["set"])) - own):
        row = list(at["set"].get(name) or at["create"][name])
        if name not in at["create"]:
            row[2] += " Not at creation."
        elif name not in at["set"]:
            row[2] += " At creation only."
        yield row


def section_options():
    out = []
    for name, kind, text, keys in container_options():
        out.append(f".TP\n.B {roff(name)}\n.I {roff(kind)}\n.br\n"
                   f"{roff(text.strip())}\n")
        for key in keys:
            word, _, rest = key.partition(": ")
            out.append(f".RS\n.TP\n.I {roff(word)}\n{roff(rest)}\n.RE\n")
    return "".join(out)


def section_own():
    """Options of each command that are no options of containers."""
    theirs = {row[0] for row in container_options()}
    out = []
    for command in commands():
        rows = [row for row in options(command) if row[0] not in theirs]
        for name, kind, text, _ in rows:
            out.append(f".TP\n.BR \"{roff(command)}\" \" \" \"{roff(name)}\"\n"
                       f".I {roff(kind)}\n.br\n{roff(text.strip())}\n")
    return "".join(out)


SECTIONS = {"OPTIONS OF COMMANDS": section_own,
            "OPTIONS OF CONTAINERS": section_options}


def expected(page):
    for name, make in SECTIONS.items():
        before, begin, rest = page.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        if not begin or not end:
            raise SystemExit(f"{PAGE}: no marks of {name}")
        page = before + begin + make() + end + after
    return page


def undescribed(page):
    head = page.partition(BEGIN.format("OPTIONS OF COMMANDS"))[0]
    return [name for name in commands()
            if not re.search(rf'^\.BR?I? "?{re.escape(roff(name))}[ "\n]', head,
                             re.MULTILINE)]


def main():
    page = PAGE.read_text()
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(expected(page))
        return 0
    missing = undescribed(page)
    stale = expected(page) != page
    print("1..2")
    print(f"{'not ' if stale else ''}ok 1 - docs/pct.1 is made of the tables")
    if stale:
        print("# run tests/lint/options.py --write")
    print(f"{'not ' if missing else ''}ok 2 - every command is described")
    for name in missing:
        print("#", name)
    return int(stale or bool(missing))


sys.exit(main())
