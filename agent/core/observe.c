#include "config.h"

#include "agent/core/observe.h"

#include "common/names.h"

#include <string.h>

/* What is remembered of one file between pictures. */
typedef struct {
    guint64 inode;
    GBytes *content;
    gint64 since_us; /* first seen with this content */
    gboolean settled;
    AgentGuestConf *conf; /* nullable */
} Track;

struct AgentObserver {
    char *node;
    AgentSnapshot *snapshot; /* the last complete one */
    GHashTable *tracks;      /* "NODE/NAME" -> Track */
    GHashTable *layouts;     /* ctid -> text of where things were */
    GHashTable *deletions;   /* ctid -> gint64*, when seen; 0: start over */
    GHashTable *removals;    /* ctid -> gint64*, when seen */
    GPtrArray *guests;
    GPtrArray *requests;
    GPtrArray *records; /* parsed, kept for the guests */
    GPtrArray *texts;   /* reasons, kept for the guests */
};

/* --- snapshots --- */

AgentFile *
agent_file_new(AgentFileKind kind,
               const char *node,
               const char *name,
               guint32 ctid,
               guint64 inode,
               GBytes *content)
{
    AgentFile *self = g_new0(AgentFile, 1);

    self->kind = kind;
    self->node = g_strdup(node);
    self->name = g_strdup(name);
    self->ctid = ctid;
    self->inode = inode;
    self->content = content != NULL ? g_bytes_ref(content) : NULL;
    self->size = content != NULL ? (gint64)g_bytes_get_size(content) : 0;
    return self;
}

void
agent_file_free(AgentFile *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->node);
    g_free(self->name);
    g_clear_pointer(&self->content, g_bytes_unref);
    g_free(self);
}

void
agent_member_free(AgentMember *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->name);
    g_free(self->ip);
    g_free(self);
}

AgentSnapshot *
agent_snapshot_new(gint64 time_us)
{
    AgentSnapshot *self = g_atomic_rc_box_new0(AgentSnapshot);

    self->time_us = time_us;
    self->files =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_file_free);
    self->members =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_member_free);
    self->running = g_array_new(FALSE, FALSE, sizeof(guint32));
    self->departed = g_array_new(FALSE, FALSE, sizeof(guint32));
    self->ha = g_hash_table_new(NULL, NULL);
    return self;
}

AgentSnapshot *
agent_snapshot_ref(AgentSnapshot *self)
{
    return g_atomic_rc_box_acquire(self);
}

static void
snapshot_clear(gpointer data)
{
    AgentSnapshot *self = data;

    g_free(self->session);
    g_free(self->epoch);
    g_ptr_array_unref(self->files);
    g_ptr_array_unref(self->members);
    g_array_unref(self->running);
    g_array_unref(self->departed);
    g_hash_table_unref(self->ha);
}

void
agent_snapshot_unref(AgentSnapshot *self)
{
    if (self != NULL) {
        g_atomic_rc_box_release_full(self, snapshot_clear);
    }
}

void
agent_snapshot_share_tree(AgentSnapshot *self, const AgentSnapshot *from)
{
    self->complete = from->complete;
    self->quorate = from->quorate;
    self->world = from->world;
    g_free(self->session);
    self->session = g_strdup(from->session);
    g_free(self->epoch);
    self->epoch = g_strdup(from->epoch);
    g_ptr_array_unref(self->files);
    self->files = g_ptr_array_ref(from->files);
    g_ptr_array_unref(self->members);
    self->members = g_ptr_array_ref(from->members);
    g_hash_table_unref(self->ha);
    self->ha = g_hash_table_ref(from->ha);
}

void
agent_snapshot_add_ha(AgentSnapshot *self, const char *text, gsize size)
{
    g_autofree char *copy = g_strndup(text, size);
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);

    for (guint i = 0; lines[i] != NULL; i++) {
        if (g_str_has_prefix(lines[i], "ct:")) {
            guint32 ctid = pve_ctid_parse(g_strstrip(lines[i] + 3));

            if (ctid != 0) {
                g_hash_table_add(self->ha, GUINT_TO_POINTER(ctid));
            }
        }
    }
}

