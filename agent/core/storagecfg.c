#include "config.h"

#include "agent/core/storagecfg.h"

#include "agent/core/formats.h"
#include "agent/core/propstring.h"
#include "common/names.h"
#include "common/paths.h"

#include <string.h>

G_DEFINE_QUARK(agent - storage - error, agent_storage_error)

#define LOCAL_CONTENT "backup,images,iso,rootdir,snippets,vztmpl"

struct AgentStorageCfg {
    GPtrArray *storages; /* AgentStorage */
};

typedef struct {
    AgentStorageCfg *cfg;
    AgentStorage *section; /* nullable, borrowed: where properties go */
    GHashTable *seen;      /* property names of this section */
    GPtrArray *diagnostics;
    guint line;
} Parser;

static const char *const shared_types[] = {
    "iscsi",       "nfs", "cifs", "rbd", "cephfs",
    "iscsidirect", "zfs", "drbd", "pbs", NULL};

static void
storage_free(AgentStorage *self)
{
    g_free(self->id);
    g_free(self->type);
    g_free(self->path);
    g_strfreev(self->content);
    g_strfreev(self->nodes);
    g_free(self);
}

void
agent_storagecfg_free(AgentStorageCfg *self)
{
    if (self != NULL) {
        g_ptr_array_unref(self->storages);
        g_free(self);
    }
}

static void
diagnose(Parser *self, const char *what, const char *line)
{
    if (self->diagnostics != NULL) {
        g_ptr_array_add(self->diagnostics,
                        g_strdup_printf("storage.cfg line %u: %s: %s",
                                        self->line, what, line));
    }
}

static AgentStorage *
add_storage(AgentStorageCfg *cfg, const char *type, const char *id)
{
    AgentStorage *self = g_new0(AgentStorage, 1);

    self->id = g_strdup(id);
    self->type = g_strdup(type);
    self->content = g_strsplit("images,rootdir", ",", -1);
    self->is_shared = g_strv_contains(shared_types, type);
    g_ptr_array_add(cfg->storages, self);
    return self;
}

/* `dir: local` */
static void
take_header(Parser *self, const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, ":", 2);
    g_autofree char *type = NULL;
    char *id;

    self->section = NULL;
    g_hash_table_remove_all(self->seen);
    if (words[0] == NULL || words[1] == NULL) {
        diagnose(self, "ignored", line);
        return;
    }
    type = g_ascii_strdown(words[0], -1);
    id = g_strstrip(words[1]);
    if (!agent_storage_id_is_valid(id, strlen(id)) ||
        agent_storagecfg_find(self->cfg, id) != NULL) {
        diagnose(self, "section ignored", line);
        return;
    }
    self->section = add_storage(self->cfg, type, id);
}

static void
set_property(AgentStorage *section, const char *name, const char *value)
{
    if (strcmp(name, "path") == 0) {
        g_free(section->path);
        section->path = g_canonicalize_filename(value, "/");
    } else if (strcmp(name, "content") == 0) {
        g_strfreev(section->content);
        section->content = agent_list_split(value);
    } else if (strcmp(name, "nodes") == 0) {
        g_strfreev(section->nodes);
        section->nodes = agent_list_split(value);
    } else if (strcmp(name, "disable") == 0) {
        section->is_disabled = strcmp(value, "0") != 0;
    } else if (strcmp(name, "shared") == 0) {
        section->is_shared = section->is_shared || strcmp(value, "0") != 0;
    }
}

static void
take_property(Parser *self, const char *line)
{
    g_autofree char *text = g_strstrip(g_strdup(line));
    gsize n = strcspn(text, " \t");
    g_autofree char *name = g_strndup(text, n);
    const char *value = text + n + strspn(text + n, " \t");

    if (self->section == NULL) {
        return;
    }
    if (!g_hash_table_add(self->seen, g_strdup(name))) {
        diagnose(self, "duplicate attribute", line);
        return;
    }
    set_property(self->section, name, *value != '\0' ? value : "1");
}

