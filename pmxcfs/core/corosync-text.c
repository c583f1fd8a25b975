#include "config.h"

#include "pmxcfs/core/corosync-text.h"

#include "pmxcfs/core/core-error.h"

#include <string.h>

/* corosync's own reader calls itself for each section. */
#define MAX_DEPTH 16u

/* One `node { }` of the node list. */
typedef struct {
    char *name;           /* NULL: it has none */
    GPtrArray *addresses; /* of char */
} TextNode;

typedef struct {
    GPtrArray *sections; /* of char: names of the open ones */
    guint line;
    char *totem_version;
    char *cluster_name;
    guint64 config_version;
    gboolean has_nodelist;
    GPtrArray *nodes; /* of TextNode */
} Text;

static void
node_free(gpointer data)
{
    TextNode *node = data;

    g_free(node->name);
    g_ptr_array_unref(node->addresses);
    g_free(node);
}

static void
text_free(Text *self)
{
    g_ptr_array_unref(self->sections);
    g_ptr_array_unref(self->nodes);
    g_free(self->totem_version);
    g_free(self->cluster_name);
    g_free(self);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Text, text_free)

static Text *
text_new(void)
{
    Text *self = g_new0(Text, 1);

    self->sections = g_ptr_array_new_with_free_func(g_free);
    self->nodes = g_ptr_array_new_with_free_func(node_free);
    return self;
}

/* Returns FALSE. */
static gboolean
fail(const Text *self, GError **error, const char *what)
{
    g_set_error(error, CFS_ERROR, CFS_ERROR_CONTENT, "line %u: %s", self->line,
                what);
    return FALSE;
}

/* --- lines ---------------------------------------------------------------- */

