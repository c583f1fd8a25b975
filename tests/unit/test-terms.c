#include "config.h"

#include "pmxcfs/core/terms.h"

#include <string.h>

static const CfsEpoch first_epoch = {1, 100, 1, 11};
static const CfsEpoch second_epoch = {2, 200, 1, 11};

/* A member on node @nodeid; its pid is ten times that, and one. */
static CfsMember
member(guint32 nodeid)
{
    return (CfsMember){nodeid, nodeid * 10 + 1};
}

static CfsTerms *
terms_of(guint n)
{
    CfsTerms *self = cfs_terms_new();
    CfsMember members[8];

    for (guint i = 0; i < n; i++) {
        members[i] = member(i + 1);
    }
    cfs_terms_set_members(self, member(1), members, n);
    cfs_terms_begin_round(self);
    return self;
}

static CfsTermMessage
copy_at(guint64 term, guint64 acked, guint64 version, guint n_nodes)
{
    CfsTermMessage message = {.features = CFS_FEATURES_ALL,
                              .version = version,
                              .mtime = 1000,
                              .n_nodes = n_nodes};

    message.record.term = term;
    message.record.seen = term;
    message.record.acked = acked;
    return message;
}

static void
add(CfsTerms *self, guint32 nodeid, CfsTermMessage message)
{
    message.content[0] = (guint8)nodeid; /* no two are the same */
    cfs_terms_add_term(self, member(nodeid), &message);
}

/* The header of an index, as a reference peer's STATE begins. */
static void
add_reference(CfsTerms *self, guint32 nodeid, guint64 version)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) state = NULL;

    pve_write_u64(out, version);
    pve_write_u64(out, 0);
    pve_write_u32(out, 0);
    pve_write_u32(out, 1000);
    state = g_bytes_new(out->data, out->len);
    cfs_terms_add_state(self, member(nodeid), state);
}

static void
test_complete(void)
{
    g_autoptr(CfsTerms) self = terms_of(3);

    add(self, 1, copy_at(0, 0, 5, 3));
    add(self, 2, copy_at(0, 0, 5, 3));
    g_assert_false(cfs_terms_take_complete(self));
    g_assert_cmpuint(cfs_terms_features(self), ==, 0);
    add(self, 9, copy_at(0, 0, 5, 3)); /* no member */
    g_assert_false(cfs_terms_take_complete(self));
    add(self, 3, copy_at(0, 0, 5, 3));
    g_assert_true(cfs_terms_take_complete(self));
    g_assert_false(cfs_terms_take_complete(self)); /* once */
    g_assert_cmpuint(cfs_terms_features(self), ==, CFS_FEATURES_ALL);

    cfs_terms_begin_round(self);
    g_assert_cmpuint(cfs_terms_features(self), ==, 0);
    g_assert_false(cfs_terms_take_complete(self));
}

static void
test_reference_peer(void)
{
    g_autoptr(CfsTerms) self = terms_of(3);
    CfsMember candidate = {0};

    add(self, 1, copy_at(3, 0, 50, 3));
    add(self, 2, copy_at(2, 0, 70, 3));
    add_reference(self, 3, 90);
    g_assert_true(cfs_terms_take_complete(self));
    g_assert_cmpuint(cfs_terms_features(self), ==, 0);
    g_assert_cmpuint(cfs_terms_n_ours(self), ==, 2);
    /* Ours are a majority: the newest of them leads, above all. */
    g_assert_cmpuint(cfs_terms_raise(self, &candidate), ==, 91);
    g_assert_cmpuint(candidate.nodeid, ==, 1);
}

static void
test_reference_majority(void)
{
    g_autoptr(CfsTerms) self = terms_of(3);
    CfsMember candidate = {0};

    add(self, 1, copy_at(3, 0, 50, 3));
    add_reference(self, 2, 90);
    add_reference(self, 3, 90);
    g_assert_true(cfs_terms_take_complete(self));
    g_assert_cmpuint(cfs_terms_raise(self, &candidate), ==, 0);
    /* ... and begins no term: another such majority may share only node 2. */
    (void)cfs_terms_settle(self, member(2), &first_epoch, 90);
    g_assert_false(cfs_terms_has_majority(self));
    g_assert_cmpuint(cfs_terms_record(self)->term, ==, 0);
}

