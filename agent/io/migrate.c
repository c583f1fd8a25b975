#include "config.h"

#include "agent/io/migrate.h"

#include "agent/core/guestconf.h"
#include "agent/core/transfer.h"
#include "agent/io/child.h"
#include "agent/io/holds.h"
#include "agent/io/nodeinfo.h"
#include "agent/io/ops.h"
#include "common/files.h"
#include "common/names.h"
#include "common/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

G_DEFINE_QUARK(agent - migrate - error - quark, agent_migrate_error)

#define SHUTDOWN_TIMEOUT_S 60
#define TRANSFER_PREFIX ".transfer-"
#define MAX_NOTE_BYTES (1024u * 1024u)

/* Numeric owners, attributes, holes (spec/storage.md 11). */
#define TAR_FLAGS                                                              \
    "-p", "--sparse", "--numeric-owner", "--acls", "--xattrs",                 \
        "--xattrs-include=user.*", "--xattrs-include=security.capability",     \
        "--warning=no-file-ignored", "--warning=no-xattr-write"

static gboolean G_GNUC_PRINTF(3, 4)
    fail(GError **error, AgentMigrateError code, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, AGENT_MIGRATE_ERROR, (int)code, text);
    return FALSE;
}

/* --- paths and small things --- */

static gboolean
exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static char *
transfer_dir(const char *final, const char *transfer, const char *suffix)
{
    g_autofree char *parent = g_path_get_dirname(final);

    return g_strdup_printf("%s/" TRANSFER_PREFIX "%s%s", parent, transfer,
                           suffix);
}

static char *
note_path(guint32 ctid)
{
    return g_strdup_printf(PVE_LXC_DIR "/%u/departed", ctid);
}

static gboolean
sync_directory(const char *path, GError **error)
{
    PVE_AUTOFD(fd) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) {
        return pve_errno_error(error, "flush directory", path);
    }
    return TRUE;
}

static char *
new_transfer_id(GError **error)
{
    guint8 bytes[AGENT_TRANSFER_ID_LENGTH / 2];
    GString *id = g_string_new(NULL);

    if (getrandom(bytes, sizeof(bytes), 0) != (gssize)sizeof(bytes)) {
        g_string_free(id, TRUE);
        pve_errno_error(error, "read", "random bytes");
        return NULL;
    }
    for (gsize i = 0; i < sizeof(bytes); i++) {
        g_string_append_printf(id, "%02x", bytes[i]);
    }
    return g_string_free(id, FALSE);
}

static AgentGuestConf *
parse_conf(const AgentHoldView *view, guint32 ctid, GError **error)
{
    g_autoptr(AgentGuestConf) conf = NULL;
    const char *reason = NULL;

    if (view->n_files != 1) {
        fail(error, AGENT_MIGRATE_ERROR_CHANGED, "it has %u files",
             view->n_files);
        return NULL;
    }
    conf = agent_guestconf_parse(ctid, g_bytes_get_data(view->conf, NULL),
                                 g_bytes_get_size(view->conf), NULL);
    if (agent_guestconf_is_broken(conf, &reason)) {
        fail(error, AGENT_MIGRATE_ERROR_REFUSED, "its file cannot be used: %s",
             reason);
        return NULL;
    }
    return g_steal_pointer(&conf);
}

static gboolean
is_here(const AgentHoldView *view)
{
    return view->n_files == 1 && strcmp(view->owner, agent_holds_node()) == 0;
}

/* --- the owner offers --- */

/* Devices and directories of the host do not travel. */
static gboolean
check_mounts(const AgentGuestConf *conf, GError **error)
{
    g_autoptr(GPtrArray) mounts = agent_guestconf_mounts(conf, error);

    if (mounts == NULL) {
        return FALSE;
    }
    for (guint i = 0; i < mounts->len; i++) {
        const AgentMount *mount = g_ptr_array_index(mounts, i);

        if (mount->kind == AGENT_MOUNT_REQUEST) {
            return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                        "%s: volume '%s' is still to be made; move the file "
                        "back to have it made there",
                        mount->key, mount->volume);
        }
        if (mount->kind != AGENT_MOUNT_VOLUME && !mount->shared) {
            return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                        "%s: cannot migrate local %s mount point '%s'; "
                        "shared=1 says that it exists on every node",
                        mount->key,
                        mount->kind == AGENT_MOUNT_BIND ? "bind" : "device",
                        mount->volume);
        }
        if (mount->kind != AGENT_MOUNT_VOLUME && !exists(mount->volume)) {
            return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                        "%s: '%s' does not exist on this node", mount->key,
                        mount->volume);
        }
    }
    return TRUE;
}

