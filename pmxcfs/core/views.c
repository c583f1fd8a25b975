#include "config.h"

#include "pmxcfs/core/views.h"

#include "common/log.h"
#include "pmxcfs/core/announce.h"

#include <errno.h>
#include <string.h>

/* The files whose changes .version counts, in its order. */
static const char *const observed[] = {
    "corosync.conf",
    "corosync.conf.new",
    "storage.cfg",
    "user.cfg",
    "domains.cfg",
    "notifications.cfg",
    "priv/notifications.cfg",
    "priv/shadow.cfg",
    "priv/acme/plugins.cfg",
    "priv/tfa.cfg",
    "priv/token.cfg",
    "priv/wg-keys.cfg",
    "datacenter.cfg",
    "vzdump.cron",
    "vzdump.conf",
    "jobs.cfg",
    "ha/crm_commands",
    "ha/manager_status",
    "ha/resources.cfg",
    "ha/rules.cfg",
    "ha/groups.cfg",
    "ha/fence.cfg",
    "status.cfg",
    "replication.cfg",
    "ceph.conf",
    "sdn/vnets.cfg",
    "sdn/zones.cfg",
    "sdn/controllers.cfg",
    "sdn/subnets.cfg",
    "sdn/ipams.cfg",
    "sdn/mac-cache.json",
    "sdn/pve-ipam-state.json",
    "sdn/dns.cfg",
    "sdn/fabrics.cfg",
    "sdn/route-maps.cfg",
    "sdn/prefix-lists.cfg",
    "sdn/.running-config",
    "virtual-guest/cpu-models.conf",
    "virtual-guest/profiles.cfg",
    "firewall/cluster.fw",
    "mapping/directory.cfg",
    "mapping/pci.cfg",
    "mapping/usb.cfg",
};

struct CfsViews {
    char *node_name;
    guint32 start_time;
    gboolean quorate;
    CfsStatus *status; /* NULL: nothing is told of nodes */
    CfsMetrics *metrics;
    guint32 versions[G_N_ELEMENTS(observed)];
    CfsAnnounce *announce; /* NULL: all is shown at once */
};

CfsViews *
cfs_views_new(const char *node_name, guint32 start_time)
{
    CfsViews *self = g_new0(CfsViews, 1);

    self->node_name = g_strdup(node_name);
    self->start_time = start_time;
    return self;
}

void
cfs_views_free(CfsViews *self)
{
    if (self == NULL) {
        return;
    }
    g_clear_pointer(&self->announce, cfs_announce_free);
    g_free(self->node_name);
    g_free(self);
}

const char *
cfs_views_node_name(CfsViews *self)
{
    return self->node_name;
}

void
cfs_views_set_metrics(CfsViews *self, CfsMetrics *metrics)
{
    self->metrics = metrics;
}

void
cfs_views_set_status(CfsViews *self, CfsStatus *status)
{
    self->status = status;
}

CfsStatus *
cfs_views_status(CfsViews *self)
{
    return self->status;
}

static void
count(CfsViews *self, guint position)
{
    self->versions[position]++;
    if (self->announce != NULL) {
        cfs_announce_counter(self->announce, position,
                             self->versions[position]);
    }
}

static void
count_path(CfsViews *self, const char *path)
{
    for (guint i = 0; path != NULL && i < G_N_ELEMENTS(observed); i++) {
        if (strcmp(observed[i], path) == 0) {
            count(self, i);
            return;
        }
    }
}

static void
note_guest(CfsViews *self, const char *path)
{
    PveGuestPath guest;

    if (self->announce != NULL && path != NULL &&
        pve_guest_path_parse(path, &guest)) {
        cfs_announce_guest(self->announce, guest.id);
    }
}

void
cfs_views_on_changes(CfsViews *self, const CfsOp *op, GPtrArray *changes)
{
    if (op->kind == CFS_OP_MKDIR) {
        return;
    }
    for (guint i = 0; i < changes->len; i++) {
        const CfsChange *change = g_ptr_array_index(changes, i);

        note_guest(self, change->path);
        note_guest(self, change->new_path);
        /* What a rename replaced is counted by the rename itself, once. */
        if (op->kind == CFS_OP_RENAME && change->new_path == NULL) {
            continue;
        }
        count_path(self, change->path);
        count_path(self, change->new_path);
    }
}

