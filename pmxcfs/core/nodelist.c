#include "config.h"

#include "pmxcfs/core/nodelist.h"

#include "pmxcfs/core/json-text.h"

#include <string.h>

/* What a node told us. */
typedef struct {
    guint32 nodeid;
    gboolean is_marked; /* cfs_nodelist_mark() */
    char *ip;
    CfsKv *kv; /* NULL: it never told a key */
} Peer;

struct CfsNodelist {
    char *own_name;
    char *own_ip;
    CfsKv *own_kv;
    guint32 version;
    char *cluster_name; /* NULL: cmap was not read yet */
    guint32 config_version;
    GPtrArray *nodes;  /* of CfsNode, in the order of the configuration */
    GArray *online;    /* of guint32 */
    GHashTable *peers; /* node id -> Peer */
};

CfsNode *
cfs_node_new(guint32 nodeid, const char *name)
{
    CfsNode *self = g_new0(CfsNode, 1);

    self->nodeid = nodeid;
    self->name = g_strdup(name);
    return self;
}

void
cfs_node_free(CfsNode *self)
{
    if (self != NULL) {
        g_free(self->name);
        g_free(self);
    }
}

static void
peer_free(gpointer data)
{
    Peer *self = data;

    g_free(self->ip);
    cfs_kv_free(self->kv);
    g_free(self);
}

CfsNodelist *
cfs_nodelist_new(const char *own_name)
{
    CfsNodelist *self = g_new0(CfsNodelist, 1);

    self->own_name = g_strdup(own_name);
    self->own_kv = cfs_kv_new(CFS_KV_MAX_BYTES);
    self->version = 1;
    self->nodes = g_ptr_array_new_with_free_func((GDestroyNotify)cfs_node_free);
    self->online = g_array_new(FALSE, FALSE, sizeof(guint32));
    self->peers = g_hash_table_new_full(NULL, NULL, NULL, peer_free);
    return self;
}

void
cfs_nodelist_free(CfsNodelist *self)
{
    if (self == NULL) {
        return;
    }
    g_hash_table_unref(self->peers);
    g_array_unref(self->online);
    g_ptr_array_unref(self->nodes);
    g_free(self->cluster_name);
    cfs_kv_free(self->own_kv);
    g_free(self->own_ip);
    g_free(self->own_name);
    g_free(self);
}

guint32
cfs_nodelist_version(CfsNodelist *self)
{
    return self->version;
}

/* --- who there is --------------------------------------------------------- */

static const CfsNode *
find_node(CfsNodelist *self, guint32 nodeid)
{
    for (guint i = 0; i < self->nodes->len; i++) {
        const CfsNode *node = self->nodes->pdata[i];

        if (node->nodeid == nodeid) {
            return node;
        }
    }
    return NULL;
}

static gboolean
is_online(CfsNodelist *self, guint32 nodeid)
{
    for (guint i = 0; i < self->online->len; i++) {
        if (g_array_index(self->online, guint32, i) == nodeid) {
            return TRUE;
        }
    }
    return FALSE;
}

const char *
cfs_nodelist_name(CfsNodelist *self, guint32 nodeid)
{
    const CfsNode *node = find_node(self, nodeid);

    return node != NULL ? node->name : NULL;
}

static gboolean
is_gone(gpointer key, gpointer value, gpointer data)
{
    CfsNodelist *self = data;
    const Peer *peer = value;

    return find_node(self, peer->nodeid) == NULL &&
           !is_online(self, peer->nodeid);
}

void
cfs_nodelist_set_cluster(CfsNodelist *self,
                         const char *name,
                         guint32 config_version,
                         GPtrArray *nodes)
{
    g_free(self->cluster_name);
    self->cluster_name = g_strdup(name);
    self->config_version = config_version;
    g_ptr_array_set_size(self->nodes, 0);
    for (guint i = 0; i < nodes->len; i++) {
        const CfsNode *from = nodes->pdata[i];

        g_ptr_array_add(self->nodes, cfs_node_new(from->nodeid, from->name));
    }
    (void)g_hash_table_foreach_remove(self->peers, is_gone, self);
    self->version++;
}

void
cfs_nodelist_set_online(CfsNodelist *self,
                        const CfsMember *members,
                        guint n_members)
{
    g_array_set_size(self->online, 0);
    for (guint i = 0; i < n_members; i++) {
        g_array_append_val(self->online, members[i].nodeid);
    }
    self->version++;
}

/* --- what they told ------------------------------------------------------- */

static Peer *
find_peer(CfsNodelist *self, guint32 nodeid)
{
    return g_hash_table_lookup(self->peers, GUINT_TO_POINTER(nodeid));
}

static Peer *
peer_of(CfsNodelist *self, guint32 nodeid)
{
    Peer *peer = find_peer(self, nodeid);

    if (peer == NULL) {
        peer = g_new0(Peer, 1);
        peer->nodeid = nodeid;
        g_hash_table_insert(self->peers, GUINT_TO_POINTER(nodeid), peer);
    }
    return peer;
}

static gboolean
replace_ip(CfsNodelist *self, char **place, const char *ip)
{
    if (g_strcmp0(*place, ip) == 0) {
        return FALSE;
    }
    g_free(*place);
    *place = g_strdup(ip);
    self->version++;
    return TRUE;
}

