#include "config.h"

#include "pmxcfs/core/terms.h"

#include <string.h>

/* Where the header of an index has them: spec/replication.md 6.1. */
#define STATE_MTIME_OFFSET 20u

typedef struct {
    CfsMember id;
    gboolean has_state;
    guint64 version; /* of a reference peer, from its STATE */
    guint32 mtime;
    guint8 content[CFS_DIGEST_SIZE];
    CfsTermMessage *term; /* NULL: none, or not yet */
} Member;

struct CfsTerms {
    CfsTermRecord record;
    guint64 own_features;
    guint n_nodes;
    CfsMember me;
    GArray *members; /* of Member, by node id, then pid */
    gboolean is_complete;

    gboolean has_candidate;
    CfsMember candidate;
    guint64 features;   /* of the configuration */
    guint n_ours;       /* nodes */
    guint expected;     /* nodes, by what all members know; 0: not known */
    gboolean has_begun; /* a term, in this membership */
    gboolean is_beginning;
    CfsTermStart next; /* the term that is beginning */
};

static void
member_clear(gpointer data)
{
    g_clear_pointer(&((Member *)data)->term, g_free);
}

CfsTerms *
cfs_terms_new(void)
{
    CfsTerms *self = g_new0(CfsTerms, 1);

    self->own_features = CFS_FEATURES_ALL;
    self->members = g_array_new(FALSE, TRUE, sizeof(Member));
    g_array_set_clear_func(self->members, member_clear);
    return self;
}

void
cfs_terms_free(CfsTerms *self)
{
    if (self != NULL) {
        g_array_unref(self->members);
        g_free(self);
    }
}

const CfsTermRecord *
cfs_terms_record(CfsTerms *self)
{
    return &self->record;
}

void
cfs_terms_set_record(CfsTerms *self, const CfsTermRecord *record)
{
    self->record = *record;
}

void
cfs_terms_set_features(CfsTerms *self, guint64 features)
{
    self->own_features = features;
}

gboolean
cfs_terms_is_spoken(CfsTerms *self)
{
    return (self->own_features & CFS_FEATURE_TERMS) != 0;
}

void
cfs_terms_set_n_nodes(CfsTerms *self, guint n_nodes)
{
    self->n_nodes = n_nodes;
}

static Member *
member_at(CfsTerms *self, guint position)
{
    return &g_array_index(self->members, Member, position);
}

static Member *
find(CfsTerms *self, CfsMember id)
{
    for (guint i = 0; i < self->members->len; i++) {
        if (cfs_member_equal(member_at(self, i)->id, id)) {
            return member_at(self, i);
        }
    }
    return NULL;
}

/* --- a round -------------------------------------------------------------- */

static void
forget_configuration(CfsTerms *self)
{
    self->is_complete = FALSE;
    self->has_candidate = FALSE;
    self->features = 0;
    self->n_ours = 0;
    self->expected = 0;
    self->has_begun = FALSE;
    self->is_beginning = FALSE;
}

void
cfs_terms_set_members(CfsTerms *self,
                      CfsMember me,
                      const CfsMember *members,
                      guint n_members)
{
    self->me = me;
    g_array_set_size(self->members, 0);
    for (guint i = 0; i < n_members; i++) {
        Member member = {.id = members[i]};

        g_array_append_val(self->members, member);
    }
    /* A Member begins with its id. */
    g_array_sort(self->members, cfs_member_compare);
    forget_configuration(self);
}

void
cfs_terms_begin_round(CfsTerms *self)
{
    for (guint i = 0; i < self->members->len; i++) {
        member_clear(member_at(self, i));
        member_at(self, i)->has_state = FALSE;
    }
    forget_configuration(self);
}

void
cfs_terms_fill(CfsTerms *self, CfsTermMessage *message)
{
    message->features = self->own_features;
    message->n_nodes = MAX(message->n_nodes, self->n_nodes);
    message->record = self->record;
}

void
cfs_terms_add_term(CfsTerms *self,
                   CfsMember sender,
                   const CfsTermMessage *message)
{
    Member *member = find(self, sender);

    /* Behind its STATE it would change what others have decided. */
    if (member == NULL || member->term != NULL || member->has_state ||
        (message->features & CFS_FEATURE_TERMS) == 0) {
        return;
    }
    member->term = g_memdup2(message, sizeof(*message));
}

