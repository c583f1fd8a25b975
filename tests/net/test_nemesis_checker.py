"""The judge of ./nemesis finds what is wrong, and nothing else."""

import random

import pytest

import nemesis_checker
import nemesis_history
from nemesis_history import INITIAL, NEVER, Fault, History, Op


class Story:
    """A history by hand; times in milliseconds."""

    def __init__(self):
        self.history = History()

    def op(self, client, begin, end, kind, name, argument="", outcome="ok",
           errno=0, value=""):
        self.history.ops.append(Op(
            client, begin * 1000, end if end == NEVER else end * 1000, kind,
            name, argument, outcome, errno, value))

    def write(self, client, begin, end, value, outcome="ok"):
        self.op(client, begin, end, "write", "reg/0", value, outcome)

    def read(self, client, begin, end, value):
        self.op(client, begin, end, "read", "reg/0", value=value)

    def move(self, client, begin, end, old, new, outcome="ok"):
        self.op(client, begin, end, "move", "tok/0", f"{old} {new}", outcome)

    def list(self, client, begin, end, value):
        self.op(client, begin, end, "list", "tok/0", value=value)

    def sync(self, client, begin, end, outcome="ok"):
        self.op(client, begin, end, "sync", ".", outcome=outcome)

    def fault(self, begin, end, *nodes):
        self.history.faults.append(
            Fault(begin * 1000, end * 1000, nodes, "cut"))

    def final(self, name, value, nodes=("n1", "n2", "n3")):
        for node in nodes:
            self.history.add_final(node, name, value)

    def report(self):
        return nemesis_checker.check(self.history)

    def good(self, undone=0):
        report = self.report()
        assert [nemesis_checker.explain(v, self.history)
                for v in report.violations] == []
        assert len(report.undone) == undone

    def bad(self, *words):
        report = self.report()
        assert len(report.violations) == 1, report.violations
        text = nemesis_checker.explain(report.violations[0], self.history)
        for word in words:
            assert word in text


@pytest.fixture
def story():
    return Story()


# ---- registers --------------------------------------------------

def test_others_may_read_what_is_old(story):
    story.write("n1c0", 0, 10, "a")
    story.read("n1c1", 11, 12, "a")
    story.read("n2c0", 13, 14, INITIAL)
    story.read("n2c0", 15, 16, "a")
    story.final("reg/0", "a")
    story.good()


def test_not_what_was_never_written(story):
    story.read("n1c0", 0, 1, "x")
    story.bad("'x' was read", "no value that was ever written")


def test_not_what_is_torn(story):
    story.write("n1c0", 0, 10, "a")
    story.read("n1c0", 11, 12, "(torn)")
    story.bad("(torn)")


def test_not_before_it_was_written(story):
    story.write("n1c0", 20, 30, "a")
    story.read("n2c0", 10, 15, "a")
    story.bad("before it was written", "n2c0")


def test_not_what_was_refused(story):
    story.write("n1c0", 0, 10, "a", outcome="no")
    story.read("n2c0", 10, 15, "a")
    story.bad("could not be")


def test_unknown_may_be_done_or_not_or_late(story):
    story.write("n1c0", 0, 10, "a", outcome="maybe")
    story.write("n1c1", 0, NEVER, "b", outcome="maybe")
    story.write("n1c2", 20, 30, "c")
    story.read("n2c0", 40, 41, "c")
    story.read("n2c0", 50, 51, "a")
    story.final("reg/0", "a")
    story.bad("reg/0: an operation never ended", "n1c1")


def test_own_write_is_read(story):
    story.write("n1c0", 0, 10, "a")
    story.read("n1c1", 11, 12, INITIAL)
    story.bad("no order", "initial")


def test_a_node_does_not_go_back(story):
    story.write("n1c0", 0, 10, "a")
    story.write("n1c0", 20, 30, "b")
    story.read("n2c0", 31, 32, "b")
    story.read("n2c1", 33, 34, "a")
    story.bad("no order", "seen before on n2", "n2c1")


def test_reads_at_the_same_time_may_differ(story):
    story.write("n1c0", 0, 10, "a")
    story.write("n1c0", 20, 30, "b")
    story.read("n2c0", 31, 40, "b")
    story.read("n2c1", 33, 34, "a")
    story.good()


