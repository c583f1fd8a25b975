#include "config.h"

#include "agent/io/allocate.h"

#include "agent/core/ctid.h"
#include "agent/core/guestconf.h"
#include "agent/core/requests.h"
#include "agent/io/holds.h"
#include "agent/io/ops.h"
#include "agent/io/steps.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES (1024u * 1024u)
/* How many ids may be lost to others in a row. */
#define MAX_TRIES 1000u

/* --- which ids are free --- */

static guint32
ctid_of_file(const char *name)
{
    g_autofree char *stem = g_strndup(name, strcspn(name, "."));

    return g_str_has_suffix(name, ".conf") || strchr(name, '.') == NULL
               ? pve_ctid_parse(stem)
               : 0;
}

/* A folder that is not there has nobody in it. */
static void
add_folder(GHashTable *taken, const char *node, const char *folder)
{
    g_autofree char *path = agent_holds_path(node, folder, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        guint32 ctid = ctid_of_file(name);

        if (ctid != 0) {
            agent_ctid_set_add(taken, ctid);
        }
    }
}

static void
add_list(GHashTable *taken, const char *list)
{
    g_auto(GStrv) ids = g_strsplit(list, ",", -1);

    for (char **id = ids; *id != NULL; id++) {
        guint32 ctid = pve_ctid_parse(*id);

        if (ctid != 0) {
            agent_ctid_set_add(taken, ctid);
        }
    }
}

/* Every guest of every node, and every hold record. */
static GHashTable *
taken_ids(const char *not_free, GError **error)
{
    static const char *const folders[] = {"lxc", "qemu-server", "openvz",
                                          "lxc-holds"};
    g_autoptr(GDir) nodes = g_dir_open(PVE_MOUNT_DIR "/nodes", 0, error);
    GHashTable *taken;
    const char *node;

    if (nodes == NULL) {
        return NULL;
    }
    taken = agent_ctid_set_new();
    while ((node = g_dir_read_name(nodes)) != NULL) {
        for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
            if (pve_name_is_node(node)) {
                add_folder(taken, node, folders[i]);
            }
        }
    }
    add_list(taken, not_free);
    return taken;
}

static void
load_range(guint32 *lower, guint32 *upper)
{
    g_autoptr(GBytes) bytes =
        pve_file_read(PVE_MOUNT_DIR "/datacenter.cfg", MAX_FILE_BYTES, NULL);
    gsize size = 0;
    const char *text = bytes != NULL ? g_bytes_get_data(bytes, &size) : "";

    agent_ctid_range(text != NULL ? text : "", size, lower, upper);
}

/* --- what becomes of a request that fails --- */

/* The text is put right first and renamed then: at no time are there two. */
static gboolean
fail_request(const char *path,
             const char *name,
             GBytes *content,
             const char *reason,
             GError **error)
{
    g_autofree char *file = agent_request_failed_file(name);
    g_autofree char *failed = agent_holds_path(agent_holds_node(), "lxc", file);
    g_autofree char *text = agent_request_failed_text(content, reason);

    if (!agent_holds_write(path, text, FALSE, error)) {
        return FALSE;
    }
    if (rename(path, failed) < 0) {
        return pve_errno_error(error, "rename to", failed);
    }
    return TRUE;
}

static char *
conf_path(guint32 ctid)
{
    g_autofree char *name = g_strdup_printf("%u.conf", ctid);

    return agent_holds_path(agent_holds_node(), "lxc", name);
}

/* Fails, always, with the reason that @why had. */
static gboolean
give_up(const char *path,
        const char *name,
        GBytes *content,
        GError *why,
        GError **error)
{
    g_autoptr(GError) trouble = NULL;
    g_autofree char *file = agent_request_failed_file(name);

    if (!fail_request(path, name, content, why->message, &trouble)) {
        g_propagate_prefixed_error(
            error, g_steal_pointer(&trouble),
            "%s; and it could not be renamed to %s: ", why->message, file);
        return FALSE;
    }
    g_set_error(error, why->domain, why->code, "%s (see %s)", why->message,
                file);
    return FALSE;
}

/* --- making it --- */

/* Only what began as a request ends as a failed one: the file of a container
 * that is there stays, whatever it asks for in addition. */
static gboolean
is_final(const AgentHoldRec *own, const GError *why)
{
    return own->request != NULL &&
           !g_error_matches(why, AGENT_OPS_ERROR, AGENT_OPS_ERROR_BUSY) &&
           !g_error_matches(why, AGENT_OPS_ERROR, AGENT_OPS_ERROR_QUORUM) &&
           !g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_AGAIN);
}

