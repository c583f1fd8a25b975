#include "config.h"

#include "pmxcfs/core/diagnosis.h"

#include <stdarg.h>

/* What programs that compare times of several nodes can bear. */
#define CLOCK_TOLERANCE_S 5
/* A full disk of the database stops all changes of this node. */
#define DISK_LOW_BYTES (32 << 20)
#define DISK_FULL_BYTES (256 << 10)

static void
node_facts_free(gpointer data)
{
    CfsNodeFacts *self = data;

    g_free(self->name);
    g_free(self);
}

CfsFacts *
cfs_facts_new(void)
{
    CfsFacts *self = g_new0(CfsFacts, 1);

    self->nodes = g_ptr_array_new_with_free_func(node_facts_free);
    self->disk_free = -1;
    return self;
}

void
cfs_facts_free(CfsFacts *self)
{
    g_free(self->node_name);
    g_free(self->mount_type);
    g_free(self->sync_state);
    g_free(self->daemon_version);
    g_free(self->tool_version);
    g_free(self->address);
    g_free(self->database_problem);
    g_ptr_array_unref(self->nodes);
    g_free(self);
}

CfsNodeFacts *
cfs_facts_node(CfsFacts *self, guint32 id)
{
    CfsNodeFacts *node;

    for (guint i = 0; i < self->nodes->len; i++) {
        node = self->nodes->pdata[i];
        if (node->id == id) {
            return node;
        }
    }
    node = g_new0(CfsNodeFacts, 1);
    node->id = id;
    g_ptr_array_add(self->nodes, node);
    return node;
}

static void
finding_free(gpointer data)
{
    CfsFinding *self = data;

    g_free(self->text);
    g_free(self->advice);
    g_free(self);
}

static CfsFinding *
add(GPtrArray *findings, const char *cause, const char *advice, char *text)
{
    CfsFinding *finding = g_new0(CfsFinding, 1);

    finding->cause = cause;
    finding->text = text;
    finding->advice = g_strdup(advice);
    g_ptr_array_add(findings, finding);
    return finding;
}

static const char *
shown(const char *text)
{
    return text != NULL ? text : "?";
}

/* The mount and its daemon ------------------------------------------------ */

static void
look_at_mount(const CfsFacts *facts, GPtrArray *findings)
{
    if (facts->mount == CFS_MOUNT_FOREIGN) {
        add(findings, "foreign-mount",
            "See what it is with 'findmnt /etc/pve', take it away with 'umount "
            "/etc/pve', then 'systemctl restart pmxcfs'. What was written "
            "there "
            "meanwhile is not in the cluster.",
            g_strdup_printf("/etc/pve is not the cluster filesystem: a mount "
                            "of type '%s' lies over it.",
                            shown(facts->mount_type)));
    }
    if (facts->is_daemon_running == CFS_FACT_NO) {
        add(findings, "daemon",
            "'systemctl restart pmxcfs'; if it ends again, 'journalctl -u "
            "pmxcfs' says why.",
            g_strdup(facts->mount == CFS_MOUNT_DEAD
                         ? "The daemon pmxcfs has died: what it served at "
                           "/etc/pve is dead, every access fails."
                         : "The daemon pmxcfs is not running: nobody serves "
                           "/etc/pve."));
        return;
    }
    if (facts->is_daemon_stopped == CFS_FACT_YES) {
        add(findings, "daemon-stopped",
            "Let it go on with 'kill -CONT $(cat /run/pve-cluster.pid)'.",
            g_strdup("The daemon pmxcfs was stopped by a signal."));
    } else if (facts->mount == CFS_MOUNT_HANGS) {
        add(findings, "daemon-hangs",
            "'journalctl -u pmxcfs' may say why; 'systemctl restart pmxcfs' "
            "frees what waits for it.",
            g_strdup("The daemon pmxcfs is there and does not answer."));
    } else if (facts->mount == CFS_MOUNT_NONE) {
        add(findings, "not-mounted", "'systemctl restart pmxcfs'.",
            g_strdup("The daemon pmxcfs is running, and /etc/pve is not "
                     "mounted: somebody has unmounted it."));
    }
}

/* Names ------------------------------------------------------------------- */