def test_all_nodes_see_one_order(story):
    story.write("n1c0", 0, 50, "a")
    story.write("n2c0", 0, 50, "b")
    story.read("n1c1", 10, 11, "a")
    story.read("n1c1", 12, 13, "b")
    story.read("n3c1", 20, 21, "b")
    story.read("n3c1", 22, 23, "a")
    story.bad("no order", "a before b: seen before on n1",
              "b before a: seen before on n3")


def test_what_a_change_has_passed_is_read(story):
    """n2 writes elsewhere after a was known: it has a from then on."""
    story.write("n1c0", 0, 10, "a")
    story.op("n2c0", 20, 30, "write", "reg/1", "x")
    story.read("n2c1", 40, 41, INITIAL)
    story.bad("no order", "reg/0")


def test_what_another_node_has_passed_is_not(story):
    story.write("n1c0", 0, 10, "a")
    story.op("n3c0", 20, 30, "write", "reg/1", "x")
    story.op("n2c0", 5, 30, "write", "reg/1", "y")
    story.read("n2c1", 40, 41, INITIAL)
    story.good()


def test_writes_respect_what_is_known(story):
    """b began after a had been read: it is the later one."""
    story.write("n1c0", 0, 100, "a")
    story.read("n2c0", 10, 11, "a")
    story.write("n3c0", 12, 20, "b")
    story.read("n2c0", 30, 31, "b")
    story.read("n2c0", 32, 33, "a")
    story.bad("no order", "a before b")


def test_the_last_write_stays(story):
    story.write("n1c0", 0, 10, "a")
    story.write("n2c0", 20, 30, "b")
    story.final("reg/0", "a")
    story.bad("no order", "must not be missing in the end")


def test_either_of_two_at_once_stays(story):
    story.write("n1c0", 0, 10, "a")
    story.write("n2c0", 5, 30, "b")
    story.final("reg/0", "a")
    story.good()


def test_nodes_agree_in_the_end(story):
    story.write("n1c0", 0, 10, "a")
    story.final("reg/0", "a", ["n1", "n2"])
    story.final("reg/0", INITIAL, ["n3"])
    story.bad("do not agree", "n3 has initial")


# ---- undone, and not --------------------------------------------

def undone_story(story):
    story.write("n3c0", 1000, 1010, "a")
    story.read("n3c1", 1011, 1012, "a")
    story.write("n1c0", 9000, 9010, "b")
    story.read("n3c1", 9011, 9012, INITIAL)
    story.final("reg/0", "b")


def test_a_cut_off_write_may_be_undone(story):
    undone_story(story)
    story.fault(1500, 8000, "n3")
    story.good(undone=1)


def test_of_the_majority_it_may_not(story):
    undone_story(story)
    story.fault(1500, 8000, "n2")
    story.bad("no order", "initial")


def test_after_fsync_it_may_not(story):
    undone_story(story)
    story.fault(1500, 8000, "n3")
    story.sync("n3c0", 1010, 1100)
    story.bad("no order", "cut")


def test_after_an_fsync_that_may_be_local_it_may(story):
    undone_story(story)
    story.fault(1500, 8000, "n3")
    story.sync("n3c0", 1010, 1100)
    story.history.local.append((1050 * 1000, 1060 * 1000))
    story.good(undone=1)


def test_after_a_failed_fsync_it_may(story):
    undone_story(story)
    story.fault(1500, 8000, "n3")
    story.sync("n3c0", 1010, 1100, outcome="maybe")
    story.good(undone=1)


def test_a_late_fsync_says_nothing_of_what_was_undone_before(story):
    undone_story(story)
    story.fault(1500, 8000, "n3")
    story.sync("n3c0", 15000, 15100)
    story.good(undone=1)


def test_what_is_seen_just_before_a_merge_is_not_synced(story):
    undone_story(story)
    story.fault(1500, 8000, "n3")
    story.read("n3c1", 8100, 8101, "a")
    story.sync("n3c1", 8105, 8110)
    story.good(undone=1)


def test_what_the_majority_has_seen_may_not_be_undone(story):
    undone_story(story)
    story.fault(1500, 8000, "n3")
    story.read("n1c4", 1020, 1030, "a")
    story.read("n1c4", 1040, 1050, INITIAL)
    story.bad("no order")


