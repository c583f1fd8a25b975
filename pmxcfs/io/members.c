#define G_LOG_DOMAIN "confdb"
#include "config.h"

#include "pmxcfs/io/members.h"

#include <corosync/cmap.h>
#include <corosync/corotypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "pmxcfs/core/nodelist.h"
#include "pmxcfs/io/connector.h"
#include "pmxcfs/io/priorities.h"

#define NODES "nodelist.node."
#define EVENTS_PER_TURN 256
#define RECONNECT_MS 100
/* corosync itself takes far fewer. */
#define MAX_NODES 1024

struct CfsMembers {
    CfsConnector *connector;
    guint64 handle;
    gboolean is_stale; /* something changed since it was read */
    CfsMembersChanged on_changed;
    gpointer data;
};

/* All that is read at once, in the worker. */
typedef struct {
    char *cluster_name;
    guint32 config_version;
    GPtrArray *nodes; /* of CfsNode */
} Content;

static void
content_free(gpointer data)
{
    Content *content = data;

    g_free(content->cluster_name);
    g_ptr_array_unref(content->nodes);
    g_free(content);
}

/* In the worker ----------------------------------------------------------- */

/* Returns: (owned) the text, or NULL when there is none. */
static char *
get_text(cmap_handle_t handle, guint position, const char *key)
{
    g_autofree char *name = g_strdup_printf(NODES "%u.%s", position, key);
    char *text = NULL, *copy;

    if (cmap_get_string(handle, name, &text) != CS_OK) {
        return NULL;
    }
    copy = g_strdup(text);
    free(text); /* the library's, by malloc(3) */
    return copy;
}

static CfsNode *
read_node(cmap_handle_t handle, guint position)
{
    g_autofree char *key = g_strdup_printf(NODES "%u.nodeid", position);
    g_autofree char *name = get_text(handle, position, "name");
    guint32 nodeid = 0;

    if (name == NULL) {
        name = get_text(handle, position, "ring0_addr");
    }
    if (name == NULL || cmap_get_uint32(handle, key, &nodeid) != CS_OK ||
        nodeid == 0) {
        return NULL;
    }
    return cfs_node_new(nodeid, name);
}

/* The positions that have any key. They may have gaps. */
static cs_error_t
read_nodes(cmap_handle_t handle, GPtrArray *nodes)
{
    cmap_iter_handle_t iter = 0;
    char key[CMAP_KEYNAME_MAXLEN + 1];
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    cs_error_t code = cmap_iter_init(handle, NODES, &iter);

    if (code != CS_OK) {
        return code;
    }
    while (cmap_iter_next(handle, iter, key, NULL, NULL) == CS_OK) {
        guint position = 0;
        CfsNode *node;

        if (sscanf(key, NODES "%u.", &position) != 1 || position >= MAX_NODES ||
            !g_hash_table_add(seen, GUINT_TO_POINTER(position))) {
            continue;
        }
        node = read_node(handle, position);
        if (node != NULL) {
            g_ptr_array_add(nodes, node);
        }
    }
    return cmap_iter_finalize(handle, iter);
}

static cs_error_t
read_content(cmap_handle_t handle, Content *content)
{
    guint64 version = 0;
    char *name = NULL;

    if (cmap_get_string(handle, "totem.cluster_name", &name) == CS_OK) {
        content->cluster_name = g_strdup(name);
        free(name);
    } else {
        content->cluster_name = g_strdup("");
    }
    if (cmap_get_uint64(handle, "totem.config_version", &version) == CS_OK) {
        content->config_version = (guint32)version;
    }
    return read_nodes(handle, content->nodes);
}

/* In the loop, from cmap_dispatch(). */
static void
on_notification(cmap_handle_t handle,
                cmap_track_handle_t track,
                gint32 event,
                const char *key,
                struct cmap_notify_value new_value,
                struct cmap_notify_value old_value,
                void *data)
{
    const void *context = NULL;

    if (cmap_context_get(handle, &context) == CS_OK && context != NULL) {
        ((CfsMembers *)context)->is_stale = TRUE;
    }
}