/* --- .members: just enough JSON (spec/filesystem.md 9) --- */

typedef struct {
    const char *at;
    const char *end;
} Cursor;

static char
skip_blanks(Cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at) != NULL) {
        c->at++;
    }
    return c->at < c->end ? *c->at : '\0';
}

static gboolean
take(Cursor *c, char wanted)
{
    if (skip_blanks(c) != wanted) {
        return FALSE;
    }
    c->at++;
    return TRUE;
}

/* Node names and addresses have no escapes; a text that has is refused. */
static char *
take_string(Cursor *c)
{
    const char *start, *stop;

    if (!take(c, '"')) {
        return NULL;
    }
    start = c->at;
    stop = memchr(start, '"', (gsize)(c->end - start));
    if (stop == NULL || memchr(start, '\\', (gsize)(stop - start)) != NULL) {
        return NULL;
    }
    c->at = stop + 1;
    return g_strndup(start, (gsize)(stop - start));
}

/* A string, or the text of a number. */
static char *
take_scalar(Cursor *c)
{
    const char *start;

    if (skip_blanks(c) == '"') {
        return take_string(c);
    }
    start = c->at;
    while (c->at < c->end && (g_ascii_isalnum(*c->at) || *c->at == '-' ||
                              *c->at == '+' || *c->at == '.')) {
        c->at++;
    }
    return c->at > start ? g_strndup(start, (gsize)(c->at - start)) : NULL;
}

static gboolean
take_member(Cursor *c, AgentMember *member)
{
    if (!take(c, '{')) {
        return FALSE;
    }
    while (!take(c, '}')) {
        g_autofree char *key = take_string(c);
        g_autofree char *value = NULL;

        if (key == NULL || !take(c, ':')) {
            return FALSE;
        }
        value = take_scalar(c);
        if (value == NULL) {
            return FALSE;
        }
        if (strcmp(key, "online") == 0) {
            member->online = strcmp(value, "1") == 0;
        } else if (strcmp(key, "ip") == 0) {
            g_free(member->ip);
            member->ip = g_steal_pointer(&value);
        }
        if (!take(c, ',') && skip_blanks(c) != '}') {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
take_members(Cursor *c, GPtrArray *members)
{
    if (!take(c, '{')) {
        return FALSE;
    }
    while (!take(c, '}')) {
        g_autoptr(AgentMember) member = g_new0(AgentMember, 1);

        member->name = take_string(c);
        if (!pve_name_is_node(member->name) || !take(c, ':') ||
            !take_member(c, member)) {
            return FALSE;
        }
        g_ptr_array_add(members, g_steal_pointer(&member));
        if (!take(c, ',') && skip_blanks(c) != '}') {
            return FALSE;
        }
    }
    return TRUE;
}

GPtrArray *
agent_members_parse(const char *text, gsize size)
{
    static const char key[] = "\"nodelist\"";
    GPtrArray *members =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_member_free);
    const char *found = g_strstr_len(text, (gssize)size, key);
    Cursor c = {found, text + size};

    if (found == NULL) {
        return members;
    }
    c.at += strlen(key);
    if (!take(&c, ':') || !take_members(&c, members)) {
        g_ptr_array_set_size(members, 0);
    }
    return members;
}

/* --- tracks: what is settled --- */

static void
track_free(gpointer data)
{
    Track *self = data;

    g_clear_pointer(&self->content, g_bytes_unref);
    g_clear_pointer(&self->conf, agent_guestconf_free);
    g_free(self);
}

static char *
track_key(const AgentFile *file)
{
    return g_strconcat(file->node, "/", file->name, NULL);
}

static gboolean
same_file(const Track *track, const AgentFile *file)
{
    return track->inode == file->inode && track->content != NULL &&
           file->content != NULL &&
           g_bytes_equal(track->content, file->content);
}

/* Was this inode, with this content, settled anywhere in the last picture? */
static gboolean
was_settled(AgentObserver *self, const AgentFile *file)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->tracks);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Track *track = value;

        if (track->settled && same_file(track, file)) {
            return TRUE;
        }
    }
    return FALSE;
}

