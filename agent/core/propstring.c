#include "config.h"

#include "agent/core/propstring.h"

#include <string.h>

G_DEFINE_QUARK(agent - value - error, agent_value_error)

static char *bad(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Sets the message and returns NULL. */
static char *
bad(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, AGENT_VALUE_ERROR, AGENT_VALUE_ERROR_BAD,
                        message);
    return NULL;
}

int
agent_value_boolean(const char *text)
{
    static const char *const yes[] = {"1", "on", "yes", "true", NULL};
    static const char *const no[] = {"0", "off", "no", "false", NULL};

    for (guint i = 0; yes[i] != NULL; i++) {
        if (g_ascii_strcasecmp(text, yes[i]) == 0) {
            return 1;
        }
        if (g_ascii_strcasecmp(text, no[i]) == 0) {
            return 0;
        }
    }
    return -1;
}

static gsize
digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* `\d+(\.\d+)?`, how many characters of it stand at the start of @text. */
static gsize
decimal(const char *text)
{
    gsize n = digits(text);

    if (n > 0 && text[n] == '.' && digits(text + n + 1) > 0) {
        n += 1 + digits(text + n + 1);
    }
    return n;
}

gboolean
agent_size_parse(const char *text, gint64 *bytes)
{
    static const char units[] = "KMGT";
    gsize n = decimal(text);
    const char *unit = text + n, *found;
    double value;

    if (n == 0) {
        return FALSE;
    }
    value = g_ascii_strtod(text, NULL);
    if (*unit != '\0') {
        found = strchr(units, *unit);
        if (found == NULL || (unit[1] != '\0' && strcmp(unit + 1, "iB") != 0)) {
            return FALSE;
        }
        for (const char *u = units; u <= found; u++) {
            value *= 1024;
        }
    }
    if (value >= 9.2e18) {
        return FALSE;
    }
    *bytes = (gint64)value;
    return TRUE;
}

char *
agent_size_format(gint64 bytes)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    guint unit = 0;

    /* Zero divides for ever: it prints as 0T, and files contain that. */
    while (unit + 1 < G_N_ELEMENTS(units) && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    return g_strdup_printf("%" G_GINT64_FORMAT "%s", bytes, units[unit]);
}

/* Leading zeros go. */
static char *
stored_integer(const char *text)
{
    while (text[0] == '0' && text[1] != '\0') {
        text++;
    }
    return g_strdup(text);
}

static char *
read_boolean(const char *value, GError **error)
{
    int b = agent_value_boolean(value);

    if (b < 0) {
        return bad(error, "type check ('boolean') failed - got '%s'", value);
    }
    return g_strdup(b ? "1" : "0");
}

static char *
read_size(const char *value, GError **error)
{
    gint64 bytes;

    if (!agent_size_parse(value, &bytes)) {
        return bad(error, "value does not look like a valid disk size: %s",
                   value);
    }
    return agent_size_format(bytes);
}

char *
agent_value_read(const AgentValueRule *rule, const char *value, GError **error)
{
    g_autofree char *message = NULL;

    switch (rule->type) {
    case AGENT_VALUE_BOOLEAN:
        return read_boolean(value, error);
    case AGENT_VALUE_INTEGER:
        if (*value == '\0' || value[digits(value)] != '\0') {
            return bad(error, "type check ('integer') failed - got '%s'",
                       value);
        }
        return stored_integer(value);
    case AGENT_VALUE_NUMBER:
        if (*value == '\0' || value[decimal(value)] != '\0') {
            return bad(error, "type check ('number') failed - got '%s'", value);
        }
        return g_strdup(value);
    case AGENT_VALUE_SIZE:
        return read_size(value, error);
    case AGENT_VALUE_STRING:
        break;
    }
    if (rule->format != NULL && (message = rule->format(value)) != NULL) {
        return bad(error, "%s", message);
    }
    if (rule->pattern != NULL && !rule->pattern(value)) {
        return bad(error, "value does not match the regex pattern");
    }
    return g_strdup(value);
}

/* `[+-]?\d+`: returns (owned) the digits with a '-' where there was one; NULL:
 * something else. */