static gboolean
check_nets(const AgentGuestConf *conf, GError **error)
{
    g_autoptr(GPtrArray) nets = agent_guestconf_nets(conf, error);

    if (nets == NULL) {
        return FALSE;
    }
    for (guint i = 0; i < nets->len; i++) {
        const AgentNet *net = g_ptr_array_index(nets, i);

        if (net->bridge != NULL && if_nametoindex(net->bridge) == 0) {
            return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                        "%s: bridge '%s' does not exist", net->key,
                        net->bridge);
        }
    }
    return TRUE;
}

/* Copied and then deleted at the old node is only what is the container's own:
 * a file may name volumes of others. */
static gboolean
check_owner(guint32 ctid,
            const AgentPlace *place,
            const char *id,
            GError **error)
{
    if (place->shared || place->path == NULL || place->owner == ctid) {
        return TRUE;
    }
    return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                "volume '%s' is not one of container %u by its name, and would "
                "be lost here: remove it from the file first",
                id, ctid);
}

/* Every volume must have a place here that is still free. */
static gboolean
check_volumes(guint32 ctid, char **volumes, GError **error)
{
    for (char **id = volumes; *id != NULL; id++) {
        g_autoptr(AgentPlace) place = agent_place_find(*id, error);

        if (place == NULL || !check_owner(ctid, place, *id, error)) {
            return FALSE;
        }
        if (!place->shared && place->path == NULL) {
            return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                        "volume '%s': volumes of this storage cannot be "
                        "copied yet",
                        *id);
        }
        if (!place->shared && exists(place->path)) {
            return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                        "volume '%s' exists on this node already, and no "
                        "record says whose it is: rename or remove %s",
                        *id, place->path);
        }
    }
    return TRUE;
}

/* One receiver at a time; it ends when its ssh does. */
static int
lock_receive(guint32 ctid, GError **error)
{
    g_autofree char *path =
        g_strdup_printf(PVE_AGENT_RUN_DIR "/receive-%u.lock", ctid);
    PVE_AUTOFD(fd) = -1;

    if (!pve_mkdir_parents(PVE_AGENT_RUN_DIR, 0755, error)) {
        return -1;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        pve_errno_error(error, "open", path);
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        fail(error, AGENT_MIGRATE_ERROR_COPY,
             "another transfer of %u is still being received here", ctid);
        return -1;
    }
    return pve_steal_fd(&fd);
}

/* Removes what earlier transfers left beside @final: nothing of them has been
 * handed over, or we had the record. */
static void
remove_arrivals_beside(const char *final)
{
    g_autofree char *parent = g_path_get_dirname(final);
    g_autoptr(GDir) dir = g_dir_open(parent, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_strconcat(parent, "/", name, NULL);
        g_autoptr(GError) error = NULL;

        if (g_str_has_prefix(name, TRANSFER_PREFIX) &&
            !agent_child_remove_tree(path, &error)) {
            g_warning("left behind by a transfer: %s", error->message);
        }
    }
    (void)rmdir(parent); /* when there was nothing else */
}

static gboolean
remove_arrivals(guint32 ctid, char **volumes, GError **error)
{
    PVE_AUTOFD(lock) = lock_receive(ctid, error);

    if (lock < 0) {
        return FALSE;
    }
    for (char **id = volumes; id != NULL && *id != NULL; id++) {
        g_autoptr(AgentPlace) place = agent_place_find(*id, NULL);

        if (place != NULL && !place->shared && place->path != NULL) {
            remove_arrivals_beside(place->path);
        }
    }
    return TRUE;
}

gboolean
agent_migrate_offer(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(AgentHoldRec) offer = NULL;
    g_autofree char *boot_id = agent_holds_boot_id(error);
    g_auto(GStrv) volumes = NULL;

    if (view == NULL || boot_id == NULL) {
        return FALSE;
    }
    if (!is_here(view) || view->own_present || view->n_other != 1) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED,
                    "it is no longer on its way to this node");
    }
    conf = parse_conf(view, ctid, error);
    if (conf == NULL) {
        return FALSE;
    }
    volumes = agent_guestconf_volumes(conf);
    if (!check_mounts(conf, error) || !check_nets(conf, error) ||
        !check_volumes(ctid, volumes, error) ||
        !remove_arrivals(ctid, volumes, error)) {
        return FALSE;
    }
    offer = agent_holdrec_new(boot_id);
    agent_holdrec_set_volumes(offer, (const char *const *)volumes);
    offer->transfer = new_transfer_id(error);
    return offer->transfer != NULL &&
           agent_holds_store_offer(ctid, offer, error);
}