void
cfs_views_on_reload(CfsViews *self)
{
    for (guint i = 0; i < G_N_ELEMENTS(observed); i++) {
        count(self, i);
    }
    if (self->announce != NULL) {
        cfs_announce_all_guests(self->announce);
    }
}

void
cfs_views_set_holding(CfsViews *self, gboolean is_holding, CfsTree *tree)
{
    g_clear_pointer(&self->announce, cfs_announce_free);
    if (is_holding) {
        self->announce = cfs_announce_new(
            self->versions, G_N_ELEMENTS(observed), cfs_tree_guests(tree));
    }
}

guint64
cfs_views_end_step(CfsViews *self, CfsTree *tree)
{
    return self->announce != NULL
               ? cfs_announce_end_step(self->announce, cfs_tree_guests(tree))
               : 0;
}

void
cfs_views_release(CfsViews *self, guint64 step)
{
    if (self->announce != NULL && step != 0) {
        cfs_announce_release(self->announce, step);
    }
}

void
cfs_views_set_quorate(CfsViews *self, gboolean quorate)
{
    self->quorate = quorate;
}

/* --- texts -------------------------------------------------------------- */

static guint32
shown_version(CfsViews *self, guint position)
{
    return self->announce != NULL ? cfs_announce_value(self->announce, position)
                                  : self->versions[position];
}

static guint32
shown_list_version(CfsViews *self, CfsTree *tree)
{
    return self->announce != NULL ? cfs_announce_list_version(self->announce)
                                  : cfs_guests_version(cfs_tree_guests(tree));
}

static GArray *
shown_list(CfsViews *self, CfsTree *tree)
{
    return self->announce != NULL ? cfs_announce_list(self->announce)
                                  : cfs_guests_list(cfs_tree_guests(tree));
}

static char *
version_text(CfsViews *self, CfsTree *tree)
{
    GString *out = g_string_new(NULL);

    g_string_append_printf(
        out, "{\n\"starttime\": %u,\n\"clinfo\": %u,\n\"vmlist\": %u,\n",
        self->start_time,
        self->status != NULL
            ? cfs_nodelist_version(cfs_status_nodelist(self->status))
            : 0,
        shown_list_version(self, tree));
    for (guint i = 0; i < G_N_ELEMENTS(observed); i++) {
        g_string_append_printf(out, "\"%s\": %u,\n", observed[i],
                               shown_version(self, i));
    }
    if (self->status != NULL) {
        cfs_nodelist_append_versions(cfs_status_nodelist(self->status), out);
    } else {
        g_string_append(out, "\"kvstore\": {\n}\n");
    }
    g_string_append(out, "}\n");
    return g_string_free(out, FALSE);
}

static char *
members_text(CfsViews *self, CfsTree *tree)
{
    return self->status != NULL
               ? cfs_nodelist_text(cfs_status_nodelist(self->status),
                                   self->quorate)
               : g_strdup("");
}

static char *
vmlist_text(CfsViews *self, CfsTree *tree)
{
    GString *out = g_string_new(NULL);
    g_autoptr(GArray) list = shown_list(self, tree);

    g_string_append_printf(out, "{\n\"version\": %u",
                           shown_list_version(self, tree));
    if (list->len == 0) {
        g_string_append(out, "\n\n}\n");
        return g_string_free(out, FALSE);
    }
    g_string_append(out, ",\n\"ids\": {\n");
    for (guint i = 0; i < list->len; i++) {
        const CfsGuest *guest = &g_array_index(list, CfsGuest, i);

        g_string_append_printf(
            out,
            "\"%u\": { \"node\": \"%s\", \"type\": \"%s\", \"version\": %u }%s",
            guest->id, guest->node, pve_guest_type_name(guest->type),
            guest->version, i + 1 < list->len ? ",\n" : "");
    }
    g_string_append(out, "}\n\n}\n");
    return g_string_free(out, FALSE);
}

static char *
clusterlog_text(CfsViews *self, CfsTree *tree)
{
    return self->status != NULL ? cfs_status_clog_json(self->status, 0, NULL)
                                : g_strdup("");
}

static char *
rrd_text(CfsViews *self, CfsTree *tree)
{
    return g_strdup(
        self->status != NULL ? cfs_status_rrd_dump(self->status, 0, NULL) : "");
}