static char *
signed_integer(const char *value)
{
    const char *number = value + (*value == '+' || *value == '-');

    if (*number == '\0' || number[digits(number)] != '\0') {
        return NULL;
    }
    while (number[0] == '0' && number[1] != '\0') {
        number++;
    }
    return g_strconcat(*value == '-' && strcmp(number, "0") != 0 ? "-" : "",
                       number, NULL);
}

/* `.5`, `+2`, `1e3`: returns (owned) the number without sign or exponent where
 * it has such a form; NULL: no number. */
static char *
plain_number(const char *value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    char *end = NULL;
    double number;

    if (*value != '\0' && value[decimal(value)] == '\0') {
        return g_strdup(value);
    }
    if (*value == '\0' || value[strspn(value, "0123456789+-.eE")] != '\0') {
        return NULL;
    }
    number = g_ascii_strtod(value, &end);
    if (*end != '\0' || !(number > -1e15 && number < 1e15)) {
        return NULL;
    }
    (void)g_ascii_formatd(text, sizeof(text), "%.6f", number);
    /* Zeros behind the point say nothing, nor does the point without them. */
    for (gsize n = strlen(text); n > 0 && strchr("0.", text[n - 1]) != NULL;) {
        gboolean is_point = text[--n] == '.';

        text[n] = '\0';
        if (is_point) {
            break;
        }
    }
    return g_strdup(strcmp(text, "-0") == 0 ? "0" : text);
}

/* The command line takes `+512` and `1e3`; stored is what the file takes. */
static char *
check_number(const AgentValueRule *rule, const char *value, GError **error)
{
    gboolean is_integer = rule->type == AGENT_VALUE_INTEGER;
    char *stored = is_integer ? signed_integer(value) : plain_number(value);

    if (stored == NULL) {
        return bad(error, "type check ('%s') failed - got '%s'",
                   is_integer ? "integer" : "number", value);
    }
    return stored;
}

static char *
join_choices(const char *const *choices, const char *separator)
{
    return g_strjoinv(separator, (char **)choices);
}

static gboolean
check_range(const AgentValueRule *rule, const char *stored, GError **error)
{
    double number = g_ascii_strtod(stored, NULL);

    if (number < (double)rule->min) {
        bad(error, "value must have a minimum value of %" G_GINT64_FORMAT,
            rule->min);
        return FALSE;
    }
    if (number > (double)rule->max) {
        bad(error, "value must have a maximum value of %" G_GINT64_FORMAT,
            rule->max);
        return FALSE;
    }
    return TRUE;
}

static gboolean
check_text(const AgentValueRule *rule, const char *stored, GError **error)
{
    if (rule->choices != NULL && !g_strv_contains(rule->choices, stored)) {
        g_autofree char *all = join_choices(rule->choices, ", ");

        bad(error, "value '%s' does not have a value in the enumeration '%s'",
            stored, all);
        return FALSE;
    }
    if (rule->max_length > 0 &&
        g_utf8_strlen(stored, -1) > (glong)rule->max_length) {
        bad(error, "value may only be %u characters long", rule->max_length);
        return FALSE;
    }
    return TRUE;
}

gboolean
agent_text_is_plain(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (g_ascii_iscntrl(*p) && *p != '\t') {
            return FALSE;
        }
    }
    return TRUE;
}

char *
agent_value_check(const AgentValueRule *rule, const char *value, GError **error)
{
    gboolean is_number =
        rule->type == AGENT_VALUE_INTEGER || rule->type == AGENT_VALUE_NUMBER;
    g_autofree char *stored = is_number ? check_number(rule, value, error)
                                        : agent_value_read(rule, value, error);

    if (stored == NULL) {
        if (rule->format != NULL) {
            g_prefix_error(error, "invalid format - ");
        }
        return NULL;
    }
    if (is_number ? rule->has_range && !check_range(rule, stored, error)
                  : !check_text(rule, stored, error)) {
        return NULL;
    }
    if (!agent_text_is_plain(stored)) {
        return bad(error, "value contains a control character");
    }
    return g_steal_pointer(&stored);
}

