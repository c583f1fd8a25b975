#include "config.h"

#include "agent/core/guestchange.h"

#include "agent/core/idmap.h"

#include <string.h>

enum { MAX_UNUSED = 256, MAX_MP = 256, MAX_NET = 32 };

struct AgentGuestChange {
    GPtrArray *deletes; /* char, in the order given */
    GPtrArray *reverts; /* char */
    GHashTable *values; /* option to text */
};

static gboolean fail(GError **error, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

static gboolean
fail(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, AGENT_GUESTCONF_ERROR,
                        AGENT_GUESTCONF_ERROR_VALUE, message);
    return FALSE;
}

static void warn(GPtrArray *warnings, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

static void
warn(GPtrArray *warnings, const char *format, ...)
{
    va_list args;

    if (warnings != NULL) {
        va_start(args, format);
        g_ptr_array_add(warnings, g_strdup_vprintf(format, args));
        va_end(args);
    }
}

/* --- what is asked for --- */

AgentGuestChange *
agent_guestchange_new(void)
{
    AgentGuestChange *self = g_new0(AgentGuestChange, 1);

    self->deletes = g_ptr_array_new_with_free_func(g_free);
    self->reverts = g_ptr_array_new_with_free_func(g_free);
    self->values =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void
agent_guestchange_free(AgentGuestChange *self)
{
    if (self == NULL) {
        return;
    }
    g_ptr_array_unref(self->deletes);
    g_ptr_array_unref(self->reverts);
    g_hash_table_unref(self->values);
    g_free(self);
}

static gboolean
has(const GPtrArray *list, const char *key)
{
    return g_ptr_array_find_with_equal_func((GPtrArray *)list, key, g_str_equal,
                                            NULL);
}

static gboolean
add_list(GPtrArray *list, const char *text, GError **error)
{
    g_auto(GStrv) items = agent_list_split(text);

    for (char **item = items; *item != NULL; item++) {
        if (agent_guestopt_find(*item) == NULL) {
            return fail(error, "unknown option '%s'", *item);
        }
        if (!has(list, *item)) {
            g_ptr_array_add(list, g_strdup(*item));
        }
    }
    return TRUE;
}

void
agent_guestchange_set(AgentGuestChange *self,
                      const char *key,
                      const char *stored)
{
    if (*stored != '\0') {
        g_hash_table_replace(self->values, g_strdup(key), g_strdup(stored));
    } else if (!has(self->deletes, key)) {
        g_ptr_array_add(self->deletes, g_strdup(key));
    }
}

gboolean
agent_guestchange_delete(AgentGuestChange *self,
                         const char *list,
                         GError **error)
{
    return add_list(self->deletes, list, error);
}

gboolean
agent_guestchange_revert(AgentGuestChange *self,
                         const char *list,
                         GError **error)
{
    return add_list(self->reverts, list, error);
}

gboolean
agent_guestchange_is_empty(const AgentGuestChange *self)
{
    return self->deletes->len == 0 && self->reverts->len == 0 &&
           g_hash_table_size(self->values) == 0;
}

gboolean
agent_guestchange_check(const AgentGuestChange *self, GError **error)
{
    for (guint i = 0; i < self->reverts->len; i++) {
        const char *key = self->reverts->pdata[i];

        if (g_hash_table_contains(self->values, key)) {
            return fail(error,
                        "you can't use '-%s' and '-revert %s' at the same time",
                        key, key);
        }
    }
    for (guint i = 0; i < self->deletes->len; i++) {
        const char *key = self->deletes->pdata[i];

        if (g_hash_table_contains(self->values, key)) {
            return fail(error,
                        "you can't use '-%s' and -delete %s' at the same time",
                        key, key);
        }
        if (has(self->reverts, key)) {
            return fail(error,
                        "you can't use '-delete %s' and '-revert %s' at the "
                        "same time",
                        key, key);
        }
    }
    return TRUE;
}

const char *
agent_guestchange_get(const AgentGuestChange *self, const char *key)
{
    return g_hash_table_lookup(self->values, key);
}

char **
agent_guestchange_keys(const AgentGuestChange *self)
{
    return agent_guestconf_sort_keys(self->values);
}

/* --- keys by kind --- */

static gboolean
is_mp(const char *key)
{
    return agent_guestopt_index(key, "mp", MAX_MP) >= 0;
}

static gboolean
is_unused(const char *key)
{
    return agent_guestopt_index(key, "unused", MAX_UNUSED) >= 0;
}

static gboolean
is_volume_key(const char *key)
{
    return strcmp(key, "rootfs") == 0 || is_mp(key);
}

static gboolean
is_protected(const AgentGuestConf *conf)
{
    return agent_guestconf_get_bool(conf, "protection", FALSE);
}

static gboolean
is_fixed(const char *key)
{
    return agent_guestopt_find(key)->live == AGENT_LIVE_FIXED;
}

static gboolean
is_set(const AgentGuestConf *conf, AgentGuestSection section, const char *key)
{
    g_autofree char *value = agent_guestconf_peek(conf, section, key);

    return value != NULL;
}

/* --- deletions --- */

static gboolean
check_deletion(const AgentGuestConf *conf, const char *key, GError **error)
{
    if (agent_guestopt_find(key)->flags & AGENT_OPT_NEEDED) {
        return fail(error, "unable to delete required option '%s'", key);
    }
    if (is_protected(conf) && (is_mp(key) || is_unused(key))) {
        return fail(error,
                    "can't remove CT %u drive '%s' - protection mode enabled",
                    agent_guestconf_ctid(conf), key);
    }
    if (is_fixed(key)) {
        return fail(error, "unable to delete read-only option: '%s'", key);
    }
    return TRUE;
}

/* A deletion ends a pending value of the option, too. */
static gboolean
queue_deletion(AgentGuestConf *conf,
               const char *key,
               GPtrArray *warnings,
               GError **error)
{
    if (!is_set(conf, AGENT_SECTION_MAIN, key) &&
        !is_set(conf, AGENT_SECTION_PENDING, key)) {
        warn(warnings, "cannot delete '%s' - not set in current configuration!",
             key);
        return TRUE;
    }
    if (!check_deletion(conf, key, error)) {
        return FALSE;
    }
    agent_guestconf_put(conf, AGENT_SECTION_PENDING, key, NULL);
    agent_guestconf_queue_deletion(conf, key);
    return TRUE;
}

/* --- values --- */

/* Returns: (owned) @path without double, leading-relative or trailing
 * slashes, for comparison. */
static char *
plain_path(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    GString *out = g_string_new(NULL);

    for (char **part = parts; *part != NULL; part++) {
        if (**part != '\0' && strcmp(*part, ".") != 0) {
            g_string_append_printf(out, "/%s", *part);
        }
    }
    return g_string_free(out, FALSE);
}

/* Two mount points on one target: the first would be hidden. */
static gboolean
check_target(const AgentGuestConf *conf,
             const AgentMount *mount,
             GError **error)
{
    g_autofree char *path = plain_path(mount->mp);
    g_autoptr(AgentGuestConf) view = agent_guestconf_with_pending(conf);
    g_autoptr(GPtrArray) others = NULL;

    if (*mount->mp != '/' || *path == '\0') {
        return fail(error,
                    "%s: mount target '%s' must be an absolute path other "
                    "than '/'",
                    mount->key, mount->mp);
    }
    others = agent_guestconf_mounts(view, NULL);
    for (guint i = 0; others != NULL && i < others->len; i++) {
        const AgentMount *other = others->pdata[i];
        g_autofree char *taken = plain_path(other->mp);

        if (strcmp(other->key, mount->key) != 0 && strcmp(taken, path) == 0) {
            return fail(error, "%s: mount target '%s' is already used by %s",
                        mount->key, mount->mp, other->key);
        }
    }
    return TRUE;
}

static gboolean
check_idmap(const AgentMount *mount, GError **error)
{
    g_auto(GStrv) items = NULL;

    if (mount->idmap == NULL || strcmp(mount->idmap, "passthrough") == 0) {
        return TRUE;
    }
    items = g_strsplit(mount->idmap, ";", -1);
    if (!agent_idmap_check((const char *const *)items, ":", error)) {
        g_prefix_error(error, "%s: ", mount->key);
        return FALSE;
    }
    return TRUE;
}

static gboolean
check_mount(const AgentGuestConf *conf,
            const char *key,
            const char *value,
            GError **error)
{
    g_autoptr(AgentMount) mount = NULL;

    if (is_protected(conf)) {
        return fail(error,
                    "can't update CT %u drive '%s' - protection mode enabled",
                    agent_guestconf_ctid(conf), key);
    }
    mount = agent_mount_parse(key, value, error);
    if (mount == NULL) {
        g_prefix_error(error, "%s: ", key);
        return FALSE;
    }
    if (!is_mp(key) && mount->kind == AGENT_MOUNT_REQUEST) {
        return fail(error,
                    "rootfs: '%s' asks for a new volume; only its flags may "
                    "be changed, or it be set to an existing volume",
                    mount->volume);
    }
    return check_idmap(mount, error) &&
           (!is_mp(key) || check_target(conf, mount, error));
}

static gboolean
check_net(const AgentGuestConf *conf,
          const char *key,
          const char *value,
          GError **error)
{
    g_autoptr(AgentNet) net = agent_net_parse(key, value, error);
    g_autoptr(AgentGuestConf) view = agent_guestconf_with_pending(conf);
    g_autoptr(GPtrArray) others = agent_guestconf_nets(view, NULL);

    if (net == NULL) {
        g_prefix_error(error, "%s: ", key);
        return FALSE;
    }
    if (net->host_managed && !net->link_down &&
        g_strcmp0(net->ip6, "auto") == 0) {
        return fail(error,
                    "%s: SLAAC is not supported for host-managed network "
                    "configuration.",
                    key);
    }
    for (guint i = 0; others != NULL && i < others->len; i++) {
        const AgentNet *other = others->pdata[i];

        if (strcmp(other->key, key) != 0 &&
            strcmp(other->name, net->name) == 0) {
            return fail(error, "%s: interface name '%s' is already used by %s",
                        key, net->name, other->key);
        }
    }
    return TRUE;
}

gboolean
agent_guestchange_check_whole(const AgentGuestConf *conf, GError **error)
{
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(conf, error);
    g_autoptr(GPtrArray) nets =
        mounts != NULL ? agent_guestconf_nets(conf, error) : NULL;

    for (guint i = 0; nets != NULL && i < mounts->len; i++) {
        const AgentMount *mount = mounts->pdata[i];

        if (!check_idmap(mount, error) ||
            (is_mp(mount->key) && !check_target(conf, mount, error))) {
            return FALSE;
        }
    }
    for (guint i = 0; nets != NULL && i < nets->len; i++) {
        const AgentNet *net = nets->pdata[i];

        if (!check_net(conf, net->key, agent_guestconf_get(conf, net->key),
                       error)) {
            return FALSE;
        }
    }
    return nets != NULL;
}

static gboolean
check_value(const AgentGuestConf *conf,
            const char *key,
            const char *value,
            GError **error)
{
    if (is_fixed(key)) {
        return fail(error, "unable to modify read-only option: '%s'", key);
    }
    if (strcmp(key, "template") == 0 && strcmp(value, "1") == 0 &&
        !agent_guestconf_is_template(conf)) {
        return fail(error,
                    "template: the flag alone makes no template, use 'pct "
                    "template %u'",
                    agent_guestconf_ctid(conf));
    }
    if (is_volume_key(key)) {
        return check_mount(conf, key, value, error);
    }
    if (agent_guestopt_index(key, "net", MAX_NET) >= 0) {
        return check_net(conf, key, value, error);
    }
    return TRUE;
}

/* All values are there before the first is checked: two of one change may
 * not contradict each other. */
static gboolean
queue_values(const AgentGuestChange *self, AgentGuestConf *conf, GError **error)
{
    g_auto(GStrv) keys = agent_guestchange_keys(self);

    for (char **key = keys; *key != NULL; key++) {
        agent_guestconf_put(conf, AGENT_SECTION_PENDING, *key,
                            agent_guestchange_get(self, *key));
        agent_guestconf_unqueue_deletion(conf, *key);
    }
    for (char **key = keys; *key != NULL; key++) {
        if (!check_value(conf, *key, agent_guestchange_get(self, *key),
                         error)) {
            return FALSE;
        }
    }
    return TRUE;
}

void
agent_guestchange_tidy(AgentGuestConf *conf)
{
    g_auto(GStrv) keys =
        agent_guestconf_section_keys(conf, AGENT_SECTION_PENDING);
    g_auto(GStrv) deleted = agent_guestconf_deletions(conf);

    for (char **key = keys; *key != NULL; key++) {
        g_autofree char *now =
            agent_guestconf_peek(conf, AGENT_SECTION_MAIN, *key);
        g_autofree char *then =
            agent_guestconf_peek(conf, AGENT_SECTION_PENDING, *key);

        if (g_strcmp0(now, then) == 0) {
            agent_guestconf_put(conf, AGENT_SECTION_PENDING, *key, NULL);
        }
    }
    for (char **key = deleted; *key != NULL; key++) {
        if (!is_set(conf, AGENT_SECTION_MAIN, *key)) {
            agent_guestconf_unqueue_deletion(conf, *key);
        }
    }
}

gboolean
agent_guestchange_queue(const AgentGuestChange *self,
                        AgentGuestConf *conf,
                        GPtrArray *warnings,
                        GError **error)
{
    if (!agent_guestchange_check(self, error)) {
        return FALSE;
    }
    for (guint i = 0; i < self->reverts->len; i++) {
        agent_guestconf_put(conf, AGENT_SECTION_PENDING,
                            self->reverts->pdata[i], NULL);
        agent_guestconf_unqueue_deletion(conf, self->reverts->pdata[i]);
    }
    for (guint i = 0; i < self->deletes->len; i++) {
        if (!queue_deletion(conf, self->deletes->pdata[i], warnings, error)) {
            return FALSE;
        }
    }
    if (!queue_values(self, conf, error)) {
        return FALSE;
    }
    agent_guestchange_tidy(conf);
    return TRUE;
}

/* --- steps --- */

static void
step_free(gpointer data)
{
    AgentGuestStep *self = data;

    g_free(self->key);
    g_free(self->value);
    g_free(self);
}

static gboolean
touches(const AgentGuestChange *self, const char *key)
{
    return self == NULL || g_hash_table_contains(self->values, key) ||
           has(self->deletes, key) || has(self->reverts, key);
}

/* How the change of @key may be applied to a running container. */
static AgentGuestOptLive
live_of(const AgentGuestConf *conf, const char *key, gboolean is_deletion)
{
    const AgentGuestOpt *opt = agent_guestopt_find(key);

    if (opt == NULL) {
        return AGENT_LIVE_PENDING;
    }
    if (is_unused(key)) {
        return is_deletion ? AGENT_LIVE_HOT : AGENT_LIVE_PENDING;
    }
    if (opt->live == AGENT_LIVE_ADDED) {
        return !is_deletion && is_set(conf, AGENT_SECTION_MAIN, key)
                   ? AGENT_LIVE_PENDING
                   : AGENT_LIVE_HOT;
    }
    return (AgentGuestOptLive)opt->live;
}

static void
add_step(GPtrArray *steps,
         const AgentGuestConf *conf,
         const char *key,
         gboolean is_deletion,
         AgentGuestOptLive live)
{
    AgentGuestStep *step = g_new0(AgentGuestStep, 1);

    step->key = g_strdup(key);
    step->is_deletion = is_deletion;
    step->value = is_deletion
                      ? NULL
                      : agent_guestconf_peek(conf, AGENT_SECTION_PENDING, key);
    step->live = live;
    g_ptr_array_add(steps, step);
}

/* Adds what @keys name, of the kinds in @pass: 0 what is filed only, 1 the
 * rest. */
static void
add_steps(GPtrArray *steps,
          const AgentGuestChange *self,
          const AgentGuestConf *conf,
          char **keys,
          gboolean is_deletion,
          gboolean is_running,
          guint pass)
{
    for (char **key = keys; *key != NULL; key++) {
        AgentGuestOptLive live = live_of(conf, *key, is_deletion);

        if (touches(self, *key) && (pass == 0) == (live == AGENT_LIVE_FILE) &&
            (!is_running || live != AGENT_LIVE_PENDING)) {
            add_step(steps, conf, *key, is_deletion, live);
        }
    }
}

GPtrArray *
agent_guestchange_steps(const AgentGuestChange *self,
                        const AgentGuestConf *conf,
                        gboolean is_running)
{
    GPtrArray *steps = g_ptr_array_new_with_free_func(step_free);
    g_auto(GStrv) keys =
        agent_guestconf_section_keys(conf, AGENT_SECTION_PENDING);
    g_auto(GStrv) deleted = agent_guestconf_deletions(conf);

    for (guint pass = 0; pass < 2; pass++) {
        add_steps(steps, self, conf, deleted, TRUE, is_running, pass);
        add_steps(steps, self, conf, keys, FALSE, is_running, pass);
    }
    return steps;
}

/* --- commit --- */

static gboolean
add_unused(AgentGuestConf *conf, const char *volume, GError **error)
{
    for (int i = 0; i < MAX_UNUSED; i++) {
        g_autofree char *key = g_strdup_printf("unused%d", i);

        if (!is_set(conf, AGENT_SECTION_MAIN, key)) {
            agent_guestconf_set(conf, key, volume);
            return TRUE;
        }
    }
    return fail(error, "Too many unused volumes - please delete them first.");
}

/* The volume that the main section's @key names, if it names one. */
static char *
volume_of(const AgentGuestConf *conf, const char *key)
{
    const char *value = agent_guestconf_get(conf, key);
    g_autoptr(AgentMount) mount = value != NULL && is_volume_key(key)
                                      ? agent_mount_parse(key, value, NULL)
                                      : NULL;

    return mount != NULL && mount->kind == AGENT_MOUNT_VOLUME
               ? g_strdup(mount->volume)
               : NULL;
}

gboolean
agent_guestchange_commit(AgentGuestConf *conf,
                         const AgentGuestStep *step,
                         GError **error)
{
    g_autofree char *volume = volume_of(conf, step->key);

    agent_guestconf_put(conf, AGENT_SECTION_PENDING, step->key, NULL);
    agent_guestconf_unqueue_deletion(conf, step->key);
    agent_guestconf_put(conf, AGENT_SECTION_MAIN, step->key,
                        step->is_deletion ? NULL : step->value);
    return volume == NULL || agent_guestconf_uses_volume(conf, volume, NULL) ||
           add_unused(conf, volume, error);
}
