#!/usr/bin/env python3
"""The front of pct: words, options, help, completion. No container is touched.

Every command line is refused, or answered, before anything is looked for.
Speaks TAP; test-pct.sh starts it.
"""

import os
import subprocess
import sys
from pathlib import Path

BUILD = Path(os.environ.get("top_builddir") or
             Path(__file__).parents[2] / "build")
SET = "pct set <vmid> [OPTIONS]\n"
PARSE = "400 unable to parse option\n"
VERIFY = "400 Parameter verification failed.\n"


def pct(*words, **environment):
    return subprocess.run([str(BUILD / "pct"), *words], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          env=os.environ | environment | {"LC_ALL": "C.UTF-8"})


USAGE = pct("help", "--verbose", "0").stdout

# words, what stands on stderr; the exit status is 255
REFUSED = [
    ([], "ERROR: no command specified\n" + USAGE),
    (["foo"], "ERROR: unknown command 'pct foo'\n" + USAGE),
    (["st"], "ERROR: incomplete command 'pct st'\n" + USAGE),
    (["sta"], "ERROR: incomplete command 'pct sta'\n" + USAGE),
    (["help", "foo"], "ERROR: unknown command 'pct foo'\n" + USAGE),
    (["set"], "400 not enough arguments\n" + SET),
    (["set", "100", "x"], "400 too many arguments\n" + SET),
    (["se", "100", "--bogus"], "Unknown option: bogus\n" + PARSE + SET),
    (["set", "100", "-"], "400 too many arguments\n" + SET),
    (["set", "100", "--=1"], "Unknown option: \n" + PARSE + SET),
    (["set", "100", "--s", "1"],
     "Option s is ambiguous (searchdomain, startup, state, swap)\n"
     + PARSE + SET),
    (["set", "100", "-memory"],
     "Option memory requires an argument\n" + PARSE + SET),
    (["set", "100", "--onboot=maybe"],
     "400 unable to parse boolean option\n" + SET),
    (["set", "099", "--tty", "1"],
     VERIFY + "vmid: invalid format - value does not look like a valid VM ID\n"
     "\n" + SET),
    (["set", "100", "--mem", "15", "--MEMORY", "x", "--hostname", "a_b"],
     VERIFY + "hostname: invalid format - value does not look like a valid DNS "
     "name\n\nmemory: type check ('integer') failed - got 'x'\n" + SET),
    (["set", "100", "--dev1", "/x,mode=1"],
     VERIFY + "dev1: invalid format - format error\n"
     "dev1.mode: value does not match the regex pattern\n"
     "dev1.path: invalid format - /x is not a valid device path\n\n" + SET),
    (["set", "100", "--digest", "0" * 41],
     VERIFY + "digest: value may only be 40 characters long\n" + SET),
    (["set", "100", "--env", "A=1", "--env", "B"],
     VERIFY + "env: value does not match the regex pattern\n" + SET),
    (["list", "--output-format", "xml"],
     VERIFY + "output-format: value 'xml' does not have a value in the "
     "enumeration 'text, json, json-pretty, yaml'\npct list [OPTIONS]\n"),
    (["config", "100", "--snapshot", "s1", "--current"],
     VERIFY + "current: cannot use 'snapshot' parameter with 'current'\n"
     "snapshot: cannot use 'snapshot' parameter with 'current'\n"
     "pct config <vmid> [OPTIONS]\n"),
    (["shutdown", "100", "--timeout", "x"],
     VERIFY + "timeout: type check ('integer') failed - got 'x'\n"
     "pct shutdown <vmid> [OPTIONS]\n"),
    # Unknown here: the set of a read-only option, and one of create.
    (["set", "100", "--unprivileged", "0"],
     "Unknown option: unprivileged\n" + PARSE + SET),
    (["set", "100", "--storage", "local"],
     "Unknown option: storage\n" + PARSE + SET),
]

# the line up to the cursor, what is offered
COMPLETED = [
    ("pct s", "set\nshutdown\nstart\nstatus\nstop\n"),
    ("pct set 100 --cm", "--cmode\n"),
    ("pct set 100 --cmode ", "console\nshell\ntty\n"),
    ("pct set 100 --onboot ", "0\n1\n"),
    ("pct set 100 --net0 name=eth0,h",
     "name=eth0,host-managed=\nname=eth0,hwaddr=\n"),
    ("pct set 100 --net0 name=eth0,hwaddr=", ""),
    ("pct set 100 --net3", "--net3\n--net30\n--net31\n"),
    ("pct list --output-format j", "json\njson-pretty\n"),
    ("pct create 100 --stor", "--storage\n"),
    ("pct set 100 --stor", ""),
    ("pct help se", "set\n"),
    ("pct nosuch --x", ""),
]


def same(name, found, wanted):
    if found == wanted:
        return []
    return [f"{name}: found {found!r}", f"{name}: wanted {wanted!r}"]


def check_refused():
    problems = []
    for words, message in REFUSED:
        result = pct(*words)
        problems += same(f"{words}", (result.returncode, result.stdout,
                                      result.stderr), (255, "", message))
    return problems


def check_completed():
    problems = []
    for line, offered in COMPLETED:
        result = pct("bashcomplete", "pct", "", "", COMP_LINE=line + " tail",
                     COMP_POINT=str(len(line)))
        problems += same(line, (result.returncode, result.stdout,
                                result.stderr), (0, offered, ""))
    return problems


def check_help():
    """Three ways to the same text, for each command."""
    problems = []
    names = [line.split()[1] for line in USAGE.splitlines()
             if line.startswith("       ")]
    problems += same("commands", len(names) > 10 and "set" in names, True)
    for name in names:
        text = pct("help", name).stdout
        problems += same(name, text.startswith(f"USAGE: pct {name} "), True)
        for words in ([name, "--help"], [name, "-h"], [name, "100", "--help"]):
            result = pct(*words)
            problems += same(f"{words}", (result.returncode, result.stdout),
                             (0, text))
    problems += same("--help", pct("--help").stdout, USAGE)
    problems += same("help", pct("help").stdout.count("USAGE: "), len(names))
    problems += same("verifyapi", pct("verifyapi").returncode, 0)
    return problems


def main():
    checks = [check_refused, check_completed, check_help]
    print(f"1..{len(checks)}")
    failed = False
    for number, check in enumerate(checks, 1):
        problems = check()
        failed |= bool(problems)
        print(f"{'not ' if problems else ''}ok {number} - {check.__name__}")
        for line in problems:
            print("#", line)
    return int(failed)


sys.exit(main())
