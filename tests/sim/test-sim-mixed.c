/* Clusters of ours and of the reference's model: the scenarios of
 * spec/replication.md 14 that concern the database group, each in several
 * mixtures, so that ours leads and follows. */
#include "config.h"

#include "tests/sim/sim-mixed.h"

#include <errno.h>
#include <string.h>

/* Of three nodes; the first has the lowest id. */
static const char *const mixtures[] = {"ooo", "roo", "oro", "rro",
                                       "orr", "ror", "oor"};

typedef void (*Scenario)(SimMixed *c);

static void
run_scenario(gconstpointer data)
{
    Scenario *scenario = (Scenario *)data;

    for (guint i = 0; i < G_N_ELEMENTS(mixtures); i++) {
        for (guint k = 0; k < 3; k++) {
            g_autoptr(SimMixed) c =
                sim_mixed_new(mixtures[i], (guint32)g_test_rand_int());

            (*scenario)(c);
        }
    }
}

/* --- small parts ------------------------------------------------------------
 */

static const CfsEntry *
find(SimMixed *c, guint node, const char *path)
{
    return cfs_tree_lookup(sim_mixed_tree(c, node), path);
}

static void
assert_content(SimMixed *c, const char *path, const char *text)
{
    for (guint i = 0; i < sim_mixed_n_nodes(c); i++) {
        const CfsEntry *entry;

        if (!sim_mixed_is_up(c, i)) {
            continue;
        }
        entry = find(c, i, path);
        if (text == NULL) {
            g_assert_null(entry);
            continue;
        }
        g_assert_nonnull(entry);
        g_assert_cmpmem(g_bytes_get_data(entry->data, NULL), entry->size, text,
                        strlen(text));
    }
}

static void
write_ok(SimMixed *c, guint node, const char *path, const char *text)
{
    g_assert_cmpint(sim_mixed_write(c, node, path, text), ==, 0);
}

static CfsOp *
mkdir_op(const char *path)
{
    return cfs_op_new(CFS_OP_MKDIR, path);
}

static void
settle(SimMixed *c)
{
    sim_mixed_run(c);
    sim_mixed_assert_equal(c);
}

/* A request of the lowest node, which the reference sends each hour, or ours
 * some seconds after a synchronisation; nobody leaves for it. */
static void
verify(SimMixed *c)
{
    guint left[3] = {0};

    for (guint i = 0; i < sim_mixed_n_nodes(c); i++) {
        left[i] = sim_mixed_n_left(c, i);
    }
    for (guint i = 0; i < sim_mixed_n_nodes(c); i++) {
        SimReference *reference = sim_mixed_reference(c, i);

        if (reference != NULL) {
            sim_reference_verify(reference);
        }
    }
    for (guint i = 0; i < 50; i++) {
        sim_mixed_advance(c, 250);
        while (sim_mixed_step(c)) {
        }
    }
    for (guint i = 0; i < sim_mixed_n_nodes(c); i++) {
        g_assert_cmpuint(sim_mixed_n_left(c, i), ==, left[i]);
    }
    sim_mixed_assert_equal(c);
}

/* --- starting and joining ---------------------------------------------------
 */

/* 14.1: the newest of three fresh trees leads. */
static void
fresh_nodes(SimMixed *c)
{
    for (guint i = 0; i < 3; i++) {
        sim_mixed_set_clock(c, i, i == 1 ? 100 : i);
    }
    sim_mixed_start_all(c);
    sim_mixed_assert_equal(c);
    g_assert_cmpuint(cfs_tree_root(sim_mixed_tree(c, 0))->mtime, ==,
                     1700000100);
    verify(c);
}

/* 14.2: an empty node gets everything; the others only pause for the states,
 * so a write of theirs comes through while it is being updated. */
