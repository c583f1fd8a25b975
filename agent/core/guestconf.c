#include "config.h"

#include "agent/core/guestconf.h"

#include "agent/core/formats.h"
#include "agent/core/guestopts.h"
#include "agent/core/rawkeys.h"
#include "common/names.h"

#include <string.h>

G_DEFINE_QUARK(agent - guestconf - error, agent_guestconf_error)

typedef struct {
    char *key;
    char *value;
} RawLine;

/* The main section, the pending one, or a snapshot. */
typedef struct {
    char *name;           /* NULL: main */
    GHashTable *values;   /* key to text */
    GPtrArray *raw;       /* RawLine */
    GPtrArray *env;       /* char, VAR=value; NULL-terminated */
    GPtrArray *unparsed;  /* char, verbatim lines */
    GString *description; /* decoded */
} Section;

struct AgentGuestConf {
    guint32 ctid;
    Section *main;
    Section *pending;     /* nullable */
    GPtrArray *snapshots; /* Section, sorted by name when written */
    GPtrArray *foreign;   /* char, verbatim sections we do not know */
    char *broken;         /* nullable: "line N: reason" */
};

/* What parsing carries along. */
typedef struct {
    AgentGuestConf *conf;
    Section *section; /* where lines go; NULL: into @foreign_text */
    GString *foreign_text;
    GPtrArray *diagnostics; /* nullable, borrowed */
    guint line;
} Parser;

static void
raw_line_free(RawLine *self)
{
    g_free(self->key);
    g_free(self->value);
    g_free(self);
}

static Section *
section_new(const char *name)
{
    Section *self = g_new0(Section, 1);

    self->name = g_strdup(name);
    self->values =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->raw = g_ptr_array_new_with_free_func((GDestroyNotify)raw_line_free);
    self->env = g_ptr_array_new_null_terminated(1, g_free, TRUE);
    self->unparsed = g_ptr_array_new_with_free_func(g_free);
    self->description = g_string_new(NULL);
    return self;
}

static void
section_free(Section *self)
{
    if (self == NULL) {
        return;
    }
    g_free(self->name);
    g_hash_table_unref(self->values);
    g_ptr_array_unref(self->raw);
    g_ptr_array_unref(self->env);
    g_ptr_array_unref(self->unparsed);
    g_string_free(self->description, TRUE);
    g_free(self);
}

static void
section_add_raw(Section *self, const char *key, const char *value)
{
    RawLine *line = g_new0(RawLine, 1);

    line->key = g_strdup(key);
    line->value = g_strdup(value);
    g_ptr_array_add(self->raw, line);
}

/* Returns: (owned) a copy under @name. */
static Section *
section_copy(const Section *self, const char *name)
{
    Section *copy = section_new(name);
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, self->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_hash_table_insert(copy->values, g_strdup(key), g_strdup(value));
    }
    for (guint i = 0; i < self->raw->len; i++) {
        const RawLine *line = self->raw->pdata[i];

        section_add_raw(copy, line->key, line->value);
    }
    for (guint i = 0; i < self->env->len; i++) {
        g_ptr_array_add(copy->env, g_strdup(self->env->pdata[i]));
    }
    for (guint i = 0; i < self->unparsed->len; i++) {
        g_ptr_array_add(copy->unparsed, g_strdup(self->unparsed->pdata[i]));
    }
    g_string_append_len(copy->description, self->description->str,
                        (gssize)self->description->len);
    return copy;
}

AgentGuestConf *
agent_guestconf_new(guint32 ctid)
{
    AgentGuestConf *conf = g_new0(AgentGuestConf, 1);

    conf->ctid = ctid;
    conf->main = section_new(NULL);
    conf->snapshots =
        g_ptr_array_new_with_free_func((GDestroyNotify)section_free);
    conf->foreign = g_ptr_array_new_with_free_func(g_free);
    return conf;
}

void
agent_guestconf_free(AgentGuestConf *conf)
{
    if (conf == NULL) {
        return;
    }
    section_free(conf->main);
    section_free(conf->pending);
    g_ptr_array_unref(conf->snapshots);
    g_ptr_array_unref(conf->foreign);
    g_free(conf->broken);
    g_free(conf);
}

AgentGuestConf *
agent_guestconf_copy(const AgentGuestConf *conf)
{
    AgentGuestConf *copy = agent_guestconf_new(conf->ctid);

    section_free(copy->main);
    copy->main = section_copy(conf->main, NULL);
    if (conf->pending != NULL) {
        copy->pending = section_copy(conf->pending, conf->pending->name);
    }
    for (guint i = 0; i < conf->snapshots->len; i++) {
        const Section *snapshot = conf->snapshots->pdata[i];

        g_ptr_array_add(copy->snapshots,
                        section_copy(snapshot, snapshot->name));
    }
    for (guint i = 0; i < conf->foreign->len; i++) {
        g_ptr_array_add(copy->foreign, g_strdup(conf->foreign->pdata[i]));
    }
    copy->broken = g_strdup(conf->broken);
    return copy;
}