void
cfs_terms_add_state(CfsTerms *self, CfsMember sender, GBytes *state)
{
    Member *member = find(self, sender);
    PveReader reader;

    if (member == NULL || member->has_state) {
        return;
    }
    member->has_state = TRUE;
    pve_reader_init_bytes(&reader, state);
    member->version = pve_reader_u64(&reader);
    (void)pve_reader_take(&reader, STATE_MTIME_OFFSET - sizeof(guint64));
    member->mtime = pve_reader_u32(&reader);
    cfs_term_content(state, member->content);
}

/* Processes of one node lie together: the table is in the order of ids. */
static guint
count_nodes(CfsTerms *self, gboolean only_ours)
{
    guint n = 0;
    guint32 last = 0;
    gboolean has_last = FALSE;

    for (guint i = 0; i < self->members->len; i++) {
        const Member *member = member_at(self, i);

        if ((only_ours && member->term == NULL) ||
            (has_last && member->id.nodeid == last)) {
            continue;
        }
        last = member->id.nodeid;
        has_last = TRUE;
        n++;
    }
    return n;
}

/* What each member of ours finds alike. */
static void
conclude(CfsTerms *self)
{
    guint nodes = count_nodes(self, FALSE);

    self->is_complete = TRUE;
    self->features = G_MAXUINT64;
    self->n_ours = count_nodes(self, TRUE);
    for (guint i = 0; i < self->members->len; i++) {
        const CfsTermMessage *term = member_at(self, i)->term;

        self->features &= term != NULL ? term->features : 0;
        if (term != NULL) {
            self->expected = MAX(self->expected, term->n_nodes);
        }
    }
    if (self->expected > 0) {
        self->expected = MAX(self->expected, nodes);
    }
}

gboolean
cfs_terms_take_complete(CfsTerms *self)
{
    if (self->is_complete || self->members->len == 0) {
        return FALSE;
    }
    for (guint i = 0; i < self->members->len; i++) {
        const Member *member = member_at(self, i);

        if (member->term == NULL && !member->has_state) {
            return FALSE;
        }
    }
    conclude(self);
    return TRUE;
}

/* --- clusters that were never one ----------------------------------------- */

static gboolean
names_cluster(const Member *member)
{
    return member->term != NULL && member->term->name[0] != '\0';
}

static gboolean
is_foreign(const Member *a, const Member *b)
{
    guint64 id = a->term->record.cluster_id;

    return strcmp(a->term->name, b->term->name) != 0 &&
           (id == 0 || id != b->term->record.cluster_id);
}

/* Gives each member that names a cluster the position of the first member of
 * its side; G_MAXUINT to the others. Sides grow by what is not foreign. */
static void
find_sides(CfsTerms *self, guint *sides)
{
    guint n = self->members->len;

    for (guint i = 0; i < n; i++) {
        sides[i] = names_cluster(member_at(self, i)) ? i : G_MAXUINT;
    }
    for (guint i = 0; i < n; i++) {
        for (guint k = 0; k < i && sides[i] != G_MAXUINT; k++) {
            guint from, to;

            if (sides[k] == G_MAXUINT ||
                is_foreign(member_at(self, i), member_at(self, k))) {
                continue;
            }
            from = MAX(sides[i], sides[k]);
            to = MIN(sides[i], sides[k]);
            for (guint j = 0; j < n; j++) {
                sides[j] = sides[j] == from ? to : sides[j];
            }
        }
    }
}

static guint
side_size(const guint *sides, guint n, guint side)
{
    guint size = 0;

    for (guint i = 0; i < n; i++) {
        size += sides[i] == side;
    }
    return size;
}

static char *
describe_foreign(CfsTerms *self, const guint *sides, guint stays)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < self->members->len; i++) {
        const Member *member = member_at(self, i);

        if (sides[i] != G_MAXUINT && sides[i] != stays) {
            g_string_append_printf(out, "%snode %u of '%s'",
                                   out->len > 0 ? ", " : "", member->id.nodeid,
                                   member->term->name);
        }
    }
    return g_string_free(out, FALSE);
}