static void
empty_node(SimMixed *c)
{
    guint64 request;
    guint before;

    sim_mixed_start_all(c);
    for (guint i = 0; i < 30; i++) {
        g_autofree char *path = g_strdup_printf("f%u", i);

        write_ok(c, i % 3, path, path);
    }
    sim_mixed_stop(c, 2);
    sim_mixed_wipe(c, 2);
    sim_mixed_run(c);
    before = sim_mixed_n_updates(c);
    sim_mixed_start(c, 2);
    request = sim_mixed_submit(c, 0, mkdir_op("meanwhile"));
    settle(c);
    g_assert_cmpint(sim_mixed_verdict(c, 0, request), ==, 0);
    g_assert_cmpuint(sim_mixed_n_updates(c) - before, >=, 31);
    g_assert_cmpuint(sim_mixed_n_updated(c, 2), ==, 1);
    verify(c);
}

/* 14.3: deletion, change, creation and rename elsewhere: the root and three
 * entries are sent. */
static void
older_node(SimMixed *c)
{
    guint before;

    sim_mixed_start_all(c);
    write_ok(c, 0, "deleted", "x");
    write_ok(c, 1, "changed", "x");
    write_ok(c, 2, "renamed", "x");
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_run(c);
    g_assert_cmpint(
        sim_mixed_change(c, 0, cfs_op_new(CFS_OP_DELETE, "deleted")), ==, 0);
    write_ok(c, 1, "changed", "y");
    g_assert_cmpint(sim_mixed_change(c, 0, mkdir_op("made")), ==, 0);
    g_assert_cmpint(
        sim_mixed_change(c, 1, cfs_op_new_rename("renamed", "named")), ==, 0);
    before = sim_mixed_n_updates(c);
    sim_mixed_start(c, 2);
    settle(c);
    g_assert_cmpuint(sim_mixed_n_updates(c) - before, ==, 4);
    assert_content(c, "deleted", NULL);
    assert_content(c, "changed", "y");
    assert_content(c, "named", "x");
    verify(c);
}

/* 14.4: a restart: nothing is sent, nobody is behind. */
static void
identical_node(SimMixed *c)
{
    guint before;

    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "x");
    settle(c);
    sim_mixed_stop(c, 1);
    sim_mixed_run(c);
    before = sim_mixed_n_updates(c);
    sim_mixed_start(c, 1);
    settle(c);
    g_assert_cmpuint(sim_mixed_n_updates(c), ==, before);
    g_assert_cmpuint(sim_mixed_n_updated(c, 1), ==, 0);
    verify(c);
}

/* 14.5: edited offline, with more changes than the others made. */
static void
newer_node(SimMixed *c)
{
    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "x");
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_run(c);
    write_ok(c, 0, "f", "y");
    for (guint i = 0; i < 5; i++) {
        g_autofree char *path = g_strdup_printf("d%u", i);

        sim_mixed_edit(c, 2, mkdir_op(path));
    }
    sim_mixed_start(c, 2);
    settle(c);
    assert_content(c, "f", "x");
    verify(c);
}

/* --- partitions --------------------------------------------------------------
 */

/* 14.6: the minority refuses; after healing the majority leads. */
static void
partition(SimMixed *c)
{
    sim_mixed_start_all(c);
    write_ok(c, 2, "f", "x");
    sim_mixed_split(c, "01|2");
    sim_mixed_run(c);
    write_ok(c, 0, "f", "y");
    write_ok(c, 1, "g", "y");
    g_assert_cmpint(sim_mixed_write(c, 2, "f", "z"), ==, EACCES);
    sim_mixed_heal(c);
    settle(c);
    assert_content(c, "f", "y");
    assert_content(c, "g", "y");
    verify(c);
}

/* 14.7: submitted in the minority before the partition is known there. */
static void
late_write(SimMixed *c)
{
    guint64 request;
    int verdict;

    sim_mixed_start_all(c);
    request = sim_mixed_submit(c, 2, mkdir_op("d"));
    sim_mixed_split(c, "01|2");
    sim_mixed_run(c);
    verdict = sim_mixed_verdict(c, 2, request);
    g_assert_true(verdict == EPERM || verdict == EACCES || verdict == EBUSY ||
                  verdict == 0);
    sim_mixed_heal(c);
    settle(c);
    verify(c);
}