gboolean
agent_migrate_drop_offer(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);
    g_autoptr(AgentHoldView) again = NULL;

    /* The offer goes first: who still receives, or hands over, looks for it. */
    if (view == NULL || !agent_holds_drop_offer(ctid, error) ||
        !agent_holds_barrier(error)) {
        return FALSE;
    }
    again = agent_holds_look(ctid, error);
    if (again == NULL) {
        return FALSE;
    }
    /* With a record that is under way, what came is the container. */
    return view->offer == NULL ||
           (again->own_present &&
            (again->own == NULL || again->own->transfer != NULL)) ||
           remove_arrivals(ctid, view->offer->volumes, error);
}

/* --- a pipeline of two children --- */

/* Returns: (owned) the end of what children wrote to @fd, as one line. */
static char *
last_words(int fd)
{
    enum { MAX_LINES = 3, MAX_BYTES = 1023 };
    char text[MAX_BYTES + 1];
    off_t size = lseek(fd, 0, SEEK_END);
    ssize_t got = pread(fd, text, MAX_BYTES, MAX(0, size - MAX_BYTES));
    g_auto(GStrv) lines = NULL;
    guint n;

    if (got <= 0) {
        return g_strdup("no reason given");
    }
    text[got] = '\0';
    g_strdelimit(g_strchomp(text), "\r", ' ');
    lines = g_strsplit(text, "\n", -1);
    n = g_strv_length(lines);
    return g_strjoinv("; ", lines + (n > MAX_LINES ? n - MAX_LINES : 0));
}

static gboolean
spawn(char **argv, int in, int out, int err, GPid *pid, GError **error)
{
    return g_spawn_async_with_pipes_and_fds(
        NULL, (const char *const *)argv, NULL,
        G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH, NULL, NULL, in, out,
        err, NULL, NULL, 0, pid, NULL, NULL, NULL, error);
}

static gboolean
reap(GPid pid, const char *what, int err, GError **error)
{
    g_autofree char *words = NULL;
    int status = 0;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return pve_errno_error(error, "wait for", what);
        }
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return TRUE;
    }
    words = last_words(err);
    return fail(error, AGENT_MIGRATE_ERROR_COPY, "%s: %s", what, words);
}

/* Runs `producer | consumer`, with @header before the producer's output. Both
 * must end well. */
static gboolean
run_pipeline(char **producer,
             char **consumer,
             const char *header,
             GError **error)
{
    PVE_AUTOFD(err) = memfd_create("transfer", MFD_CLOEXEC);
    PVE_AUTOFD(reader) = -1;
    PVE_AUTOFD(writer) = -1;
    GPid from = 0, to = 0;
    int ends[2];
    gboolean sent, ok;

    if (err < 0 || pipe2(ends, O_CLOEXEC) < 0) {
        return pve_errno_error(error, "create", "a pipe");
    }
    reader = ends[0];
    writer = ends[1];
    /* The header is far smaller than a pipe: this cannot wait. */
    if (!pve_write_all(writer, header, strlen(header))) {
        return pve_errno_error(error, "write", "the header");
    }
    if (!spawn(consumer, reader, -1, err, &to, error)) {
        return FALSE;
    }
    sent = spawn(producer, -1, writer, err, &from, error);
    pve_autofd_clear(&reader);
    pve_autofd_clear(&writer);
    /* The consumer's reason is the better one: the producer then only says
     * that its pipe broke. */
    ok = reap(to, consumer[0], err, sent ? error : NULL) && sent;
    return (from == 0 || reap(from, producer[0], err, ok ? error : NULL)) && ok;
}

/* --- the holder sends --- */