static void
look_at_hosts(const CfsFacts *facts, GPtrArray *findings)
{
    static const char advice[] =
        "Correct the line of this node in /etc/hosts: 'ADDRESS NAME', with the "
        "address that the other nodes reach it by; then 'systemctl restart "
        "pmxcfs'.";
    const char *name = shown(facts->node_name);

    switch (facts->hosts) {
    case CFS_HOSTS_MISSING:
        add(findings, "hosts", advice,
            g_strdup_printf("The name of this node, '%s', has no address.",
                            name));
        break;
    case CFS_HOSTS_LOOPBACK:
        add(findings, "hosts", advice,
            g_strdup_printf("The name of this node, '%s', leads to %s, which "
                            "means this host alone.",
                            name, shown(facts->address)));
        break;
    case CFS_HOSTS_FOREIGN:
        add(findings, "hosts", advice,
            g_strdup_printf("The name of this node, '%s', leads to %s, which "
                            "is no address of this host.",
                            name, shown(facts->address)));
        break;
    default:
        break;
    }
}

static void
look_at_names(const CfsFacts *facts, GPtrArray *findings)
{
    for (guint i = 0; i < facts->nodes->len; i++) {
        const CfsNodeFacts *node = facts->nodes->pdata[i];
        const CfsNodeFacts *other = NULL;

        if (node->id != facts->own_id &&
            g_strcmp0(node->name, facts->node_name) == 0 &&
            facts->own_id != 0) {
            add(findings, "name-clash",
                "Give each host the name it has in /etc/corosync/corosync.conf "
                "('hostnamectl set-hostname NAME', and /etc/hosts), then "
                "'systemctl restart pmxcfs'.",
                g_strdup_printf("Two nodes have one name: this host is called "
                                "'%s', which is the name of node %u; this is "
                                "node %u.",
                                node->name, node->id, facts->own_id));
        }
        for (guint j = 0; j < i; j++) {
            other = facts->nodes->pdata[j];
            if (node->name != NULL && g_strcmp0(node->name, other->name) == 0) {
                add(findings, "name-clash",
                    "Give each node of the nodelist in "
                    "/etc/pve/corosync.conf a name of its own, and raise "
                    "config_version.",
                    g_strdup_printf("Two nodes have one name: nodes %u and %u "
                                    "are both '%s'.",
                                    other->id, node->id, node->name));
            }
        }
    }
}

/* The cluster ------------------------------------------------------------- */

static char *
names_of(const CfsFacts *facts, gboolean (*has)(const CfsNodeFacts *))
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < facts->nodes->len; i++) {
        const CfsNodeFacts *node = facts->nodes->pdata[i];

        if (node->id != facts->own_id && has(node)) {
            g_string_append_printf(text, "%s%s", text->len > 0 ? ", " : "",
                                   shown(node->name));
        }
    }
    return text->len > 0 ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

static gboolean
has_no_link(const CfsNodeFacts *node)
{
    return node->is_linked == CFS_FACT_NO;
}

static gboolean
is_linked_but_away(const CfsNodeFacts *node)
{
    return node->is_linked == CFS_FACT_YES && node->is_online == CFS_FACT_NO;
}

/* TRUE: corosync is the cause of all that a cluster can lack. */
static gboolean
look_at_corosync(const CfsFacts *facts, GPtrArray *findings)
{
    if (facts->is_corosync_running == CFS_FACT_NO) {
        add(findings, "corosync",
            "'systemctl start corosync'; if it ends again, 'journalctl -u "
            "corosync' says why.",
            g_strdup("corosync is not running on this node: it is in no "
                     "cluster, and /etc/pve is read-only."));
        return TRUE;
    }
    if (facts->does_corosync_answer == CFS_FACT_NO) {
        add(findings, "corosync-hangs",
            "'journalctl -u corosync' may say why; then 'systemctl restart "
            "corosync'.",
            g_strdup("corosync is running on this node and does not answer."));
        return TRUE;
    }
    return FALSE;
}

