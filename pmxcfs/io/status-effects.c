#define G_LOG_DOMAIN "status"
#include "config.h"

#include "pmxcfs/io/status-effects.h"

#include <string.h>
#include <time.h>

#include "common/files.h"
#include "common/paths.h"
#include "pmxcfs/io/effects.h"
#include "pmxcfs/io/priorities.h"

#define TICK_MS 1000
/* How soon to look again whether the group has room. */
#define BUSY_MS 5
#define MAX_KEYS_FILE (8u << 20)

struct CfsStatusEffects {
    CfsStatus *status;
    CfsGroup *group; /* NULL: none was joined */
    CfsStatusWatcher watcher;
    CfsStatusArchive archive;
    gpointer archive_data;
    guint tick;
    guint flush;  /* source */
    GQueue queue; /* of CfsStatusEffect */
    gboolean is_running;
    char *saved_keys; /* as they are in the file */
    gboolean has_failed;
};

/* One function per kind of effect ----------------------------------------- */

static void
run_send(CfsStatusEffects *self, CfsStatusEffect *effect)
{
    if (self->group != NULL) {
        cfs_group_send(self->group, effect->message);
    }
}

static void
run_leave(CfsStatusEffects *self, CfsStatusEffect *effect)
{
    if (self->group != NULL) {
        cfs_group_leave(self->group, effect->delay_ms);
    }
}

static void
run_archive(CfsStatusEffects *self, CfsStatusEffect *effect)
{
    if (self->archive != NULL) {
        self->archive(self->archive_data, effect->key, effect->value);
    }
}

static void
run_changed(CfsStatusEffects *self, CfsStatusEffect *effect)
{
    if (self->watcher.on_changed != NULL) {
        self->watcher.on_changed(self->watcher.data, effect);
    }
}

static void (*const run_effect[])(CfsStatusEffects *, CfsStatusEffect *) = {
    [CFS_STATUS_EFFECT_SEND] = run_send,
    [CFS_STATUS_EFFECT_LEAVE] = run_leave,
    [CFS_STATUS_EFFECT_ARCHIVE] = run_archive,
    [CFS_STATUS_EFFECT_CHANGED] = run_changed,
};

static void
dispatch(CfsStatusEffects *self, CfsStatusEvent *event)
{
    CfsStatusEffect *effect;

    event->time_s = (guint32)time(NULL);
    event->clock_ms = cfs_effects_clock_ms();
    cfs_status_step(self->status, event, &self->queue);
    if (self->is_running) {
        return;
    }
    self->is_running = TRUE;
    while ((effect = g_queue_pop_head(&self->queue)) != NULL) {
        run_effect[effect->kind](self, effect);
        cfs_status_effect_free(effect);
    }
    self->is_running = FALSE;
}

/* Flushing ---------------------------------------------------------------- */

static gboolean
is_group_busy(CfsStatusEffects *self)
{
    return self->group != NULL && cfs_group_has_backlog(self->group);
}

/* While the group has no room only this node is told what is new. */
static gboolean
on_flush(gpointer data)
{
    CfsStatusEffects *self = data;
    CfsStatusEvent event = {.kind = CFS_STATUS_FLUSH,
                            .is_busy = is_group_busy(self)};

    self->flush = 0;
    dispatch(self, &event);
    if (event.is_busy && self->flush == 0) {
        self->flush = g_timeout_add_full(CFS_PRIORITY_GROUP, BUSY_MS, on_flush,
                                         self, NULL);
    }
    return G_SOURCE_REMOVE;
}

static void
on_wake(gpointer data)
{
    CfsStatusEffects *self = data;

    if (self->flush == 0) {
        self->flush = g_idle_add_full(CFS_PRIORITY_GROUP, on_flush, self, NULL);
    }
}

/* The names of our keys --------------------------------------------------- */

static void
load_keys(CfsStatusEffects *self)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text =
        pve_file_read(PVE_STATUS_KEYS, MAX_KEYS_FILE, &error);

    if (text != NULL) {
        self->saved_keys = g_strdup(g_bytes_get_data(text, NULL));
        cfs_status_restore_keys(self->status, self->saved_keys);
    } else if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_warning("keys of an earlier start may stay at other nodes: %s",
                  error->message);
    }
}