static gboolean
send_volume(guint32 ctid,
            const char *node,
            const char *transfer,
            const char *id,
            const char *path,
            GError **error)
{
    g_autofree char *number = g_strdup_printf("%u", ctid);
    const char *const words[] = {"receive", number, transfer, NULL};
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *member = g_strconcat("./", base, NULL);
    g_autofree char *header = agent_transfer_header(id);
    const char *const tar[] = {
        "tar", "--one-file-system", TAR_FLAGS, "-cf", "-", "-C", parent, member,
        NULL};
    g_auto(GStrv) ssh = agent_peer_argv(node, words, error);

    if (ssh == NULL) {
        return FALSE;
    }
    g_message("container %u: copies %s to %s", ctid, id, node);
    if (!run_pipeline((char **)tar, ssh, header, error)) {
        g_prefix_error(error, "copying %s to %s: ", id, node);
        return FALSE;
    }
    return TRUE;
}

/* Returns: (owned) paths of the volumes that live only here, in pairs: id,
 * path; or NULL. */
static GPtrArray *
local_volumes(guint32 ctid, char **volumes, GError **error)
{
    g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);

    for (char **id = volumes; *id != NULL; id++) {
        g_autoptr(AgentPlace) place = agent_place_find(*id, error);

        if (place == NULL || !check_owner(ctid, place, *id, error)) {
            return NULL;
        }
        if (place->shared) {
            continue;
        }
        if (place->path == NULL || !exists(place->path)) {
            fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                 place->path == NULL ? "volume '%s' cannot be copied"
                                     : "volume '%s' does not exist",
                 *id);
            return NULL;
        }
        g_ptr_array_add(pairs, g_strdup(*id));
        g_ptr_array_add(pairs, g_steal_pointer(&place->path));
    }
    return g_steal_pointer(&pairs);
}

/* What the holder must see, before and after the copy. */
static gboolean
check_departure(const AgentHoldView *view,
                const AgentHoldView *before,
                GError **error)
{
    if (!view->quorate) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED, "no quorum");
    }
    if (view->own == NULL || view->n_other > 0 || view->n_files != 1 ||
        is_here(view) || view->invite == NULL) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED,
                    "it is no longer on its way from here");
    }
    if (before != NULL &&
        (strcmp(before->owner, view->owner) != 0 ||
         strcmp(before->invite->transfer, view->invite->transfer) != 0 ||
         !g_bytes_equal(before->conf, view->conf))) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED,
                    "its file or its destination changed during the transfer");
    }
    return TRUE;
}

static AgentHoldView *
look_for_departure(guint32 ctid, const AgentHoldView *before, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);

    if (view == NULL || !check_departure(view, before, error)) {
        return NULL;
    }
    return g_steal_pointer(&view);
}

/* Can the other side take it? Asked while the container still runs. */
static gboolean
check_peer(guint32 ctid, const char *node, GError **error)
{
    AgentAnswer answer = {0};

    if (!agent_peer_query(node, ctid, &answer, error)) {
        return FALSE;
    }
    if (answer.running) {
        return fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                    "node %s runs a container with this id", node);
    }
    return TRUE;
}

/* The record says what is going on before the container is touched; `ran` is
 * remembered from the first try. */
static gboolean
stop_for_transfer(guint32 ctid, AgentHoldView *view, GError **error)
{
    gboolean running = agent_ops_is_running(ctid);
    AgentHoldRec *own = view->own;

    if (running || own->transfer == NULL) {
        own->ran = running || own->resume;
    }
    if (g_strcmp0(own->transfer, view->invite->transfer) != 0 || running) {
        g_free(own->transfer);
        own->transfer = g_strdup(view->invite->transfer);
        g_free(own->from);
        own->from = g_strdup(agent_holds_node());
        if (!agent_holds_store(ctid, own, FALSE, error)) {
            return FALSE;
        }
    }
    return !running ||
           agent_ops_shutdown(ctid, SHUTDOWN_TIMEOUT_S, TRUE, error);
}

static gboolean
write_note(guint32 ctid, GPtrArray *pairs, GError **error)
{
    g_autofree char *directory = g_strdup_printf(PVE_LXC_DIR "/%u", ctid);
    g_autofree char *path = note_path(ctid);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < pairs->len; i += 2) {
        g_string_append_printf(text, "%s\n",
                               (const char *)g_ptr_array_index(pairs, i));
    }
    return pve_mkdir_parents(directory, 0755, error) &&
           pve_file_replace(path, text->str, text->len, 0600, error);
}