/* Both sides write, the second with quorum by force; the side with @more
 * changes leads. */
static void
both_write(SimMixed *c, guint n_majority, guint n_minority)
{
    sim_mixed_start_all(c);
    write_ok(c, 0, "conflict", "old");
    settle(c);
    sim_mixed_split(c, "01|2!");
    sim_mixed_run(c);
    for (guint i = 0; i < n_majority; i++) {
        write_ok(c, i % 2, "conflict", "majority");
    }
    for (guint i = 0; i < n_minority; i++) {
        write_ok(c, 2, "conflict", "minority");
    }
    sim_mixed_heal(c);
    settle(c);
}

/* 14.8 */
static void
minority_leads(SimMixed *c)
{
    both_write(c, 2, 5);
    assert_content(c, "conflict", "minority");
    verify(c);
}

/* 14.9 */
static void
majority_leads(SimMixed *c)
{
    both_write(c, 5, 2);
    assert_content(c, "conflict", "majority");
    verify(c);
}

/* 14.10: equal versions: the later time leads. */
static void
later_leads(SimMixed *c)
{
    for (guint i = 0; i < 3; i++) {
        sim_mixed_set_clock(c, i, i == 2 ? 50 : 0);
    }
    both_write(c, 3, 3);
    assert_content(c, "conflict", "minority");
    verify(c);
}

/* 14.8 with files: what the majority had is not lost, where a node of ours had
 * it. */
static void
overruled(SimMixed *c)
{
    sim_mixed_start_all(c);
    write_ok(c, 0, "same", "x");
    write_ok(c, 0, "conflict", "old");
    write_ok(c, 0, "deleted", "x");
    settle(c);
    sim_mixed_split(c, "01|2!");
    sim_mixed_run(c);
    write_ok(c, 0, "majority", "x");
    write_ok(c, 1, "conflict", "majority");
    for (guint i = 0; i < 3; i++) {
        g_autofree char *path = g_strdup_printf("minority-%u", i);

        write_ok(c, 2, path, "y");
    }
    write_ok(c, 2, "conflict", "minority");
    sim_mixed_heal(c);
    settle(c);
    assert_content(c, "conflict", "minority");
    assert_content(c, "majority", NULL);
    for (guint i = 0; i < 3; i++) {
        gboolean is_loser = i < 2 && sim_mixed_is_ours(c, i);

        g_assert_true(sim_mixed_was_overruled(c, i, "majority") == is_loser);
        g_assert_true(sim_mixed_was_overruled(c, i, "conflict") == is_loser);
        g_assert_false(sim_mixed_was_overruled(c, i, "same"));
    }
}

/* Who only was away has nothing to keep, but what it cannot tell from a loss:
 * what was deleted meanwhile. A new node has nothing at all. */
static void
superseded(SimMixed *c)
{
    sim_mixed_start_all(c);
    write_ok(c, 0, "changed", "x");
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_run(c);
    write_ok(c, 0, "changed", "y");
    write_ok(c, 1, "new", "y");
    sim_mixed_start(c, 2);
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_wipe(c, 2);
    sim_mixed_start(c, 2);
    settle(c);
    for (guint i = 0; i < 3; i++) {
        g_assert_cmpuint(sim_mixed_n_overruled(c, i), ==, 0);
    }
}

/* With terms: where ours are a majority of the nodes, what that did is kept,
 * also beside a reference node that counted on by itself, which follows. */
static void
terms_lead(SimMixed *c)
{
    if (!sim_mixed_is_ours(c, 0) || !sim_mixed_is_ours(c, 1)) {
        return;
    }
    sim_mixed_tell_nodes(c);
    both_write(c, 2, 5);
    assert_content(c, "conflict", "majority");
    g_assert_true(sim_mixed_was_overruled(c, 2, "conflict") ==
                  sim_mixed_is_ours(c, 2));
    verify(c);
}