/* --- reading --- */

static void diagnose(Parser *self, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
diagnose(Parser *self, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (self->diagnostics != NULL) {
        g_ptr_array_add(self->diagnostics,
                        g_strdup_printf("vm %u - %s", self->conf->ctid, text));
    }
}

/* The first reason counts; what stands in a snapshot hinders nobody. */
static void
mark_broken(Parser *self, const char *reason)
{
    if (self->conf->broken == NULL &&
        (self->section == NULL || self->section == self->conf->main ||
         self->section == self->conf->pending)) {
        self->conf->broken = g_strdup_printf("line %u: %s", self->line, reason);
    }
}

/* "%41" is "A"; a '%' without two digits stays. */
static void
append_decoded(GString *out, const char *text)
{
    g_autoptr(GString) bytes = g_string_new(NULL);
    g_autofree char *valid = NULL;

    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '%' && g_ascii_isxdigit(p[1]) && g_ascii_isxdigit(p[2])) {
            char byte = (char)(g_ascii_xdigit_value(p[1]) * 16 +
                               g_ascii_xdigit_value(p[2]));

            /* C strings hold no NUL. */
            if (byte != '\0') {
                g_string_append_c(bytes, byte);
            }
            p += 2;
        } else {
            g_string_append_c(bytes, *p);
        }
    }
    valid = g_utf8_make_valid(bytes->str, (gssize)bytes->len);
    g_string_append(out, valid);
}

static gboolean
is_section_name(const char *name, gsize n)
{
    if (n < 2 || !g_ascii_isalpha(name[0])) {
        return FALSE;
    }
    for (gsize i = 0; i < n; i++) {
        if (!g_ascii_isalnum(name[i]) && name[i] != '_' && name[i] != '-') {
            return FALSE;
        }
    }
    return TRUE;
}

static void
remove_snapshot(AgentGuestConf *conf, const char *name)
{
    for (guint i = 0; i < conf->snapshots->len; i++) {
        const Section *snapshot = conf->snapshots->pdata[i];

        if (strcmp(snapshot->name, name) == 0) {
            g_ptr_array_remove_index(conf->snapshots, i);
            return;
        }
    }
}

static void
flush_foreign(Parser *self)
{
    if (self->foreign_text != NULL) {
        g_ptr_array_add(self->conf->foreign,
                        g_string_free(self->foreign_text, FALSE));
        self->foreign_text = NULL;
    }
}

/* Lines that start with '['. A header we do not know opens a section of its
 * own: what follows it must not overwrite the section before. */
static gboolean
take_header(Parser *self, const char *line)
{
    const char *end = strchr(line, ']');
    gsize n = end != NULL ? (gsize)(end - line) - 1 : 0;
    g_autofree char *name = NULL;

    if (*line != '[') {
        return FALSE;
    }
    flush_foreign(self);
    name = g_strndup(line + 1, n);
    if (end != NULL && end[1] == '\0' &&
        g_ascii_strcasecmp(name, "pve:pending") == 0) {
        section_free(self->conf->pending);
        self->section = self->conf->pending = section_new("pve:pending");
    } else if (end != NULL && end[1] == '\0' && is_section_name(name, n)) {
        remove_snapshot(self->conf, name);
        self->section = section_new(name);
        g_ptr_array_add(self->conf->snapshots, self->section);
    } else {
        self->section = NULL;
        self->foreign_text = g_string_new(NULL);
        g_string_append_printf(self->foreign_text, "%s\n", line);
        diagnose(self, "unable to parse config: %s", line);
        mark_broken(self, "not a section header");
    }
    return TRUE;
}

static void
keep_unparsed(Parser *self, const char *line)
{
    g_ptr_array_add(self->section->unparsed, g_strdup(line));
    diagnose(self, "unable to parse config: %s", line);
    mark_broken(self, "neither 'option: value' nor a comment");
}

/* Why the line is of no use, or what is odd about it; NULL: nothing. What is of
 * no use is kept as it is, but never reaches liblxc. */
static void
diagnose_raw(Parser *self, const AgentRawKey *known, const char *key)
{
    if (known->verdict == AGENT_RAW_LIMIT) {
        diagnose(self, "%s: lxc.limit.* was renamed to lxc.prlimit.*", key);
    } else if (known->verdict == AGENT_RAW_CGROUP) {
        diagnose(self,
                 "%s is deprecated, this will be a hard error in the future!",
                 key);
    } else if (known->verdict == AGENT_RAW_RENAMED) {
        diagnose(self, "%s is deprecated and was renamed to %s", key,
                 known->name);
    }
}

static void
take_raw_pair(Parser *self,
              const char *line,
              const char *key,
              const char *value)
{
    g_auto(AgentRawKey) known = {0};

    if (strcmp(key, "lxc.environment.runtime") == 0) {
        if (*value != '\0') {
            g_ptr_array_add(self->section->env, g_strdup(value));
        }
        return;
    }
    agent_rawkey_judge(key, &known);
    if (known.verdict == AGENT_RAW_REFUSED) {
        g_ptr_array_add(self->section->unparsed, g_strdup(line));
        if (known.name != NULL) {
            diagnose(self, "%s: %s", key, known.name);
        } else {
            diagnose(self, "unable to parse config: %s", line);
        }
        return;
    }
    diagnose_raw(self, &known, key);
    section_add_raw(self->section, key, value);
}