static Track *
track_file(AgentObserver *self, const AgentFile *file, gint64 now_us)
{
    g_autofree char *key = track_key(file);
    Track *old = g_hash_table_lookup(self->tracks, key);
    Track *track = g_new0(Track, 1);

    track->inode = file->inode;
    track->content = file->content != NULL ? g_bytes_ref(file->content) : NULL;
    track->since_us = now_us;
    if (old != NULL && same_file(old, file)) {
        track->since_us = old->since_us;
        track->settled =
            old->settled || now_us - old->since_us >= AGENT_SETTLE_US;
        track->conf = g_steal_pointer(&old->conf);
    } else if (file->content != NULL) {
        track->settled = was_settled(self, file);
    }
    track->settled =
        track->settled || (file->whole && file->content != NULL);
    if (track->settled && track->conf == NULL &&
        file->kind == AGENT_FILE_CONF) {
        gsize size = 0;
        const char *text = g_bytes_get_data(track->content, &size);

        track->conf = agent_guestconf_parse(
            file->ctid, text != NULL ? text : "", size, NULL);
    }
    return track;
}

/* The table is built anew beside the old one: a rename is recognised by what
 * the last picture had, wherever it lay. */
static void
update_tracks(AgentObserver *self, const AgentSnapshot *now)
{
    GHashTable *tracks =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, track_free);

    for (guint i = 0; i < now->files->len; i++) {
        const AgentFile *file = g_ptr_array_index(now->files, i);

        if (file->kind == AGENT_FILE_CONF || file->kind == AGENT_FILE_REQUEST) {
            g_hash_table_replace(tracks, track_key(file),
                                 track_file(self, file, now->time_us));
        }
    }
    g_hash_table_unref(self->tracks);
    self->tracks = tracks;
}

/* --- deletions --- */

static GHashTable *
ids_of(const AgentSnapshot *snapshot, gboolean conf_only)
{
    GHashTable *ids = g_hash_table_new(NULL, NULL);

    for (guint i = 0; i < snapshot->files->len; i++) {
        const AgentFile *file = g_ptr_array_index(snapshot->files, i);

        if (file->kind == AGENT_FILE_CONF ||
            (!conf_only && (file->kind == AGENT_FILE_HOLD ||
                            file->kind == AGENT_FILE_FOREIGN))) {
            g_hash_table_add(ids, GUINT_TO_POINTER(file->ctid));
        }
    }
    return ids;
}

static void
note_time(GHashTable *times, gpointer key, gint64 time_us)
{
    gint64 *value = g_new(gint64, 1);

    *value = time_us;
    g_hash_table_replace(times, key, value);
}

static gboolean
is_consecutive(const AgentSnapshot *before, const AgentSnapshot *now)
{
    return before->quorate && now->quorate &&
           g_strcmp0(before->session, now->session) == 0 &&
           g_strcmp0(before->epoch, now->epoch) == 0 &&
           now->time_us - before->time_us <= AGENT_CONSECUTIVE_US;
}

/* Ids of the last picture that this one no longer has. */
static void
note_lost(GHashTable *times,
          const AgentSnapshot *before,
          const AgentSnapshot *now,
          gboolean conf_only)
{
    g_autoptr(GHashTable) old = ids_of(before, conf_only);
    g_autoptr(GHashTable) new = ids_of(now, conf_only);
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, old);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        if (!g_hash_table_contains(new, key)) {
            note_time(times, key, now->time_us);
        }
    }
}

