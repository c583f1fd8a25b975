#include "config.h"

#include "pmxcfs/core/rrd-file.h"

#include <string.h>

#define HEARTBEAT_S 120

static const char *const node_sources[] = {
    "loadavg",
    "maxcpu",
    "cpu",
    "iowait",
    "memtotal",
    "memused",
    "swaptotal",
    "swapused",
    "roottotal",
    "rootused",
    "netin",
    "netout",
    "memavailable",
    "arcsize",
    "pressurecpusome",
    "pressureiosome",
    "pressureiofull",
    "pressurememorysome",
    "pressurememoryfull",
    NULL,
};

static const char *const guest_sources[] = {
    "maxcpu",
    "cpu",
    "maxmem",
    "mem",
    "maxdisk",
    "disk",
    "netin",
    "netout",
    "diskread",
    "diskwrite",
    "memhost",
    "pressurecpusome",
    "pressurecpufull",
    "pressureiosome",
    "pressureiofull",
    "pressurememorysome",
    "pressurememoryfull",
    NULL,
};

static const char *const storage_sources[] = {"total", "used", NULL};

/* Counters that only rise: their derivative is stored. */
static const char *const derived[] = {"netin", "netout", "diskread",
                                      "diskwrite", NULL};

/* By CfsRrdKind. */
static const struct {
    const char *directory;
    const char *family;     /* any version of it */
    const char *old_prefix; /* of before the family */
    guint n_skipped;        /* columns before the time */
    guint n_old_lacks;      /* columns that the old ones do not have */
    guint n_parts;          /* of the path behind the directory */
    const char *const *sources;
} kinds[CFS_RRD_N_KINDS] = {
    [CFS_RRD_NODE] = {"pve-node-9.0", "pve-node-", "pve2-node/", 2, 7, 1,
                      node_sources},
    [CFS_RRD_GUEST] = {"pve-vm-9.0", "pve-vm-", "pve2.3-vm/", 4, 7, 1,
                       guest_sources},
    [CFS_RRD_STORAGE] = {"pve-storage-9.0", "pve-storage-", "pve2-storage/", 0,
                         0, 2, storage_sources},
};

const char *
cfs_rrd_directory(CfsRrdKind kind)
{
    return kinds[kind].directory;
}

static gboolean
is_derived(const char *source)
{
    return g_strv_contains(derived, source);
}

char *
cfs_rrd_definition(CfsRrdKind kind)
{
    static const char *const functions[] = {"AVERAGE", "MAX"};
    static const guint archives[][2] = {
        {1, 1440}, {30, 1440}, {360, 1440}, {10080, 570}};
    GString *out = g_string_new(NULL);

    for (const char *const *p = kinds[kind].sources; *p != NULL; p++) {
        g_string_append_printf(
            out, "%sDS:%s:%s:%d:0:U", out->len > 0 ? " " : "", *p,
            is_derived(*p) ? "DERIVE" : "GAUGE", HEARTBEAT_S);
    }
    for (guint f = 0; f < G_N_ELEMENTS(functions); f++) {
        for (guint i = 0; i < G_N_ELEMENTS(archives); i++) {
            g_string_append_printf(out, " RRA:%s:0.5:%u:%u", functions[f],
                                   archives[i][0], archives[i][1]);
        }
    }
    return g_string_free(out, FALSE);
}

/* --- keys ----------------------------------------------------------------- */

/* What a node, a guest's id or a storage may look like. */
static gboolean
is_part(const char *text)
{
    gsize size = strlen(text);

    if (size == 0 || size > 200 || text[0] == '.') {
        return FALSE;
    }
    for (gsize i = 0; i < size; i++) {
        if (!g_ascii_isalnum(text[i]) && strchr("._-", text[i]) == NULL) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
are_parts(char **parts, guint n)
{
    for (guint i = 0; i < g_strv_length(parts); i++) {
        if (!is_part(parts[i])) {
            return FALSE;
        }
    }
    return g_strv_length(parts) == n;
}

/* Returns: what follows the prefix of @kind in @key, or NULL. */
static const char *
match(CfsRrdKind kind, const char *key, gboolean *is_old)
{
    *is_old = g_str_has_prefix(key, kinds[kind].old_prefix);
    if (*is_old) {
        return key + strlen(kinds[kind].old_prefix);
    }
    if (g_str_has_prefix(key, kinds[kind].family)) {
        const char *slash = strchr(key, '/');

        return slash != NULL ? slash + 1 : NULL;
    }
    return NULL;
}

/* --- values --------------------------------------------------------------- */

/* TIME:VALUE:..., each a number or U. */
static gboolean
are_numbers(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (!g_ascii_isdigit(*p) && strchr(":.+-eEU", *p) == NULL) {
            return FALSE;
        }
    }
    return g_ascii_isdigit(text[0]);
}

/* Returns: what follows @n columns, or NULL. */
static const char *
skip_columns(const char *text, guint n)
{
    for (; text != NULL && n > 0; n--) {
        text = strchr(text, ':');
        text = text != NULL ? text + 1 : NULL;
    }
    return text;
}

/* Returns: (owned) */
static char *
values_of(CfsRrdKind kind, const char *value, gboolean is_old)
{
    const char *from = skip_columns(value, kinds[kind].n_skipped);
    guint n_wanted = 1 + g_strv_length((char **)kinds[kind].sources);
    const char *surplus;
    GString *out;

    if (from == NULL) {
        return NULL;
    }
    out = g_string_new(from);
    for (guint i = 0; is_old && i < kinds[kind].n_old_lacks; i++) {
        g_string_append(out, ":U");
    }
    surplus = skip_columns(out->str, n_wanted);
    if (surplus != NULL) {
        g_string_truncate(out, (gsize)(surplus - out->str) - 1);
    }
    if (!are_numbers(out->str) ||
        skip_columns(out->str, n_wanted - 1) == NULL) {
        g_string_free(out, TRUE);
        return NULL;
    }
    return g_string_free(out, FALSE);
}

CfsRrdUpdate *
cfs_rrd_update_new(const char *key, const char *value)
{
    for (guint kind = 0; kind < CFS_RRD_N_KINDS; kind++) {
        gboolean is_old = FALSE;
        const char *rest = match(kind, key, &is_old);
        g_auto(GStrv) parts = NULL;
        g_autoptr(CfsRrdUpdate) self = NULL;

        if (rest == NULL) {
            continue;
        }
        parts = g_strsplit(rest, "/", -1);
        if (!are_parts(parts, kinds[kind].n_parts)) {
            return NULL;
        }
        self = g_new0(CfsRrdUpdate, 1);
        self->kind = kind;
        self->values = values_of(kind, value, is_old);
        self->path = g_strconcat(kinds[kind].directory, "/", rest, NULL);
        return self->values != NULL ? g_steal_pointer(&self) : NULL;
    }
    return NULL;
}

void
cfs_rrd_update_free(CfsRrdUpdate *self)
{
    if (self != NULL) {
        g_free(self->path);
        g_free(self->values);
        g_free(self);
    }
}
