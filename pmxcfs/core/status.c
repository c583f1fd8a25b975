#include "config.h"

#include "pmxcfs/core/status.h"

#include "pmxcfs/core/clog.h"
#include "pmxcfs/core/rrd-table.h"
#include "pmxcfs/core/sync.h"

#include <errno.h>
#include <string.h>

/* What normal messages carry. */
enum {
    SUBTYPE_UPDATE = 1,
    SUBTYPE_LOG = 3,
};

#define KEY_FIELD 256u
#define RRD_PREFIX "rrd/"
#define NODE_IP "nodeip"
#define MAX_NODE_IP 255u
#define LOG_DEFAULT_MAX 50u
#define MAX_PRIORITY 7u

/* Bounds on what waits. An entry of the log that finds no room reaches the
 * others with the next state, a value with the next round of all keys. */
#define MAX_UNSENT_LOGS 512u
#define MAX_UNSENT_KEYS 16384u
#define MAX_EARLY_BYTES (32u << 20)

#define REJOIN_FIRST_MS 100u
#define REJOIN_DOUBLINGS 8u
#define REJOIN_PEACE_MS 60000
#define NEWER_PROTOCOL_MS 60000u
/* A member that does not answer stops no work here, but the others' news. */
#define PATIENCE_MS 5000
/* A peer that sends nonsense must not fill our log. */
#define COMPLAIN_MS 10000

/* A normal message that waits for the end of a synchronisation. */
typedef struct {
    CfsMember sender;
    guint64 count;
    GBytes *bytes; /* the whole message */
} Early;

struct CfsStatus {
    CfsNodelist *nodes;
    CfsClog *log;
    CfsRrdTable *rrd;
    CfsSync *sync;
    CfsStatusMode mode;
    char *node_name;
    char *ip; /* that we tell, NULL: none */
    gboolean is_ip_unsent;
    CfsStatusTrace trace;
    gpointer trace_data;
    CfsStatusWake wake;
    gpointer wake_data;

    CfsMember self;
    CfsEpoch epoch;
    guint32 epoch_counter;
    guint64 count;     /* of the last normal message sent */
    gboolean has_told; /* our state of this epoch is out */
    GQueue early;      /* of Early, by count: spec queue 1 */
    gsize early_bytes;
    guint leaves; /* in a row */
    gint64 synced_since_ms;
    gint64 sync_since_ms;
    gboolean has_complained_of_sync;
    gint64 next_complaint_ms;
    guint32 now; /* of the last event */

    GQueue unsent_keys;    /* of char * */
    GHashTable *is_unsent; /* set of the same, borrowed */
    GQueue unsent_logs;    /* of GBytes */
    GQueue pending;        /* of CfsStatusEffect, for the next flush */

    /* Of the step under way. */
    const CfsStatusEvent *event;
    GQueue *effects;
};

/* --- small parts ---------------------------------------------------------- */

void
cfs_status_effect_free(CfsStatusEffect *self)
{
    if (self == NULL) {
        return;
    }
    g_clear_pointer(&self->message, g_bytes_unref);
    g_free(self->key);
    g_free(self->value);
    g_free(self->node);
    g_free(self);
}

static void
early_free(gpointer data)
{
    Early *self = data;

    g_bytes_unref(self->bytes);
    g_free(self);
}

CfsStatus *
cfs_status_new(const char *node_name)
{
    CfsStatus *self = g_new0(CfsStatus, 1);

    self->node_name = g_strdup(node_name);
    self->nodes = cfs_nodelist_new(node_name);
    self->log = cfs_clog_new(node_name);
    self->rrd = cfs_rrd_table_new();
    self->sync = cfs_sync_new();
    self->is_unsent = g_hash_table_new(g_str_hash, g_str_equal);
    g_queue_init(&self->early);
    g_queue_init(&self->unsent_keys);
    g_queue_init(&self->unsent_logs);
    g_queue_init(&self->pending);
    return self;
}

static void
drop_early(CfsStatus *self)
{
    g_queue_clear_full(&self->early, early_free);
    self->early_bytes = 0;
}

static void
drop_unsent_logs(CfsStatus *self)
{
    g_queue_clear_full(&self->unsent_logs, (GDestroyNotify)g_bytes_unref);
}