/* In memory (/run): it waits for no disk. */
static void
save_keys(CfsStatusEffects *self)
{
    g_autofree char *text = cfs_status_save_keys(self->status);
    g_autoptr(GError) error = NULL;

    if (g_strcmp0(text, self->saved_keys) == 0) {
        return;
    }
    if (pve_file_replace(PVE_STATUS_KEYS, text, strlen(text), 0600, &error)) {
        self->has_failed = FALSE;
    } else if (!self->has_failed) {
        self->has_failed = TRUE;
        g_warning("after a restart keys of this node may stay at others: %s",
                  error->message);
    }
    g_free(self->saved_keys);
    self->saved_keys = g_steal_pointer(&text);
}

static gboolean
on_tick(gpointer data)
{
    CfsStatusEffects *self = data;

    save_keys(self);
    on_wake(self);
    return G_SOURCE_CONTINUE;
}

/* The group --------------------------------------------------------------- */

static void
on_bundle(gpointer data)
{
}

static void
on_connected(gpointer data, CfsMember member)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_CONNECTED, .self = member};

    dispatch(data, &event);
}

static void
on_disconnected(gpointer data)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_DISCONNECTED};

    dispatch(data, &event);
}

static void
on_confchg(gpointer data,
           const CfsMember *members,
           guint n_members,
           gboolean has_joined)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_CONFCHG,
                            .confchg = {.members = members,
                                        .n_members = n_members,
                                        .has_joined = has_joined}};

    dispatch(data, &event);
}

static void
on_message(gpointer data, CfsMember sender, GBytes *bytes)
{
    CfsStatusEvent event = {.kind = CFS_STATUS_MESSAGE,
                            .message = {.sender = sender, .bytes = bytes}};

    dispatch(data, &event);
}

void
cfs_status_effects_join(CfsStatusEffects *self)
{
    const CfsGroupHandler handler = {.begin = on_bundle,
                                     .end = on_bundle,
                                     .connected = on_connected,
                                     .disconnected = on_disconnected,
                                     .confchg = on_confchg,
                                     .message = on_message,
                                     .data = self};

    g_assert(self->group == NULL);
    self->group = cfs_group_cpg_new(CFS_GROUP_STATUS, &handler);
}

/* ------------------------------------------------------------------------- */

static void
on_trace(gpointer data, GLogLevelFlags level, const char *text)
{
    g_log("status", level, "%s", text);
}

CfsStatusEffects *
cfs_status_effects_new(CfsStatus *status)
{
    CfsStatusEffects *self = g_new0(CfsStatusEffects, 1);

    self->status = status;
    g_queue_init(&self->queue);
    cfs_status_set_trace(status, on_trace, NULL);
    cfs_status_set_wake(status, on_wake, self);
    load_keys(self);
    self->tick = g_timeout_add(TICK_MS, on_tick, self);
    return self;
}

void
cfs_status_effects_free(CfsStatusEffects *self)
{
    if (self == NULL) {
        return;
    }
    g_source_remove(self->tick);
    save_keys(self);
    cfs_status_set_wake(self->status, NULL, NULL);
    cfs_status_set_trace(self->status, NULL, NULL);
    g_clear_handle_id(&self->flush, g_source_remove);
    g_clear_pointer(&self->group, cfs_group_free);
    g_queue_clear_full(&self->queue, (GDestroyNotify)cfs_status_effect_free);
    g_free(self->saved_keys);
    g_free(self);
}

void
cfs_status_effects_set_watcher(CfsStatusEffects *self,
                               const CfsStatusWatcher *watcher)
{
    self->watcher =
        watcher != NULL ? *watcher : (CfsStatusWatcher){.data = NULL};
}

void
cfs_status_effects_set_archive(CfsStatusEffects *self,
                               CfsStatusArchive archive,
                               gpointer data)
{
    self->archive = archive;
    self->archive_data = data;
}