/* Without a usable section, `local` is the directory that it always is. */
static void
ensure_local(AgentStorageCfg *cfg)
{
    AgentStorage *local = (AgentStorage *)agent_storagecfg_find(cfg, "local");

    if (local != NULL && (strcmp(local->type, "dir") != 0 ||
                          g_strcmp0(local->path, PVE_LOCAL_STORAGE_DIR) != 0)) {
        g_ptr_array_remove(cfg->storages, local);
        local = NULL;
    }
    if (local == NULL) {
        local = add_storage(cfg, "dir", "local");
        set_property(local, "path", PVE_LOCAL_STORAGE_DIR);
        set_property(local, "content", LOCAL_CONTENT);
    }
    g_clear_pointer(&local->nodes, g_strfreev);
}

AgentStorageCfg *
agent_storagecfg_parse(const char *text, gsize size, GPtrArray *diagnostics)
{
    AgentStorageCfg *cfg = g_new0(AgentStorageCfg, 1);
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *copy = g_strndup(text, size);
    g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);
    Parser self = {.cfg = cfg, .seen = seen, .diagnostics = diagnostics};

    cfg->storages =
        g_ptr_array_new_with_free_func((GDestroyNotify)storage_free);
    for (char **line = lines; *line != NULL; line++) {
        const char *first = *line + strspn(*line, " \t\r");

        self.line++;
        if (*first == '\0') {
            self.section = NULL;
        } else if (*first == '#') {
            continue;
        } else if (first == *line) {
            take_header(&self, *line);
        } else {
            take_property(&self, *line);
        }
    }
    ensure_local(cfg);
    return cfg;
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **
agent_storagecfg_ids(const AgentStorageCfg *self)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();

    for (guint i = 0; i < self->storages->len; i++) {
        const AgentStorage *storage = self->storages->pdata[i];

        g_ptr_array_add(ids, g_strdup(storage->id));
    }
    g_ptr_array_sort(ids, by_text);
    g_ptr_array_add(ids, NULL);
    return (char **)g_ptr_array_steal(ids, NULL);
}

const AgentStorage *
agent_storagecfg_find(const AgentStorageCfg *self, const char *id)
{
    for (guint i = 0; i < self->storages->len; i++) {
        const AgentStorage *storage = self->storages->pdata[i];

        if (strcmp(storage->id, id) == 0) {
            return storage;
        }
    }
    return NULL;
}

gboolean
agent_storage_has_content(const AgentStorage *self, const char *content)
{
    return g_strv_contains((const char *const *)self->content, content);
}

static gboolean
check_type(const AgentStorage *storage, GError **error)
{
    if (strcmp(storage->type, "dir") != 0 || storage->path == NULL) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_UNUSABLE,
                    "storage '%s' is of type '%s', only 'dir' with a path can "
                    "be used",
                    storage->id, storage->type);
        return FALSE;
    }
    return TRUE;
}

const AgentStorage *
agent_storagecfg_use(const AgentStorageCfg *self,
                     const char *id,
                     const char *node,
                     const char *content,
                     GError **error)
{
    const AgentStorage *storage = agent_storagecfg_find(self, id);

    if (storage == NULL) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_UNKNOWN,
                    "storage '%s' does not exist", id);
        return NULL;
    }
    if (storage->is_disabled) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_UNUSABLE,
                    "storage '%s' is disabled", id);
        return NULL;
    }
    if (storage->nodes != NULL &&
        !g_strv_contains((const char *const *)storage->nodes, node)) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_UNUSABLE,
                    "storage '%s' is not available on node '%s'", id, node);
        return NULL;
    }
    if (!agent_storage_has_content(storage, content)) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_UNUSABLE,
                    strcmp(content, "rootdir") == 0
                        ? "storage '%s' does not support container directories"
                        : "storage '%s' does not allow this content type",
                    id);
        return NULL;
    }
    return check_type(storage, error) ? storage : NULL;
}

