#include "config.h"

#include "agent/io/holds.h"

#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

G_DEFINE_QUARK(agent - holds - error - quark, agent_holds_error)

#define NODES_DIR PVE_MOUNT_DIR "/nodes"
/* The filesystem's own limit for a file (spec/filesystem.md 12). */
#define MAX_FILE_BYTES (1024u * 1024u)

static gboolean G_GNUC_PRINTF(3, 4)
    refuse(GError **error, AgentHoldsError code, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, AGENT_HOLDS_ERROR, (int)code, text);
    return FALSE;
}

/* --- who and where --- */

const char *
agent_holds_node(void)
{
    static gsize node;

    if (g_once_init_enter(&node)) {
        struct utsname names;
        char *name;

        if (uname(&names) < 0) {
            g_error("uname: %s", g_strerror(errno));
        }
        name = g_strdup(names.nodename);
        name[strcspn(name, ".")] = '\0';
        g_once_init_leave(&node, (gsize)name);
    }
    return (const char *)node;
}

char *
agent_holds_boot_id(GError **error)
{
    g_autoptr(GBytes) bytes = pve_file_read(PVE_BOOT_ID_FILE, 4096, error);
    g_autofree char *text = NULL;

    if (bytes == NULL) {
        return NULL;
    }
    text = g_strstrip(g_strdup(g_bytes_get_data(bytes, NULL)));
    if (!agent_boot_id_is_valid(text)) {
        refuse(error, AGENT_HOLDS_ERROR_BROKEN, "%s: '%s' is no boot id",
               PVE_BOOT_ID_FILE, text);
        return NULL;
    }
    return g_steal_pointer(&text);
}

char *
agent_holds_path(const char *node, const char *folder, const char *name)
{
    return g_strconcat(NODES_DIR "/", node, "/", folder,
                       name != NULL ? "/" : "", name != NULL ? name : "", NULL);
}

static char *
guest_path(const char *node, const char *folder, guint32 ctid)
{
    char name[16];

    g_snprintf(name, sizeof(name), "%u", ctid);
    return agent_holds_path(node, folder, name);
}

gboolean
agent_holds_quorate(void)
{
    struct stat st;

    return lstat(PVE_MOUNT_DIR "/local", &st) == 0 &&
           (st.st_mode & S_IWUSR) != 0;
}

static gboolean
require_quorum(guint32 ctid, GError **error)
{
    return agent_holds_quorate() ||
           refuse(error, AGENT_HOLDS_ERROR_NO_QUORUM,
                  "container %u: no quorum on this node", ctid);
}