CfsTermsVerdict
cfs_terms_judge(CfsTerms *self, char **why)
{
    guint n = self->members->len, stays = G_MAXUINT, best = 0, named = 0;
    g_autofree guint *sides = g_new(guint, n + 1);
    g_autofree char *foreign = NULL;
    gboolean is_refused = FALSE;

    *why = NULL;
    find_sides(self, sides);
    for (guint i = 0; i < n; i++) {
        guint size = sides[i] == i ? side_size(sides, n, i) : 0;

        named += sides[i] != G_MAXUINT;
        if (size > best) { /* of equals the first: the lowest node id */
            best = size;
            stays = i;
        }
    }
    if (named == best) {
        return CFS_TERMS_AGREE;
    }
    for (guint i = 0; i < n; i++) {
        if (cfs_member_equal(member_at(self, i)->id, self->me)) {
            is_refused = sides[i] != G_MAXUINT && sides[i] != stays;
        }
    }
    foreign = describe_foreign(self, sides, stays);
    *why = g_strdup_printf("%s and cluster '%s' were never one", foreign,
                           member_at(self, stays)->term->name);
    return is_refused ? CFS_TERMS_REFUSED : CFS_TERMS_OTHERS_REFUSED;
}

/* --- the newest copy ------------------------------------------------------ */

gboolean
cfs_terms_is_majority(CfsTerms *self, guint n_nodes)
{
    guint expected = MAX(self->expected, self->n_nodes);

    return expected > 0 && n_nodes * 2 > expected;
}

static gboolean
counts(CfsTerms *self)
{
    for (guint i = 0; i < self->members->len; i++) {
        if (member_at(self, i)->term == NULL) {
            return self->expected > 0 && self->n_ours * 2 > self->expected;
        }
    }
    return TRUE;
}

static guint64
version_of(const Member *member)
{
    return member->term != NULL ? member->term->version : member->version;
}

static guint32
mtime_of(const Member *member)
{
    return member->term != NULL ? member->term->mtime : member->mtime;
}

static gboolean
is_newer_for_reference(const Member *a, const Member *b)
{
    if (version_of(a) != version_of(b)) {
        return version_of(a) > version_of(b);
    }
    return mtime_of(a) > mtime_of(b);
}

static gboolean
is_newer(const Member *a, const Member *b)
{
    const CfsTermRecord *x = &a->term->record, *y = &b->term->record;

    if (x->term != y->term) {
        return x->term > y->term;
    }
    if (x->acked != y->acked) {
        return x->acked > y->acked;
    }
    return is_newer_for_reference(a, b);
}

static gboolean
is_same_content(const Member *a, const Member *b)
{
    const guint8 *x = a->term != NULL ? a->term->content : a->content;
    const guint8 *y = b->term != NULL ? b->term->content : b->content;

    return memcmp(x, y, CFS_DIGEST_SIZE) == 0;
}

guint64
cfs_terms_raise(CfsTerms *self, CfsMember *candidate)
{
    const Member *best = NULL, *chosen = NULL;

    if (!counts(self)) {
        return 0;
    }
    for (guint i = 0; i < self->members->len; i++) {
        const Member *member = member_at(self, i);

        if (member->term != NULL && (best == NULL || is_newer(member, best))) {
            best = member;
        }
        if (chosen == NULL || is_newer_for_reference(member, chosen)) {
            chosen = member;
        }
    }
    if (best == NULL) {
        return 0;
    }
    *candidate = self->candidate = best->id;
    self->has_candidate = TRUE;
    /* A node that was restarted has an older record and the same files: let it
     * lead. Where numbers end a liar has the last word; sqlite ends there too.
     */
    return !is_same_content(chosen, best) && version_of(chosen) < G_MAXINT64
               ? version_of(chosen) + 1
               : 0;
}

/* --- synced --------------------------------------------------------------- */

/* Names what made it: an epoch happens once. */
static guint64
tag_of(const CfsEpoch *epoch)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    guint8 digest[32];
    gsize size = sizeof(digest);
    PveReader reader;

    pve_write_u32(bytes, epoch->counter);
    pve_write_u32(bytes, epoch->time);
    pve_write_u32(bytes, epoch->nodeid);
    pve_write_u32(bytes, epoch->pid);
    g_checksum_update(sum, bytes->data, bytes->len);
    g_checksum_get_digest(sum, digest, &size);
    pve_reader_init(&reader, digest, size);
    return MAX(pve_reader_u64(&reader), 1);
}

static void
append_start(CfsTermRecord *record, const CfsTermStart *start)
{
    if (record->n_history == CFS_TERM_HISTORY) {
        memmove(record->history, record->history + 1,
                (CFS_TERM_HISTORY - 1) * sizeof(*record->history));
        record->n_history--;
    }
    record->history[record->n_history++] = *start;
}

static void
prepare_term(CfsTerms *self, const CfsEpoch *epoch, guint64 version)
{
    if (self->record.seen == G_MAXINT64) {
        return; /* a liar's; nothing is above it */
    }
    self->record.seen++;
    self->next = (CfsTermStart){
        .term = self->record.seen, .version = version, .tag = tag_of(epoch)};
    self->is_beginning = TRUE;
}