void
cfs_status_free(CfsStatus *self)
{
    if (self == NULL) {
        return;
    }
    drop_early(self);
    drop_unsent_logs(self);
    g_hash_table_unref(self->is_unsent);
    g_queue_clear_full(&self->unsent_keys, g_free);
    g_queue_clear_full(&self->pending, (GDestroyNotify)cfs_status_effect_free);
    cfs_sync_free(self->sync);
    cfs_rrd_table_free(self->rrd);
    cfs_clog_free(self->log);
    cfs_nodelist_free(self->nodes);
    g_free(self->ip);
    g_free(self->node_name);
    g_free(self);
}

void
cfs_status_set_trace(CfsStatus *self, CfsStatusTrace trace, gpointer data)
{
    self->trace = trace;
    self->trace_data = data;
}

void
cfs_status_set_wake(CfsStatus *self, CfsStatusWake wake, gpointer data)
{
    self->wake = wake;
    self->wake_data = data;
}

void
cfs_status_set_next_uid(CfsStatus *self, guint32 uid)
{
    cfs_clog_set_next_uid(self->log, uid);
}

static G_GNUC_PRINTF(3, 4) void trace(CfsStatus *self,
                                      GLogLevelFlags level,
                                      const char *format,
                                      ...)
{
    g_autofree char *text = NULL;
    va_list args;

    if (self->trace == NULL) {
        return;
    }
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    self->trace(self->trace_data, level, text);
}

static void
wake(CfsStatus *self)
{
    if (self->wake != NULL) {
        self->wake(self->wake_data);
    }
}

/* Now and then, else nobody reads the log. */
static GLogLevelFlags
complaint(CfsStatus *self)
{
    if (self->event->clock_ms < self->next_complaint_ms) {
        return G_LOG_LEVEL_DEBUG;
    }
    self->next_complaint_ms = self->event->clock_ms + COMPLAIN_MS;
    return G_LOG_LEVEL_WARNING;
}

static CfsStatusEffect *
emit_to(GQueue *effects, CfsStatusEffectKind kind)
{
    CfsStatusEffect *effect = g_new0(CfsStatusEffect, 1);

    effect->kind = kind;
    g_queue_push_tail(effects, effect);
    return effect;
}

/* Between steps effects wait for the next flush. */
static CfsStatusEffect *
emit(CfsStatus *self, CfsStatusEffectKind kind)
{
    if (self->effects == NULL) {
        wake(self);
    }
    return emit_to(self->effects != NULL ? self->effects : &self->pending,
                   kind);
}

static void
tell_change(CfsStatus *self, CfsStatusWhat what)
{
    emit(self, CFS_STATUS_EFFECT_CHANGED)->what = what;
}

/* @node: NULL when we know no name. */
static void
tell_key(CfsStatus *self, const char *node, const char *key)
{
    CfsStatusEffect *effect = emit(self, CFS_STATUS_EFFECT_CHANGED);

    effect->what = CFS_STATUS_CHANGED_KEY;
    effect->node = g_strdup(node);
    effect->key = g_strdup(key);
}

static void
archive(CfsStatus *self, const char *key)
{
    CfsStatusEffect *effect = emit(self, CFS_STATUS_EFFECT_ARCHIVE);

    effect->key = g_strdup(key);
    effect->value = g_strdup(cfs_rrd_table_get(self->rrd, key));
}

/* Are there others who must be told? */
static gboolean
has_company(CfsStatus *self)
{
    return cfs_sync_n_members(self->sync) > 1 &&
           (self->mode == CFS_STATUS_SYNCED ||
            self->mode == CFS_STATUS_START_SYNC);
}

/* --- sending -------------------------------------------------------------- */

static void
send_out(CfsStatus *self, GByteArray *out)
{
    emit(self, CFS_STATUS_EFFECT_SEND)->message =
        g_byte_array_free_to_bytes(out);
}

static void
send_state_message(CfsStatus *self, guint16 type, GBytes *payload)
{
    const CfsHeader header = {.type = type,
                              .protocol = CFS_PROTOCOL_STATUS,
                              .time = self->event->time_s,
                              .epoch = self->epoch};
    GByteArray *out = g_byte_array_new();

    cfs_message_write(out, &header);
    if (payload != NULL) {
        pve_write_bytes(out, g_bytes_get_data(payload, NULL),
                        g_bytes_get_size(payload));
    }
    send_out(self, out);
}