/* With terms a node of ours that only was away knows that what it has and the
 * others lack was deleted. */
static void
deleted_meanwhile(SimMixed *c)
{
    sim_mixed_tell_nodes(c);
    sim_mixed_start_all(c);
    write_ok(c, 0, "deleted", "x");
    write_ok(c, 0, "changed", "x");
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_run(c);
    write_ok(c, 1, "changed", "y");
    g_assert_cmpint(
        sim_mixed_change(c, 0, cfs_op_new(CFS_OP_DELETE, "deleted")), ==, 0);
    sim_mixed_start(c, 2);
    settle(c);
    assert_content(c, "deleted", NULL);
    if (sim_mixed_is_ours(c, 0) && sim_mixed_is_ours(c, 1)) {
        g_assert_cmpuint(sim_mixed_n_overruled(c, 2), ==, 0);
    }
    verify(c);
}

/* --- who dies meanwhile
 * -------------------------------------------------------
 */

/* Node 2 is empty and joins; goes on until the first update that is not lost.
 */
static void
begin_transfer(SimMixed *c, guint n_lost)
{
    sim_mixed_start_all(c);
    for (guint i = 0; i < 20; i++) {
        g_autofree char *path = g_strdup_printf("f%u", i);

        write_ok(c, 0, path, path);
    }
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_wipe(c, 2);
    sim_mixed_run(c);
    sim_mixed_lose_updates(c, 0, n_lost);
    sim_mixed_start(c, 2);
    for (guint before = sim_mixed_n_updates(c);
         sim_mixed_n_updates(c) == before;) {
        g_assert_true(sim_mixed_step(c));
    }
}

/* 14.11: the leader dies while it sends; equal copies lead by the lowest. */
static void
leader_dies(SimMixed *c)
{
    begin_transfer(c, 0);
    sim_mixed_kill(c, 0);
    sim_mixed_run(c);
    sim_mixed_assert_equal(c);
    sim_mixed_start(c, 0);
    settle(c);
    verify(c);
}

/* 14.12: the joiner dies while it is being updated. */
static void
joiner_dies(SimMixed *c)
{
    begin_transfer(c, 0);
    sim_mixed_kill(c, 2);
    sim_mixed_run(c);
    sim_mixed_assert_equal(c);
    sim_mixed_start(c, 2);
    settle(c);
    assert_content(c, "f3", "f3");
    verify(c);
}

/* 14.26: an update gets lost: the commit is refused, the node comes back. */
static void
incomplete_transfer(SimMixed *c)
{
    begin_transfer(c, 1);
    settle(c);
    assert_content(c, "f3", "f3");
    g_assert_cmpuint(sim_mixed_n_left(c, 2), ==, 1);
    if (sim_mixed_is_ours(c, 2)) {
        verify(c);
        g_assert_cmpint(sim_mixed_change(c, 2, mkdir_op("after")), ==, 0);
    }
}

/* --- changes -----------------------------------------------------------------
 */

/* 14.13: exactly one creates, whoever it is. */
static void
one_creator(SimMixed *c)
{
    sim_mixed_start_all(c);
    for (guint i = 0; i < 20; i++) {
        g_autofree char *path = g_strdup_printf("d%u", i);
        guint64 request[3];
        guint n_made = 0;

        for (guint k = 0; k < 3; k++) {
            request[k] = sim_mixed_submit(
                c, k,
                cfs_op_new(i % 2 == 0 ? CFS_OP_MKDIR : CFS_OP_CREATE, path));
        }
        sim_mixed_run(c);
        for (guint k = 0; k < 3; k++) {
            int verdict = sim_mixed_verdict(c, k, request[k]);

            g_assert_true(verdict == 0 || verdict == EEXIST);
            n_made += verdict == 0;
        }
        g_assert_cmpuint(n_made, ==, 1);
    }
    sim_mixed_assert_equal(c);
    verify(c);
}