/* `lxc.key: value`, `lxc.key=value`, `lxc.key = value`. */
static gboolean
take_raw(Parser *self, const char *line)
{
    gsize n;
    const char *after;
    g_autofree char *key = NULL;
    g_autofree char *value = NULL;

    if (!g_str_has_prefix(line, "lxc.")) {
        return FALSE;
    }
    n = strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789_-.");
    after = line + n;
    if (n <= strlen("lxc.")) {
        return FALSE;
    }
    if (*after != ':') {
        after += strspn(after, " \t");
        if (*after != '=') {
            return FALSE;
        }
    }
    key = g_strndup(line, n);
    value = g_strstrip(g_strdup(after + 1));
    take_raw_pair(self, line, key, value);
    return TRUE;
}

static void
store_value(Parser *self, const char *key, const char *value)
{
    const AgentGuestOpt *opt = agent_guestopt_find(key);
    g_autoptr(GError) error = NULL;
    g_autofree char *stored = NULL;

    if (opt != NULL) {
        stored = agent_guestopt_read(opt, value, &error);
    } else {
        diagnose(self, "unable to parse value of '%s' - unknown setting '%s'",
                 key, key);
    }
    if (error != NULL) {
        g_autofree char *reason =
            g_strdup_printf("%s: %s", key, error->message);

        diagnose(self, "unable to parse value of '%s' - %s", key,
                 error->message);
        mark_broken(self, g_strdelimit(reason, "\n", ' '));
    }
    g_hash_table_replace(self->section->values, g_strdup(key),
                         stored != NULL ? g_steal_pointer(&stored)
                                        : g_strdup(value));
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* `delete:` is kept as a comma list, sorted, each once. */
static void
store_deletions(Section *section, const char *list)
{
    g_auto(GStrv) items = agent_list_split(list);
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    g_autofree char *text = NULL;

    for (char **item = items; *item != NULL; item++) {
        if (!g_ptr_array_find_with_equal_func(sorted, *item, g_str_equal,
                                              NULL)) {
            g_ptr_array_add(sorted, *item);
        }
    }
    g_ptr_array_sort(sorted, by_text);
    g_ptr_array_add(sorted, NULL);
    text = g_strjoinv(",", (char **)sorted->pdata);
    if (*text == '\0') {
        g_hash_table_remove(section->values, "delete");
    } else {
        g_hash_table_replace(section->values, g_strdup("delete"),
                             g_steal_pointer(&text));
    }
}

/* A snapshot called "pending" may have one, too: the reference's reader does
 * not tell them apart. */
static void
take_deletions(Parser *self, const char *line, const char *list)
{
    const char *name = self->section->name;

    if (name != NULL && (self->section == self->conf->pending ||
                         g_ascii_strcasecmp(name, "pending") == 0)) {
        store_deletions(self->section, list);
        return;
    }
    g_ptr_array_add(self->section->unparsed, g_strdup(line));
    diagnose(self, "property 'delete' is only allowed in [pve:pending]");
}

/* `env: VAR=value`: the file knows it as lxc.environment.runtime. */
static void
take_variable(Parser *self, const char *value)
{
    if (agent_pattern_variable(value)) {
        g_ptr_array_add(self->section->env, g_strdup(value));
    } else {
        store_value(self, "env", value);
    }
}

/* `^([a-z][a-z_]*\d*):\s*(.+?)\s*$` */
static gboolean
take_option(Parser *self, const char *line)
{
    gsize n = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
    const char *value;
    g_autofree char *key = NULL;
    g_autofree char *stripped = NULL;

    if (n == 0 || *line == '_') {
        return FALSE;
    }
    n += strspn(line + n, "0123456789");
    if (line[n] != ':') {
        return FALSE;
    }
    value = line + n + 1;
    if (*value == '\0') {
        return FALSE;
    }
    key = g_strndup(line, n);
    stripped = g_strstrip(g_strdup(value));
    if (strcmp(key, "description") == 0) {
        append_decoded(self->section->description, stripped);
    } else if (strcmp(key, "delete") == 0) {
        take_deletions(self, line, stripped);
    } else if (*stripped == '\0') {
        /* An option set to nothing: the same as not set. */
        g_hash_table_remove(self->section->values, key);
    } else if (strcmp(key, "env") == 0) {
        take_variable(self, stripped);
    } else {
        store_value(self, key, stripped);
    }
    return TRUE;
}

/* The reference finds `snapstate: prepare` behind blanks, too. */
static gboolean
take_snapstate(Parser *self, const char *line)
{
    g_autofree char *text = g_strstrip(g_strdup(line));
    const char *state = text + strlen("snapstate:");

    if (!g_str_has_prefix(text, "snapstate:")) {
        return FALSE;
    }
    state += strspn(state, " \t");
    if (strcmp(state, "prepare") != 0 && strcmp(state, "delete") != 0) {
        return FALSE;
    }
    g_hash_table_replace(self->section->values, g_strdup("snapstate"),
                         g_strdup(state));
    return TRUE;
}

static void
take_line(Parser *self, const char *line)
{
    if (take_header(self, line)) {
        return;
    }
    if (self->section == NULL) {
        g_string_append_printf(self->foreign_text, "%s\n", line);
        return;
    }
    if (*line == '#') {
        append_decoded(self->section->description, line + 1);
        g_string_append_c(self->section->description, '\n');
        return;
    }
    if (!take_raw(self, line) && !take_snapstate(self, line) &&
        !take_option(self, line)) {
        keep_unparsed(self, line);
    }
}

static gboolean
is_blank(const char *line)
{
    return line[strspn(line, " \t\r\f\v")] == '\0';
}

AgentGuestConf *
agent_guestconf_parse(guint32 ctid,
                      const char *text,
                      gsize size,
                      GPtrArray *diagnostics)
{
    Parser self = {.conf = agent_guestconf_new(ctid),
                   .diagnostics = diagnostics};
    const char *end = text + size;

    self.section = self.conf->main;
    while (text < end) {
        const char *lf = memchr(text, '\n', (gsize)(end - text));
        gsize n = (gsize)((lf != NULL ? lf : end) - text);
        g_autofree char *line = g_strndup(text, n);

        self.line++;
        if (strlen(line) != n) {
            mark_broken(&self, "a NUL byte");
        }
        if (*line == '[') {
            g_strchomp(line);
        }
        if (!is_blank(line)) {
            take_line(&self, line);
        }
        text += n + 1;
    }
    flush_foreign(&self);
    /* Of snapshots alone. */
    g_hash_table_remove(self.conf->main->values, "snapstate");
    if (self.conf->pending != NULL) {
        g_hash_table_remove(self.conf->pending->values, "snapstate");
    }
    return self.conf;
}

gboolean
agent_guestconf_is_broken(const AgentGuestConf *conf, const char **reason)
{
    if (reason != NULL) {
        *reason = conf->broken;
    }
    return conf->broken != NULL;
}

/* --- writing --- */

static void
append_encoded(GString *out, const char *text, gsize n)
{
    for (gsize i = 0; i < n; i++) {
        guchar c = (guchar)text[i];

        if ((c >= 0x20 && c <= 0x24) || (c >= 0x26 && c <= 0x39) ||
            (c >= 0x3b && c <= 0x7e)) {
            g_string_append_c(out, (char)c);
        } else {
            g_string_append_printf(out, "%%%02X", c);
        }
    }
}

static void
write_description(GString *out, const Section *section)
{
    const char *p = section->description->str;

    while (*p != '\0') {
        gsize n = strcspn(p, "\n");

        g_string_append_c(out, '#');
        append_encoded(out, p, n);
        g_string_append_c(out, '\n');
        p += n + (p[n] == '\n' ? 1 : 0);
    }
}

char **
agent_guestconf_sort_keys(GHashTable *values)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, values);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_ptr_array_add(keys, g_strdup(key));
    }
    g_ptr_array_sort(keys, by_text);
    g_ptr_array_add(keys, NULL);
    return (char **)g_ptr_array_steal(keys, NULL);
}