/* "links" where this node alone is cut off, else "link". */
static void
look_at_links(const CfsFacts *facts, GPtrArray *findings)
{
    g_autofree char *cut = names_of(facts, has_no_link);
    g_autofree char *away = names_of(facts, is_linked_but_away);

    if (cut != NULL) {
        CfsFinding *finding =
            add(findings, "link",
                "Look at the cable, the switch and the firewall (UDP 5405 and "
                "up) between these nodes, and whether they are up: 'ping', "
                "'corosync-cfgtool -n'.",
                g_strdup_printf("No link of corosync reaches %s.", cut));

        finding->is_warning = facts->is_quorate == CFS_FACT_YES;
    }
    if (away != NULL) {
        CfsFinding *finding =
            add(findings, "peer-away", "Run 'pvecfs doctor' there.",
                g_strdup_printf("%s can be reached, but its filesystem is not "
                                "in the cluster.",
                                away));

        finding->is_warning = facts->is_quorate == CFS_FACT_YES;
    }
}

static void
look_at_quorum(const CfsFacts *facts, GPtrArray *findings)
{
    if (facts->is_quorate == CFS_FACT_NO) {
        add(findings, "no-quorum",
            "Bring back enough of the other nodes. Only when they are off for "
            "good, and surely off: 'pvecm expected 1'.",
            g_strdup("No quorum: less than a majority of the cluster is "
                     "connected, so /etc/pve is read-only here."));
        return;
    }
    if (facts->is_quorate == CFS_FACT_YES && facts->sync_state != NULL &&
        g_strcmp0(facts->sync_state, "synced") != 0) {
        add(findings, "not-synced",
            "It takes a moment after a start or a cut. If it stays, "
            "'journalctl -u pmxcfs' says with whom it disagrees.",
            g_strdup_printf("This node is not in step with the others "
                            "(state '%s'): what it shows may be old.",
                            facts->sync_state));
    }
}

static void
look_at_conf(const CfsFacts *facts, GPtrArray *findings)
{
    if (facts->conf_version_host != 0 && facts->conf_version_tree != 0 &&
        facts->conf_version_host != facts->conf_version_tree) {
        add(findings, "corosync-conf",
            "Compare both files; write the right one to "
            "/etc/pve/corosync.conf with a higher config_version than both.",
            g_strdup_printf(
                "/etc/corosync/corosync.conf has version %" G_GUINT64_FORMAT
                ", /etc/pve/corosync.conf has "
                "%" G_GUINT64_FORMAT ".",
                facts->conf_version_host, facts->conf_version_tree))
            ->is_warning = TRUE;
    }
}

/* Clocks ------------------------------------------------------------------ */

static gboolean
is_off(const CfsNodeFacts *node)
{
    return node->has_clock == CFS_FACT_YES &&
           ABS(node->clock_ahead_s) > CLOCK_TOLERANCE_S;
}

static char *
duration(gint64 seconds)
{
    seconds = ABS(seconds);
    return seconds < 120    ? g_strdup_printf("%d s", (int)seconds)
           : seconds < 7200 ? g_strdup_printf("%d min", (int)seconds / 60)
           : seconds < 172800
               ? g_strdup_printf("%d h", (int)(seconds / 3600))
               : g_strdup_printf("%d days", (int)(seconds / 86400));
}

/* Most of the others are right. */
static void
look_at_clocks(const CfsFacts *facts, GPtrArray *findings)
{
    static const char advice[] =
        "Let chrony or systemd-timesyncd set it ('timedatectl').";
    guint n_off = 0, n_known = 0;
    gint64 ahead_s = 0;

    for (guint i = 0; i < facts->nodes->len; i++) {
        const CfsNodeFacts *node = facts->nodes->pdata[i];

        if (node->id != facts->own_id && node->has_clock == CFS_FACT_YES) {
            n_known++;
            n_off += (guint)is_off(node);
            ahead_s = is_off(node) ? node->clock_ahead_s : ahead_s;
        }
    }
    if (n_off > 1 && 2 * n_off > n_known) {
        g_autofree char *text = duration(ahead_s);

        add(findings, "clock", advice,
            g_strdup_printf("The clock of this node is %s %s those of the "
                            "others.",
                            text, ahead_s > 0 ? "behind" : "ahead of"))
            ->is_warning = TRUE;
        return;
    }
    for (guint i = 0; i < facts->nodes->len; i++) {
        const CfsNodeFacts *node = facts->nodes->pdata[i];

        if (node->id != facts->own_id && is_off(node)) {
            g_autofree char *text = duration(node->clock_ahead_s);

            add(findings, "clock", advice,
                g_strdup_printf(
                    "The clock of %s is %s %s this node's.", shown(node->name),
                    text, node->clock_ahead_s > 0 ? "ahead of" : "behind"))
                ->is_warning = TRUE;
        }
    }
}

