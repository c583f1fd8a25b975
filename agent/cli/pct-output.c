#include "config.h"

#include "agent/cli/pct-output.h"

#include <stdio.h>
#include <string.h>

#include "agent/core/guestopts.h"

static const char *
format_of(const PctArgs *args)
{
    const char *format = pct_args_get(args, "output-format");

    return format != NULL ? format : "text";
}

gboolean
pct_output_is_data(const PctArgs *args)
{
    return strcmp(format_of(args), "text") != 0;
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(a, b);
}

/* --- members by name --- */

static JsonNode *sorted(JsonNode *node);

static JsonNode *
sorted_object(JsonObject *object)
{
    g_autoptr(JsonObject) copy = json_object_new();
    GList *names = g_list_sort(json_object_get_members(object), by_text);

    for (GList *name = names; name != NULL; name = name->next) {
        json_object_set_member(
            copy, name->data,
            sorted(json_object_get_member(object, name->data)));
    }
    g_list_free(names);
    return json_node_init_object(json_node_alloc(), copy);
}

/* Returns: (owned) a copy. */
static JsonNode *
sorted(JsonNode *node)
{
    g_autoptr(JsonArray) copy = NULL;
    JsonArray *array;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        return sorted_object(json_node_get_object(node));
    }
    if (!JSON_NODE_HOLDS_ARRAY(node)) {
        return json_node_copy(node);
    }
    array = json_node_get_array(node);
    copy = json_array_new();
    for (guint i = 0; i < json_array_get_length(array); i++) {
        json_array_add_element(copy, sorted(json_array_get_element(array, i)));
    }
    return json_node_init_array(json_node_alloc(), copy);
}

static char *
to_json(JsonNode *node, gboolean pretty)
{
    g_autoptr(JsonGenerator) generator = json_generator_new();

    json_generator_set_root(generator, node);
    json_generator_set_pretty(generator, pretty);
    json_generator_set_indent(generator, 3);
    return json_generator_to_data(generator, NULL);
}

/* --- YAML: block style; a text that could be taken for something else is
 * quoted as JSON quotes it, which YAML reads --- */

static gboolean
is_plain(const char *text)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no",
                                        "on",   "off",  "y",     "n",   NULL};

    if (!g_ascii_isalpha(*text) && *text != '/') {
        return FALSE;
    }
    for (guint i = 0; words[i] != NULL; i++) {
        if (g_ascii_strcasecmp(text, words[i]) == 0) {
            return FALSE;
        }
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (!g_ascii_isalnum(*p) && strchr("_-./=+", *p) == NULL &&
            !(strchr(",;", *p) != NULL && p[1] != '\0') &&
            !(*p == ':' && p[1] != '\0' && p[1] != ' ')) {
            return FALSE;
        }
    }
    return TRUE;
}

static void
print_scalar(JsonNode *node)
{
    const char *text = JSON_NODE_HOLDS_VALUE(node) &&
                               json_node_get_value_type(node) == G_TYPE_STRING
                           ? json_node_get_string(node)
                           : NULL;
    g_autofree char *json =
        text != NULL && is_plain(text) ? g_strdup(text) : to_json(node, FALSE);

    printf("%s\n", json);
}

static void print_yaml(JsonNode *node, guint indent, gboolean is_first);

static void
print_yaml_object(JsonObject *object, guint indent, gboolean is_first)
{
    GList *names = json_object_get_members(object);

    for (GList *name = names; name != NULL; name = name->next) {
        JsonNode *value = json_object_get_member(object, name->data);
        g_autoptr(JsonNode) key =
            json_node_init_string(json_node_alloc(), name->data);
        g_autofree char *quoted =
            is_plain(name->data) ? g_strdup(name->data) : to_json(key, FALSE);

        printf("%*s%s:", is_first ? 0 : (int)indent, "", quoted);
        is_first = FALSE;
        if (JSON_NODE_HOLDS_VALUE(value) || JSON_NODE_HOLDS_NULL(value)) {
            putchar(' ');
            print_scalar(value);
        } else {
            putchar('\n');
            print_yaml(value, indent + 2, FALSE);
        }
    }
    if (names == NULL) {
        printf("%*s{}\n", is_first ? 0 : (int)indent, "");
    }
    g_list_free(names);
}

static void
print_yaml(JsonNode *node, guint indent, gboolean is_first)
{
    JsonArray *array;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        print_yaml_object(json_node_get_object(node), indent, is_first);
        return;
    }
    if (!JSON_NODE_HOLDS_ARRAY(node)) {
        printf("%*s", is_first ? 0 : (int)indent, "");
        print_scalar(node);
        return;
    }
    array = json_node_get_array(node);
    for (guint i = 0; i < json_array_get_length(array); i++) {
        printf("%*s- ", (int)indent, "");
        print_yaml(json_array_get_element(array, i), indent + 2, TRUE);
    }
    if (json_array_get_length(array) == 0) {
        printf("%*s[]\n", is_first ? 0 : (int)indent, "");
    }
}

void
pct_output(const PctArgs *args, JsonNode *node)
{
    const char *format = format_of(args);
    g_autoptr(JsonNode) ordered = sorted(node);

    json_node_unref(node);
    if (strcmp(format, "yaml") == 0) {
        printf("---\n");
        print_yaml(ordered, 0, FALSE);
    } else {
        g_autofree char *text =
            to_json(ordered, strcmp(format, "json-pretty") == 0);

        printf("%s\n", text);
    }
}

void
pct_output_set_option(JsonObject *object,
                      const char *name,
                      const char *key,
                      const char *value)
{
    const AgentGuestOpt *opt = agent_guestopt_find(key);
    g_autofree char *read =
        opt != NULL ? agent_guestopt_read(opt, value, NULL) : NULL;

    if (read != NULL && (opt->rule.type == AGENT_VALUE_INTEGER ||
                         opt->rule.type == AGENT_VALUE_BOOLEAN)) {
        json_object_set_int_member(object, name,
                                   g_ascii_strtoll(read, NULL, 10));
    } else if (read != NULL && opt->rule.type == AGENT_VALUE_NUMBER) {
        json_object_set_double_member(object, name, g_ascii_strtod(read, NULL));
    } else {
        g_autofree char *valid = g_utf8_make_valid(value, -1);

        json_object_set_string_member(object, name, valid);
    }
}