/* TRUE when exactly the sections @path, joined by '/', are open. */
static gboolean
is_in(const Text *self, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);

    if (g_strv_length(names) != self->sections->len) {
        return FALSE;
    }
    for (guint i = 0; i < self->sections->len; i++) {
        if (strcmp(names[i], self->sections->pdata[i]) != 0) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
open_section(Text *self, const char *name, GError **error)
{
    if (name[0] == '\0') {
        return fail(self, error, "a section without a name");
    }
    if (self->sections->len >= MAX_DEPTH) {
        return fail(self, error, "sections are nested too deeply");
    }
    g_ptr_array_add(self->sections, g_strdup(name));
    if (is_in(self, "nodelist")) {
        self->has_nodelist = TRUE;
    } else if (is_in(self, "nodelist/node")) {
        TextNode *node = g_new0(TextNode, 1);

        node->addresses = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(self->nodes, node);
    }
    return TRUE;
}

static gboolean
close_section(Text *self, GError **error)
{
    if (self->sections->len == 0) {
        return fail(self, error, "'}' without a section that it could close");
    }
    g_ptr_array_remove_index(self->sections, self->sections->len - 1);
    return TRUE;
}

static gboolean
set_config_version(Text *self, const char *value, GError **error)
{
    if (!g_ascii_string_to_unsigned(value, 10, 1, G_MAXUINT32,
                                    &self->config_version, NULL)) {
        return fail(self, error, "config_version must be a number above 0");
    }
    return TRUE;
}

static void
set_node_key(Text *self, const char *key, const char *value)
{
    TextNode *node = g_ptr_array_index(self->nodes, self->nodes->len - 1);

    if (strcmp(key, "name") == 0) {
        g_free(node->name);
        node->name = g_strdup(value);
    } else if (g_str_has_prefix(key, "ring") &&
               g_str_has_suffix(key, "_addr")) {
        g_ptr_array_add(node->addresses, g_strdup(value));
    }
}

static gboolean
set_key(Text *self, const char *key, const char *value, GError **error)
{
    if (is_in(self, "nodelist/node")) {
        set_node_key(self, key, value);
    } else if (is_in(self, "totem")) {
        if (strcmp(key, "config_version") == 0) {
            return set_config_version(self, value, error);
        }
        if (strcmp(key, "version") == 0) {
            g_free(self->totem_version);
            self->totem_version = g_strdup(value);
        } else if (strcmp(key, "cluster_name") == 0) {
            g_free(self->cluster_name);
            self->cluster_name = g_strdup(value);
        }
    }
    return TRUE;
}

/* @line is ours to cut. */
static gboolean
read_line(Text *self, char *line, GError **error)
{
    char *brace, *colon;

    (void)g_strstrip(line);
    if (line[0] == '\0' || line[0] == '#') {
        return TRUE;
    }
    brace = strchr(line, '{');
    colon = strchr(line, ':');
    if (brace != NULL && (colon == NULL || brace < colon)) {
        if (brace[1] != '\0') {
            return fail(self, error, "more text behind '{'");
        }
        *brace = '\0';
        return open_section(self, g_strchomp(line), error);
    }
    if (colon != NULL) {
        *colon = '\0';
        return set_key(self, g_strchomp(line), g_strstrip(colon + 1), error);
    }
    if (strcmp(line, "}") != 0) {
        return fail(self, error,
                    "neither a section, nor 'key: value', nor '}'");
    }
    return close_section(self, error);
}

/* Returns: (owned) what it says, or NULL with @error set: no such text. */
static Text *
parse(GBytes *bytes, GError **error)
{
    g_autoptr(Text) self = text_new();
    gsize size = 0;
    const char *text = g_bytes_get_data(bytes, &size);
    g_autofree char *copy = g_strndup(text != NULL ? text : "", size);
    g_auto(GStrv) lines = NULL;

    if (strlen(copy) != size) {
        g_set_error_literal(error, CFS_ERROR, CFS_ERROR_CONTENT,
                            "it contains a NUL byte");
        return NULL;
    }
    lines = g_strsplit(copy, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        self->line = i + 1;
        if (!read_line(self, lines[i], error)) {
            return NULL;
        }
    }
    if (self->sections->len > 0) {
        g_set_error(
            error, CFS_ERROR, CFS_ERROR_CONTENT,
            "section '%s' is not closed by '}'",
            (const char *)self->sections->pdata[self->sections->len - 1]);
        return NULL;
    }
    return g_steal_pointer(&self);
}

/* --- what it must say ----------------------------------------------------- */

static gboolean
has_node(const Text *self, const char *const *names)
{
    for (guint i = 0; i < self->nodes->len; i++) {
        const TextNode *node = g_ptr_array_index(self->nodes, i);

        if (node->name != NULL) {
            if (g_strv_contains(names, node->name)) {
                return TRUE;
            }
            continue;
        }
        for (guint k = 0; k < node->addresses->len; k++) {
            if (g_strv_contains(names, node->addresses->pdata[k])) {
                return TRUE;
            }
        }
    }
    return FALSE;
}

/* NULL: nothing. */
static const char *
find_fault(const Text *self, const char *const *self_names)
{
    if (g_strcmp0(self->totem_version, "2") != 0) {
        return "section totem has no 'version: 2'";
    }
    if (self->cluster_name == NULL || self->cluster_name[0] == '\0') {
        return "section totem has no cluster_name";
    }
    if (self->config_version == 0) {
        return "section totem has no config_version above 0";
    }
    if (!self->has_nodelist) {
        return "it has no section nodelist";
    }
    return has_node(self, self_names) ? NULL : "its nodelist lacks this node";
}

gboolean
cfs_corosync_text_check(GBytes *text,
                        const char *const *self_names,
                        GError **error)
{
    g_autoptr(Text) parsed = parse(text, error);
    const char *fault;

    if (parsed == NULL) {
        return FALSE;
    }
    fault = find_fault(parsed, self_names);
    if (fault != NULL) {
        g_set_error_literal(error, CFS_ERROR, CFS_ERROR_CONTENT, fault);
    }
    return fault == NULL;
}

guint32
cfs_corosync_text_version(GBytes *text)
{
    g_autoptr(Text) parsed = parse(text, NULL);

    return parsed != NULL ? (guint32)parsed->config_version : 0;
}

char *
cfs_corosync_text_cluster(GBytes *text, guint *n_nodes)
{
    g_autoptr(Text) parsed = parse(text, NULL);

    *n_nodes = parsed != NULL ? parsed->nodes->len : 0;
    return g_strdup(parsed != NULL && parsed->cluster_name != NULL
                        ? parsed->cluster_name
                        : "");
}

CfsCorosyncVerdict
cfs_corosync_text_judge(GBytes *text,
                        GBytes *host,
                        const char *const *self_names,
                        GError **error)
{
    guint32 ours, theirs;

    if (g_bytes_get_size(text) == 0 ||
        (host != NULL && g_bytes_equal(text, host))) {
        return CFS_COROSYNC_KEEP;
    }
    if (!cfs_corosync_text_check(text, self_names, error)) {
        return CFS_COROSYNC_REFUSE;
    }
    ours = cfs_corosync_text_version(text);
    theirs = host != NULL ? cfs_corosync_text_version(host) : 0;
    if (ours > theirs) {
        return CFS_COROSYNC_REPLACE;
    }
    if (ours < theirs) {
        g_set_error(error, CFS_ERROR, CFS_ERROR_CONTENT,
                    "local corosync.conf is newer (version %u, not %u)", theirs,
                    ours);
    } else {
        g_set_error(error, CFS_ERROR, CFS_ERROR_CONTENT,
                    "local corosync.conf has the same version %u and another "
                    "text: raise config_version",
                    ours);
    }
    return CFS_COROSYNC_REFUSE;
}