static GByteArray *
new_normal(CfsStatus *self, guint16 subtype)
{
    const CfsHeader header = {.type = CFS_MESSAGE_NORMAL,
                              .subtype = subtype,
                              .protocol = CFS_PROTOCOL_STATUS,
                              .time = self->event->time_s,
                              .count = ++self->count};
    GByteArray *out = g_byte_array_new();

    cfs_message_write(out, &header);
    return out;
}

static void
send_update(CfsStatus *self, const char *key, gconstpointer value, gsize size)
{
    char field[KEY_FIELD] = {0};
    GByteArray *out = new_normal(self, SUBTYPE_UPDATE);

    (void)g_strlcpy(field, key, sizeof(field));
    pve_write_bytes(out, field, sizeof(field));
    pve_write_bytes(out, value, size);
    send_out(self, out);
}

static void
send_ip(CfsStatus *self)
{
    self->is_ip_unsent = FALSE;
    if (self->ip != NULL) {
        send_update(self, NODE_IP, self->ip, strlen(self->ip) + 1);
    }
}

/* As it is now, which may be that it is gone. */
static void
send_key(CfsStatus *self, const char *key)
{
    GBytes *value;
    const char *text;

    if (g_str_has_prefix(key, RRD_PREFIX)) {
        text = cfs_rrd_table_get(self->rrd, key + strlen(RRD_PREFIX));
        if (text != NULL) {
            send_update(self, key, text, strlen(text) + 1);
        }
    } else {
        value = cfs_kv_get(cfs_nodelist_own_kv(self->nodes), key);
        send_update(self, key,
                    value != NULL ? g_bytes_get_data(value, NULL) : "",
                    value != NULL ? g_bytes_get_size(value) : 0);
    }
}

static void
send_logs(CfsStatus *self)
{
    GBytes *payload;

    while ((payload = g_queue_pop_head(&self->unsent_logs)) != NULL) {
        GByteArray *out = new_normal(self, SUBTYPE_LOG);

        pve_write_bytes(out, g_bytes_get_data(payload, NULL),
                        g_bytes_get_size(payload));
        g_bytes_unref(payload);
        send_out(self, out);
    }
}

/* Takes all keys that wait. */
static void
send_unsent_keys(CfsStatus *self)
{
    char *key;

    g_hash_table_remove_all(self->is_unsent);
    while ((key = g_queue_pop_head(&self->unsent_keys)) != NULL) {
        send_key(self, key);
        g_free(key);
    }
}

static void
visit_own_key(gpointer data, const char *key, GBytes *value)
{
    CfsStatus *self = data;

    if (!g_hash_table_contains(self->is_unsent, key)) {
        send_update(self, key, g_bytes_get_data(value, NULL),
                    g_bytes_get_size(value));
    }
}

/* All our keys, what went while nobody heard it, then our address: to peers
 * the sign that these were all. */
static void
announce(CfsStatus *self)
{
    cfs_kv_foreach(cfs_nodelist_own_kv(self->nodes), visit_own_key, self);
    send_unsent_keys(self);
    send_logs(self);
    send_ip(self);
}

/* --- applying ------------------------------------------------------------- */

static void
settle(CfsStatus *self, guint32 nodeid)
{
    g_autoptr(GPtrArray) gone = cfs_nodelist_settle(self->nodes, nodeid);

    for (guint i = 0; gone != NULL && i < gone->len; i++) {
        tell_key(self, cfs_nodelist_name(self->nodes, nodeid), gone->pdata[i]);
    }
}

/* A string and its NUL. Returns: (borrowed) or NULL. */
static const char *
as_string(GBytes *value, gsize max)
{
    gsize size = 0;
    const char *text = g_bytes_get_data(value, &size);

    return size > 0 && size <= max && text[size - 1] == '\0' ? text : NULL;
}

static gboolean
take_ip(CfsStatus *self, guint32 nodeid, GBytes *value)
{
    const char *ip = as_string(value, MAX_NODE_IP);

    if (ip == NULL) {
        return FALSE;
    }
    if (cfs_nodelist_set_ip(self->nodes, nodeid, ip)) {
        tell_change(self, CFS_STATUS_CHANGED_NODES);
    }
    settle(self, nodeid);
    return TRUE;
}