/* Is @volume what rootfs or an mpN of @section uses? */
static gboolean
uses_volume(const Section *section, const char *volume)
{
    GHashTableIter iter;
    gpointer key, value;
    gsize n = strlen(volume);

    g_hash_table_iter_init(&iter, section->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if ((strcmp(key, "rootfs") == 0 ||
             agent_guestopt_index(key, "mp", 256) >= 0) &&
            strncmp(value, volume, n) == 0 &&
            (((char *)value)[n] == '\0' || ((char *)value)[n] == ',')) {
            return TRUE;
        }
    }
    return FALSE;
}

static void
write_section(GString *out, const Section *section)
{
    g_auto(GStrv) keys = agent_guestconf_sort_keys(section->values);

    write_description(out, section);
    for (char **key = keys; *key != NULL; key++) {
        const char *value = g_hash_table_lookup(section->values, *key);

        if (section->name == NULL &&
            agent_guestopt_index(*key, "unused", 256) >= 0 &&
            uses_volume(section, value)) {
            continue;
        }
        g_string_append_printf(out, "%s: %s\n", *key, value);
    }
    for (guint i = 0; i < section->env->len; i++) {
        g_string_append_printf(out, "lxc.environment.runtime: %s\n",
                               (const char *)section->env->pdata[i]);
    }
    for (guint i = 0; i < section->raw->len; i++) {
        const RawLine *line = section->raw->pdata[i];

        g_string_append_printf(out, "%s: %s\n", line->key, line->value);
    }
    for (guint i = 0; i < section->unparsed->len; i++) {
        g_string_append_printf(out, "%s\n",
                               (const char *)section->unparsed->pdata[i]);
    }
}