static char *
debug_text(CfsViews *self, CfsTree *tree)
{
    return g_strdup(pve_log_get_debug() ? "1\n" : "0\n");
}

/* Exactly what the reference takes: tools write nothing else. */
static int
debug_write(CfsViews *self, const char *bytes, gsize size, guint64 offset)
{
    if (offset != 0 || size < 2 || (bytes[0] != '0' && bytes[0] != '1') ||
        bytes[1] != '\n') {
        return -EIO;
    }
    pve_log_set_debug(bytes[0] == '1');
    return 2;
}

static char *
local_target(CfsViews *self, CfsTree *tree)
{
    return g_strconcat("nodes/", self->node_name, NULL);
}

static char *
lxc_target(CfsViews *self, CfsTree *tree)
{
    return g_strconcat("nodes/", self->node_name, "/lxc", NULL);
}

static char *
qemu_target(CfsViews *self, CfsTree *tree)
{
    return g_strconcat("nodes/", self->node_name, "/qemu-server", NULL);
}

static char *
openvz_target(CfsViews *self, CfsTree *tree)
{
    return g_strconcat("nodes/", self->node_name, "/openvz", NULL);
}

static char *
metrics_text(CfsViews *self, CfsTree *tree)
{
    return self->metrics != NULL ? cfs_metrics_text(self->metrics)
                                 : g_strdup("");
}

static const struct {
    const char *name;
    CfsViewKind kind;
    char *(*text)(CfsViews *, CfsTree *);
    /* NULL: it cannot be written. */
    int (*write)(CfsViews *, const char *, gsize, guint64);
    gboolean is_hidden;
} views[] = {
    {".version", CFS_VIEW_FILE, version_text, NULL},
    {".members", CFS_VIEW_FILE, members_text, NULL},
    {".vmlist", CFS_VIEW_FILE, vmlist_text, NULL},
    {".clusterlog", CFS_VIEW_FILE, clusterlog_text, NULL},
    {".rrd", CFS_VIEW_FILE, rrd_text, NULL},
    {".debug", CFS_VIEW_FILE, debug_text, debug_write},
    {".metrics", CFS_VIEW_FILE, metrics_text, NULL, .is_hidden = TRUE},
    {"local", CFS_VIEW_LINK, local_target, NULL},
    {"lxc", CFS_VIEW_LINK, lxc_target, NULL},
    {"qemu-server", CFS_VIEW_LINK, qemu_target, NULL},
    {"openvz", CFS_VIEW_LINK, openvz_target, NULL},
};

guint
cfs_views_count(void)
{
    return G_N_ELEMENTS(views);
}

const char *
cfs_views_name(guint position, CfsViewKind *kind)
{
    g_assert(position < G_N_ELEMENTS(views));
    *kind = views[position].kind;
    return views[position].name;
}

gboolean
cfs_views_is_listed(guint position)
{
    g_assert(position < G_N_ELEMENTS(views));
    return !views[position].is_hidden;
}

int
cfs_views_find(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(views); i++) {
        if (strcmp(views[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

char *
cfs_views_text(CfsViews *self, guint position, CfsTree *tree)
{
    g_assert(position < G_N_ELEMENTS(views));
    return views[position].text(self, tree);
}

char *
cfs_views_text_now(CfsViews *self, guint position, CfsTree *tree)
{
    CfsAnnounce *announce = g_steal_pointer(&self->announce);
    char *text = cfs_views_text(self, position, tree);

    self->announce = announce;
    return text;
}

int
cfs_views_write(CfsViews *self,
                guint position,
                const char *bytes,
                gsize size,
                guint64 offset)
{
    g_assert(position < G_N_ELEMENTS(views));
    if (views[position].write == NULL) {
        return -EIO;
    }
    return views[position].write(self, bytes, size, offset);
}

int
cfs_views_truncate(guint position)
{
    g_assert(position < G_N_ELEMENTS(views));
    return views[position].write != NULL ? 0 : EIO;
}

mode_t
cfs_views_mode(guint position, gboolean quorate)
{
    g_assert(position < G_N_ELEMENTS(views));
    if (views[position].kind == CFS_VIEW_FILE) {
        return views[position].write != NULL ? 0640 : 0440;
    }
    return quorate ? 0755 : 0555;
}
