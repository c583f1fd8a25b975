#define G_LOG_DOMAIN "dcdb"
#include "config.h"

#include "pmxcfs/io/lock-timers.h"

#include <string.h>

#include "common/files.h"
#include "common/paths.h"
#include "pmxcfs/io/effects.h"

#define SAVE_MS 1000
#define MAX_BYTES (16u << 20)

struct CfsLockTimers {
    CfsReplica *replica;
    char *boot; /* the file's first line; "" when it cannot be known */
    guint timer;
    gboolean has_failed;
};

static char *
read_boot_id(void)
{
    g_autoptr(GBytes) id = pve_file_read(PVE_BOOT_ID_FILE, 100, NULL);

    return id != NULL ? g_strstrip(g_strdup(g_bytes_get_data(id, NULL)))
                      : g_strdup("");
}

static void
load(CfsLockTimers *self)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = pve_file_read(PVE_LOCK_TIMERS, MAX_BYTES, &error);
    const char *text, *rest;

    if (bytes == NULL) {
        if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            g_warning("the times of locks begin anew: %s", error->message);
        }
        return;
    }
    text = g_bytes_get_data(bytes, NULL);
    rest = strchr(text, '\n');
    if (rest != NULL && strlen(self->boot) == (gsize)(rest - text) &&
        strncmp(text, self->boot, (gsize)(rest - text)) == 0) {
        cfs_replica_restore_locks(self->replica, rest + 1,
                                  cfs_effects_clock_ms());
    }
}

static void
save(CfsLockTimers *self)
{
    g_autofree char *lines = cfs_replica_save_locks(self->replica);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    if (lines == NULL) {
        return;
    }
    text = g_strconcat(self->boot, "\n", lines, NULL);
    if (pve_file_replace(PVE_LOCK_TIMERS, text, strlen(text), 0600, &error)) {
        self->has_failed = FALSE;
    } else if (!self->has_failed) {
        self->has_failed = TRUE;
        g_warning("a restart will begin the times of locks anew: %s",
                  error->message);
    }
}

static gboolean
on_timer(gpointer data)
{
    save(data);
    return G_SOURCE_CONTINUE;
}

CfsLockTimers *
cfs_lock_timers_new(CfsReplica *replica)
{
    CfsLockTimers *self = g_new0(CfsLockTimers, 1);

    self->replica = replica;
    self->boot = read_boot_id();
    load(self);
    self->timer = g_timeout_add(SAVE_MS, on_timer, self);
    return self;
}

void
cfs_lock_timers_free(CfsLockTimers *self)
{
    if (self == NULL) {
        return;
    }
    g_source_remove(self->timer);
    save(self);
    g_free(self->boot);
    g_free(self);
}