static gboolean
is_empty(const Section *section)
{
    return g_hash_table_size(section->values) == 0 && section->raw->len == 0 &&
           section->env->len == 0 && section->unparsed->len == 0 &&
           section->description->len == 0;
}

static gint
by_section_name(gconstpointer a, gconstpointer b)
{
    const Section *x = *(const Section *const *)a;
    const Section *y = *(const Section *const *)b;

    return strcmp(x->name, y->name);
}

char *
agent_guestconf_serialize(const AgentGuestConf *conf)
{
    GString *out = g_string_new(NULL);
    g_autoptr(GPtrArray) snapshots = g_ptr_array_new();

    write_section(out, conf->main);
    if (conf->pending != NULL && !is_empty(conf->pending)) {
        g_string_append(out, "\n[pve:pending]\n");
        write_section(out, conf->pending);
    }
    for (guint i = 0; i < conf->snapshots->len; i++) {
        g_ptr_array_add(snapshots, conf->snapshots->pdata[i]);
    }
    g_ptr_array_sort(snapshots, by_section_name);
    for (guint i = 0; i < snapshots->len; i++) {
        const Section *snapshot = snapshots->pdata[i];

        g_string_append_printf(out, "\n[%s]\n", snapshot->name);
        write_section(out, snapshot);
    }
    for (guint i = 0; i < conf->foreign->len; i++) {
        g_string_append_printf(out, "\n%s",
                               (const char *)conf->foreign->pdata[i]);
    }
    return g_string_free(out, FALSE);
}

/* FALSE with @error when @text, of @key, would not stay on its line. */
static gboolean
fits_line(const char *key, const char *text, GError **error)
{
    if (agent_text_is_plain(text)) {
        return TRUE;
    }
    g_set_error(error, AGENT_GUESTCONF_ERROR, AGENT_GUESTCONF_ERROR_VALUE,
                "detected invalid %s inside property '%s'",
                strchr(text, '\n') != NULL ? "newline" : "control character",
                key);
    return FALSE;
}