gboolean
agent_holds_make_directories(GError **error)
{
    static const char *const folders[] = {"lxc", "lxc-holds", "lxc-incoming"};

    for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *path =
            agent_holds_path(agent_holds_node(), folders[i], NULL);

        if (!pve_mkdir_parents(path, 0755, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* --- writing --- */

static gboolean
sync_one(const char *path, GError **error)
{
    PVE_AUTOFD(fd) = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) {
        return pve_errno_error(error, "sync", path);
    }
    return TRUE;
}

gboolean
agent_holds_sync(const char *path, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(path);

    return sync_one(path, error) && sync_one(directory, error);
}

gboolean
agent_holds_barrier(GError **error)
{
    g_autofree char *path =
        agent_holds_path(agent_holds_node(), "lxc-holds", NULL);

    return sync_one(path, error);
}

gboolean
agent_holds_rename_new(const char *from, const char *to, GError **error)
{
    struct stat st;

    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
        return TRUE;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return pve_errno_error(error, "rename to", to);
    }
    if (lstat(to, &st) == 0) {
        errno = EEXIST;
        return pve_errno_error(error, "rename to", to);
    }
    if (rename(from, to) < 0) {
        return pve_errno_error(error, "rename to", to);
    }
    return TRUE;
}

static gboolean
write_temporary(const char *path, const char *text, GError **error)
{
    PVE_AUTOFD(fd) = -1;

    (void)unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        return pve_errno_error(error, "create", path);
    }
    if (!pve_write_all(fd, text, strlen(text)) || fsync(fd) < 0) {
        pve_errno_error(error, "write", path);
        (void)unlink(path);
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_holds_write(const char *path,
                  const char *text,
                  gboolean exclusive,
                  GError **error)
{
    g_autofree char *directory = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *temporary =
        g_strdup_printf("%s/.%s.%d", directory, base, (int)getpid());

    if (!write_temporary(temporary, text, error)) {
        return FALSE;
    }
    if (exclusive ? !agent_holds_rename_new(temporary, path, error)
                  : (rename(temporary, path) < 0 &&
                     !pve_errno_error(error, "rename to", path))) {
        (void)unlink(temporary);
        return FALSE;
    }
    return agent_holds_sync(path, error);
}

gboolean
agent_holds_store(guint32 ctid,
                  const AgentHoldRec *record,
                  gboolean exclusive,
                  GError **error)
{
    g_autofree char *path = guest_path(agent_holds_node(), "lxc-holds", ctid);
    g_autofree char *text = agent_holdrec_serialize(record);

    if (!require_quorum(ctid, error) ||
        !agent_holds_write(path, text, exclusive, error)) {
        g_prefix_error(error, "hold record of %u: ", ctid);
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_holds_store_offer(guint32 ctid, const AgentHoldRec *offer, GError **error)
{
    g_autofree char *path =
        guest_path(agent_holds_node(), "lxc-incoming", ctid);
    g_autofree char *text = agent_holdrec_serialize(offer);

    if (!require_quorum(ctid, error) ||
        !agent_holds_write(path, text, FALSE, error)) {
        g_prefix_error(error, "transfer offer for %u: ", ctid);
        return FALSE;
    }
    return TRUE;
}

static gboolean
remove_file(const char *path, GError **error)
{
    if (unlink(path) < 0 && errno != ENOENT) {
        return pve_errno_error(error, "remove", path);
    }
    return TRUE;
}

gboolean
agent_holds_drop_offer(guint32 ctid, GError **error)
{
    g_autofree char *path =
        guest_path(agent_holds_node(), "lxc-incoming", ctid);

    return remove_file(path, error);
}

/* --- looking --- */

void
agent_holds_view_free(AgentHoldView *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->owner);
    g_clear_pointer(&self->conf, g_bytes_unref);
    g_clear_pointer(&self->own, agent_holdrec_free);
    g_free(self->own_problem);
    g_free(self->holder);
    g_clear_pointer(&self->other, agent_holdrec_free);
    g_clear_pointer(&self->offer, agent_holdrec_free);
    g_clear_pointer(&self->invite, agent_holdrec_free);
    g_free(self);
}

/* A file that is not there is no failure: TRUE, and *@bytes is NULL. */
static gboolean
read_optional(const char *path, GBytes **bytes, GError **error)
{
    g_autoptr(GError) local = NULL;

    *bytes = pve_file_read(path, MAX_FILE_BYTES, &local);
    if (*bytes != NULL ||
        g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
        g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOTDIR)) {
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
look_for_conf(AgentHoldView *view,
              const char *node,
              guint32 ctid,
              GError **error)
{
    g_autofree char *name = g_strdup_printf("%u.conf", ctid);
    g_autofree char *path = agent_holds_path(node, "lxc", name);
    g_autoptr(GBytes) bytes = NULL;

    if (!read_optional(path, &bytes, error)) {
        return FALSE;
    }
    if (bytes != NULL) {
        view->n_files++;
        g_free(view->owner);
        view->owner = g_strdup(node);
        g_clear_pointer(&view->conf, g_bytes_unref);
        view->conf = g_steal_pointer(&bytes);
    }
    return TRUE;
}

static gboolean
look_for_record(AgentHoldView *view,
                const char *node,
                guint32 ctid,
                GError **error)
{
    g_autofree char *path = guest_path(node, "lxc-holds", ctid);
    g_autoptr(GBytes) bytes = NULL;
    g_autoptr(GError) local = NULL;

    if (!read_optional(path, &bytes, error)) {
        return FALSE;
    }
    if (bytes == NULL) {
        return TRUE;
    }
    if (strcmp(node, agent_holds_node()) != 0) {
        view->n_other++;
        g_free(view->holder);
        view->holder = g_strdup(node);
        g_clear_pointer(&view->other, agent_holdrec_free);
        view->other = agent_holdrec_parse(bytes, NULL);
        return TRUE;
    }
    view->own_present = TRUE;
    view->own = agent_holdrec_parse(bytes, &local);
    if (view->own == NULL) {
        view->own_problem = g_strdup(local->message);
    }
    return TRUE;
}

static gboolean
look_for_offer(AgentHoldRec **offer,
               const char *node,
               guint32 ctid,
               GError **error)
{
    g_autofree char *path = guest_path(node, "lxc-incoming", ctid);
    g_autoptr(GBytes) bytes = NULL;

    if (!read_optional(path, &bytes, error)) {
        return FALSE;
    }
    if (bytes != NULL) {
        *offer = agent_holdrec_parse(bytes, NULL);
        if (*offer != NULL && (*offer)->transfer == NULL) {
            g_clear_pointer(offer, agent_holdrec_free);
        }
    }
    return TRUE;
}

static gboolean
look_at_offers(AgentHoldView *view, guint32 ctid, GError **error)
{
    const char *self = agent_holds_node();

    return look_for_offer(&view->offer, self, ctid, error) &&
           (view->owner == NULL || strcmp(view->owner, self) == 0 ||
            look_for_offer(&view->invite, view->owner, ctid, error));
}

AgentHoldView *
agent_holds_look(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = g_new0(AgentHoldView, 1);
    g_autoptr(GDir) dir = g_dir_open(NODES_DIR, 0, error);
    const char *node;

    if (dir == NULL) {
        return NULL;
    }
    view->quorate = agent_holds_quorate();
    while ((node = g_dir_read_name(dir)) != NULL) {
        if (pve_name_is_node(node) &&
            (!look_for_conf(view, node, ctid, error) ||
             !look_for_record(view, node, ctid, error))) {
            return NULL;
        }
    }
    if (!look_at_offers(view, ctid, error)) {
        return NULL;
    }
    return g_steal_pointer(&view);
}

/* --- the rule --- */

/* "Only by the node that owns its file and has its only record." */
static gboolean
check_view(const AgentHoldView *view, guint32 ctid, GError **error)
{
    if (!view->quorate) {
        return refuse(error, AGENT_HOLDS_ERROR_NO_QUORUM,
                      "container %u: no quorum on this node", ctid);
    }
    if (view->n_files != 1 || strcmp(view->owner, agent_holds_node()) != 0) {
        return refuse(
            error, AGENT_HOLDS_ERROR_NOT_OWNER, "container %u: %s%s", ctid,
            view->n_files == 0  ? "it has no configuration file"
            : view->n_files > 1 ? "several nodes have a file of it, one is "
                                : "its file lies on node ",
            view->n_files == 0 ? "" : view->owner);
    }
    if (view->n_other > 0) {
        return refuse(error, AGENT_HOLDS_ERROR_HELD,
                      "container %u: it is held by node %s", ctid,
                      view->holder);
    }
    if (!view->own_present) {
        return refuse(error, AGENT_HOLDS_ERROR_UNKNOWN,
                      "container %u: no hold record exists yet; the agent "
                      "writes it once every node has said that it does not "
                      "run it",
                      ctid);
    }
    if (view->own == NULL) {
        return refuse(error, AGENT_HOLDS_ERROR_BROKEN,
                      "container %u: the hold record of this node cannot be "
                      "parsed: %s",
                      ctid, view->own_problem);
    }
    if (view->own->transfer != NULL) {
        return refuse(error, AGENT_HOLDS_ERROR_TRANSFER,
                      "container %u: its volumes are under way", ctid);
    }
    return TRUE;
}

static AgentHoldView *
look_and_check(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);

    if (view == NULL || !check_view(view, ctid, error)) {
        return NULL;
    }
    return g_steal_pointer(&view);
}

gboolean
agent_holds_claim(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = look_and_check(ctid, error);
    g_autoptr(AgentHoldView) again = NULL;
    g_autofree char *boot_id = agent_holds_boot_id(error);
    g_autofree char *path = guest_path(agent_holds_node(), "lxc-holds", ctid);

    if (view == NULL || boot_id == NULL) {
        return FALSE;
    }
    if (view->own->adopting) {
        return refuse(error, AGENT_HOLDS_ERROR_UNKNOWN,
                      "container %u: its adoption is not finished", ctid);
    }
    if (strcmp(view->own->boot_id, boot_id) != 0) {
        g_free(view->own->boot_id);
        view->own->boot_id = g_strdup(boot_id);
        if (!agent_holds_store(ctid, view->own, FALSE, error)) {
            return FALSE;
        }
    } else if (!agent_holds_sync(path, error)) {
        return FALSE;
    }
    again = look_and_check(ctid, error);
    if (again == NULL) {
        return FALSE;
    }
    if (strcmp(again->own->boot_id, boot_id) != 0) {
        return refuse(error, AGENT_HOLDS_ERROR_CHANGED,
                      "container %u: its hold record changed meanwhile", ctid);
    }
    return TRUE;
}

gboolean
agent_holds_create(guint32 ctid, const char *const *volumes, GError **error)
{
    static const char *const none[] = {NULL};
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);
    g_autoptr(AgentHoldRec) record = NULL;
    g_autofree char *boot_id = agent_holds_boot_id(error);

    if (view == NULL || boot_id == NULL) {
        return FALSE;
    }
    if (view->n_other > 0 || view->own_present) {
        return refuse(error, AGENT_HOLDS_ERROR_HELD,
                      "container %u: node %s has a hold record of it", ctid,
                      view->n_other > 0 ? view->holder : agent_holds_node());
    }
    record = agent_holdrec_new(boot_id);
    agent_holdrec_set_volumes(record, volumes != NULL ? volumes : none);
    return agent_holds_store(ctid, record, TRUE, error);
}

static AgentHoldView *
look_for_own(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);

    if (view == NULL) {
        return NULL;
    }
    if (view->own == NULL) {
        refuse(error,
               view->own_present ? AGENT_HOLDS_ERROR_BROKEN
                                 : AGENT_HOLDS_ERROR_UNKNOWN,
               "container %u: this node's hold record %s", ctid,
               view->own_present ? "cannot be parsed" : "does not exist");
        return NULL;
    }
    return g_steal_pointer(&view);
}

gboolean
agent_holds_update(guint32 ctid,
                   const char *const *volumes,
                   const char *digest,
                   int ran,
                   GError **error)
{
    g_autoptr(AgentHoldView) view = look_for_own(ctid, error);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;

    if (view == NULL) {
        return FALSE;
    }
    before = agent_holdrec_serialize(view->own);
    if (volumes != NULL) {
        agent_holdrec_set_volumes(view->own, volumes);
    }
    if (digest != NULL) {
        g_free(view->own->digest);
        view->own->digest = g_strdup(digest);
    }
    if (ran >= 0) {
        view->own->ran = ran != 0;
    }
    after = agent_holdrec_serialize(view->own);
    return strcmp(before, after) == 0 ||
           agent_holds_store(ctid, view->own, FALSE, error);
}

gboolean
agent_holds_set_making(guint32 ctid, const char *const *volumes, GError **error)
{
    g_autoptr(AgentHoldView) view = look_for_own(ctid, error);
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;

    if (view == NULL) {
        return FALSE;
    }
    before = agent_holdrec_serialize(view->own);
    agent_holdrec_set_making(view->own, volumes);
    after = agent_holdrec_serialize(view->own);
    return strcmp(before, after) == 0 ||
           agent_holds_store(ctid, view->own, FALSE, error);
}

char **
agent_holds_making(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);

    if (view == NULL) {
        return NULL;
    }
    return view->own != NULL && view->own->making != NULL
               ? g_steal_pointer(&view->own->making)
               : g_new0(char *, 1);
}

gboolean
agent_holds_remove(guint32 ctid, GError **error)
{
    g_autofree char *path = guest_path(agent_holds_node(), "lxc-holds", ctid);

    return require_quorum(ctid, error) && remove_file(path, error);
}

gboolean
agent_holds_hand_over(guint32 ctid,
                      const char *node,
                      gboolean *unknown,
                      GError **error)
{
    g_autofree char *from = guest_path(agent_holds_node(), "lxc-holds", ctid);
    g_autofree char *to = guest_path(node, "lxc-holds", ctid);

    *unknown = FALSE;
    if (!require_quorum(ctid, error)) {
        return FALSE;
    }
    if (!agent_holds_rename_new(from, to, error)) {
        /* These two are verdicts of the ordered tree. Everything else, EACCES
         * too, can come for a rename that was sent: a node that loses quorum
         * with it under way does not know what the majority did with it
         * (DESIGN.md 2, promise 3). */
        *unknown = errno != EEXIST && errno != ENOENT;
        g_prefix_error(error, "handover of %u: ", ctid);
        return FALSE;
    }
    if (!agent_holds_sync(to, error)) {
        *unknown = TRUE;
        g_prefix_error(error, "handover of %u: ", ctid);
        return FALSE;
    }
    return TRUE;
}