/* Tracks first, so that no change is missed between the two. */
static cs_error_t
track_keys(cmap_handle_t handle)
{
    const gint32 kinds = CMAP_TRACK_ADD | CMAP_TRACK_DELETE | CMAP_TRACK_MODIFY;
    cmap_track_handle_t track = 0;
    cs_error_t code = cmap_track_add(handle, NODES, kinds | CMAP_TRACK_PREFIX,
                                     on_notification, NULL, &track);

    if (code != CS_OK) {
        return code;
    }
    return cmap_track_add(handle, "totem.config_version", kinds,
                          on_notification, NULL, &track);
}

static gboolean
cmap_open(gpointer unused, CfsConnection *out, GError **error)
{
    const char *what = "cmap_initialize";
    cmap_handle_t handle = 0;
    cs_error_t code = cmap_initialize(&handle);
    Content *content;

    if (code != CS_OK) {
        return cfs_connector_fail(error, what, code);
    }
    content = g_new0(Content, 1);
    content->nodes =
        g_ptr_array_new_with_free_func((GDestroyNotify)cfs_node_free);
    what = "cmap_fd_get";
    code = cmap_fd_get(handle, &out->fd);
    if (code == CS_OK) {
        what = "cmap_track_add";
        code = track_keys(handle);
    }
    if (code == CS_OK) {
        what = "reading the node list";
        code = read_content(handle, content);
    }
    if (code != CS_OK) {
        content_free(content);
        (void)cmap_finalize(handle);
        return cfs_connector_fail(error, what, code);
    }
    out->handle = handle;
    out->content = content;
    return TRUE;
}

static void
cmap_close(const CfsConnection *connection)
{
    (void)cmap_finalize(connection->handle);
}

static const CfsConnectorClass cmap_class = {
    .socket_name = "cmap",
    .open = cmap_open,
    .close = cmap_close,
    .free_content = content_free,
    .priority = CFS_PRIORITY_QUORUM,
};

/* In the loop ------------------------------------------------------------- */

/* A change is read through a fresh connection: there the worker can wait. */
static void
on_ready(gpointer data, gboolean is_gone)
{
    CfsMembers *self = data;
    cs_error_t code = CS_OK;
    gboolean is_lost;

    for (guint i = 0; i < EVENTS_PER_TURN && code == CS_OK; i++) {
        code = cmap_dispatch(self->handle, CS_DISPATCH_ONE_NONBLOCKING);
    }
    is_lost = (code != CS_OK && code != CS_ERR_TRY_AGAIN) || is_gone;
    if (is_lost || self->is_stale) {
        self->is_stale = FALSE;
        cfs_connector_close(self->connector);
        cfs_connector_open(self->connector, is_lost ? RECONNECT_MS : 0);
    }
}

static void
on_open(gpointer data, const CfsConnection *connection)
{
    CfsMembers *self = data;
    Content *content = connection->content;

    self->handle = connection->handle;
    (void)cmap_context_set(self->handle, self);
    self->on_changed(self->data, content->cluster_name, content->config_version,
                     content->nodes);
    content_free(content);
}

CfsMembers *
cfs_members_new(CfsMembersChanged on_changed, gpointer data)
{
    CfsMembers *self = g_new0(CfsMembers, 1);
    CfsConnectorHandler handler = {
        .on_open = on_open, .on_ready = on_ready, .data = self};

    self->on_changed = on_changed;
    self->data = data;
    self->connector = cfs_connector_new(&cmap_class, NULL, &handler);
    cfs_connector_open(self->connector, 0);
    return self;
}

void
cfs_members_free(CfsMembers *self)
{
    if (self != NULL) {
        cfs_connector_free(self->connector, 0);
        g_free(self);
    }
}
