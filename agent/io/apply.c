#include "config.h"

#include "agent/io/apply.h"

#include <string.h>
#include <sys/stat.h>

#include "agent/core/lxcconf.h"
#include "agent/io/cgroups.h"
#include "agent/io/configs.h"
#include "agent/io/devices.h"
#include "agent/io/holds.h"
#include "agent/io/hotmount.h"
#include "agent/io/netplug.h"
#include "agent/io/ops.h"
#include "agent/io/volumes.h"

struct AgentApply {
    AgentGuestConf *conf; /* borrowed */
    AgentGuestConf *before;
    AgentStorageCfg *cfg; /* nullable: not asked yet */
    GPtrArray *made;      /* char, ids of new volumes */
    GPtrArray *to_free;   /* char, ids of volumes that go */
    GPtrArray *plugged;   /* char, netN changed in the running container */
    GPtrArray *mounted;   /* char, mpN and devN new in it */
    GPtrArray *removed;   /* char, mpN and devN that went */
    guint32 ctid;
    gboolean is_running;
    gboolean has_new_limits;
    gboolean has_new_cpus;
    gboolean is_stored;
};

AgentApply *
agent_apply_new(AgentGuestConf *conf, gboolean is_running)
{
    AgentApply *self = g_new0(AgentApply, 1);

    self->conf = conf;
    self->before = agent_guestconf_copy(conf);
    self->made = g_ptr_array_new_with_free_func(g_free);
    self->to_free = g_ptr_array_new_with_free_func(g_free);
    self->plugged = g_ptr_array_new_with_free_func(g_free);
    self->mounted = g_ptr_array_new_with_free_func(g_free);
    self->removed = g_ptr_array_new_with_free_func(g_free);
    self->ctid = agent_guestconf_ctid(conf);
    self->is_running = is_running;
    return self;
}

static const AgentStorageCfg *
storages(AgentApply *self)
{
    if (self->cfg == NULL) {
        self->cfg = agent_configs_storages();
    }
    return self->cfg;
}

static gboolean
is_device(const char *key)
{
    return agent_guestopt_index(key, "dev", 256) >= 0;
}

/* --- undoing --- */

static void
complain(const AgentApply *self, const char *what, const GError *error)
{
    g_printerr("WARN: CT %u: cannot undo %s: %s\n", self->ctid, what,
               error->message);
}

static void
free_made(AgentApply *self)
{
    gboolean fine = TRUE;

    for (guint i = self->made->len; i-- > 0;) {
        g_autoptr(GError) error = NULL;

        if (!agent_volumes_free(storages(self), self->ctid,
                                self->made->pdata[i], &error)) {
            complain(self, self->made->pdata[i], error);
            fine = FALSE;
        }
    }
    /* What is left stays noted: destroy frees it. */
    if (self->made->len > 0 && fine) {
        (void)agent_holds_set_making(self->ctid, NULL, NULL);
    }
}

/* The file alone would do: those that cannot be set now are at the next start.
 * A raw line of the file goes before. */
static void
set_cpus(const AgentApply *self, const AgentGuestConf *conf)
{
    g_autoptr(GError) error = NULL;

    if (!agent_guestconf_has_raw(conf, "lxc.cgroup2.cpuset.cpus") &&
        !agent_guestconf_has_raw(conf, "lxc.cgroup.cpuset.cpus") &&
        !agent_cgroups_set_cpus(
            self->ctid, agent_guestconf_get_uint(conf, "cores", 0), &error)) {
        g_printerr("WARN: cores: %s\n", error->message);
    }
}

/* What came goes, then what went comes back. */
static void
undo_places(AgentApply *self)
{
    for (guint i = self->mounted->len; i-- > 0;) {
        const char *key = self->mounted->pdata[i];
        g_autoptr(GError) error = NULL;

        if (is_device(key) ? !agent_devices_remove(self->conf, key, &error)
                           : !agent_hotmount_remove(self->conf, key, &error)) {
            complain(self, key, error);
        }
    }
    for (guint i = self->removed->len; i-- > 0;) {
        const char *key = self->removed->pdata[i];
        g_autoptr(GError) error = NULL;

        if (is_device(key) ? !agent_devices_add(self->before, key, &error)
                           : !agent_hotmount_add(self->before, key, &error)) {
            complain(self, key, error);
        }
    }
}