/* Each line: who of two copies is the newest, and what it must become. */
static void
test_newest(void)
{
    static const struct {
        guint64 a[3], b[3]; /* term, acked, version */
        guint32 newest;
        guint64 raised;
    } rows[] = {
        {{5, 0, 100}, {4, 0, 100}, 1, 0},  /* equal but for the term */
        {{4, 0, 100}, {5, 0, 90}, 2, 101}, /* counted on behind a cut */
        {{5, 0, 90}, {5, 80, 85}, 2, 91},  /* ... in the same term */
        {{5, 80, 90}, {5, 80, 95}, 2, 0},  /* else the version decides */
        {{5, 80, 95}, {5, 80, 95}, 1, 0},  /* else the lower node */
        {{0, 0, 10}, {0, 0, 20}, 2, 0},    /* as it was without terms */
        {{0, 0, 10}, {1, 0, 10}, 2, 11},   /* no term is the lowest */
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(CfsTerms) self = terms_of(2);
        CfsMember candidate = {0};

        add(self, 1, copy_at(rows[i].a[0], rows[i].a[1], rows[i].a[2], 3));
        add(self, 2, copy_at(rows[i].b[0], rows[i].b[1], rows[i].b[2], 3));
        g_assert_true(cfs_terms_take_complete(self));
        g_assert_cmpuint(cfs_terms_raise(self, &candidate), ==, rows[i].raised);
        g_assert_cmpuint(candidate.nodeid, ==, rows[i].newest);
    }
}

/* A node that was restarted: the same files, an older record. It may lead, and
 * the newer record is everyone's. */
static void
test_same_content(void)
{
    g_autoptr(CfsTerms) self = terms_of(2);
    CfsTermMessage old = copy_at(4, 0, 100, 3), newer = copy_at(5, 90, 100, 3);
    CfsMember candidate = {0};

    cfs_terms_add_term(self, member(1), &old);
    cfs_terms_add_term(self, member(2), &newer);
    g_assert_true(cfs_terms_take_complete(self));
    g_assert_cmpuint(cfs_terms_raise(self, &candidate), ==, 0);
    g_assert_cmpuint(candidate.nodeid, ==, 2);
    (void)cfs_terms_settle(self, member(1), &first_epoch, 100);
    g_assert_cmpuint(cfs_terms_record(self)->term, ==, 5);
    g_assert_cmpuint(cfs_terms_record(self)->acked, ==, 90);
}

static void
settle_all(CfsTerms *self, guint n, guint n_nodes, const CfsEpoch *epoch)
{
    cfs_terms_begin_round(self);
    for (guint i = 0; i < n; i++) {
        CfsTermMessage message = copy_at(0, 0, 100, n_nodes);

        if (i == 0) {
            cfs_terms_fill(self, &message);
        }
        add(self, i + 1, message);
    }
    g_assert_true(cfs_terms_take_complete(self));
    (void)cfs_terms_settle(self, member(1), epoch, 100);
    g_assert_false(cfs_terms_has_majority(self)); /* no disk has it yet */
    if (cfs_terms_is_beginning(self)) {
        cfs_terms_begin(self);
    }
}

static void
test_begins(void)
{
    g_autoptr(CfsTerms) self = terms_of(2);
    guint64 id;

    settle_all(self, 2, 3, &first_epoch);
    g_assert_true(cfs_terms_has_majority(self));
    g_assert_cmpuint(cfs_terms_record(self)->term, ==, 1);
    g_assert_cmpuint(cfs_terms_record(self)->history[0].version, ==, 100);
    id = cfs_terms_record(self)->cluster_id;
    g_assert_cmpuint(id, !=, 0);

    settle_all(self, 2, 3, &second_epoch);
    g_assert_cmpuint(cfs_terms_record(self)->term, ==, 2);
    g_assert_cmpuint(cfs_terms_record(self)->n_history, ==, 2);
    g_assert_cmpuint(cfs_terms_record(self)->cluster_id, ==, id);
    g_assert_cmpuint(cfs_terms_record(self)->history[0].tag, !=,
                     cfs_terms_record(self)->history[1].tag);
}

/* Half of the nodes is none, whatever the votes say; nor is an unknown list. */
static void
test_no_majority(void)
{
    g_autoptr(CfsTerms) half = terms_of(2), unknown = terms_of(2);

    settle_all(half, 2, 4, &first_epoch);
    g_assert_false(cfs_terms_has_majority(half));
    g_assert_cmpuint(cfs_terms_record(half)->term, ==, 0);
    settle_all(unknown, 2, 0, &first_epoch);
    g_assert_false(cfs_terms_has_majority(unknown));
}

/* Two processes of one node are one node. */
static void
test_nodes_not_processes(void)
{
    g_autoptr(CfsTerms) self = cfs_terms_new();
    const CfsMember members[] = {{1, 11}, {1, 12}};
    CfsTermMessage message = copy_at(0, 0, 100, 3);

    cfs_terms_set_members(self, members[0], members, 2);
    cfs_terms_begin_round(self);
    cfs_terms_add_term(self, members[0], &message);
    cfs_terms_add_term(self, members[1], &message);
    g_assert_true(cfs_terms_take_complete(self));
    g_assert_cmpuint(cfs_terms_n_ours(self), ==, 1);
    (void)cfs_terms_settle(self, members[0], &first_epoch, 100);
    g_assert_false(cfs_terms_has_majority(self));
}