static gboolean
section_fits(const Section *section, GError **error)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, section->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (!fits_line(key, key, error) || !fits_line(key, value, error)) {
            return FALSE;
        }
    }
    for (guint i = 0; i < section->env->len; i++) {
        if (!fits_line("env", section->env->pdata[i], error)) {
            return FALSE;
        }
    }
    for (guint i = 0; i < section->raw->len; i++) {
        const RawLine *line = section->raw->pdata[i];

        if (!fits_line(line->key, line->key, error) ||
            !fits_line(line->key, line->value, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
agent_guestconf_is_writable(const AgentGuestConf *conf, GError **error)
{
    if (!section_fits(conf->main, error) ||
        (conf->pending != NULL && !section_fits(conf->pending, error))) {
        return FALSE;
    }
    for (guint i = 0; i < conf->snapshots->len; i++) {
        if (!section_fits(conf->snapshots->pdata[i], error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* --- options --- */

guint32
agent_guestconf_ctid(const AgentGuestConf *conf)
{
    return conf->ctid;
}

const char *
agent_guestconf_get(const AgentGuestConf *conf, const char *key)
{
    if (strcmp(key, "description") == 0) {
        return conf->main->description->len > 0 ? conf->main->description->str
                                                : NULL;
    }
    return g_hash_table_lookup(conf->main->values, key);
}

static void
set_env(Section *section, const char *lines)
{
    g_auto(GStrv) items = g_strsplit(lines, "\n", -1);

    g_ptr_array_set_size(section->env, 0);
    for (char **item = items; *item != NULL; item++) {
        if (**item != '\0') {
            g_ptr_array_add(section->env, g_strdup(*item));
        }
    }
}

/* As lines of a file have it: the last one ends, too. */
static void
set_description(Section *section, const char *text)
{
    g_string_assign(section->description, text);
    if (*text != '\0' && !g_str_has_suffix(text, "\n")) {
        g_string_append_c(section->description, '\n');
    }
}

static void
section_put(Section *section, const char *key, const char *value)
{
    const char *text = value != NULL ? value : "";

    if (strcmp(key, "description") == 0) {
        set_description(section, text);
    } else if (strcmp(key, "env") == 0) {
        set_env(section, text);
        g_hash_table_remove(section->values, key);
    } else if (*text == '\0') {
        g_hash_table_remove(section->values, key);
    } else {
        g_hash_table_replace(section->values, g_strdup(key), g_strdup(text));
    }
}

void
agent_guestconf_set(AgentGuestConf *conf, const char *key, const char *value)
{
    section_put(conf->main, key, value);
}

void
agent_guestconf_unset(AgentGuestConf *conf, const char *key)
{
    section_put(conf->main, key, NULL);
}

void
agent_guestconf_add_env(AgentGuestConf *conf, const char *variable)
{
    g_ptr_array_add(conf->main->env, g_strdup(variable));
}

gboolean
agent_guestconf_get_bool(const AgentGuestConf *conf,
                         const char *key,
                         gboolean fallback)
{
    const char *value = agent_guestconf_get(conf, key);
    int b = value != NULL ? agent_value_boolean(value) : -1;

    return b < 0 ? fallback : b;
}

guint64
agent_guestconf_get_uint(const AgentGuestConf *conf,
                         const char *key,
                         guint64 fallback)
{
    const char *value = agent_guestconf_get(conf, key);
    guint64 number;

    if (value == NULL ||
        !g_ascii_string_to_unsigned(value, 10, 0, G_MAXUINT64, &number, NULL)) {
        return fallback;
    }
    return number;
}

char *
agent_guestconf_check(const char *key, const char *value, GError **error)
{
    const AgentGuestOpt *opt = agent_guestopt_find(key);

    if (opt == NULL) {
        g_set_error(error, AGENT_GUESTCONF_ERROR, AGENT_GUESTCONF_ERROR_VALUE,
                    "unknown option '%s'", key);
        return NULL;
    }
    return agent_guestopt_check(opt, value, error);
}

gboolean
agent_guestconf_is_option(const char *key)
{
    return agent_guestopt_find(key) != NULL;
}

char **
agent_guestconf_keys(const AgentGuestConf *conf)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    g_auto(GStrv) plain = agent_guestconf_sort_keys(conf->main->values);

    for (char **key = plain; *key != NULL; key++) {
        g_ptr_array_add(keys, g_strdup(*key));
    }
    if (conf->main->description->len > 0) {
        g_ptr_array_add(keys, g_strdup("description"));
    }
    g_ptr_array_sort(keys, by_text);
    g_ptr_array_add(keys, NULL);
    return (char **)g_ptr_array_steal(keys, NULL);
}

int
agent_guestconf_wants_running(const AgentGuestConf *conf)
{
    const char *state = agent_guestconf_get(conf, "state");

    if (state == NULL) {
        return -1;
    }
    return strcmp(state, "started") == 0   ? 1
           : strcmp(state, "stopped") == 0 ? 0
                                           : -1;
}

gboolean
agent_guestconf_is_template(const AgentGuestConf *conf)
{
    return agent_guestconf_get_bool(conf, "template", FALSE);
}

static const char *
find_raw(const AgentGuestConf *conf, const char *key)
{
    for (guint i = 0; i < conf->main->raw->len; i++) {
        const RawLine *line = conf->main->raw->pdata[i];

        if (strcmp(line->key, key) == 0) {
            return line->value;
        }
    }
    return NULL;
}

gboolean
agent_guestconf_has_raw(const AgentGuestConf *conf, const char *key)
{
    return find_raw(conf, key) != NULL;
}

gboolean
agent_guestconf_is_unprivileged(const AgentGuestConf *conf)
{
    return agent_guestconf_get_bool(conf, "unprivileged", FALSE) ||
           find_raw(conf, "lxc.idmap") != NULL;
}

const char *
agent_guestconf_lock(const AgentGuestConf *conf)
{
    return agent_guestconf_get(conf, "lock");
}

char *
agent_guestconf_hostname(const AgentGuestConf *conf)
{
    const char *name = agent_guestconf_get(conf, "hostname");

    return name != NULL ? g_strdup(name) : g_strdup_printf("CT%u", conf->ctid);
}

guint
agent_guestconf_n_raw(const AgentGuestConf *conf)
{
    return conf->main->raw->len;
}

void
agent_guestconf_raw(const AgentGuestConf *conf,
                    guint index,
                    const char **key,
                    const char **value)
{
    const RawLine *line;

    g_assert(index < conf->main->raw->len);
    line = conf->main->raw->pdata[index];
    *key = line->key;
    *value = line->value;
}

const char *const *
agent_guestconf_env(const AgentGuestConf *conf)
{
    static const char *const none[] = {NULL};

    /* GLib gives an empty array no storage, not even for its end. */
    return conf->main->env->len > 0
               ? (const char *const *)conf->main->env->pdata
               : none;
}

/* --- other sections --- */

gboolean
agent_guestconf_has_pending(const AgentGuestConf *conf)
{
    return conf->pending != NULL && !is_empty(conf->pending);
}

static Section *
section_of(const AgentGuestConf *conf, AgentGuestSection which)
{
    return which == AGENT_SECTION_MAIN ? conf->main : conf->pending;
}

static char *
join_env(const Section *section)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < section->env->len; i++) {
        g_string_append_printf(out, "%s%s", i > 0 ? "\n" : "",
                               (const char *)section->env->pdata[i]);
    }
    return g_string_free(out, FALSE);
}

char *
agent_guestconf_peek(const AgentGuestConf *conf,
                     AgentGuestSection which,
                     const char *key)
{
    const Section *section = section_of(conf, which);

    if (section == NULL) {
        return NULL;
    }
    if (strcmp(key, "description") == 0 && section->description->len > 0) {
        return g_strdup(section->description->str);
    }
    if (strcmp(key, "env") == 0 && section->env->len > 0) {
        return join_env(section);
    }
    return g_strdup(g_hash_table_lookup(section->values, key));
}

void
agent_guestconf_put(AgentGuestConf *conf,
                    AgentGuestSection which,
                    const char *key,
                    const char *value)
{
    if (which == AGENT_SECTION_PENDING && conf->pending == NULL) {
        conf->pending = section_new("pve:pending");
    }
    section_put(section_of(conf, which), key, value);
}

char **
agent_guestconf_section_keys(const AgentGuestConf *conf,
                             AgentGuestSection which)
{
    const Section *section = section_of(conf, which);
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    GHashTableIter iter;
    gpointer key;

    if (section != NULL) {
        g_hash_table_iter_init(&iter, section->values);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
            if (strcmp(key, "delete") != 0 && strcmp(key, "env") != 0) {
                g_ptr_array_add(keys, g_strdup(key));
            }
        }
        if (section->description->len > 0) {
            g_ptr_array_add(keys, g_strdup("description"));
        }
        if (section->env->len > 0 ||
            g_hash_table_contains(section->values, "env")) {
            g_ptr_array_add(keys, g_strdup("env"));
        }
    }
    g_ptr_array_sort(keys, by_text);
    g_ptr_array_add(keys, NULL);
    return (char **)g_ptr_array_steal(keys, NULL);
}

char **
agent_guestconf_deletions(const AgentGuestConf *conf)
{
    const char *list =
        conf->pending != NULL
            ? g_hash_table_lookup(conf->pending->values, "delete")
            : NULL;
    g_auto(GStrv) items = agent_list_split(list != NULL ? list : "");
    g_autoptr(GPtrArray) keys = g_ptr_array_new();

    for (char **item = items; *item != NULL; item++) {
        g_ptr_array_add(keys, g_strdup(*item + (**item == '!')));
    }
    g_ptr_array_sort(keys, by_text);
    g_ptr_array_add(keys, NULL);
    return (char **)g_ptr_array_steal(keys, NULL);
}

void
agent_guestconf_queue_deletion(AgentGuestConf *conf, const char *key)
{
    g_auto(GStrv) queued = agent_guestconf_deletions(conf);
    g_autofree char *list = g_strjoinv(",", queued);
    g_autofree char *more = g_strdup_printf("%s,%s", list, key);

    if (conf->pending == NULL) {
        conf->pending = section_new("pve:pending");
    }
    store_deletions(conf->pending, more);
}

void
agent_guestconf_unqueue_deletion(AgentGuestConf *conf, const char *key)
{
    g_auto(GStrv) queued = agent_guestconf_deletions(conf);
    g_autoptr(GString) left = g_string_new(NULL);

    if (conf->pending == NULL) {
        return;
    }
    for (char **item = queued; *item != NULL; item++) {
        if (strcmp(*item, key) != 0) {
            g_string_append_printf(left, "%s,", *item);
        }
    }
    store_deletions(conf->pending, left->str);
}

AgentGuestConf *
agent_guestconf_with_pending(const AgentGuestConf *conf)
{
    AgentGuestConf *view = agent_guestconf_new(conf->ctid);
    g_auto(GStrv) deleted = agent_guestconf_deletions(conf);
    g_auto(GStrv) keys =
        agent_guestconf_section_keys(conf, AGENT_SECTION_PENDING);

    section_free(view->main);
    view->main = section_copy(conf->main, NULL);
    view->broken = g_strdup(conf->broken);
    for (char **key = deleted; *key != NULL; key++) {
        section_put(view->main, *key, NULL);
    }
    for (char **key = keys; *key != NULL; key++) {
        g_autofree char *value =
            agent_guestconf_peek(conf, AGENT_SECTION_PENDING, *key);

        section_put(view->main, *key, value);
    }
    return view;
}

char **
agent_guestconf_snapshot_names(const AgentGuestConf *conf)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < conf->snapshots->len; i++) {
        const Section *snapshot = conf->snapshots->pdata[i];

        g_ptr_array_add(names, g_strdup(snapshot->name));
    }
    g_ptr_array_sort(names, by_text);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_steal(names, NULL);
}

AgentGuestConf *
agent_guestconf_snapshot(const AgentGuestConf *conf, const char *name)
{
    for (guint i = 0; i < conf->snapshots->len; i++) {
        const Section *snapshot = conf->snapshots->pdata[i];

        if (strcmp(snapshot->name, name) == 0) {
            AgentGuestConf *view = agent_guestconf_new(conf->ctid);

            section_free(view->main);
            view->main = section_copy(snapshot, NULL);
            return view;
        }
    }
    return NULL;
}

/* --- volumes of all sections --- */

/* Puts the volume id that @key names in @section into @ids. */
static void
collect_volume(GHashTable *ids, const char *key, const char *value)
{
    gboolean is_unused = agent_guestopt_index(key, "unused", 256) >= 0;
    g_autoptr(AgentMount) mount = NULL;

    if (is_unused) {
        g_autofree char *message = agent_format_volume_id(value);

        if (message == NULL) {
            g_hash_table_add(ids, g_strdup(value));
        }
        return;
    }
    if (strcmp(key, "rootfs") != 0 &&
        agent_guestopt_index(key, "mp", 256) < 0) {
        return;
    }
    mount = agent_mount_parse(key, value, NULL);
    if (mount != NULL && mount->kind == AGENT_MOUNT_VOLUME) {
        g_hash_table_add(ids, g_strdup(mount->volume));
    }
}

static void
collect_section(GHashTable *ids, const Section *section)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, section->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        collect_volume(ids, key, value);
    }
}