/* --- volume ids --- */

void
agent_volume_free(AgentVolume *self)
{
    if (self != NULL) {
        g_free(self->storage);
        g_free(self->name);
        g_free(self->relative);
        g_free(self);
    }
}

static const struct {
    const char *prefix; /* of the volume's name */
    const char *folder;
    const char *content;
    AgentVolumeKind kind;
} file_contents[] = {
    {"vztmpl/", "template/cache/", "vztmpl", AGENT_VOLUME_TEMPLATE},
    {"snippets/", "snippets/", "snippets", AGENT_VOLUME_SNIPPET},
    {"backup/", "dump/", "backup", AGENT_VOLUME_BACKUP},
};

static gboolean
parse_file(AgentVolume *self)
{
    for (guint i = 0; i < G_N_ELEMENTS(file_contents); i++) {
        gsize n = strlen(file_contents[i].prefix);

        if (g_str_has_prefix(self->name, file_contents[i].prefix) &&
            pve_name_is_component(self->name + n)) {
            self->kind = file_contents[i].kind;
            self->relative =
                g_strconcat(file_contents[i].folder, self->name + n, NULL);
            return TRUE;
        }
    }
    return FALSE;
}

/* `100/subvol-100-disk-0.subvol` */
static gboolean
parse_image(AgentVolume *self)
{
    const char *slash = strchr(self->name, '/');
    g_autofree char *folder = NULL;

    if (slash == NULL || !pve_name_is_component(slash + 1)) {
        return FALSE;
    }
    folder = g_strndup(self->name, (gsize)(slash - self->name));
    self->owner = pve_ctid_parse(folder);
    if (self->owner == 0) {
        return FALSE;
    }
    if (g_str_has_suffix(slash, ".subvol")) {
        self->kind = AGENT_VOLUME_SUBVOL;
    } else if (g_str_has_suffix(slash, ".raw")) {
        self->kind = AGENT_VOLUME_RAW;
    } else {
        return FALSE;
    }
    self->relative = g_strconcat("images/", self->name, NULL);
    return TRUE;
}

AgentVolume *
agent_volume_parse(const char *volume, GError **error)
{
    g_autoptr(AgentVolume) self = g_new0(AgentVolume, 1);
    g_autofree char *message = agent_format_volume_id(volume);
    const char *colon = strchr(volume, ':');

    if (message != NULL) {
        g_set_error_literal(error, AGENT_STORAGE_ERROR,
                            AGENT_STORAGE_ERROR_VOLUME, message);
        return NULL;
    }
    self->storage = g_strndup(volume, (gsize)(colon - volume));
    self->name = g_strdup(colon + 1);
    if (!parse_file(self) && !parse_image(self)) {
        g_set_error(error, AGENT_STORAGE_ERROR, AGENT_STORAGE_ERROR_VOLUME,
                    "unable to parse directory volume name '%s'", self->name);
        return NULL;
    }
    return g_steal_pointer(&self);
}

const char *
agent_volume_content(const AgentVolume *self)
{
    for (guint i = 0; i < G_N_ELEMENTS(file_contents); i++) {
        if (file_contents[i].kind == self->kind) {
            return file_contents[i].content;
        }
    }
    return "rootdir";
}

gboolean
agent_volume_request_parse(const char *request, char **storage, guint64 *mib)
{
    const char *colon = strchr(request, ':');
    double gib;

    if (!agent_volume_is_request(request)) {
        return FALSE;
    }
    gib = g_ascii_strtod(colon + 1, NULL);
    if (gib > 1024.0 * 1024.0) {
        return FALSE;
    }
    *storage = g_strndup(request, (gsize)(colon - request));
    *mib = (guint64)(gib * 1024.0);
    return TRUE;
}
