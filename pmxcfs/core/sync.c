#include "config.h"

#include "pmxcfs/core/sync.h"

typedef struct {
    CfsMember id;
    gboolean synced;
    GBytes *state;   /* NULL: not there yet */
    CfsIndex *index; /* when all are there */
} Member;

struct CfsSync {
    GArray *members; /* of Member, by node id, then pid */
    guint leader;    /* position, after deciding */
};

static void
member_clear(gpointer data)
{
    Member *self = data;

    g_clear_pointer(&self->state, g_bytes_unref);
    g_clear_pointer(&self->index, cfs_index_free);
}

CfsSync *
cfs_sync_new(void)
{
    CfsSync *self = g_new0(CfsSync, 1);

    self->members = g_array_new(FALSE, TRUE, sizeof(Member));
    g_array_set_clear_func(self->members, member_clear);
    return self;
}

void
cfs_sync_free(CfsSync *self)
{
    if (self == NULL) {
        return;
    }
    g_array_unref(self->members);
    g_free(self);
}

static Member *
member_at(CfsSync *self, guint position)
{
    return &g_array_index(self->members, Member, position);
}

static Member *
find(CfsSync *self, CfsMember id)
{
    for (guint i = 0; i < self->members->len; i++) {
        if (cfs_member_equal(member_at(self, i)->id, id)) {
            return member_at(self, i);
        }
    }
    return NULL;
}

void
cfs_sync_set_members(CfsSync *self, const CfsMember *members, guint n_members)
{
    self->leader = 0;
    g_array_set_size(self->members, 0);
    for (guint i = 0; i < n_members; i++) {
        Member member = {.id = members[i]};

        g_array_append_val(self->members, member);
    }
    /* A Member begins with its id. */
    g_array_sort(self->members, cfs_member_compare);
}

gboolean
cfs_sync_is_member(CfsSync *self, CfsMember member)
{
    return find(self, member) != NULL;
}

guint
cfs_sync_n_members(CfsSync *self)
{
    return self->members->len;
}

guint
cfs_sync_rank(CfsSync *self, CfsMember member)
{
    guint rank = 0;

    while (rank < self->members->len &&
           cfs_member_compare(&member_at(self, rank)->id, &member) < 0) {
        rank++;
    }
    return rank;
}

guint32
cfs_sync_lowest_nodeid(CfsSync *self)
{
    return self->members->len > 0 ? member_at(self, 0)->id.nodeid : G_MAXUINT32;
}

GArray *
cfs_sync_members(CfsSync *self)
{
    GArray *members = g_array_new(FALSE, FALSE, sizeof(CfsMember));

    for (guint i = 0; i < self->members->len; i++) {
        g_array_append_val(members, member_at(self, i)->id);
    }
    return members;
}

void
cfs_sync_forget_states(CfsSync *self)
{
    for (guint i = 0; i < self->members->len; i++) {
        member_clear(member_at(self, i));
        member_at(self, i)->synced = FALSE;
    }
}

static gboolean
is_newer(const CfsIndex *a, const CfsIndex *b)
{
    if (cfs_index_version(a) != cfs_index_version(b)) {
        return cfs_index_version(a) > cfs_index_version(b);
    }
    return cfs_index_mtime(a) > cfs_index_mtime(b);
}

/* The newest copy leads: highest version, then highest mtime, then the lowest
 * member, which the order of the table gives. FALSE: there is no copy. */
static gboolean
choose_leader(CfsSync *self)
{
    const CfsIndex *best = NULL;

    for (guint i = 0; i < self->members->len; i++) {
        const CfsIndex *here = member_at(self, i)->index;

        if (here != NULL && (best == NULL || is_newer(here, best))) {
            self->leader = i;
            best = here;
        }
    }
    return best != NULL;
}

static gboolean
decide(CfsSync *self)
{
    for (guint i = 0; i < self->members->len; i++) {
        Member *member = member_at(self, i);

        g_clear_pointer(&member->index, cfs_index_free);
        member->index = cfs_index_new(member->state);
    }
    if (!choose_leader(self)) {
        return FALSE;
    }
    for (guint i = 0; i < self->members->len; i++) {
        Member *member = member_at(self, i);

        member->synced =
            member->index != NULL &&
            cfs_index_equal(member->index, cfs_sync_leader_index(self));
    }
    return TRUE;
}

CfsSyncResult
cfs_sync_collect(CfsSync *self, CfsMember sender, GBytes *state)
{
    Member *member = find(self, sender);

    if (member == NULL || member->state != NULL) {
        return CFS_SYNC_REFUSED;
    }
    member->state = g_bytes_ref(state);
    for (guint i = 0; i < self->members->len; i++) {
        if (member_at(self, i)->state == NULL) {
            return CFS_SYNC_WAITING;
        }
    }
    return CFS_SYNC_COMPLETE;
}

CfsSyncResult
cfs_sync_add_state(CfsSync *self, CfsMember sender, GBytes *state)
{
    CfsSyncResult result = cfs_sync_collect(self, sender, state);

    return result == CFS_SYNC_COMPLETE && !decide(self) ? CFS_SYNC_MALFORMED
                                                        : result;
}

GPtrArray *
cfs_sync_states(CfsSync *self)
{
    GPtrArray *states = g_ptr_array_new();

    for (guint i = 0; i < self->members->len; i++) {
        g_ptr_array_add(states, member_at(self, i)->state);
    }
    return states;
}

CfsMember
cfs_sync_leader(CfsSync *self)
{
    return member_at(self, self->leader)->id;
}

const CfsIndex *
cfs_sync_leader_index(CfsSync *self)
{
    return member_at(self, self->leader)->index;
}

gboolean
cfs_sync_is_synced(CfsSync *self, CfsMember member)
{
    Member *found = find(self, member);

    return found != NULL && found->synced;
}

void
cfs_sync_set_all_synced(CfsSync *self)
{
    for (guint i = 0; i < self->members->len; i++) {
        member_at(self, i)->synced = TRUE;
    }
}

GHashTable *
cfs_sync_missing(CfsSync *self)
{
    GHashTable *inodes =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

    for (guint i = 0; i < self->members->len; i++) {
        if (i != self->leader) {
            cfs_index_missing(cfs_sync_leader_index(self),
                              member_at(self, i)->index, inodes);
        }
    }
    return inodes;
}

void
cfs_sync_done(CfsSync *self)
{
    for (guint i = 0; i < self->members->len; i++) {
        member_clear(member_at(self, i));
    }
}

static gboolean
is_one_of(const Member *member, CfsSyncWho who)
{
    switch (who) {
    case CFS_SYNC_ALL:
        break;
    case CFS_SYNC_SYNCED:
        return member->synced;
    case CFS_SYNC_SILENT:
        return member->state == NULL;
    case CFS_SYNC_UNREADABLE:
        return member->state != NULL && member->index == NULL;
    }
    return TRUE;
}

char *
cfs_sync_describe(CfsSync *self, CfsSyncWho who)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < self->members->len; i++) {
        const Member *member = member_at(self, i);

        if (is_one_of(member, who)) {
            g_string_append_printf(out, "%s%u/%u", out->len > 0 ? ", " : "",
                                   member->id.nodeid, member->id.pid);
        }
    }
    return g_string_free(out, FALSE);
}