# ---- tokens -----------------------------------------------------

def test_a_token_moves_on(story):
    story.move("n1c0", 0, 10, INITIAL, "a")
    story.move("n2c0", 5, 15, "a", "b", outcome="maybe")
    story.move("n3c0", 20, 30, "b", "c")
    story.list("n1c0", 40, 41, "c")
    story.final("tok/0", "c")
    story.good()


def test_a_token_is_moved_once(story):
    story.move("n1c0", 0, 10, INITIAL, "a")
    story.move("n2c0", 5, 15, INITIAL, "b")
    story.final("tok/0", "b")
    story.bad("lost", "initial became a and also b")


def test_moved_in_the_minority_it_may_be_lost(story):
    story.move("n1c0", 1000, 1010, INITIAL, "a")
    story.move("n1c0", 1020, 1030, "a", "a2", outcome="maybe")
    story.move("n2c0", 5000, 5015, INITIAL, "b")
    story.fault(1015, 4000, "n1")
    story.final("tok/0", "b")
    story.good(undone=1)


def test_a_token_is_in_one_place(story):
    story.move("n1c0", 0, 10, INITIAL, "a")
    story.list("n2c0", 5, 6, f"a,{INITIAL}")
    story.final("tok/0", "a")
    story.bad("'a,initial' was read")


# ---- claims, locks ----------------------------------------------

def test_one_creates_it(story):
    story.op("n1c0", 0, 10, "claim", "ex/1")
    story.op("n2c0", 0, 10, "claim", "ex/1", outcome="maybe", errno=17)
    story.final("ex/1", "present")
    story.good()


def test_two_do_not(story):
    story.op("n1c0", 0, 10, "claim", "ex/1")
    story.op("n2c0", 0, 12, "claim", "ex/1")
    story.bad("created twice")


def test_two_lives(story):
    story.op("n1c0", 0, 10, "claim", "ex/1")
    story.op("n1c0", 11, 20, "drop", "ex/1", outcome="maybe", errno=16)
    story.op("n2c0", 0, 22, "claim", "ex/1")
    story.final("ex/1", "present")
    story.good()


def test_created_and_gone(story):
    story.op("n1c0", 0, 10, "claim", "ex/1")
    story.final("ex/1", "absent")
    story.bad("is missing in the end")


def test_removed_and_there(story):
    story.op("n1c0", 0, 10, "claim", "ex/1")
    story.op("n1c0", 11, 20, "drop", "ex/1")
    story.final("ex/1", "present")
    story.bad("is there in the end")


def test_exists_without_a_creator(story):
    story.op("n1c0", 0, 10, "claim", "ex/1", outcome="maybe", errno=17)
    story.bad("nobody has created it")


LOCK = "../priv/lock/nemesis-1-0"


def hold(story, client, begin, end):
    story.op(client, begin, begin + 10, "lock", LOCK)
    story.sync(client, begin + 10, begin + 20)
    story.op(client, end, end + 10, "unlock", LOCK)


def test_one_after_the_other_holds_a_lock(story):
    hold(story, "n1c0", 0, 100)
    story.op("n2c0", 50, 60, "lock", LOCK, outcome="maybe", errno=17)
    hold(story, "n2c0", 105, 200)
    story.good()


def test_two_hold_a_lock(story):
    hold(story, "n1c0", 1000, 1100)
    hold(story, "n2c0", 1050, 1200)
    story.fault(900, 1000, "n1", "n2", "n3")
    story.bad("held by two", "n1c0", "n2c0")


# ---- journals ---------------------------------------------------

def append(story, client, begin, end, value, outcome="ok"):
    story.op(client, begin, end, "append", "log/0", value, outcome)


def journal(story, client, begin, end, *entries):
    digest = 0xcbf29ce484222325
    for byte in "".join(f"{e:<15}\n" for e in entries).encode():
        digest = (digest ^ byte) * 0x100000001b3 % 2 ** 64
    story.op(client, begin, end, "journal", "log/0",
             value=f"{16 * len(entries)}:{digest:016x}")


def test_a_journal_grows(story):
    append(story, "n1c0", 0, 10, "a")
    append(story, "n2c0", 5, 20, "b")
    journal(story, "n2c0", 30, 31, "b", "a")
    journal(story, "n3c0", 30, 31, "b")
    append(story, "n2c0", 40, 50, "c", outcome="maybe")
    story.final("log/0", "b a")
    story.good()