static gboolean
take_rrd(CfsStatus *self, const char *key, GBytes *value)
{
    if (cfs_rrd_table_set(self->rrd, key, value, self->event->time_s) != 0) {
        return FALSE;
    }
    archive(self, key);
    return TRUE;
}

static gboolean
take_key(CfsStatus *self, guint32 nodeid, const char *key, GBytes *value)
{
    if (cfs_kv_set(cfs_nodelist_kv(self->nodes, nodeid), key, value) != 0) {
        return FALSE;
    }
    tell_key(self, cfs_nodelist_name(self->nodes, nodeid), key);
    return TRUE;
}

static void
apply_update(CfsStatus *self, CfsMember sender, PveReader *reader)
{
    const guint8 *field = pve_reader_take(reader, KEY_FIELD);
    gsize size = pve_reader_left(reader);
    const guint8 *bytes = pve_reader_take(reader, size);
    g_autoptr(GBytes) value = NULL;
    const char *key = (const char *)field;
    gboolean is_taken;

    if (field == NULL || memchr(field, '\0', KEY_FIELD) == NULL) {
        trace(self, complaint(self),
              "ignore malformed status update of member %u/%u", sender.nodeid,
              sender.pid);
        return;
    }
    value = g_bytes_new(bytes, size);
    if (g_str_has_prefix(key, RRD_PREFIX)) {
        is_taken = take_rrd(self, key + strlen(RRD_PREFIX), value);
    } else if (strcmp(key, NODE_IP) == 0) {
        is_taken = take_ip(self, sender.nodeid, value);
    } else {
        is_taken = take_key(self, sender.nodeid, key, value);
    }
    if (!is_taken) {
        trace(self, complaint(self),
              "ignore status update of member %u/%u: '%s' with %" G_GSIZE_FORMAT
              " bytes",
              sender.nodeid, sender.pid, key, size);
    }
}

static void
apply_log(CfsStatus *self, CfsMember sender, PveReader *reader)
{
    gsize size = pve_reader_left(reader);
    g_autoptr(GBytes) payload =
        g_bytes_new(pve_reader_take(reader, size), size);

    if (cfs_clog_insert(self->log, payload)) {
        tell_change(self, CFS_STATUS_CHANGED_LOG);
    } else {
        trace(self, G_LOG_LEVEL_DEBUG,
              "ignore duplicate or malformed cluster log entry of member %u/%u",
              sender.nodeid, sender.pid);
    }
}

/* What we sent we did before. */
static void
apply(CfsStatus *self,
      CfsMember sender,
      const CfsHeader *header,
      PveReader *reader)
{
    if (cfs_member_equal(sender, self->self)) {
        return;
    }
    if (header->subtype == SUBTYPE_UPDATE) {
        apply_update(self, sender, reader);
    } else if (header->subtype == SUBTYPE_LOG) {
        apply_log(self, sender, reader);
    } else {
        trace(self, G_LOG_LEVEL_DEBUG,
              "ignore message of unknown kind %u of member %u/%u",
              header->subtype, sender.nodeid, sender.pid);
    }
}

/* --- the early queue ------------------------------------------------------ */

static Early *
take_early(CfsStatus *self)
{
    Early *item = g_queue_pop_head(&self->early);

    if (item != NULL) {
        self->early_bytes -= g_bytes_get_size(item->bytes);
    }
    return item;
}

/* By count; equal counts as they came. */
static void
queue_early(CfsStatus *self, CfsMember sender, guint64 count, GBytes *bytes)
{
    Early *item = g_new0(Early, 1);
    GList *before = self->early.tail;

    item->sender = sender;
    item->count = count;
    item->bytes = g_bytes_ref(bytes);
    while (before != NULL && ((const Early *)before->data)->count > count) {
        before = before->prev;
    }
    if (before != NULL) {
        g_queue_insert_after(&self->early, before, item);
    } else {
        g_queue_push_head(&self->early, item);
    }
    self->early_bytes += g_bytes_get_size(bytes);
    while (self->early_bytes > MAX_EARLY_BYTES) {
        early_free(take_early(self));
    }
}

static void
flush_early(CfsStatus *self)
{
    Early *item;

    while ((item = take_early(self)) != NULL) {
        CfsHeader header;
        PveReader reader;

        pve_reader_init_bytes(&reader, item->bytes);
        if (cfs_sync_is_member(self->sync, item->sender) &&
            cfs_message_parse(&reader, CFS_PROTOCOL_STATUS, &header) ==
                CFS_PARSE_OK) {
            apply(self, item->sender, &header, &reader);
        }
        early_free(item);
    }
}