/* 14.14 */
static void
large_file(SimMixed *c)
{
    g_autoptr(GBytes) whole =
        g_bytes_new_take(g_malloc0(CFS_MAX_FILE_BYTES), CFS_MAX_FILE_BYTES);
    g_autoptr(GBytes) one = g_bytes_new_static("x", 1);

    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "");
    g_assert_cmpint(sim_mixed_change(c, 1, cfs_op_new_write("f", whole, 0)), ==,
                    0);
    g_assert_cmpint(
        sim_mixed_change(c, 2, cfs_op_new_write("f", one, CFS_MAX_FILE_BYTES)),
        ==, EFBIG);
    settle(c);
    g_assert_cmpuint(find(c, 2, "f")->size, ==, CFS_MAX_FILE_BYTES);
}

/* 14.16: many entries, led by whoever is lowest. */
static void
many_entries(SimMixed *c)
{
    sim_mixed_start_all(c);
    for (guint i = 0; i < 700; i++) {
        g_autofree char *path = g_strdup_printf("d%u", i);

        sim_mixed_submit(c, i % 3, mkdir_op(path));
    }
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_wipe(c, 2);
    sim_mixed_run(c);
    sim_mixed_start(c, 2);
    settle(c);
    g_assert_cmpuint(cfs_tree_n_entries(sim_mixed_tree(c, 2)), ==, 701);
    verify(c);
}

/* 14.15, 14.23 */
static void
many_changes(SimMixed *c)
{
    sim_mixed_start_all(c);
    for (guint i = 0; i < 200; i++) {
        g_autofree char *path = g_strdup_printf("f%u", i / 2);
        g_autoptr(GBytes) data = g_bytes_new(path, strlen(path));

        for (guint k = 0; k < 3; k++) {
            sim_mixed_submit(c, k, cfs_op_new(CFS_OP_CREATE, path));
            sim_mixed_submit(c, k, cfs_op_new_write(path, data, k));
        }
    }
    settle(c);
    verify(c);
}

/* 14.31, 12.3: a rename that fails takes its target with it, everywhere. */
static void
failed_rename(SimMixed *c)
{
    sim_mixed_start_all(c);
    g_assert_cmpint(sim_mixed_change(c, 0, mkdir_op("a")), ==, 0);
    g_assert_cmpint(sim_mixed_change(c, 0, mkdir_op("a/in")), ==, 0);
    g_assert_cmpint(sim_mixed_change(c, 0, mkdir_op("b")), ==, 0);
    settle(c);
    sim_mixed_send(c, 0, cfs_op_new_rename("a", "b"));
    settle(c);
    g_assert_null(find(c, 0, "b"));
    verify(c);
}

static int
touch(SimMixed *c, guint node, guint32 mtime)
{
    int verdict =
        sim_mixed_change(c, node, cfs_op_new_mtime("priv/lock/L", mtime));

    sim_mixed_run(c);
    return verdict;
}

/* 14.25: only the owner renews; another can remove it after 120 s, which the
 * lowest node grants, whoever that is. */
static void
locks(SimMixed *c)
{
    guint32 now = 1700000000;
    int verdict;

    sim_mixed_start_all(c);
    g_assert_cmpint(sim_mixed_change(c, 0, mkdir_op("priv")), ==, 0);
    g_assert_cmpint(sim_mixed_change(c, 0, mkdir_op("priv/lock")), ==, 0);
    g_assert_cmpint(sim_mixed_change(c, 2, mkdir_op("priv/lock/L")), ==, 0);
    settle(c);
    g_assert_cmpint(touch(c, 1, 0), ==, EACCES);
    g_assert_nonnull(find(c, 0, "priv/lock/L"));
    g_assert_cmpint(touch(c, 2, now + 50), ==, 0);
    g_assert_cmpint(touch(c, 1, now + 60), ==, EACCES);
    for (guint i = 0; i < 122; i++) {
        sim_mixed_advance(c, 1000);
        sim_mixed_run(c);
    }
    verdict = touch(c, 1, 0);
    g_assert_true(verdict == EACCES || verdict == ENOENT);
    for (guint i = 0; i < 3; i++) {
        g_assert_null(find(c, i, "priv/lock/L"));
    }
    settle(c);
    verify(c);
}

