#include "config.h"

#include "agent/cli/pct-options.h"

#include <stdio.h>
#include <string.h>

#include "agent/core/propstring.h"

enum { EXIT_USAGE = 255 };

/* Parsing, with the names of this command spelled out. */
typedef struct {
    PctArgs *args;
    const PctCommand *command;
    GPtrArray *names;  /* char, all full names, sorted */
    GHashTable *kinds; /* full name to PctOptionKind */
} Parser;

void
pct_args_clear(PctArgs *self)
{
    g_clear_pointer(&self->words, g_ptr_array_unref);
    g_clear_pointer(&self->options, g_hash_table_unref);
}

static gboolean
refuse(const PctCommand *command, const char *message)
{
    fprintf(stderr, "400 %s\n%s\n", message, command->usage);
    return FALSE;
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
add_name(Parser *self, char *name, PctOptionKind kind)
{
    g_ptr_array_add(self->names, name);
    g_hash_table_insert(self->kinds, name, GINT_TO_POINTER((gint)kind));
}

static void
spell_out(Parser *self)
{
    const PctOption *option = self->command->options;

    for (; option != NULL && option->name != NULL; option++) {
        if (option->count == 0) {
            add_name(self, g_strdup(option->name), option->kind);
        }
        for (guint i = 0; i < option->count; i++) {
            add_name(self, g_strdup_printf("%s%u", option->name, i),
                     option->kind);
        }
    }
    g_ptr_array_sort(self->names, by_text);
}

/* Returns: (borrowed) the full name that @word is or begins, any case. */
static const char *
find_name(const Parser *self, const char *word)
{
    g_autoptr(GPtrArray) hits = g_ptr_array_new();
    g_autofree char *list = NULL;

    for (guint i = 0; i < self->names->len; i++) {
        const char *name = self->names->pdata[i];

        if (g_ascii_strcasecmp(name, word) == 0) {
            return name;
        }
        if (g_ascii_strncasecmp(name, word, strlen(word)) == 0) {
            g_ptr_array_add(hits, (gpointer)name);
        }
    }
    if (hits->len == 1) {
        return hits->pdata[0];
    }
    if (hits->len == 0) {
        fprintf(stderr, "Unknown option: %s\n", word);
    } else {
        g_ptr_array_add(hits, NULL);
        list = g_strjoinv(", ", (char **)hits->pdata);
        fprintf(stderr, "Option %s is ambiguous (%s)\n", word, list);
    }
    (void)refuse(self->command, "unable to parse option");
    return NULL;
}

static void
store(Parser *self, const char *name, PctOptionKind kind, const char *value)
{
    const char *before = g_hash_table_lookup(self->args->options, name);
    char *stored = kind == PCT_LIST && before != NULL
                       ? g_strconcat(before, ",", value, NULL)
                       : g_strdup(value);

    g_hash_table_replace(self->args->options, g_strdup(name), stored);
}

/* A boolean takes the next word only when that is a boolean. Returns how many
 * words were used up, 0 for an error. */
static int
take_boolean(Parser *self,
             const char *name,
             const char *value,
             const char *next)
{
    int used = 1;
    int b = 1;

    if (value != NULL) {
        b = agent_value_boolean(value);
        if (b < 0) {
            return refuse(self->command, "unable to parse boolean option");
        }
    } else if (next != NULL && agent_value_boolean(next) >= 0) {
        b = agent_value_boolean(next);
        used = 2;
    }
    store(self, name, PCT_BOOLEAN, b ? "1" : "0");
    return used;
}

/* `--name value`, `--name=value`, `-name ...`. */
static int
take_option(Parser *self, const char *word, const char *next)
{
    const char *text = word + (word[1] == '-' ? 2 : 1);
    const char *equals = strchr(text, '=');
    const char *value = equals != NULL ? equals + 1 : NULL;
    g_autofree char *given = equals != NULL
                                 ? g_strndup(text, (gsize)(equals - text))
                                 : g_strdup(text);
    const char *name = find_name(self, given);
    PctOptionKind kind;

    if (name == NULL) {
        return 0;
    }
    kind =
        (PctOptionKind)GPOINTER_TO_INT(g_hash_table_lookup(self->kinds, name));
    if (kind == PCT_BOOLEAN) {
        return take_boolean(self, name, value, next);
    }
    if (value == NULL && next == NULL) {
        fprintf(stderr, "Option %s requires an argument\n", name);
        return refuse(self->command, "unable to parse option");
    }
    store(self, name, kind, value != NULL ? value : next);
    return value != NULL ? 1 : 2;
}

static gboolean
take_words(Parser *self, int argc, char **argv)
{
    int i = 1;

    while (i < argc) {
        const char *word = argv[i];
        int used = 1;

        if (strcmp(word, "--") == 0) {
            for (i++; i < argc; i++) {
                g_ptr_array_add(self->args->words, g_strdup(argv[i]));
            }
            return TRUE;
        }
        if (word[0] == '-' && word[1] != '\0') {
            used = take_option(self, word, i + 1 < argc ? argv[i + 1] : NULL);
            if (used == 0) {
                return FALSE;
            }
        } else {
            g_ptr_array_add(self->args->words, g_strdup(word));
        }
        i += used;
    }
    return TRUE;
}

gboolean
pct_args_parse(PctArgs *self, const PctCommand *command, int argc, char **argv)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) kinds = g_hash_table_new(g_str_hash, g_str_equal);
    Parser parser = {
        .args = self, .command = command, .names = names, .kinds = kinds};

    self->words = g_ptr_array_new_with_free_func(g_free);
    self->options =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    spell_out(&parser);
    if (!take_words(&parser, argc, argv)) {
        return FALSE;
    }
    if (self->words->len < command->min_words) {
        return refuse(command, "not enough arguments");
    }
    if (self->words->len > command->max_words) {
        return refuse(command, "too many arguments");
    }
    return TRUE;
}

const char *
pct_args_get(const PctArgs *self, const char *name)
{
    return g_hash_table_lookup(self->options, name);
}

gboolean
pct_args_get_bool(const PctArgs *self, const char *name, gboolean fallback)
{
    const char *value = pct_args_get(self, name);

    return value != NULL ? strcmp(value, "1") == 0 : fallback;
}

int
pct_bad_parameters(const PctCommand *command, GPtrArray *problems)
{
    g_ptr_array_sort(problems, by_text);
    fprintf(stderr, "400 Parameter verification failed.\n");
    for (guint i = 0; i < problems->len; i++) {
        fprintf(stderr, "%s\n", (const char *)problems->pdata[i]);
    }
    fprintf(stderr, "\n%s\n", command->usage);
    return EXIT_USAGE;
}
