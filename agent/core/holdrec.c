#include "config.h"

#include "agent/core/holdrec.h"

#include "common/names.h"

#include <string.h>

G_DEFINE_QUARK(agent - holdrec - error - quark, agent_holdrec_error)

typedef struct {
    const char *key;
    /* Stores the value. FALSE: not a value of this key. */
    gboolean (*parse)(AgentHoldRec *self, const char *value);
} Field;

static gboolean
is_lower_hex(const char *text, gsize length)
{
    if (strlen(text) != length) {
        return FALSE;
    }
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isxdigit(text[i]) || g_ascii_isupper(text[i])) {
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
agent_transfer_id_is_valid(const char *text)
{
    return is_lower_hex(text, AGENT_TRANSFER_ID_LENGTH);
}

gboolean
agent_boot_id_is_valid(const char *text)
{
    if (strlen(text) != 36) {
        return FALSE;
    }
    for (gsize i = 0; i < 36; i++) {
        gboolean hyphen = i == 8 || i == 13 || i == 18 || i == 23;

        if (hyphen ? text[i] != '-' : !g_ascii_isxdigit(text[i])) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
parse_flag(const char *value, gboolean *flag)
{
    *flag = strcmp(value, "1") == 0;
    return *flag || strcmp(value, "0") == 0;
}

static gboolean
parse_boot_id(AgentHoldRec *self, const char *value)
{
    if (!agent_boot_id_is_valid(value)) {
        return FALSE;
    }
    self->boot_id = g_strdup(value);
    return TRUE;
}

static gboolean
parse_ran(AgentHoldRec *self, const char *value)
{
    return parse_flag(value, &self->ran);
}

/* Returns: (owned) the volume ids of a list, or NULL. */
static char **
split_volumes(const char *value)
{
    g_auto(GStrv) ids = g_strsplit(value, ",", -1);

    for (char **id = ids; *id != NULL; id++) {
        if (strchr(g_strstrip(*id), ':') == NULL || **id == ':') {
            return NULL;
        }
    }
    return g_steal_pointer(&ids);
}

static gboolean
parse_volumes(AgentHoldRec *self, const char *value)
{
    g_auto(GStrv) ids =
        *value != '\0' ? split_volumes(value) : g_new0(char *, 1);

    if (ids != NULL) {
        agent_holdrec_set_volumes(self, (const char *const *)ids);
    }
    return ids != NULL;
}

static gboolean
parse_making(AgentHoldRec *self, const char *value)
{
    g_auto(GStrv) ids = split_volumes(value);

    if (ids != NULL) {
        agent_holdrec_set_making(self, (const char *const *)ids);
    }
    return ids != NULL;
}

static gboolean
parse_digest(AgentHoldRec *self, const char *value)
{
    if (!is_lower_hex(value, 40)) {
        return FALSE;
    }
    self->digest = g_strdup(value);
    return TRUE;
}

static gboolean
parse_transfer(AgentHoldRec *self, const char *value)
{
    if (!agent_transfer_id_is_valid(value)) {
        return FALSE;
    }
    self->transfer = g_strdup(value);
    return TRUE;
}

static gboolean
parse_from(AgentHoldRec *self, const char *value)
{
    if (!pve_name_is_node(value)) {
        return FALSE;
    }
    self->from = g_strdup(value);
    return TRUE;
}

static gboolean
parse_request(AgentHoldRec *self, const char *value)
{
    self->request = g_strdup(value);
    return TRUE;
}

static gboolean
parse_resume(AgentHoldRec *self, const char *value)
{
    return parse_flag(value, &self->resume);
}

static gboolean
parse_adopting(AgentHoldRec *self, const char *value)
{
    return parse_flag(value, &self->adopting);
}

static const Field fields[] = {
    {"boot-id", parse_boot_id},   {"ran", parse_ran},
    {"volumes", parse_volumes},   {"digest", parse_digest},
    {"transfer", parse_transfer}, {"from", parse_from},
    {"request", parse_request},   {"resume", parse_resume},
    {"adopting", parse_adopting}, {"making", parse_making},
};

AgentHoldRec *
agent_holdrec_new(const char *boot_id)
{
    AgentHoldRec *self = g_new0(AgentHoldRec, 1);

    self->boot_id = g_strdup(boot_id);
    self->unknown = g_ptr_array_new_with_free_func(g_free);
    return self;
}

void
agent_holdrec_free(AgentHoldRec *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->boot_id);
    g_strfreev(self->volumes);
    g_free(self->digest);
    g_free(self->transfer);
    g_free(self->from);
    g_free(self->request);
    g_strfreev(self->making);
    g_ptr_array_unref(self->unknown);
    g_free(self);
}

static gboolean
refuse(GError **error, guint line, const char *reason)
{
    g_set_error(error, AGENT_HOLDREC_ERROR, AGENT_HOLDREC_ERROR_SYNTAX,
                "line %u: %s", line, reason);
    return FALSE;
}

/* A key is lower-case letters and hyphens, at once followed by ": ". */
static gboolean
split_line(char *line, char **value)
{
    char *colon = strchr(line, ':');

    if (colon == NULL || colon == line) {
        return FALSE;
    }
    for (char *p = line; p < colon; p++) {
        if (!g_ascii_islower(*p) && *p != '-') {
            return FALSE;
        }
    }
    *colon = '\0';
    *value = g_strstrip(colon + 1);
    return TRUE;
}

static gboolean
parse_line(AgentHoldRec *self,
           const char *text,
           guint number,
           guint *seen,
           GError **error)
{
    g_autofree char *line = g_strdup(text);
    char *value = NULL;

    for (const char *p = text; *p != '\0'; p++) {
        if ((guchar)*p < 32 || *p == 127) {
            return refuse(error, number, "control character");
        }
    }
    if (!split_line(line, &value)) {
        return refuse(error, number, "no 'key: value'");
    }
    for (guint i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (strcmp(fields[i].key, line) != 0) {
            continue;
        }
        if ((*seen & (1u << i)) != 0) {
            return refuse(error, number, "repeated key");
        }
        *seen |= 1u << i;
        if (!fields[i].parse(self, value)) {
            return refuse(error, number, "bad value");
        }
        return TRUE;
    }
    g_ptr_array_add(self->unknown, g_strdup(text));
    return TRUE;
}

AgentHoldRec *
agent_holdrec_parse(GBytes *text, GError **error)
{
    g_autoptr(AgentHoldRec) self = agent_holdrec_new(NULL);
    g_autofree char *copy = NULL;
    g_auto(GStrv) lines = NULL;
    gsize size = 0;
    const char *data = g_bytes_get_data(text, &size);
    guint seen = 0;

    if (size > AGENT_HOLDREC_MAX_BYTES) {
        refuse(error, 1, "too long");
        return NULL;
    }
    copy = g_strndup(data != NULL ? data : "", size);
    if (strlen(copy) != size) {
        refuse(error, 1, "NUL byte");
        return NULL;
    }
    lines = g_strsplit(copy, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        if (*lines[i] != '\0' &&
            !parse_line(self, lines[i], i + 1, &seen, error)) {
            return NULL;
        }
    }
    if (self->boot_id == NULL) {
        refuse(error, 1, "no boot-id");
        return NULL;
    }
    return g_steal_pointer(&self);
}

char *
agent_holdrec_serialize(const AgentHoldRec *self)
{
    GString *out = g_string_new(NULL);

    g_string_append_printf(out, "boot-id: %s\n", self->boot_id);
    g_string_append_printf(out, "ran: %d\n", self->ran ? 1 : 0);
    if (self->volumes != NULL) {
        g_autofree char *list = g_strjoinv(",", self->volumes);

        g_string_append_printf(out, "volumes: %s\n", list);
    }
    if (self->digest != NULL) {
        g_string_append_printf(out, "digest: %s\n", self->digest);
    }
    if (self->transfer != NULL) {
        g_string_append_printf(out, "transfer: %s\n", self->transfer);
    }
    if (self->from != NULL) {
        g_string_append_printf(out, "from: %s\n", self->from);
    }
    if (self->request != NULL) {
        g_string_append_printf(out, "request: %s\n", self->request);
    }
    if (self->resume) {
        g_string_append(out, "resume: 1\n");
    }
    if (self->adopting) {
        g_string_append(out, "adopting: 1\n");
    }
    if (self->making != NULL) {
        g_autofree char *list = g_strjoinv(",", self->making);

        g_string_append_printf(out, "making: %s\n", list);
    }
    for (guint i = 0; i < self->unknown->len; i++) {
        g_string_append_printf(
            out, "%s\n", (const char *)g_ptr_array_index(self->unknown, i));
    }
    return g_string_free(out, FALSE);
}

static int
compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Returns: (owned) a sorted copy without repetitions; blanks around an id would
 * not survive the text. */
static char **
sorted_set(const char *const *list)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    GPtrArray *set = g_ptr_array_new();

    for (guint i = 0; list[i] != NULL; i++) {
        g_ptr_array_add(all, g_strstrip(g_strdup(list[i])));
    }
    g_ptr_array_sort(all, compare_strings);
    for (guint i = 0; i < all->len; i++) {
        const char *id = g_ptr_array_index(all, i);

        if (i == 0 || strcmp(id, g_ptr_array_index(all, i - 1)) != 0) {
            g_ptr_array_add(set, g_strdup(id));
        }
    }
    g_ptr_array_add(set, NULL);
    return (char **)g_ptr_array_free(set, FALSE);
}

void
agent_holdrec_set_volumes(AgentHoldRec *self, const char *const *volumes)
{
    g_strfreev(self->volumes);
    self->volumes = sorted_set(volumes);
}

void
agent_holdrec_set_making(AgentHoldRec *self, const char *const *volumes)
{
    char **set =
        volumes != NULL && *volumes != NULL ? sorted_set(volumes) : NULL;

    g_strfreev(self->making);
    self->making = set;
}

gboolean
agent_holdrec_is_arriving(const AgentHoldRec *self, const char *node)
{
    return self->transfer != NULL && g_strcmp0(self->from, node) != 0;
}

gboolean
agent_holdrec_has_volumes(const AgentHoldRec *self, const char *const *volumes)
{
    g_auto(GStrv) wanted = sorted_set(volumes);

    return self->volumes != NULL &&
           g_strv_equal((const char *const *)self->volumes,
                        (const char *const *)wanted);
}