/* The disk ---------------------------------------------------------------- */

static void
look_at_disk(const CfsFacts *facts, GPtrArray *findings)
{
    gboolean is_full =
        facts->disk_free >= 0 && facts->disk_free < DISK_FULL_BYTES;

    if (is_full) {
        add(findings, "disk-full",
            "Make room there; the node goes on by itself.",
            g_strdup("The disk with /var/lib/pve-cluster is full: changes on "
                     "this node fail."));
    } else if (facts->is_durable == CFS_FACT_NO) {
        add(findings, "disk",
            "Look at 'journalctl -u pmxcfs' and 'dmesg'; the node goes on by "
            "itself when the disk does.",
            g_strdup("The disk with /var/lib/pve-cluster cannot follow or "
                     "fails: what this node answers is in memory only."));
    } else if (facts->disk_free >= 0 && facts->disk_free < DISK_LOW_BYTES) {
        add(findings, "disk-low", "Make room there.",
            g_strdup_printf(
                "The disk with /var/lib/pve-cluster has only %" G_GINT64_FORMAT
                " KiB left.",
                facts->disk_free / 1024))
            ->is_warning = TRUE;
    }
    if (facts->is_database_good == CFS_FACT_NO && !is_full) {
        add(findings, "database",
            "'pmxcfs-db check' names the damage. In a cluster, restarting "
            "pmxcfs fetches the content from the others and keeps the damaged "
            "file; on a node alone, 'pmxcfs-db repair' or 'restore' first.",
            g_strdup_printf("The database /var/lib/pve-cluster/config.db is "
                            "damaged: %s",
                            shown(facts->database_problem)));
    }
}

static void
look_at_versions(const CfsFacts *facts, GPtrArray *findings)
{
    if (facts->daemon_version != NULL && facts->tool_version != NULL &&
        g_strcmp0(facts->daemon_version, facts->tool_version) != 0) {
        add(findings, "version", "'systemctl restart pmxcfs'.",
            g_strdup_printf("The daemon is version %s, installed is %s: it "
                            "was not restarted after an update.",
                            facts->daemon_version, facts->tool_version))
            ->is_warning = TRUE;
    }
}

static int
compare_findings(gconstpointer a, gconstpointer b)
{
    const CfsFinding *x = *(CfsFinding *const *)a;
    const CfsFinding *y = *(CfsFinding *const *)b;

    return x->is_warning - y->is_warning;
}

GPtrArray *
cfs_diagnose(const CfsFacts *facts)
{
    GPtrArray *findings = g_ptr_array_new_with_free_func(finding_free);

    look_at_mount(facts, findings);
    look_at_hosts(facts, findings);
    if (facts->is_cluster != CFS_FACT_NO) {
        look_at_names(facts, findings);
        if (!look_at_corosync(facts, findings)) {
            look_at_links(facts, findings);
            look_at_quorum(facts, findings);
        }
        look_at_conf(facts, findings);
        look_at_clocks(facts, findings);
    }
    look_at_disk(facts, findings);
    look_at_versions(facts, findings);
    g_ptr_array_sort(findings, compare_findings); /* it is stable */
    return findings;
}

const char *
cfs_facts_verdict(const CfsFacts *facts)
{
    switch (facts->mount) {
    case CFS_MOUNT_SERVED:
        break;
    case CFS_MOUNT_UNKNOWN:
        return "unknown";
    default:
        return "absent";
    }
    if (facts->is_quorate == CFS_FACT_YES && facts->sync_state != NULL &&
        g_strcmp0(facts->sync_state, "synced") != 0) {
        return "stale";
    }
    return facts->is_writable == CFS_FACT_YES ? "writable" : "read-only";
}