/* Members that are new do not know what waits in our queue: each sends its own
 * part again, and all begin with an empty queue (spec 7.2, step 4a). */
static void
resend_early(CfsStatus *self)
{
    Early *item;

    while ((item = take_early(self)) != NULL) {
        if (cfs_member_equal(item->sender, self->self)) {
            emit(self, CFS_STATUS_EFFECT_SEND)->message =
                g_bytes_ref(item->bytes);
        }
        early_free(item);
    }
}

/* --- synchronising -------------------------------------------------------- */

static void
enter_synced(CfsStatus *self)
{
    self->mode = CFS_STATUS_SYNCED;
    self->synced_since_ms = self->event->clock_ms;
    trace(self, G_LOG_LEVEL_MESSAGE, "all data is up to date");
}

static void
on_sync_start(CfsStatus *self, const CfsHeader *header, PveReader *reader)
{
    CfsMember sender = self->event->message.sender;
    g_autoptr(GBytes) ring = NULL;

    if (self->mode != CFS_STATUS_START_SYNC) {
        return;
    }
    trace(self, G_LOG_LEVEL_MESSAGE,
          "received sync request of %u/%u (epoch %u/%u/%u)", sender.nodeid,
          sender.pid, header->epoch.nodeid, header->epoch.pid,
          header->epoch.counter);
    self->epoch = header->epoch;
    cfs_sync_forget_states(self->sync);
    /* The state holds what waits of the log. */
    drop_unsent_logs(self);
    ring = cfs_clog_ring(self->log);
    send_state_message(self, CFS_MESSAGE_STATE, ring);
    self->has_told = TRUE;
}

static void
mark_peers(CfsStatus *self)
{
    g_autoptr(GArray) members = cfs_sync_members(self->sync);

    for (guint i = 0; i < members->len; i++) {
        CfsMember member = g_array_index(members, CfsMember, i);

        if (!cfs_member_equal(member, self->self)) {
            cfs_nodelist_mark(self->nodes, member.nodeid);
        }
    }
}

/* What waits was sent before the senders' states: it belongs before the round
 * of all keys that now begins, and must not be held against it. */
static void
on_all_states(CfsStatus *self)
{
    g_autoptr(GPtrArray) rings = cfs_sync_states(self->sync);
    guint n_bad;

    trace(self, G_LOG_LEVEL_MESSAGE, "received all states");
    n_bad = cfs_clog_merge(self->log, rings);
    if (n_bad > 0) {
        trace(self, G_LOG_LEVEL_WARNING,
              "the cluster logs of %u members are damaged: what could be read "
              "was merged",
              n_bad);
    }
    tell_change(self, CFS_STATUS_CHANGED_LOG);
    cfs_sync_set_all_synced(self->sync);
    cfs_sync_done(self->sync);
    enter_synced(self);
    flush_early(self);
    mark_peers(self);
    announce(self);
}

/* Nothing of ours is in doubt when somebody sends twice, or is no member: the
 * first state counts. The reference leaves, and comes back. */
static void
on_state(CfsStatus *self, const CfsHeader *header, PveReader *reader)
{
    CfsMember sender = self->event->message.sender;
    gsize size = pve_reader_left(reader);
    g_autoptr(GBytes) state = g_bytes_new(pve_reader_take(reader, size), size);

    if (self->mode != CFS_STATUS_START_SYNC) {
        return;
    }
    switch (cfs_sync_collect(self->sync, sender, state)) {
    case CFS_SYNC_COMPLETE:
        on_all_states(self);
        break;
    case CFS_SYNC_REFUSED:
        trace(self, complaint(self),
              "ignore state of %u/%u: no member, or its second", sender.nodeid,
              sender.pid);
        break;
    case CFS_SYNC_WAITING:
    case CFS_SYNC_MALFORMED:
        break;
    }
}

/* --- messages ------------------------------------------------------------- */