gboolean
agent_migrate_out(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = look_for_departure(ctid, NULL, error);
    g_autoptr(AgentHoldView) again = NULL;
    g_autoptr(AgentGuestConf) conf = NULL;
    g_autoptr(GPtrArray) pairs = NULL;
    g_auto(GStrv) volumes = NULL;
    gboolean unknown = FALSE;

    if (view == NULL || (conf = parse_conf(view, ctid, error)) == NULL) {
        return FALSE;
    }
    volumes = agent_guestconf_volumes(conf);
    if (!agent_holdrec_has_volumes(view->own, (const char *const *)volumes)) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED,
                    "its file names other volumes than are held here");
    }
    pairs = local_volumes(ctid, volumes, error);
    if (pairs == NULL || !check_peer(ctid, view->owner, error) ||
        !stop_for_transfer(ctid, view, error)) {
        return FALSE;
    }
    for (guint i = 0; i < pairs->len; i += 2) {
        if (!send_volume(ctid, view->owner, view->invite->transfer,
                         g_ptr_array_index(pairs, i),
                         g_ptr_array_index(pairs, i + 1), error)) {
            return FALSE;
        }
    }
    again = look_for_departure(ctid, view, error);
    if (again == NULL || !write_note(ctid, pairs, error)) {
        return FALSE;
    }
    if (agent_ops_is_running(ctid)) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED,
                    "it was started during the transfer");
    }
    if (!agent_holds_hand_over(ctid, view->owner, &unknown, error)) {
        if (unknown) {
            g_prefix_error(error, "its outcome is unknown, nothing is deleted "
                                  "until the record is seen: ");
        }
        return FALSE;
    }
    g_message("container %u: handed over to %s", ctid, view->owner);
    return TRUE;
}

/* --- the former holder cleans up --- */

static gboolean
remove_volumes(guint32 ctid, char **ids, GError **error)
{
    for (char **id = ids; *id != NULL; id++) {
        g_autoptr(AgentPlace) place = NULL;
        g_autofree char *parent = NULL;

        if (**id == '\0') {
            continue;
        }
        place = agent_place_find(*id, error);
        if (place == NULL) {
            return FALSE;
        }
        if (place->shared || place->path == NULL || place->owner != ctid) {
            continue;
        }
        if (!agent_child_remove_tree(place->path, error)) {
            return FALSE;
        }
        parent = g_path_get_dirname(place->path);
        (void)rmdir(parent); /* when it was the last */
    }
    return TRUE;
}

/* The run directory of the container goes too, the note last of all. Never with
 * what is below it: something may be mounted there. */
static gboolean
remove_run_directory(guint32 ctid, GError **error)
{
    g_autofree char *path = g_strdup_printf(PVE_LXC_DIR "/%u", ctid);
    g_autofree char *note = note_path(ctid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *child = g_strconcat(path, "/", name, NULL);

        if (strcmp(name, "departed") != 0 && unlink(child) < 0) {
            (void)rmdir(child);
        }
    }
    if (unlink(note) < 0 && errno != ENOENT) {
        return pve_errno_error(error, "remove", note);
    }
    (void)rmdir(path);
    return TRUE;
}

gboolean
agent_migrate_clean(guint32 ctid, GError **error)
{
    g_autofree char *path = note_path(ctid);
    g_autoptr(GBytes) note = pve_file_read(path, MAX_NOTE_BYTES, error);
    g_autoptr(AgentHoldView) view = NULL;
    g_auto(GStrv) ids = NULL;

    if (note == NULL || !agent_holds_barrier(error)) {
        return FALSE;
    }
    view = agent_holds_look(ctid, error);
    if (view == NULL) {
        return FALSE;
    }
    if (!view->quorate || view->own_present || view->n_other != 1 ||
        view->other == NULL ||
        agent_holdrec_is_arriving(view->other, view->holder) ||
        agent_ops_is_running(ctid)) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED,
                    "no other node has accepted it; nothing is deleted");
    }
    ids = g_strsplit(g_bytes_get_data(note, NULL), "\n", -1);
    return remove_volumes(ctid, ids, error) &&
           remove_run_directory(ctid, error);
}

/* --- the owner receives --- */