static void
undo(AgentApply *self)
{
    undo_places(self);
    for (guint i = self->plugged->len; i-- > 0;) {
        g_autoptr(GError) error = NULL;

        if (!agent_netplug_change(self->ctid, self->plugged->pdata[i],
                                  self->conf, self->before, &error)) {
            complain(self, self->plugged->pdata[i], error);
        }
    }
    if (self->has_new_limits) {
        g_autoptr(GError) error = NULL;

        if (!agent_cgroups_limit(self->before, &error)) {
            complain(self, "limits", error);
        }
    }
    if (self->has_new_cpus) {
        set_cpus(self, self->before);
    }
    free_made(self);
}

void
agent_apply_free(AgentApply *self)
{
    if (self == NULL) {
        return;
    }
    if (!self->is_stored) {
        undo(self);
    }
    agent_guestconf_free(self->before);
    agent_storagecfg_free(self->cfg);
    g_ptr_array_unref(self->made);
    g_ptr_array_unref(self->to_free);
    g_ptr_array_unref(self->plugged);
    g_ptr_array_unref(self->mounted);
    g_ptr_array_unref(self->removed);
    g_free(self);
}

/* --- volumes --- */

/* A volume is noted before it is made: a crash loses none. @volume NULL: only
 * those that are made already. */
static gboolean
note_volume(const char *volume, gpointer data, GError **error)
{
    AgentApply *self = data;
    g_autoptr(GPtrArray) ids = g_ptr_array_new();

    for (guint i = 0; i < self->made->len; i++) {
        g_ptr_array_add(ids, self->made->pdata[i]);
    }
    if (volume != NULL) {
        g_ptr_array_add(ids, (gpointer)volume);
    }
    g_ptr_array_add(ids, NULL);
    return agent_holds_set_making(self->ctid, (const char *const *)ids->pdata,
                                  error);
}

static gboolean
make_volume(AgentApply *self, AgentMount *mount, GError **error)
{
    g_autoptr(AgentNewVolume) made = NULL;
    guint32 uid, gid;

    /* The first note of ours replaces those of a change that was killed. */
    if (self->made->len == 0 &&
        !agent_ops_free_noted(self->before, storages(self), error)) {
        return FALSE;
    }
    agent_guestconf_root_ids(self->conf, &uid, &gid);
    made = agent_volumes_make(storages(self), self->ctid, mount->volume, uid,
                              gid, note_volume, self, error);
    if (made == NULL) {
        (void)note_volume(NULL, self, NULL);
        return FALSE;
    }
    g_ptr_array_add(self->made, g_strdup(made->volume));
    g_free(mount->volume);
    mount->volume = g_strdup(made->volume);
    mount->size_bytes = made->size_bytes;
    return TRUE;
}

static void
refresh_size(AgentApply *self, AgentMount *mount)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path =
        agent_volumes_path(storages(self), mount->volume, &error);
    struct stat st;

    if (path == NULL || stat(path, &st) < 0) {
        g_printerr("Could not rescan volume size - %s\n",
                   error != NULL ? error->message : path);
        return;
    }
    mount->size_bytes = S_ISDIR(st.st_mode) ? 0 : st.st_size;
}

/* Puts into @step what a mount point's new value really is. */
static gboolean
settle_mount(AgentApply *self, AgentGuestStep *step, GError **error)
{
    g_autoptr(AgentMount) mount =
        agent_mount_parse(step->key, step->value, error);

    if (mount == NULL) {
        return FALSE;
    }
    if (mount->kind == AGENT_MOUNT_REQUEST) {
        if (!make_volume(self, mount, error)) {
            return FALSE;
        }
    } else if (mount->kind == AGENT_MOUNT_VOLUME) {
        refresh_size(self, mount);
    } else {
        return TRUE;
    }
    g_free(step->value);
    step->value = agent_mount_format(mount);
    return TRUE;
}

/* --- one step --- */

static gboolean
is_limit(const char *key)
{
    return strcmp(key, "memory") == 0 || strcmp(key, "swap") == 0 ||
           strcmp(key, "cpulimit") == 0 || strcmp(key, "cpuunits") == 0;
}