static void
leave(CfsStatus *self, guint delay_ms, const char *reason)
{
    trace(self, G_LOG_LEVEL_MESSAGE, "%s - leaving CPG group", reason);
    self->mode = CFS_STATUS_OUT;
    drop_early(self);
    drop_unsent_logs(self);
    cfs_sync_set_members(self->sync, NULL, 0);
    emit(self, CFS_STATUS_EFFECT_LEAVE)->delay_ms = delay_ms;
}

static void
on_normal(CfsStatus *self, const CfsHeader *header, PveReader *reader)
{
    CfsMember sender = self->event->message.sender;

    if (self->mode == CFS_STATUS_SYNCED) {
        apply(self, sender, header, reader);
    } else if (cfs_sync_is_member(self->sync, sender)) {
        queue_early(self, sender, header->count, self->event->message.bytes);
    }
}

/* What cannot be understood is dropped: our own state is not in doubt. */
static void
on_message(CfsStatus *self)
{
    CfsHeader header;
    PveReader reader;

    if (self->mode != CFS_STATUS_START_SYNC &&
        self->mode != CFS_STATUS_SYNCED) {
        return;
    }
    pve_reader_init_bytes(&reader, self->event->message.bytes);
    switch (cfs_message_parse(&reader, CFS_PROTOCOL_STATUS, &header)) {
    case CFS_PARSE_OK:
        break;
    case CFS_PARSE_MALFORMED:
    case CFS_PARSE_OLDER:
        trace(self, complaint(self), "ignore malformed message of %u/%u",
              self->event->message.sender.nodeid,
              self->event->message.sender.pid);
        return;
    case CFS_PARSE_NEWER:
        leave(self, NEWER_PROTOCOL_MS,
              "detected newer protocol - please update this node");
        return;
    }
    if (header.type == CFS_MESSAGE_NORMAL) {
        on_normal(self, &header, &reader);
    } else if (header.type == CFS_MESSAGE_SYNC_START) {
        on_sync_start(self, &header, &reader);
    } else if (header.type == CFS_MESSAGE_STATE &&
               cfs_epoch_equal(&header.epoch, &self->epoch)) {
        on_state(self, &header, &reader);
    }
}

/* --- membership ----------------------------------------------------------- */

static void
show_online(CfsStatus *self, const CfsMember *members, guint n_members)
{
    cfs_nodelist_set_online(self->nodes, members, n_members);
    tell_change(self, CFS_STATUS_CHANGED_NODES);
}

static void
on_removed(CfsStatus *self)
{
    guint delay_ms;

    if (self->mode == CFS_STATUS_START) {
        return;
    }
    if (self->event->clock_ms - self->synced_since_ms > REJOIN_PEACE_MS) {
        self->leaves = 0;
    }
    delay_ms = REJOIN_FIRST_MS << MIN(self->leaves, REJOIN_DOUBLINGS);
    self->leaves++;
    leave(self, delay_ms, "this node is no member of the group");
}

static void
start_sync(CfsStatus *self)
{
    if (self->event->confchg.has_joined) {
        resend_early(self);
    }
    self->mode = CFS_STATUS_START_SYNC;
    self->sync_since_ms = self->event->clock_ms;
    self->has_complained_of_sync = FALSE;
    trace(self, G_LOG_LEVEL_MESSAGE, "starting data syncronisation");
    if (cfs_sync_lowest_nodeid(self->sync) == self->self.nodeid) {
        send_state_message(self, CFS_MESSAGE_SYNC_START, NULL);
    }
}

static void
on_confchg(CfsStatus *self)
{
    const CfsMember *members = self->event->confchg.members;
    guint n = self->event->confchg.n_members;
    g_autofree char *text = NULL;

    if (self->mode == CFS_STATUS_OUT) {
        return;
    }
    self->epoch = (CfsEpoch){.counter = ++self->epoch_counter,
                             .time = self->event->time_s,
                             .nodeid = self->self.nodeid,
                             .pid = self->self.pid};
    self->has_told = FALSE;
    drop_unsent_logs(self); /* the next state will hold them */
    cfs_nodelist_forget_marks(self->nodes);
    cfs_sync_set_members(self->sync, members, n);
    text = cfs_sync_describe(self->sync, CFS_SYNC_ALL);
    trace(self, G_LOG_LEVEL_MESSAGE, "members: %s", text);
    if (!cfs_sync_is_member(self->sync, self->self)) {
        on_removed(self);
        return;
    }
    show_online(self, members, n);
    if (n > 1) {
        start_sync(self);
        return;
    }
    cfs_sync_set_all_synced(self->sync);
    enter_synced(self);
    flush_early(self);
    send_ip(self);
}