/* A file that is back was not deleted. A picture without quorum, or a change
 * of membership, starts the clock again; another session makes it an orphan. */
static void
review_deletions(AgentObserver *self,
                 const AgentSnapshot *before,
                 const AgentSnapshot *now)
{
    g_autoptr(GHashTable) present = ids_of(now, TRUE);
    gboolean same =
        before != NULL && g_strcmp0(before->session, now->session) == 0;
    gboolean watched = before != NULL && is_consecutive(before, now);
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, self->deletions);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        gint64 *seen_us = value;

        if (!same || g_hash_table_contains(present, key)) {
            g_hash_table_iter_remove(&iter);
        } else if (!watched) {
            *seen_us = now->time_us;
        }
    }
}

static void
expire_removals(AgentObserver *self, gint64 now_us)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->removals);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (now_us - *(gint64 *)value >= AGENT_REUSE_US) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

static void
update_deletions(AgentObserver *self, const AgentSnapshot *now)
{
    const AgentSnapshot *before = self->snapshot;

    review_deletions(self, before, now);
    if (before != NULL && is_consecutive(before, now)) {
        note_lost(self->deletions, before, now, TRUE);
    }
    expire_removals(self, now->time_us);
    if (before != NULL) {
        note_lost(self->removals, before, now, FALSE);
    }
}

static AgentDeletion
deletion_of(AgentObserver *self, guint32 ctid, gint64 now_us)
{
    const gint64 *seen_us =
        g_hash_table_lookup(self->deletions, GUINT_TO_POINTER(ctid));

    if (seen_us == NULL) {
        return AGENT_DELETION_NONE;
    }
    return now_us - *seen_us >= AGENT_DELETION_US ? AGENT_DELETION_CONFIRMED
                                                  : AGENT_DELETION_SEEN;
}

/* --- facts --- */

static const AgentHoldRec *
parse_record(AgentObserver *self, const AgentFile *file, const char **problem)
{
    g_autoptr(GError) error = NULL;
    AgentHoldRec *record = NULL;

    if (file->content != NULL) {
        record = agent_holdrec_parse(file->content, &error);
    }
    if (record != NULL) {
        g_ptr_array_add(self->records, record);
    } else if (problem != NULL) {
        char *text =
            g_strdup(error != NULL ? error->message : "it cannot be read");

        g_ptr_array_add(self->texts, text);
        *problem = text;
    }
    return record;
}

static AgentGuest *
guest_of(AgentObserver *self, GHashTable *by_id, guint32 ctid)
{
    AgentGuest *guest = g_hash_table_lookup(by_id, GUINT_TO_POINTER(ctid));

    if (guest == NULL) {
        guest = g_new0(AgentGuest, 1);
        guest->ctid = ctid;
        g_hash_table_insert(by_id, GUINT_TO_POINTER(ctid), guest);
        g_ptr_array_add(self->guests, guest);
    }
    return guest;
}

static void
add_conf(AgentObserver *self, AgentGuest *guest, const AgentFile *file)
{
    g_autofree char *key = track_key(file);
    const Track *track = g_hash_table_lookup(self->tracks, key);

    guest->n_files++;
    guest->file = file;
    guest->settled = track != NULL && track->settled;
    guest->conf = guest->settled ? track->conf : NULL;
}

static void
add_hold(AgentObserver *self, AgentGuest *guest, const AgentFile *file)
{
    const AgentHoldRec *other;

    if (strcmp(file->node, self->node) == 0) {
        guest->own_present = TRUE;
        guest->own = parse_record(self, file, &guest->own_problem);
    } else {
        guest->n_other++;
        guest->holder = file->node;
        other = parse_record(self, file, NULL);
        guest->other_transfer |= other == NULL || other->transfer != NULL;
    }
}