static gboolean
section_uses(const Section *section, const char *volume, const char *except)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, section->values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_autoptr(GHashTable) ids =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        if (except == NULL || strcmp(key, except) != 0) {
            collect_volume(ids, key, value);
        }
        if (g_hash_table_contains(ids, volume)) {
            return TRUE;
        }
    }
    return FALSE;
}

gboolean
agent_guestconf_uses_volume(const AgentGuestConf *conf,
                            const char *volume,
                            const char *except)
{
    if (section_uses(conf->main, volume, except) ||
        (conf->pending != NULL && section_uses(conf->pending, volume, NULL))) {
        return TRUE;
    }
    for (guint i = 0; i < conf->snapshots->len; i++) {
        if (section_uses(conf->snapshots->pdata[i], volume, NULL)) {
            return TRUE;
        }
    }
    return FALSE;
}

char **
agent_guestconf_volumes(const AgentGuestConf *conf)
{
    g_autoptr(GHashTable) ids =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    GHashTableIter iter;
    gpointer id;

    collect_section(ids, conf->main);
    if (conf->pending != NULL) {
        collect_section(ids, conf->pending);
    }
    for (guint i = 0; i < conf->snapshots->len; i++) {
        collect_section(ids, conf->snapshots->pdata[i]);
    }
    g_hash_table_iter_init(&iter, ids);
    while (g_hash_table_iter_next(&iter, &id, NULL)) {
        g_ptr_array_add(list, g_strdup(id));
    }
    g_ptr_array_sort(list, by_text);
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_steal(list, NULL);
}