gboolean
cfs_nodelist_set_own_ip(CfsNodelist *self, const char *ip)
{
    return replace_ip(self, &self->own_ip, ip);
}

gboolean
cfs_nodelist_set_ip(CfsNodelist *self, guint32 nodeid, const char *ip)
{
    return replace_ip(self, &peer_of(self, nodeid)->ip, ip);
}

CfsKv *
cfs_nodelist_own_kv(CfsNodelist *self)
{
    return self->own_kv;
}

CfsKv *
cfs_nodelist_kv(CfsNodelist *self, guint32 nodeid)
{
    Peer *peer = peer_of(self, nodeid);

    if (peer->kv == NULL) {
        peer->kv = cfs_kv_new(CFS_KV_MAX_PEER_BYTES);
    }
    return peer->kv;
}

CfsKv *
cfs_nodelist_find_kv(CfsNodelist *self, const char *name)
{
    if (name == NULL || name[0] == '\0' || strcmp(name, self->own_name) == 0) {
        return self->own_kv;
    }
    for (guint i = 0; i < self->nodes->len; i++) {
        const CfsNode *node = self->nodes->pdata[i];

        if (strcmp(node->name, name) == 0) {
            const Peer *peer = find_peer(self, node->nodeid);

            return peer != NULL ? peer->kv : NULL;
        }
    }
    return NULL;
}

void
cfs_nodelist_mark(CfsNodelist *self, guint32 nodeid)
{
    Peer *peer = peer_of(self, nodeid);

    peer->is_marked = TRUE;
    if (peer->kv != NULL) {
        cfs_kv_mark(peer->kv);
    }
}

void
cfs_nodelist_forget_marks(CfsNodelist *self)
{
    GHashTableIter iter;
    gpointer peer;

    g_hash_table_iter_init(&iter, self->peers);
    while (g_hash_table_iter_next(&iter, NULL, &peer)) {
        ((Peer *)peer)->is_marked = FALSE;
    }
}

GPtrArray *
cfs_nodelist_settle(CfsNodelist *self, guint32 nodeid)
{
    Peer *peer = peer_of(self, nodeid);

    if (!peer->is_marked) {
        return NULL;
    }
    peer->is_marked = FALSE;
    return peer->kv != NULL ? cfs_kv_sweep(peer->kv) : NULL;
}

/* --- texts ---------------------------------------------------------------- */

static const char *
ip_of(CfsNodelist *self, const CfsNode *node)
{
    const Peer *peer;

    if (strcmp(node->name, self->own_name) == 0) {
        return self->own_ip;
    }
    peer = find_peer(self, node->nodeid);
    return peer != NULL ? peer->ip : NULL;
}

static void
append_node(CfsNodelist *self, GString *out, const CfsNode *node)
{
    const char *ip = ip_of(self, node);

    g_string_append(out, "  ");
    cfs_json_append_string(out, node->name);
    g_string_append_printf(out, ": { \"id\": %u, \"online\": %d", node->nodeid,
                           is_online(self, node->nodeid));
    if (ip != NULL) {
        g_string_append(out, ", \"ip\": ");
        cfs_json_append_string(out, ip);
    }
    g_string_append(out, "}");
}

char *
cfs_nodelist_text(CfsNodelist *self, gboolean is_quorate)
{
    GString *out = g_string_new(NULL);

    g_string_append_printf(out, "{\n\"nodename\": \"%s\",\n\"version\": %u",
                           self->own_name, self->version);
    if (self->cluster_name == NULL) {
        g_string_append(out, "\n}\n");
        return g_string_free(out, FALSE);
    }
    g_string_append(out, ",\n\"cluster\": { \"name\": ");
    cfs_json_append_string(out, self->cluster_name);
    g_string_append_printf(out,
                           ", \"version\": %u, \"nodes\": %u, \"quorate\": %d "
                           "},\n\"nodelist\": {\n",
                           self->config_version, self->nodes->len,
                           is_quorate != FALSE);
    for (guint i = 0; i < self->nodes->len; i++) {
        append_node(self, out, self->nodes->pdata[i]);
        g_string_append(out, i + 1 < self->nodes->len ? ",\n" : "\n");
    }
    g_string_append(out, "  }\n}\n");
    return g_string_free(out, FALSE);
}

static void
append_block(GString *out, const char *name, CfsKv *kv)
{
    cfs_json_append_string(out, name);
    g_string_append(out, ": ");
    cfs_kv_append_versions(kv, out);
}

void
cfs_nodelist_append_versions(CfsNodelist *self, GString *out)
{
    g_string_append(out, "\"kvstore\": {\n");
    append_block(out, self->own_name, self->own_kv);
    for (guint i = 0; i < self->nodes->len; i++) {
        const CfsNode *node = self->nodes->pdata[i];
        const Peer *peer = find_peer(self, node->nodeid);

        if (peer != NULL && peer->kv != NULL &&
            strcmp(node->name, self->own_name) != 0) {
            g_string_append(out, ",\n");
            append_block(out, node->name, peer->kv);
        }
    }
    g_string_append(out, "}\n");
}