static void
add_own_offer(AgentObserver *self, AgentGuest *guest, const AgentFile *file)
{
    if (strcmp(file->node, self->node) == 0) {
        guest->offer_present = TRUE;
        guest->offer = parse_record(self, file, NULL);
    }
}

/* Offers of others count only at the node that has the file, so they are
 * looked at when that is known. */
static void
add_owner_offer(AgentObserver *self, AgentGuest *guest, const AgentFile *file)
{
    if (guest->file != NULL && strcmp(file->node, self->node) != 0 &&
        strcmp(file->node, guest->file->node) == 0) {
        guest->owner_offer = parse_record(self, file, NULL);
    }
}

static void
collect_files(AgentObserver *self, GHashTable *by_id, const AgentSnapshot *now)
{
    for (guint i = 0; i < now->files->len; i++) {
        const AgentFile *file = g_ptr_array_index(now->files, i);

        if (file->kind == AGENT_FILE_CONF) {
            add_conf(self, guest_of(self, by_id, file->ctid), file);
        } else if (file->kind == AGENT_FILE_HOLD) {
            add_hold(self, guest_of(self, by_id, file->ctid), file);
        } else if (file->kind == AGENT_FILE_OFFER) {
            add_own_offer(self, guest_of(self, by_id, file->ctid), file);
        }
    }
    for (guint i = 0; i < now->files->len; i++) {
        const AgentFile *file = g_ptr_array_index(now->files, i);

        if (file->kind == AGENT_FILE_OFFER) {
            add_owner_offer(self, guest_of(self, by_id, file->ctid), file);
        }
    }
}

static void
collect_local(AgentObserver *self, GHashTable *by_id, const AgentSnapshot *now)
{
    for (guint i = 0; i < now->running->len; i++) {
        guest_of(self, by_id, g_array_index(now->running, guint32, i))
            ->running = TRUE;
    }
    for (guint i = 0; i < now->departed->len; i++) {
        guest_of(self, by_id, g_array_index(now->departed, guint32, i))
            ->departed = TRUE;
    }
}

static gboolean
is_online(const AgentSnapshot *snapshot, const char *node)
{
    for (guint i = 0; i < snapshot->members->len; i++) {
        const AgentMember *member = g_ptr_array_index(snapshot->members, i);

        if (strcmp(member->name, node) == 0) {
            return member->online;
        }
    }
    return FALSE;
}

/* Where things lie, as text: two equal ones in a row are steady. */
static char *
layout_of(const AgentGuest *guest)
{
    return g_strdup_printf(
        "%u %s %d %u %s %d %d %d %d %d", guest->n_files,
        guest->file != NULL ? guest->file->node : "", guest->own_present,
        guest->n_other, guest->holder != NULL ? guest->holder : "",
        guest->other_transfer, guest->offer_present, guest->owner_offer != NULL,
        guest->running, guest->departed);
}

static void
finish_guests(AgentObserver *self, const AgentSnapshot *now)
{
    GHashTable *layouts = g_hash_table_new_full(NULL, NULL, NULL, g_free);

    for (guint i = 0; i < self->guests->len; i++) {
        AgentGuest *guest = g_ptr_array_index(self->guests, i);
        gpointer key = GUINT_TO_POINTER(guest->ctid);
        char *layout = layout_of(guest);
        const char *before = g_hash_table_lookup(self->layouts, key);

        guest->steady = g_strcmp0(before, layout) == 0;
        guest->deletion = guest->n_files == 0
                              ? deletion_of(self, guest->ctid, now->time_us)
                              : AGENT_DELETION_NONE;
        guest->ha = g_hash_table_contains(now->ha, key);
        guest->holder_online =
            guest->holder != NULL && is_online(now, guest->holder);
        guest->generation = now->world;
        if (guest->file != NULL) {
            guest->generation ^= g_str_hash(guest->file->node);
            guest->generation ^= guest->file->content != NULL
                                     ? g_bytes_hash(guest->file->content)
                                     : 0;
        }
        g_hash_table_insert(layouts, key, layout);
    }
    g_hash_table_unref(self->layouts);
    self->layouts = layouts;
}