/* Byte by byte: what follows belongs to tar. Returns: (owned) volume id. */
static char *
read_header(int input, GError **error)
{
    char text[AGENT_TRANSFER_HEADER_MAX];
    gsize size = 0;
    char *id;

    while (!agent_transfer_header_is_whole(text, size)) {
        ssize_t n = size < sizeof(text) ? read(input, text + size, 1) : 0;

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n != 1) {
            fail(error, AGENT_MIGRATE_ERROR_COPY, "no transfer header");
            return NULL;
        }
        size++;
    }
    id = agent_transfer_header_parse(text, size);
    if (id == NULL) {
        fail(error, AGENT_MIGRATE_ERROR_COPY, "unknown transfer header");
    }
    return id;
}

/* Returns: (owned) the place of @id, if this transfer may bring it. */
static AgentPlace *
check_arrival(guint32 ctid,
              const char *transfer,
              const char *id,
              GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);
    g_autoptr(AgentPlace) place = NULL;

    if (view == NULL) {
        return NULL;
    }
    if (!view->quorate || !is_here(view) || view->own_present ||
        view->offer == NULL || view->offer->volumes == NULL ||
        strcmp(view->offer->transfer, transfer) != 0) {
        fail(error, AGENT_MIGRATE_ERROR_CHANGED,
             "node %s no longer expects transfer %s of %u", agent_holds_node(),
             transfer, ctid);
        return NULL;
    }
    if (!g_strv_contains((const char *const *)view->offer->volumes, id)) {
        fail(error, AGENT_MIGRATE_ERROR_COPY,
             "volume '%s' is none of container %u", id, ctid);
        return NULL;
    }
    place = agent_place_find(id, error);
    if (place == NULL || !check_owner(ctid, place, id, error)) {
        return NULL;
    }
    if (place->shared || place->path == NULL) {
        fail(error, AGENT_MIGRATE_ERROR_COPY,
             "volume '%s' is not one to be copied", id);
        return NULL;
    }
    return g_steal_pointer(&place);
}

static gboolean
unpack(const char *directory, int input, GError **error)
{
    const char *const argv[] = {"tar", TAR_FLAGS, "-C", directory,
                                "-xf", "-",       NULL};
    PVE_AUTOFD(err) = memfd_create("receive", MFD_CLOEXEC);
    /* g_spawn closes a descriptor that is already where it shall be. */
    PVE_AUTOFD(in) = fcntl(input, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    PVE_AUTOFD(dir) = -1;
    GPid pid = 0;

    if (err < 0 || in < 0) {
        return pve_errno_error(error, "open", "the input");
    }
    if (!spawn((char **)argv, in, -1, err, &pid, error) ||
        !reap(pid, "tar", err, error)) {
        return FALSE;
    }
    dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || syncfs(dir) < 0) {
        return pve_errno_error(error, "flush", directory);
    }
    return TRUE;
}

/* As for a volume made here: users of the host do not get at what a container's
 * root may have marked set-user-id. */
static gboolean
make_folders(const char *path, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *grandparent = g_path_get_dirname(parent);

    return pve_mkdir_parents(grandparent, 0755, error) &&
           pve_mkdir_parents(parent, 0740, error);
}

/* Moves @base from the part directory to the whole one. */
static gboolean
keep_arrival(const char *part,
             const char *whole,
             const char *base,
             GError **error)
{
    g_autofree char *from = g_strconcat(part, "/", base, NULL);
    g_autofree char *to = g_strconcat(whole, "/", base, NULL);
    g_autofree char *parent = g_path_get_dirname(whole);
    g_autofree char *grandparent = g_path_get_dirname(parent);

    if (!exists(from)) {
        return fail(error, AGENT_MIGRATE_ERROR_COPY, "%s did not arrive", base);
    }
    if (!pve_mkdir_parents(whole, 0700, error) ||
        !agent_child_remove_tree(to, error)) {
        return FALSE;
    }
    if (rename(from, to) < 0) {
        return pve_errno_error(error, "rename to", to);
    }
    return agent_child_remove_tree(part, error) &&
           sync_directory(whole, error) && sync_directory(parent, error) &&
           sync_directory(grandparent, error);
}