@pytest.mark.parametrize(("final", "word"), [
    ("a", "b was appended and is missing"), ("a b b", "twice"),
    ("b a", "comes after"), ("a b x", "never appended")])
def test_a_journal_that_is_wrong_in_the_end(story, final, word):
    append(story, "n1c0", 0, 10, "a")
    append(story, "n2c0", 15, 20, "b")
    story.final("log/0", final)
    story.bad(word)


@pytest.mark.parametrize(("entries", "word"), [
    (["b"], "not how it began"), (["a"], "b is not in what was read")])
def test_a_journal_that_is_read_wrong(story, entries, word):
    append(story, "n1c0", 0, 10, "a")
    append(story, "n2c0", 15, 20, "b")
    journal(story, "n2c0", 30, 31, *entries)
    story.final("log/0", "a b")
    story.bad(word)


# ---- at large ---------------------------------------------------

class Simulated:
    """Three nodes that follow one log, each at its own pace."""

    def __init__(self, seed, count):
        self.random = random.Random(seed)
        self.log = []
        self.at = {f"n{n}": 0 for n in (1, 2, 3)}
        self.history = History()
        for number in range(count):
            self._step(number)
        for name in {name for name, _ in self.log}:
            for node in self.at:
                self.history.add_final(node, name, self._value(
                    name, len(self.log)))

    def _value(self, name, length):
        return next((v for n, v in reversed(self.log[:length]) if n == name),
                    INITIAL)

    def _step(self, number):
        node = self.random.choice(list(self.at))
        name = f"reg/{self.random.randrange(20)}"
        begin = number * 10
        end = begin + self.random.randrange(1, 200)
        if self.random.random() < 0.4:
            value = f"{node}c0-{number}"
            self.log.append((name, value))
            self.at[node] = len(self.log)
            self._add(node, begin, begin + 9, "write", name, value, "")
        else:
            value = self._value(name, self.at[node])
            self._add(node, begin, end, "read", name, "", value)
            self.at[node] = self.random.randint(self.at[node], len(self.log))

    def _add(self, node, begin, end, kind, name, argument, value):
        self.history.ops.append(Op(f"{node}c{len(self.history.ops)}", begin,
                                   end, kind, name, argument, "ok", 0, value))


def test_many_are_judged_fast_and_kept(tmp_path):
    history = Simulated(1, 4000).history
    history.faults.append(Fault(5, NEVER, ("n1", "n2"), "cut n1 and n2"))
    history.local.append((7, 9))
    assert nemesis_checker.check(history).violations == []
    path = tmp_path / "history.txt"
    nemesis_history.save(history, path)
    loaded = nemesis_history.load(path)
    assert sorted(map(repr, loaded.ops)) == sorted(map(repr, history.ops))
    assert loaded.finals == history.finals
    assert (loaded.faults, loaded.local) == (history.faults, history.local)
    assert nemesis_checker.main([str(path)]) == 0


def test_one_wrong_read_among_many_is_found():
    """A read of a value that its node had seen replaced."""
    for seed in range(10):
        history = Simulated(seed, 1500).history
        writes = [op for op in history.ops if op.kind == "write"]
        victim = writes[len(writes) // 2]
        after = [op for op in history.ops if op.object == victim.object
                 and op.node == victim.node and op.begin > victim.end]
        history.ops.append(Op(victim.client, after[-1].end + 1,
                              after[-1].end + 2, "read", victim.object, "",
                              "ok", 0, INITIAL))
        assert nemesis_checker.check(history).violations, seed


def test_a_client_record_is_read():
    ops = nemesis_history.read_client("n2c1", [
        "b 10 move tok/1 a b\n", "e 20 maybe 16\n", "b 30 list tok/1\n",
        "e 40 ok 0 b\n", "b 50 lock x\n"])
    assert [op.end for op in ops] == [20, 40, NEVER]
    assert ops[0].argument == "a b"
    assert ops[0].node == "n2"
    with pytest.raises(nemesis_history.HistoryError, match="n2c1:1"):
        nemesis_history.read_client("n2c1", ["e 20 ok 0\n"])