static void
collect_requests(AgentObserver *self, const AgentSnapshot *now)
{
    for (guint i = 0; i < now->files->len; i++) {
        const AgentFile *file = g_ptr_array_index(now->files, i);

        if (file->kind == AGENT_FILE_REQUEST &&
            strcmp(file->node, self->node) == 0 && file->content != NULL) {
            g_autofree char *key = track_key(file);
            const Track *track = g_hash_table_lookup(self->tracks, key);
            AgentRequest *request = g_new0(AgentRequest, 1);

            request->file = file;
            request->settled = track != NULL && track->settled;
            request->generation = now->world ^ g_bytes_hash(file->content);
            g_ptr_array_add(self->requests, request);
        }
    }
}

static void
forget_facts(AgentObserver *self)
{
    g_ptr_array_set_size(self->guests, 0);
    g_ptr_array_set_size(self->requests, 0);
    g_ptr_array_set_size(self->records, 0);
    g_ptr_array_set_size(self->texts, 0);
}

static int
compare_guests(gconstpointer a, gconstpointer b)
{
    const AgentGuest *left = *(const AgentGuest *const *)a;
    const AgentGuest *right = *(const AgentGuest *const *)b;

    return left->ctid < right->ctid ? -1 : left->ctid > right->ctid;
}

/* --- the door --- */

AgentObserver *
agent_observer_new(const char *node)
{
    AgentObserver *self = g_new0(AgentObserver, 1);

    self->node = g_strdup(node);
    self->tracks =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, track_free);
    self->layouts = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    self->deletions = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    self->removals = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    self->guests = g_ptr_array_new_with_free_func(g_free);
    self->requests = g_ptr_array_new_with_free_func(g_free);
    self->records =
        g_ptr_array_new_with_free_func((GDestroyNotify)agent_holdrec_free);
    self->texts = g_ptr_array_new_with_free_func(g_free);
    return self;
}

void
agent_observer_free(AgentObserver *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->node);
    g_clear_pointer(&self->snapshot, agent_snapshot_unref);
    g_hash_table_unref(self->tracks);
    g_hash_table_unref(self->layouts);
    g_hash_table_unref(self->deletions);
    g_hash_table_unref(self->removals);
    g_ptr_array_unref(self->guests);
    g_ptr_array_unref(self->requests);
    g_ptr_array_unref(self->records);
    g_ptr_array_unref(self->texts);
    g_free(self);
}

void
agent_observer_update(AgentObserver *self, AgentSnapshot *snapshot)
{
    g_autoptr(GHashTable) by_id = NULL;

    forget_facts(self);
    if (!snapshot->complete) {
        return;
    }
    by_id = g_hash_table_new(NULL, NULL);
    update_tracks(self, snapshot);
    update_deletions(self, snapshot);
    collect_files(self, by_id, snapshot);
    collect_local(self, by_id, snapshot);
    finish_guests(self, snapshot);
    g_ptr_array_sort(self->guests, compare_guests);
    collect_requests(self, snapshot);
    g_clear_pointer(&self->snapshot, agent_snapshot_unref);
    self->snapshot = agent_snapshot_ref(snapshot);
}

const GPtrArray *
agent_observer_guests(const AgentObserver *self)
{
    return self->guests;
}

const GPtrArray *
agent_observer_requests(const AgentObserver *self)
{
    return self->requests;
}

const AgentSnapshot *
agent_observer_snapshot(const AgentObserver *self)
{
    return self->snapshot;
}

char *
agent_observer_recently_removed(const AgentObserver *self)
{
    GString *out = g_string_new(NULL);
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, self->removals);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_string_append_printf(out, "%s%u", out->len > 0 ? "," : "",
                               GPOINTER_TO_UINT(key));
    }
    return g_string_free(out, FALSE);
}