static gboolean
is_mount(const char *key)
{
    return strcmp(key, "rootfs") == 0 ||
           agent_guestopt_index(key, "mp", 256) >= 0;
}

static gboolean
is_unused(const char *key)
{
    return agent_guestopt_index(key, "unused", 256) >= 0;
}

static gboolean
is_net(const char *key)
{
    return agent_guestopt_index(key, "net", 32) >= 0;
}

/* The value stands in the pending section still. */
static gboolean
can_add_device(const AgentApply *self, const char *key)
{
    g_autoptr(AgentGuestConf) then = agent_guestconf_with_pending(self->conf);

    return agent_devices_can_add(then, key);
}

/* Something in the container may use it: then it goes at the next start. */
static gboolean
take_out(AgentApply *self, const char *key)
{
    g_autoptr(GError) error = NULL;

    if (is_device(key) ? !agent_devices_remove(self->conf, key, &error)
                       : !agent_hotmount_remove(self->conf, key, &error)) {
        g_printerr("%s: stays until the next start: %s\n", key, error->message);
        return FALSE;
    }
    g_ptr_array_add(self->removed, g_strdup(key));
    return TRUE;
}

/* May it leave the pending section now? What has to go from the container goes
 * here already. */
static gboolean
can_apply(AgentApply *self, const AgentGuestStep *step)
{
    if (!self->is_running || step->live == AGENT_LIVE_FILE ||
        is_limit(step->key) || is_unused(step->key) || is_net(step->key)) {
        return TRUE;
    }
    if (step->is_deletion) {
        return (is_mount(step->key) || is_device(step->key)) &&
               take_out(self, step->key);
    }
    return is_mount(step->key) ||
           (is_device(step->key) && can_add_device(self, step->key));
}

/* At a start the generator says so. */
static void
warn_about_net(const AgentGuestConf *conf, const char *key)
{
    const char *value = agent_guestconf_get(conf, key);
    g_autoptr(AgentNet) net =
        value != NULL ? agent_net_parse(key, value, NULL) : NULL;
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);

    if (net != NULL) {
        agent_lxcconf_warn_net(net, warnings);
    }
    for (guint i = 0; i < warnings->len; i++) {
        g_printerr("WARN: %s\n", (const char *)warnings->pdata[i]);
    }
}

static gboolean
tell_kernel(AgentApply *self,
            const AgentGuestConf *was,
            const char *key,
            GError **error)
{
    if (!self->is_running) {
        return TRUE;
    }
    if (is_limit(key)) {
        /* Half of it may be written when it fails. */
        self->has_new_limits = TRUE;
        return agent_cgroups_limit(self->conf, error) ||
               (agent_cgroups_limit(was, NULL), FALSE);
    }
    if (strcmp(key, "cores") == 0) {
        self->has_new_cpus = TRUE;
        set_cpus(self, self->conf);
    }
    if (is_net(key)) {
        if (!agent_netplug_change(self->ctid, key, was, self->conf, error)) {
            return FALSE;
        }
        g_ptr_array_add(self->plugged, g_strdup(key));
        warn_about_net(self->conf, key);
    }
    if ((is_mount(key) || is_device(key)) &&
        agent_guestconf_get(self->conf, key) != NULL) {
        if (is_mount(key) ? !agent_hotmount_add(self->conf, key, error)
                          : !agent_devices_add(self->conf, key, error)) {
            return FALSE;
        }
        g_ptr_array_add(self->mounted, g_strdup(key));
    }
    return TRUE;
}

/* Returns: (owned) the volume that goes with the deletion, or NULL. */
static char *
doomed_volume(const AgentApply *self, const AgentGuestStep *step)
{
    const char *volume = agent_guestconf_get(self->conf, step->key);

    if (!step->is_deletion || !is_unused(step->key) || volume == NULL ||
        agent_guestconf_uses_volume(self->conf, volume, step->key)) {
        return NULL;
    }
    return g_strdup(volume);
}