static void
on_connected(CfsStatus *self)
{
    self->self = self->event->self;
    self->mode = CFS_STATUS_START;
    trace(self, G_LOG_LEVEL_MESSAGE, "start cluster connection");
}

/* Without the group nobody is seen but ourselves. */
static void
on_disconnected(CfsStatus *self)
{
    show_online(self, &self->self, 1);
    drop_early(self);
    drop_unsent_logs(self);
    cfs_sync_set_members(self->sync, NULL, 0);
    self->mode = CFS_STATUS_START;
}

/* There is no way to go on without them: the others would wait for us. */
static void
complain_of_sync(CfsStatus *self)
{
    g_autofree char *missing = NULL;

    if (self->mode != CFS_STATUS_START_SYNC || self->has_complained_of_sync ||
        self->event->clock_ms - self->sync_since_ms < PATIENCE_MS) {
        return;
    }
    self->has_complained_of_sync = TRUE;
    missing = cfs_sync_describe(self->sync, CFS_SYNC_SILENT);
    trace(self, G_LOG_LEVEL_WARNING,
          "for %d ms no state of the members %s: keys and log entries of all "
          "nodes wait until they answer or are gone",
          PATIENCE_MS, missing);
}

static void
on_flush(CfsStatus *self)
{
    CfsStatusEffect *effect;

    complain_of_sync(self);
    while ((effect = g_queue_pop_head(&self->pending)) != NULL) {
        g_queue_push_tail(self->effects, effect);
    }
    if (!self->event->is_busy && self->mode == CFS_STATUS_SYNCED &&
        has_company(self)) {
        send_unsent_keys(self);
        send_logs(self);
        if (self->is_ip_unsent) {
            send_ip(self);
        }
    }
}

void
cfs_status_step(CfsStatus *self, const CfsStatusEvent *event, GQueue *effects)
{
    static void (*const handlers[])(CfsStatus *) = {
        [CFS_STATUS_CONNECTED] = on_connected,
        [CFS_STATUS_DISCONNECTED] = on_disconnected,
        [CFS_STATUS_CONFCHG] = on_confchg,
        [CFS_STATUS_MESSAGE] = on_message,
        [CFS_STATUS_FLUSH] = on_flush,
    };

    g_assert(event->kind < G_N_ELEMENTS(handlers));
    self->event = event;
    self->effects = effects;
    self->now = event->time_s;
    handlers[event->kind](self);
    self->event = NULL;
    self->effects = NULL;
}

/* --- this node's clients -------------------------------------------------- */

static void
queue_key(CfsStatus *self, const char *key)
{
    char *copy;

    if (g_hash_table_contains(self->is_unsent, key) ||
        self->unsent_keys.length >= MAX_UNSENT_KEYS) {
        return;
    }
    copy = g_strdup(key);
    g_queue_push_tail(&self->unsent_keys, copy);
    g_hash_table_add(self->is_unsent, copy);
    wake(self);
}

static int
set_rrd(CfsStatus *self, const char *key, GBytes *value, guint32 now)
{
    const char *name = key + strlen(RRD_PREFIX);
    int verdict = cfs_rrd_table_set(self->rrd, name, value, now);

    if (verdict != 0) {
        return verdict;
    }
    archive(self, name);
    /* Old measurements are of no use to who comes later. */
    if (has_company(self)) {
        queue_key(self, key);
    }
    return 0;
}

static int
set_ip(CfsStatus *self, GBytes *value)
{
    const char *ip = as_string(value, MAX_NODE_IP);

    if (ip == NULL) {
        return EINVAL;
    }
    g_free(self->ip);
    self->ip = g_strdup(ip);
    if (cfs_nodelist_set_own_ip(self->nodes, ip)) {
        tell_change(self, CFS_STATUS_CHANGED_NODES);
    }
    self->is_ip_unsent = TRUE;
    wake(self);
    return 0;
}

/* Without others only what went is remembered: they will be told all that is
 * there. */