/* --- frozen members ----------------------------------------------------------
 */

/* 14.18: frozen in SYNCED it holds up nobody, and catches up. */
static void
frozen(SimMixed *c)
{
    sim_mixed_start_all(c);
    sim_mixed_pause(c, 1, TRUE);
    for (guint i = 0; i < 50; i++) {
        g_autofree char *path = g_strdup_printf("f%u", i);

        write_ok(c, 0, path, path);
    }
    sim_mixed_pause(c, 1, FALSE);
    settle(c);
    verify(c);
}

/* 14.19: another restarts meanwhile: all wait; then what was queued is done. */
static void
frozen_and_restart(SimMixed *c)
{
    guint64 request;

    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "x");
    settle(c);
    sim_mixed_pause(c, 1, TRUE);
    sim_mixed_stop(c, 2);
    sim_mixed_run(c);
    sim_mixed_start(c, 2);
    request = sim_mixed_submit(c, 0, mkdir_op("d"));
    sim_mixed_run(c);
    g_assert_cmpint(sim_mixed_verdict(c, 0, request), ==, -1);
    sim_mixed_pause(c, 1, FALSE);
    settle(c);
    g_assert_cmpint(sim_mixed_verdict(c, 0, request), ==, 0);
    g_assert_nonnull(find(c, 2, "d"));
    verify(c);
}

/* 14.20: and a further one joins: all that was queued is sent again, and done
 * once, in the order of the counts. */
static void
queued_twice(SimMixed *c)
{
    guint64 first, second;

    sim_mixed_start_all(c);
    for (guint i = 0; i < 5; i++) {
        write_ok(c, 0, "f", "x"); /* counts of node 0 run ahead */
    }
    settle(c);
    sim_mixed_stop(c, 2);
    sim_mixed_run(c);
    sim_mixed_pause(c, 1, TRUE);
    sim_mixed_start(c, 2);
    first = sim_mixed_submit(c, 0, mkdir_op("first"));
    second = sim_mixed_submit(c, 2, mkdir_op("second"));
    sim_mixed_run(c);
    sim_mixed_kill(c, 2);
    sim_mixed_start(c, 2);
    sim_mixed_run(c);
    sim_mixed_pause(c, 1, FALSE);
    settle(c);
    g_assert_cmpint(sim_mixed_verdict(c, 0, first), ==, 0);
    g_assert_cmpint(sim_mixed_verdict(c, 2, second), ==, -1);
    g_assert_nonnull(find(c, 1, "first"));
    verify(c);
}

/* 14.21: who queued a change dies: it is dropped everywhere. */
static void
queued_and_dead(SimMixed *c)
{
    guint64 request;

    sim_mixed_start_all(c);
    sim_mixed_pause(c, 1, TRUE);
    sim_mixed_stop(c, 2);
    sim_mixed_run(c);
    sim_mixed_start(c, 2);
    sim_mixed_submit(c, 2, mkdir_op("gone"));
    request = sim_mixed_submit(c, 0, mkdir_op("stays"));
    sim_mixed_run(c);
    sim_mixed_kill(c, 2);
    sim_mixed_run(c);
    sim_mixed_pause(c, 1, FALSE);
    settle(c);
    g_assert_cmpint(sim_mixed_verdict(c, 0, request), ==, 0);
    g_assert_nonnull(find(c, 0, "stays"));
    g_assert_null(find(c, 0, "gone"));
    verify(c);
}

/* 14.22: ours in UPDATE match the synced members, whoever sends meanwhile. A
 * reference member in UPDATE would not: so only ours are behind here. */