/* Puts all options and pending entries of @was back into @conf. */
static void
put_back(AgentGuestConf *conf, const AgentGuestConf *was, const char *key)
{
    g_autofree char *main = agent_guestconf_peek(was, AGENT_SECTION_MAIN, key);
    g_autofree char *pending =
        agent_guestconf_peek(was, AGENT_SECTION_PENDING, key);
    g_auto(GStrv) deletions = agent_guestconf_deletions(was);

    agent_guestconf_put(conf, AGENT_SECTION_MAIN, key, main);
    agent_guestconf_put(conf, AGENT_SECTION_PENDING, key, pending);
    if (g_strv_contains((const char *const *)deletions, key)) {
        agent_guestconf_queue_deletion(conf, key);
    }
}

static gboolean
commit(AgentApply *self, const AgentGuestStep *step, GError **error)
{
    g_autoptr(AgentGuestConf) was = agent_guestconf_copy(self->conf);
    g_autofree char *doomed = doomed_volume(self, step);

    if (!agent_guestchange_commit(self->conf, step, error) ||
        !tell_kernel(self, was, step->key, error)) {
        put_back(self->conf, was, step->key);
        return FALSE;
    }
    if (doomed != NULL) {
        g_ptr_array_add(self->to_free, g_steal_pointer(&doomed));
    }
    return TRUE;
}

/* A volume of a step that failed is nobody's. */
static void
drop_made(AgentApply *self, guint since)
{
    while (self->made->len > since) {
        g_autoptr(GError) error = NULL;
        guint last = self->made->len - 1;

        if (!agent_volumes_free(storages(self), self->ctid,
                                self->made->pdata[last], &error)) {
            complain(self, self->made->pdata[last], error);
        }
        g_ptr_array_remove_index(self->made, last);
    }
}

gboolean
agent_apply_step(AgentApply *self, const AgentGuestStep *step, GError **error)
{
    AgentGuestStep settled = {.key = step->key,
                              .is_deletion = step->is_deletion,
                              .value = g_strdup(step->value),
                              .live = step->live};
    guint since = self->made->len;
    gboolean fine = TRUE;

    if (can_apply(self, step)) {
        fine = (step->is_deletion || !is_mount(step->key) ||
                settle_mount(self, &settled, error)) &&
               commit(self, &settled, error);
        if (!fine) {
            drop_made(self, since);
        }
    }
    g_free(settled.value);
    return fine;
}

/* --- the end --- */

static gboolean
free_doomed(AgentApply *self, GError **error)
{
    for (guint i = 0; i < self->to_free->len; i++) {
        if (!agent_volumes_free(storages(self), self->ctid,
                                self->to_free->pdata[i], error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* The record names what the file names. One without a record has to be adopted
 * before it gets volumes of ours. */
static gboolean
update_record(AgentApply *self, GError **error)
{
    g_auto(GStrv) old = agent_guestconf_volumes(self->before);
    g_auto(GStrv) new = agent_guestconf_volumes(self->conf);
    g_autoptr(GError) local = NULL;

    if (g_strv_equal((const char *const *)old, (const char *const *)new) ||
        agent_holds_update(self->ctid, (const char *const *)new, NULL, -1,
                           &local)) {
        return TRUE;
    }
    if (self->made->len == 0 &&
        g_error_matches(local, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_UNKNOWN)) {
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean
agent_apply_store(AgentApply *self, GError **error)
{
    if (!free_doomed(self, error) || !update_record(self, error) ||
        !agent_configs_store(self->conf, error)) {
        return FALSE;
    }
    if (self->made->len > 0) {
        (void)agent_holds_set_making(self->ctid, NULL, NULL);
    }
    return self->is_stored = TRUE;
}

gboolean
agent_apply_pending(AgentGuestConf *conf, GError **error)
{
    g_autoptr(AgentApply) apply = agent_apply_new(conf, FALSE);
    g_autoptr(GPtrArray) steps = agent_guestchange_steps(NULL, conf, FALSE);

    for (guint i = 0; i < steps->len; i++) {
        const AgentGuestStep *step = steps->pdata[i];
        g_autoptr(GError) local = NULL;

        if (!agent_apply_step(apply, step, &local)) {
            g_printerr("WARN: unable to apply pending change %s : %s\n",
                       step->key, local->message);
        }
    }
    agent_guestchange_tidy(conf);
    if (steps->len == 0) {
        return apply->is_stored = TRUE;
    }
    return agent_apply_store(apply, error);
}