static int
set_key(CfsStatus *self, const char *key, GBytes *value)
{
    int verdict = cfs_kv_set(cfs_nodelist_own_kv(self->nodes), key, value);

    if (verdict != 0) {
        return verdict;
    }
    tell_key(self, self->node_name, key);
    if (has_company(self) || g_bytes_get_size(value) == 0) {
        queue_key(self, key);
    }
    return 0;
}

int
cfs_status_set(CfsStatus *self, const char *key, GBytes *value, guint32 now)
{
    if (g_bytes_get_size(value) > CFS_KV_MAX_VALUE) {
        return EFBIG;
    }
    if (!cfs_kv_is_name(key)) {
        return EINVAL;
    }
    if (g_str_has_prefix(key, RRD_PREFIX)) {
        return set_rrd(self, key, value, now);
    }
    if (strcmp(key, NODE_IP) == 0) {
        return set_ip(self, value);
    }
    return set_key(self, key, value);
}

GBytes *
cfs_status_get(CfsStatus *self, const char *node, const char *key)
{
    CfsKv *kv = cfs_nodelist_find_kv(self->nodes, node);

    return kv != NULL ? cfs_kv_get(kv, key) : NULL;
}

void
cfs_status_log(CfsStatus *self,
               guint priority,
               const char *ident,
               const char *tag,
               guint32 pid,
               const char *message,
               guint32 now)
{
    const CfsClogEntry entry = {.time = now,
                                .pid = pid,
                                .priority = (guint8)priority,
                                .user = ident,
                                .tag = tag,
                                .message = message};
    g_autoptr(GBytes) payload = NULL;

    if (priority > MAX_PRIORITY) {
        return;
    }
    payload = cfs_clog_add(self->log, &entry);
    tell_change(self, CFS_STATUS_CHANGED_LOG);
    /* In a synchronisation our state tells all that was there before it. */
    if (has_company(self) &&
        (self->mode == CFS_STATUS_SYNCED || self->has_told) &&
        self->unsent_logs.length < MAX_UNSENT_LOGS) {
        g_queue_push_tail(&self->unsent_logs, g_bytes_ref(payload));
    }
}

char *
cfs_status_clog_json(CfsStatus *self, guint max, const char *user)
{
    return cfs_clog_text(self->log, max != 0 ? max : LOG_DEFAULT_MAX,
                         user != NULL && user[0] != '\0' ? user : NULL);
}

const char *
cfs_status_rrd_dump(CfsStatus *self, guint32 now, gboolean *is_new)
{
    return cfs_rrd_table_dump(self->rrd, now != 0 ? now : self->now, is_new);
}

/* --- what the daemon knows ------------------------------------------------ */

void
cfs_status_set_cluster(CfsStatus *self,
                       const char *name,
                       guint32 config_version,
                       GPtrArray *nodes)
{
    cfs_nodelist_set_cluster(self->nodes, name, config_version, nodes);
    tell_change(self, CFS_STATUS_CHANGED_NODES);
}

CfsNodelist *
cfs_status_nodelist(CfsStatus *self)
{
    return self->nodes;
}

CfsStatusMode
cfs_status_mode(CfsStatus *self)
{
    return self->mode;
}

static void
visit_name(gpointer data, const char *key, GBytes *value)
{
    g_string_append_printf(data, "%s\n", key);
}

char *
cfs_status_save_keys(CfsStatus *self)
{
    GString *out = g_string_new(NULL);
    CfsKv *own = cfs_nodelist_own_kv(self->nodes);

    cfs_kv_foreach(own, visit_name, out);
    for (GList *l = self->unsent_keys.head; l != NULL; l = l->next) {
        if (!g_str_has_prefix(l->data, RRD_PREFIX) &&
            cfs_kv_get(own, l->data) == NULL) {
            visit_name(out, l->data, NULL);
        }
    }
    return g_string_free(out, FALSE);
}

void
cfs_status_restore_keys(CfsStatus *self, const char *text)
{
    g_auto(GStrv) names = g_strsplit(text, "\n", -1);
    CfsKv *own = cfs_nodelist_own_kv(self->nodes);

    for (guint i = 0; names[i] != NULL; i++) {
        if (names[i][0] != '\0' && cfs_kv_is_name(names[i]) &&
            strcmp(names[i], NODE_IP) != 0 &&
            !g_str_has_prefix(names[i], RRD_PREFIX) &&
            cfs_kv_get(own, names[i]) == NULL) {
            queue_key(self, names[i]);
        }
    }
}