static void
write_while_updated(SimMixed *c)
{
    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "x");
    settle(c);
    if (!sim_mixed_is_ours(c, 2)) {
        return;
    }
    sim_mixed_stop(c, 2);
    sim_mixed_wipe(c, 2);
    sim_mixed_run(c);
    sim_mixed_start(c, 2);
    for (guint i = 0; i < 60; i++) {
        g_autofree char *path = g_strdup_printf("d%u", i);

        sim_mixed_send(c, i % 3, mkdir_op(path));
        for (guint k = 0; k < 4; k++) {
            sim_mixed_step(c);
        }
    }
    settle(c);
    verify(c);
}

/* 14.17: corosync ends under a node, with a change under way: its caller hears
 * of it, the node is back by itself. */
static void
corosync_restarts(SimMixed *c)
{
    guint64 request;

    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "x");
    settle(c);
    request = sim_mixed_submit(c, 1, mkdir_op("under-way"));
    sim_mixed_restart_corosync(c, 1);
    write_ok(c, 0, "f", "y");
    settle(c);
    g_assert_cmpint(sim_mixed_verdict(c, 1, request), ==, EBUSY);
    assert_content(c, "f", "y");
    write_ok(c, 1, "f", "z");
    settle(c);
    verify(c);
}

/* --- what should not be ------------------------------------------------------
 */

static GBytes *
lie_of(SimMixed *c, guint node, guint16 type)
{
    CfsHeader header = {.type = type, .protocol = 1, .time = 1};
    GByteArray *out = g_byte_array_new();

    cfs_message_write(out, &header);
    pve_write_u64(out, 1);
    return g_byte_array_free_to_bytes(out);
}

/* 14.32: nonsense is survived, by ours without leaving where nobody can have
 * applied it. */
static void
nonsense(SimMixed *c)
{
    g_autoptr(GBytes) nothing = g_bytes_new_static("", 0);
    g_autoptr(GBytes) malformed = NULL;
    g_autoptr(GBytes) no_epoch = lie_of(c, 0, 9);
    g_autoptr(GBytes) unknown = lie_of(c, 0, 0);

    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "x");
    settle(c);
    malformed = g_bytes_new_from_bytes(unknown, 0, 20);
    sim_mixed_inject(c, 0, no_epoch);
    sim_mixed_inject(c, 1, nothing);
    sim_mixed_inject(c, 2, malformed);
    settle(c);
    for (guint i = 0; i < 3; i++) {
        g_assert_cmpuint(sim_mixed_n_left(c, i), ==,
                         sim_mixed_is_ours(c, i) ? 0 : 1);
    }
    write_ok(c, 0, "f", "y");
    settle(c);
    assert_content(c, "f", "y");
    verify(c);
}

/* Of the round under way: what the lowest node's next request will carry. */
static void
inject_verification(SimMixed *c, guint node, const CfsEpoch *epoch)
{
    for (guint i = 0; i < 2; i++) {
        CfsHeader header = {.type = i == 0 ? CFS_MESSAGE_VERIFY_REQUEST
                                           : CFS_MESSAGE_VERIFY,
                            .protocol = 1,
                            .time = 1,
                            .epoch = *epoch};
        GByteArray *out = g_byte_array_new();
        g_autoptr(GBytes) bytes = NULL;

        cfs_message_write(out, &header);
        pve_write_u64(out, 77);
        for (guint k = 0; k < CFS_DIGEST_SIZE && i == 1; k++) {
            pve_write_u8(out, (guint8)k);
        }
        bytes = g_byte_array_free_to_bytes(out);
        sim_mixed_inject(c, node, bytes);
    }
}

/* 14.24: a wrong checksum: who differs leaves, comes back, and is equal. */
static void
wrong_checksum(SimMixed *c)
{
    CfsEpoch epoch;

    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "x");
    settle(c);
    epoch = sim_mixed_epoch(c);
    inject_verification(c, 0, &epoch);
    settle(c);
    for (guint i = 0; i < 3; i++) {
        /* Our sum may not be done when the first leaves, which ends it. */
        g_assert_cmpuint(sim_mixed_n_left(c, i), <=, 1);
        g_assert_true(sim_mixed_n_left(c, i) == 1 || sim_mixed_is_ours(c, i));
    }
    assert_content(c, "f", "x");
    verify(c);
}