gboolean
cfs_terms_is_beginning(CfsTerms *self)
{
    return self->is_beginning;
}

guint64
cfs_terms_current(CfsTerms *self)
{
    return self->is_beginning ? self->next.term : self->record.term;
}

void
cfs_terms_begin(CfsTerms *self)
{
    g_assert(self->is_beginning);
    self->record.term = self->next.term;
    self->record.acked = 0;
    append_start(&self->record, &self->next);
    if (self->record.cluster_id == 0) {
        self->record.cluster_id = self->next.tag;
    }
    self->is_beginning = FALSE;
    self->has_begun = TRUE;
}

/* Numbers stay used, and the id known, whoever leads. */
static void
adopt(CfsTerms *self, const Member *leader)
{
    guint64 seen = self->record.seen, id = 0;

    for (guint i = 0; i < self->members->len; i++) {
        const CfsTermMessage *term = member_at(self, i)->term;

        if (term != NULL) {
            seen = MAX(seen, MAX(term->record.seen, term->record.term));
            id = id != 0 ? id : term->record.cluster_id;
        }
    }
    if (leader != NULL && leader->term != NULL) {
        self->record = leader->term->record;
    }
    self->record.seen = seen;
    if (self->record.cluster_id == 0) {
        self->record.cluster_id = id;
    }
}

gboolean
cfs_terms_settle(CfsTerms *self,
                 CfsMember leader,
                 const CfsEpoch *epoch,
                 guint64 version)
{
    CfsTermRecord before = self->record;

    /* Who leads in its place has the same content. */
    adopt(self, find(self, self->has_candidate ? self->candidate : leader));
    if (self->expected > 0 && self->n_ours * 2 > self->expected) {
        prepare_term(self, epoch, version);
    }
    return memcmp(&before, &self->record, sizeof(before)) != 0;
}

gboolean
cfs_terms_settle_alone(CfsTerms *self, const CfsTermMessage *own)
{
    cfs_terms_begin_round(self);
    cfs_terms_add_term(self, self->me, own);
    if (!cfs_terms_take_complete(self) ||
        !cfs_terms_settle(self, self->me, &own->epoch, own->version)) {
        return FALSE;
    }
    if (self->is_beginning) {
        cfs_terms_begin(self); /* a majority of one: there is no other */
    }
    return TRUE;
}

/* The version up to which @history and the copy of @start's term are one; that
 * is where the next term began. */
static gboolean
holds(const CfsTermMessage *leader, const CfsTermStart *start, guint64 version)
{
    const CfsTermRecord *record = &leader->record;

    for (guint i = 0; i < record->n_history; i++) {
        if (record->history[i].term != start->term ||
            record->history[i].tag != start->tag) {
            continue;
        }
        return i + 1 < record->n_history
                   ? version <= record->history[i + 1].version
                   : version <= leader->version;
    }
    return FALSE;
}

static gboolean
is_comparable(const CfsTermRecord *record, const Member *leader)
{
    return leader->term != NULL && record->n_history > 0;
}

gboolean
cfs_terms_is_comparable(CfsTerms *self,
                        const CfsTermRecord *record,
                        CfsMember leader)
{
    const Member *member = find(self, leader);

    return member != NULL && is_comparable(record, member);
}

gboolean
cfs_terms_is_continued(CfsTerms *self,
                       const CfsTermRecord *record,
                       guint64 version,
                       CfsMember leader)
{
    const Member *member = find(self, leader);

    return member != NULL && is_comparable(record, member) &&
           holds(member->term, &record->history[record->n_history - 1],
                 version);
}

guint64
cfs_terms_features(CfsTerms *self)
{
    return self->features;
}

guint
cfs_terms_n_ours(CfsTerms *self)
{
    return self->n_ours;
}

gboolean
cfs_terms_has_majority(CfsTerms *self)
{
    return self->has_begun && cfs_terms_is_majority(self, self->n_ours);
}

gboolean
cfs_terms_note_acked(CfsTerms *self, guint64 version)
{
    gboolean is_more = version > self->record.acked;

    self->record.acked = MAX(version, self->record.acked);
    return is_more;
}

gboolean
cfs_terms_limit_acked(CfsTerms *self, guint64 version)
{
    gboolean is_less = version < self->record.acked;

    self->record.acked = MIN(version, self->record.acked);
    return is_less;
}