/* A number that somebody knows of is never used again. */
static void
test_seen(void)
{
    g_autoptr(CfsTerms) self = terms_of(2);
    CfsTermMessage other = copy_at(2, 0, 100, 3);

    other.record.seen = 9;
    add(self, 1, copy_at(3, 0, 100, 3));
    add(self, 2, other);
    g_assert_true(cfs_terms_take_complete(self));
    (void)cfs_terms_settle(self, member(1), &first_epoch, 100);
    /* Used from now on, though it does not count before it is on the disks. */
    g_assert_cmpuint(cfs_terms_record(self)->seen, ==, 10);
    g_assert_cmpuint(cfs_terms_record(self)->term, ==, 3);
    g_assert_cmpuint(cfs_terms_current(self), ==, 10);
    cfs_terms_begin(self);
    g_assert_cmpuint(cfs_terms_record(self)->term, ==, 10);
}

static void
test_history_is_bounded(void)
{
    g_autoptr(CfsTerms) self = terms_of(2);

    for (guint32 i = 1; i <= CFS_TERM_HISTORY + 5; i++) {
        const CfsEpoch epoch = {i, i, 1, 11};

        settle_all(self, 2, 3, &epoch);
    }
    g_assert_cmpuint(cfs_terms_record(self)->n_history, ==, CFS_TERM_HISTORY);
    g_assert_cmpuint(cfs_terms_record(self)->history[0].term, ==, 6);
}

static void
add_named(CfsTerms *self, guint32 nodeid, const char *name, guint64 id)
{
    CfsTermMessage message = copy_at(1, 0, 100, 3);

    g_strlcpy(message.name, name, sizeof(message.name));
    message.record.cluster_id = id;
    add(self, nodeid, message);
}

static CfsTermsVerdict
judge(CfsTerms *self, char **why)
{
    g_assert_true(cfs_terms_take_complete(self));
    return cfs_terms_judge(self, why);
}

static void
test_foreign(void)
{
    g_autoptr(CfsTerms) self = terms_of(3), tie = terms_of(2);
    g_autofree char *why = NULL, *why_tie = NULL;

    add_named(self, 1, "lab", 5);
    add_named(self, 2, "office", 6);
    add_named(self, 3, "office", 6);
    g_assert_cmpint(judge(self, &why), ==, CFS_TERMS_REFUSED);
    g_assert_cmpstr(why, ==,
                    "node 1 of 'lab' and cluster 'office' were never one");

    add_named(tie, 1, "lab", 0);
    add_named(tie, 2, "office", 0);
    g_assert_cmpint(judge(tie, &why_tie), ==, CFS_TERMS_OTHERS_REFUSED);
}

static void
test_renamed(void)
{
    g_autoptr(CfsTerms) self = terms_of(3), bridge = terms_of(3);
    g_autofree char *why = NULL, *why_bridge = NULL;

    /* Node 3 was off while the cluster was renamed. */
    add_named(self, 1, "new-lab", 5);
    add_named(self, 2, "new-lab", 5);
    add_named(self, 3, "lab", 5);
    g_assert_cmpint(judge(self, &why), ==, CFS_TERMS_AGREE);
    /* Node 3 never got an id, but its name is that of node 2. */
    add_named(bridge, 1, "new-lab", 5);
    add_named(bridge, 2, "lab", 5);
    add_named(bridge, 3, "lab", 0);
    g_assert_cmpint(judge(bridge, &why_bridge), ==, CFS_TERMS_AGREE);
}

static void
test_nameless(void)
{
    g_autoptr(CfsTerms) self = terms_of(3);
    g_autofree char *why = NULL;

    add_named(self, 1, "", 0);
    add_named(self, 2, "lab", 5);
    add_reference(self, 3, 7);
    g_assert_cmpint(judge(self, &why), ==, CFS_TERMS_AGREE);
    g_assert_null(why);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/terms/complete", test_complete);
    g_test_add_func("/terms/reference-peer", test_reference_peer);
    g_test_add_func("/terms/reference-majority", test_reference_majority);
    g_test_add_func("/terms/newest", test_newest);
    g_test_add_func("/terms/same-content", test_same_content);
    g_test_add_func("/terms/begins", test_begins);
    g_test_add_func("/terms/no-majority", test_no_majority);
    g_test_add_func("/terms/nodes-not-processes", test_nodes_not_processes);
    g_test_add_func("/terms/seen", test_seen);
    g_test_add_func("/terms/history-is-bounded", test_history_is_bounded);
    g_test_add_func("/terms/foreign", test_foreign);
    g_test_add_func("/terms/renamed", test_renamed);
    g_test_add_func("/terms/nameless", test_nameless);
    return g_test_run();
}