/* 12.1: two truncates that cross make a size without content. Ours repair it,
 * and a node that joins, ours or not, gets the same. */
static void
phantom(SimMixed *c)
{
    guint8 zeros[5] = {0};

    sim_mixed_start_all(c);
    write_ok(c, 0, "f", "");
    settle(c);
    sim_mixed_send(c, 1, cfs_op_new_truncate("f", 5));
    sim_mixed_run(c);
    for (guint i = 0; i < 20; i++) {
        sim_mixed_advance(c, 250);
        sim_mixed_run(c);
    }
    sim_mixed_assert_equal(c);
    g_assert_cmpuint(find(c, 0, "f")->size, ==, 5);
    for (guint i = 0; i < 3; i++) {
        g_assert_nonnull(find(c, i, "f")->data);
    }
    sim_mixed_stop(c, 2);
    sim_mixed_wipe(c, 2);
    sim_mixed_start(c, 2);
    settle(c);
    g_assert_cmpmem(g_bytes_get_data(find(c, 2, "f")->data, NULL),
                    find(c, 2, "f")->size, zeros, sizeof(zeros));
    verify(c);
}

static const struct {
    const char *name;
    Scenario scenario;
} scenarios[] = {
    {"/sim-mixed/14.1-fresh-nodes", fresh_nodes},
    {"/sim-mixed/14.2-empty-node", empty_node},
    {"/sim-mixed/14.3-older-node", older_node},
    {"/sim-mixed/14.4-identical-node", identical_node},
    {"/sim-mixed/14.5-newer-node", newer_node},
    {"/sim-mixed/14.6-partition", partition},
    {"/sim-mixed/14.7-late-write", late_write},
    {"/sim-mixed/14.8-minority-leads", minority_leads},
    {"/sim-mixed/14.9-majority-leads", majority_leads},
    {"/sim-mixed/14.10-later-leads", later_leads},
    {"/sim-mixed/14.8-overruled", overruled},
    {"/sim-mixed/14.3-superseded", superseded},
    {"/sim-mixed/terms-lead", terms_lead},
    {"/sim-mixed/terms-deleted-meanwhile", deleted_meanwhile},
    {"/sim-mixed/14.11-leader-dies", leader_dies},
    {"/sim-mixed/14.12-joiner-dies", joiner_dies},
    {"/sim-mixed/14.13-one-creator", one_creator},
    {"/sim-mixed/14.14-large-file", large_file},
    {"/sim-mixed/14.15-many-changes", many_changes},
    {"/sim-mixed/14.16-many-entries", many_entries},
    {"/sim-mixed/14.17-corosync-restarts", corosync_restarts},
    {"/sim-mixed/14.18-frozen", frozen},
    {"/sim-mixed/14.19-frozen-and-restart", frozen_and_restart},
    {"/sim-mixed/14.20-queued-twice", queued_twice},
    {"/sim-mixed/14.21-queued-and-dead", queued_and_dead},
    {"/sim-mixed/14.22-write-while-updated", write_while_updated},
    {"/sim-mixed/14.25-locks", locks},
    {"/sim-mixed/14.24-wrong-checksum", wrong_checksum},
    {"/sim-mixed/14.26-incomplete-transfer", incomplete_transfer},
    {"/sim-mixed/14.31-failed-rename", failed_rename},
    {"/sim-mixed/14.32-nonsense", nonsense},
    {"/sim-mixed/12.1-phantom", phantom},
};

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(scenarios); i++) {
        g_test_add_data_func(scenarios[i].name, &scenarios[i].scenario,
                             run_scenario);
    }
    return g_test_run();
}