/* --- id maps --- */

/* Appends `u 0 100000 65536` as "0 100000 65536" when it is of @type. Returns
 * the host id of container id 0, or -1 when that is not in it. */
static gint64
append_map(GString *out, const char *map, char type)
{
    g_auto(GStrv) parts = agent_list_split(map);
    guint64 numbers[3];

    if (g_strv_length(parts) != 4 || parts[0][0] != type ||
        parts[0][1] != '\0') {
        return -1;
    }
    for (guint i = 0; i < 3; i++) {
        if (!g_ascii_string_to_unsigned(parts[i + 1], 10, 0, G_MAXUINT32,
                                        &numbers[i], NULL)) {
            return -1;
        }
    }
    g_string_append_printf(out, "%s %s %s\n", parts[1], parts[2], parts[3]);
    return numbers[0] == 0 ? (gint64)numbers[1] : -1;
}

/* Returns the host id of the container's root in the map of @type, whose lines
 * go to @out. */
static guint32
collect_map(const AgentGuestConf *conf, char type, GString *out)
{
    guint32 host = 0;

    for (guint i = 0; i < conf->main->raw->len; i++) {
        const RawLine *line = conf->main->raw->pdata[i];
        gint64 found = -1;

        if (strcmp(line->key, "lxc.idmap") == 0) {
            found = append_map(out, line->value, type);
        }
        if (found >= 0) {
            host = (guint32)found;
        }
    }
    if (out->len == 0 &&
        agent_guestconf_get_bool(conf, "unprivileged", FALSE)) {
        g_string_append(out, "0 100000 65536\n");
        host = 100000;
    }
    return host;
}

char *
agent_guestconf_idmap(const AgentGuestConf *conf, char type)
{
    GString *out = g_string_new(NULL);

    (void)collect_map(conf, type, out);
    if (!agent_guestconf_is_unprivileged(conf)) {
        g_string_truncate(out, 0);
    }
    return g_string_free(out, out->len == 0);
}

void
agent_guestconf_root_ids(const AgentGuestConf *conf, guint32 *uid, guint32 *gid)
{
    g_autoptr(GString) lines = g_string_new(NULL);

    *uid = collect_map(conf, 'u', lines);
    g_string_truncate(lines, 0);
    *gid = collect_map(conf, 'g', lines);
}

guint32
agent_guestconf_host_id(const AgentGuestConf *conf, char type, guint32 id)
{
    g_autofree char *map = agent_guestconf_idmap(conf, type);
    g_auto(GStrv) lines = g_strsplit(map != NULL ? map : "", "\n", -1);

    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) parts = agent_list_split(*line);
        guint64 first, host, count;

        if (g_strv_length(parts) != 3) {
            continue;
        }
        first = g_ascii_strtoull(parts[0], NULL, 10);
        host = g_ascii_strtoull(parts[1], NULL, 10);
        count = g_ascii_strtoull(parts[2], NULL, 10);
        if (id >= first && id - first < count) {
            return (guint32)(host + (id - first));
        }
    }
    return id;
}