static const AgentPropKey *
find_key(const AgentPropKey *schema, const char *name)
{
    for (const AgentPropKey *key = schema; key->name != NULL; key++) {
        if (strcmp(key->name, name) == 0) {
            return key;
        }
    }
    return NULL;
}

static const AgentPropKey *
find_default(const AgentPropKey *schema)
{
    for (const AgentPropKey *key = schema; key->name != NULL; key++) {
        if (key->is_default) {
            return key;
        }
    }
    return NULL;
}

/* Puts one item into @props, unchecked. */
static gboolean
take_item(const AgentPropKey *schema,
          GHashTable *props,
          const char *item,
          GError **error)
{
    const char *equals = strchr(item, '=');
    const AgentPropKey *fallback = find_default(schema);
    g_autofree char *name = NULL;

    if (equals == NULL && fallback == NULL) {
        bad(error, "value without key, but schema does not define a default "
                   "key");
        return FALSE;
    }
    if (equals != NULL && (equals == item || equals[1] == '\0')) {
        bad(error, "missing key in comma-separated list property");
        return FALSE;
    }
    name = equals != NULL ? g_strndup(item, (gsize)(equals - item))
                          : g_strdup(fallback->name);
    if (g_hash_table_contains(props, name)) {
        bad(error, "duplicate key in comma-separated list property: %s", name);
        return FALSE;
    }
    g_hash_table_insert(props, g_steal_pointer(&name),
                        g_strdup(equals != NULL ? equals + 1 : item));
    return TRUE;
}

static gboolean
take_items(const AgentPropKey *schema,
           GHashTable *props,
           const char *text,
           GError **error)
{
    g_auto(GStrv) items = g_strsplit(text, ",", -1);

    for (char **item = items; *item != NULL; item++) {
        if ((*item)[strspn(*item, " \t")] != '\0' &&
            !take_item(schema, props, *item, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gint
by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Checks each value against its rule and notes "\nKEY: message". */
static void
check_known(const AgentPropKey *schema, GHashTable *props, GPtrArray *problems)
{
    for (const AgentPropKey *key = schema; key->name != NULL; key++) {
        const char *value = g_hash_table_lookup(props, key->name);
        g_autoptr(GError) local = NULL;
        char *stored;

        if (value == NULL) {
            if (key->is_mandatory) {
                g_ptr_array_add(problems,
                                g_strdup_printf("%s: property is missing and "
                                                "it is not optional",
                                                key->name));
            }
            continue;
        }
        stored = agent_value_check(&key->rule, value, &local);
        if (stored != NULL) {
            g_hash_table_replace(props, g_strdup(key->name), stored);
        } else {
            g_ptr_array_add(
                problems, g_strdup_printf("%s: %s", key->name, local->message));
        }
    }
}

static void
check_unknown(const AgentPropKey *schema,
              GHashTable *props,
              GPtrArray *problems)
{
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, props);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        if (find_key(schema, name) == NULL) {
            g_ptr_array_add(
                problems,
                g_strdup_printf("%s: property is not defined in schema and the "
                                "schema does not allow additional properties",
                                (const char *)name));
        }
    }
}

GHashTable *
agent_props_parse(const AgentPropKey *schema, const char *text, GError **error)
{
    g_autoptr(GHashTable) props =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *lines = NULL;

    if (!take_items(schema, props, text, error)) {
        return NULL;
    }
    check_known(schema, props, problems);
    check_unknown(schema, props, problems);
    if (problems->len == 0) {
        return g_steal_pointer(&props);
    }
    g_ptr_array_sort(problems, by_name);
    g_ptr_array_add(problems, NULL);
    lines = g_strjoinv("\n", (char **)problems->pdata);
    bad(error, "format error\n%s", lines);
    return NULL;
}

static void
append_item(GString *out, const char *name, const char *value)
{
    if (out->len > 0) {
        g_string_append_c(out, ',');
    }
    if (name != NULL) {
        g_string_append_printf(out, "%s=", name);
    }
    g_string_append(out, value);
}

/* The keys of @schema that are mandatory or not, but not the default one, by
 * name. */
static void
append_group(GString *out,
             const AgentPropKey *schema,
             GHashTable *props,
             gboolean mandatory)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (const AgentPropKey *key = schema; key->name != NULL; key++) {
        if (!key->is_default && key->is_mandatory == mandatory &&
            g_hash_table_contains(props, key->name)) {
            g_ptr_array_add(names, (gpointer)key->name);
        }
    }
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len; i++) {
        append_item(out, names->pdata[i],
                    g_hash_table_lookup(props, names->pdata[i]));
    }
}