gboolean
agent_allocate_finish(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);
    g_autoptr(GError) why = NULL;
    g_autofree char *path = conf_path(ctid);

    if (view == NULL) {
        return FALSE;
    }
    if (view->n_files != 1 || strcmp(view->owner, agent_holds_node()) != 0 ||
        view->own == NULL || view->n_other > 0) {
        g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_CHANGED,
                    "its file and its only record are not both here");
        return FALSE;
    }
    if (agent_ops_materialize(ctid, &why)) {
        return agent_step_record(ctid, error);
    }
    if (!is_final(view->own, why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    (void)give_up(path, view->own->request, view->conf, why, error);
    (void)agent_holds_remove(ctid, NULL);
    return FALSE;
}

/* The record comes before the volumes. */
static gboolean
make_record(guint32 ctid, const char *name, GError **error)
{
    static const char *const none[] = {NULL};
    g_autofree char *boot_id = agent_holds_boot_id(error);
    g_autoptr(AgentHoldRec) record = NULL;
    g_autoptr(AgentHoldView) view = NULL;

    if (boot_id == NULL) {
        return FALSE;
    }
    record = agent_holdrec_new(boot_id);
    agent_holdrec_set_volumes(record, none);
    record->request = g_strdup(name);
    if (!agent_holds_store(ctid, record, TRUE, error)) {
        return FALSE;
    }
    view = agent_holds_look(ctid, error);
    if (view != NULL && view->n_other > 0) {
        (void)agent_holds_remove(ctid, NULL);
        g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_HELD,
                    "container %u: node %s has a hold record of it", ctid,
                    view->holder);
        return FALSE;
    }
    return view != NULL;
}

/* The lowest free id whose file did not exist until we made it. Returns: 0
 * with @error set. @lock: its step lock, taken before its file exists. */
static guint32
take_id(const char *from, const char *not_free, int *lock, GError **error)
{
    g_autoptr(GHashTable) taken = taken_ids(not_free, error);
    guint32 lower = 0, upper = 0, ctid;

    if (taken == NULL) {
        return 0;
    }
    load_range(&lower, &upper);
    for (guint i = 0; i < MAX_TRIES; i++) {
        g_autoptr(GError) local = NULL;
        g_autofree char *path = NULL;

        ctid = agent_ctid_next(taken, lower, upper);
        if (ctid == 0) {
            break;
        }
        path = conf_path(ctid);
        *lock = agent_step_lock(ctid, NULL);
        if (*lock >= 0 && agent_holds_rename_new(from, path, &local)) {
            return ctid;
        }
        pve_autofd_clear(lock);
        if (local != NULL &&
            !g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_EXIST)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return 0;
        }
        agent_ctid_set_add(taken, ctid);
    }
    g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_HELD,
                "unable to get any free VMID in range [%u, %u]", lower, upper);
    return 0;
}

static gboolean
check_request(GBytes *content, GError **error)
{
    g_autoptr(AgentGuestConf) conf =
        agent_guestconf_parse(PVE_CTID_MIN, g_bytes_get_data(content, NULL),
                              g_bytes_get_size(content), NULL);
    const char *reason = NULL;

    if (agent_guestconf_is_broken(conf, &reason)) {
        g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_BROKEN, "%s",
                    reason);
        return FALSE;
    }
    if (agent_guestconf_get(conf, "rootfs") == NULL &&
        agent_guestconf_get(conf, "ostemplate") == NULL) {
        g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_BROKEN,
                    "neither 'rootfs' nor 'ostemplate': say STORAGE:GiB, or "
                    "STORAGE:0 for a directory");
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_allocate(const char *file, const char *not_free, GError **error)
{
    g_autofree char *name = agent_request_name(file);
    g_autofree char *path = agent_holds_path(agent_holds_node(), "lxc", file);
    g_autoptr(GBytes) content = NULL;
    g_autoptr(GError) why = NULL;
    PVE_AUTOFD(lock) = -1;
    guint32 ctid;

    if (name == NULL || !agent_holds_quorate()) {
        g_set_error(error, AGENT_HOLDS_ERROR, AGENT_HOLDS_ERROR_NO_QUORUM,
                    "%s: %s", file,
                    name == NULL ? "is no request" : "no quorum");
        return FALSE;
    }
    content = pve_file_read(path, MAX_FILE_BYTES, error);
    if (content == NULL) {
        return FALSE;
    }
    if (!check_request(content, &why)) {
        return give_up(path, name, content, why, error);
    }
    ctid = take_id(path, not_free, &lock, error);
    if (ctid == 0) {
        return FALSE;
    }
    g_message("container %u: made from %s", ctid, file);
    return make_record(ctid, name, error) && agent_allocate_finish(ctid, error);
}