gboolean
agent_migrate_receive(guint32 ctid,
                      const char *transfer,
                      int input,
                      GError **error)
{
    g_autofree char *id = read_header(input, error);
    g_autoptr(AgentPlace) place = NULL;
    g_autoptr(AgentPlace) again = NULL;
    g_autofree char *part = NULL;
    g_autofree char *whole = NULL;
    g_autofree char *base = NULL;
    PVE_AUTOFD(lock) = -1;

    if (id == NULL || (lock = lock_receive(ctid, error)) < 0) {
        return FALSE;
    }
    place = check_arrival(ctid, transfer, id, error);
    if (place == NULL) {
        return FALSE;
    }
    part = transfer_dir(place->path, transfer, ".part");
    whole = transfer_dir(place->path, transfer, "");
    base = g_path_get_basename(place->path);
    if (!agent_child_remove_tree(part, error) ||
        !make_folders(place->path, error) ||
        !pve_mkdir_parents(part, 0700, error) || !unpack(part, input, error)) {
        return FALSE;
    }
    again = check_arrival(ctid, transfer, id, error);
    return again != NULL && keep_arrival(part, whole, base, error);
}

/* --- the owner accepts --- */

/* Already in place, or still under the transfer's name: both are fine, so that
 * an accept that was cut short can be done again. */
static gboolean
accept_volume(const char *id, const char *transfer, GError **error)
{
    g_autoptr(AgentPlace) place = agent_place_find(id, error);
    g_autofree char *whole = NULL;
    g_autofree char *parent = NULL;
    g_autofree char *base = NULL;
    g_autofree char *from = NULL;

    if (place == NULL) {
        return FALSE;
    }
    if (place->shared || place->path == NULL) {
        return TRUE;
    }
    whole = transfer_dir(place->path, transfer, "");
    base = g_path_get_basename(place->path);
    from = g_strconcat(whole, "/", base, NULL);
    if (!exists(from)) {
        return exists(place->path) ||
               fail(error, AGENT_MIGRATE_ERROR_REFUSED,
                    "volume '%s' did not come with transfer %s", id, transfer);
    }
    if (!agent_holds_rename_new(from, place->path, error)) {
        return FALSE;
    }
    (void)rmdir(whole); /* when it was the last */
    parent = g_path_get_dirname(place->path);
    return sync_directory(parent, error);
}

/* We threw away what came before the record did. The sender keeps everything
 * until we have accepted, so it may as well hold it again. */
static gboolean
send_back(guint32 ctid, const char *node, GError *why, GError **error)
{
    gboolean unknown = FALSE;

    if (node == NULL || strcmp(node, agent_holds_node()) == 0) {
        g_propagate_error(error, why);
        return FALSE;
    }
    g_message("container %u: %s; back to %s", ctid, why->message, node);
    g_error_free(why);
    return agent_holds_hand_over(ctid, node, &unknown, error) &&
           fail(error, AGENT_MIGRATE_ERROR_CHANGED, "it went back to %s", node);
}

static gboolean
accept_volumes(guint32 ctid, const AgentHoldRec *own, GError **error)
{
    GError *why = NULL;

    for (char **id = own->volumes; id != NULL && *id != NULL; id++) {
        if (accept_volume(*id, own->transfer, &why)) {
            continue;
        }
        if (g_error_matches(why, AGENT_MIGRATE_ERROR,
                            AGENT_MIGRATE_ERROR_REFUSED)) {
            return send_back(ctid, own->from, why, error);
        }
        g_propagate_error(error, why);
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_migrate_accept(guint32 ctid, GError **error)
{
    g_autoptr(AgentHoldView) view = agent_holds_look(ctid, error);
    g_autofree char *boot_id = agent_holds_boot_id(error);
    g_autofree char *note = note_path(ctid);
    AgentHoldRec *own;

    if (view == NULL || boot_id == NULL) {
        return FALSE;
    }
    own = view->own;
    if (!view->quorate || own == NULL || view->n_other > 0) {
        return fail(error, AGENT_MIGRATE_ERROR_CHANGED,
                    "its only record is not here");
    }
    if (own->transfer == NULL) {
        return TRUE;
    }
    /* A note of an earlier departure must not outlive the return. */
    if (unlink(note) < 0 && errno != ENOENT) {
        return pve_errno_error(error, "remove", note);
    }
    if (!accept_volumes(ctid, own, error)) {
        return FALSE;
    }
    own->resume = own->ran;
    own->ran = FALSE;
    g_clear_pointer(&own->transfer, g_free);
    g_clear_pointer(&own->from, g_free);
    g_free(own->boot_id);
    own->boot_id = g_steal_pointer(&boot_id);
    if (!agent_holds_store(ctid, own, FALSE, error)) {
        return FALSE;
    }
    /* An offer that stays is dropped by the next look. */
    (void)agent_holds_drop_offer(ctid, NULL);
    return TRUE;
}