char *
agent_props_format(const AgentPropKey *schema, GHashTable *props)
{
    GString *out = g_string_new(NULL);
    const AgentPropKey *first = find_default(schema);
    const char *value =
        first != NULL ? g_hash_table_lookup(props, first->name) : NULL;

    if (value != NULL) {
        /* "a=b" alone would be read as key and value. */
        append_item(out, strchr(value, '=') != NULL ? first->name : NULL,
                    value);
    }
    append_group(out, schema, props, TRUE);
    append_group(out, schema, props, FALSE);
    return g_string_free(out, FALSE);
}

char **
agent_list_split(const char *text)
{
    GPtrArray *items = g_ptr_array_new();

    while (*text != '\0') {
        gsize n;

        text += strspn(text, ",; \t\n\r");
        n = strcspn(text, ",; \t\n\r");
        if (n > 0) {
            g_ptr_array_add(items, g_strndup(text, n));
        }
        text += n;
    }
    g_ptr_array_add(items, NULL);
    return (char **)g_ptr_array_free(items, FALSE);
}

/* --- for people --- */

static char *
describe_range(const AgentValueRule *rule, const char *type)
{
    g_autofree char *low = g_strdup_printf("%" G_GINT64_FORMAT, rule->min);
    g_autofree char *high =
        rule->max >= G_MAXINT32
            ? g_strdup("N")
            : g_strdup_printf("%" G_GINT64_FORMAT, rule->max);

    return rule->has_range ? g_strdup_printf("<%s> (%s - %s)", type, low, high)
                           : g_strdup_printf("<%s>", type);
}

char *
agent_value_describe(const AgentValueRule *rule)
{
    switch (rule->type) {
    case AGENT_VALUE_BOOLEAN:
        return g_strdup("<boolean>");
    case AGENT_VALUE_INTEGER:
        return describe_range(rule, "integer");
    case AGENT_VALUE_NUMBER:
        return describe_range(rule, "number");
    case AGENT_VALUE_SIZE:
        return g_strdup("<DiskSize>");
    case AGENT_VALUE_STRING:
        break;
    }
    if (rule->choices != NULL) {
        g_autofree char *all = join_choices(rule->choices, " | ");

        return g_strdup_printf("<%s>", all);
    }
    return g_strdup_printf("<%s>", rule->hint != NULL ? rule->hint : "string");
}

static void
describe_key(GString *out, const AgentPropKey *key)
{
    g_autofree char *type = agent_value_describe(&key->rule);
    const char *range = strstr(type, " (");
    const char *open = key->is_mandatory ? "" : "[";
    const char *comma = out->len > 0 ? "," : "";

    g_string_append_printf(
        out, "%s%s%s%s%s=%s%.*s%s", out->len > 0 ? " " : "", open, comma,
        key->is_default ? "[" : "", key->name, key->is_default ? "]" : "",
        (int)(range != NULL ? (gsize)(range - type) : strlen(type)), type,
        key->is_mandatory ? "" : "]");
}

/* In the order of the canonical form. */
char *
agent_props_describe(const AgentPropKey *schema)
{
    GString *out = g_string_new(NULL);

    for (guint pass = 0; pass < 3; pass++) {
        for (const AgentPropKey *key = schema; key->name != NULL; key++) {
            if (pass == (key->is_default ? 0u : key->is_mandatory ? 1u : 2u)) {
                describe_key(out, key);
            }
        }
    }
    return g_string_free(out, FALSE);
}
