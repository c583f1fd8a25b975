#include "config.h"

#include "agent/cli/pct-options.h"

#include <stdio.h>
#include <string.h>

#include "agent/core/guestopts.h"

enum { EXIT_USAGE = 255 };

/* Parsing, with the names of this command spelled out. */
typedef struct {
    PctArgs *args;
    GPtrArray *names;  /* char, all full names, sorted */
    GHashTable *kinds; /* full name to PctOptionKind */
} Parser;

static const PctOption format_option = {
    "output-format", 0,
    PCT_VALUE,       "<text | json | json-pretty | yaml>",
    "text",          "How to print.",
    PCT_FORMAT};

void
pct_args_clear(PctArgs *self)
{
    g_clear_pointer(&self->words, g_ptr_array_unref);
    g_clear_pointer(&self->options, g_hash_table_unref);
}

/* --- the table --- */

char *
pct_command_synopsis(const PctCommand *command)
{
    return g_strdup_printf("pct %s %s", command->name, command->arguments);
}

/* What becomes of a change while the container runs. Returns: (owned). */
static char *
text_with_effect(const AgentGuestOpt *opt)
{
    static const char *const effects[] = {
        [AGENT_LIVE_FILE] = "",
        [AGENT_LIVE_HOT] = " Takes effect in a running container.",
        [AGENT_LIVE_ADDED] =
            " Comes and goes in a running container; a changed one waits.",
        [AGENT_LIVE_PENDING] = " Waits for the next start.",
        [AGENT_LIVE_FIXED] = "",
    };

    return g_strconcat(opt->text, effects[opt->live], NULL);
}

static PctOption
option_of(const PctCommand *command, const AgentGuestOpt *opt, GPtrArray *texts)
{
    PctOption row = {opt->name,     opt->count, PCT_VALUE, NULL,
                     opt->fallback, opt->text,  PCT_ANY,   opt->props};

    if (opt->flags & AGENT_OPT_REPEAT) {
        row.kind = PCT_REPEAT;
    } else if (opt->flags & AGENT_OPT_LIST) {
        row.kind = PCT_LIST;
    } else if (opt->rule.type == AGENT_VALUE_BOOLEAN) {
        row.kind = PCT_BOOLEAN;
    }
    if (row.kind != PCT_BOOLEAN) {
        row.type = agent_guestopt_describe(opt);
        g_ptr_array_add(texts, (gpointer)row.type);
    }
    if (command->guest_flags & AGENT_OPT_SET) {
        row.text = text_with_effect(opt);
        g_ptr_array_add(texts, (gpointer)row.text);
    }
    return row;
}

static gint
by_option(gconstpointer a, gconstpointer b)
{
    return strcmp(((const PctOption *)a)->name, ((const PctOption *)b)->name);
}

PctOption *
pct_command_options(const PctCommand *command, GPtrArray *texts)
{
    GArray *all = g_array_new(TRUE, TRUE, sizeof(PctOption));

    for (const PctOption *own = command->options;
         own != NULL && own->name != NULL; own++) {
        g_array_append_vals(all, own, 1);
    }
    for (const AgentGuestOpt *opt = agent_guestopts(); opt->name != NULL;
         opt++) {
        if (opt->flags & command->guest_flags) {
            PctOption row = option_of(command, opt, texts);

            g_array_append_val(all, row);
        }
    }
    if (command->prints) {
        g_array_append_vals(all, &format_option, 1);
    }
    g_array_sort(all, by_option);
    return (PctOption *)(gpointer)g_array_free(all, FALSE);
}

/* --- reading --- */

static gboolean
refuse(const PctArgs *args, const char *message)
{
    g_autofree char *synopsis = pct_command_synopsis(args->command);

    fprintf(stderr, "400 %s\n%s\n", message, synopsis);
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
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    g_autofree PctOption *options =
        pct_command_options(self->args->command, texts);

    for (const PctOption *option = options; option->name != NULL; option++) {
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
        if (*word != '\0' &&
            g_ascii_strncasecmp(name, word, strlen(word)) == 0) {
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
    (void)refuse(self->args, "unable to parse option");
    return NULL;
}

static void
store(Parser *self, const char *name, PctOptionKind kind, const char *value)
{
    const char *before = g_hash_table_lookup(self->args->options, name);
    char *stored = g_strdup(value);

    if (before != NULL && (kind == PCT_LIST || kind == PCT_REPEAT)) {
        g_free(stored);
        stored =
            g_strconcat(before, kind == PCT_LIST ? "," : "\n", value, NULL);
    }
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
            return refuse(self->args, "unable to parse boolean option");
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
        return refuse(self->args, "unable to parse option");
    }
    store(self, name, kind, value != NULL ? value : next);
    return value != NULL ? 1 : 2;
}

static gboolean
is_help(const char *word)
{
    return strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0 ||
           strcmp(word, "-help") == 0;
}

static gboolean
take_words(Parser *self, int argc, char **argv, gboolean *wants_help)
{
    int i = 1;

    while (i < argc && !*wants_help) {
        const char *word = argv[i];
        int used = 1;

        if (strcmp(word, "--") == 0) {
            for (i++; i < argc; i++) {
                g_ptr_array_add(self->args->words, g_strdup(argv[i]));
            }
            return TRUE;
        }
        if (is_help(word)) {
            *wants_help = TRUE;
        } else if (word[0] == '-' && word[1] != '\0') {
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

static gboolean
check_format(const PctArgs *args)
{
    static const char *const formats[] = {"text", "json", "json-pretty", "yaml",
                                          NULL};
    const char *format = pct_args_get(args, "output-format");
    g_autofree char *problem = NULL;

    if (format == NULL || g_strv_contains(formats, format)) {
        return TRUE;
    }
    problem = g_strdup_printf("output-format: value '%s' does not have a value "
                              "in the enumeration 'text, json, json-pretty, "
                              "yaml'",
                              format);
    (void)pct_bad_parameter(args, problem);
    return FALSE;
}

gboolean
pct_args_parse(PctArgs *self,
               const PctCommand *command,
               int argc,
               char **argv,
               gboolean *wants_help)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) kinds = g_hash_table_new(g_str_hash, g_str_equal);
    Parser parser = {.args = self, .names = names, .kinds = kinds};

    self->command = command;
    self->argc = argc;
    self->argv = argv;
    self->words = g_ptr_array_new_with_free_func(g_free);
    self->options =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    *wants_help = FALSE;
    spell_out(&parser);
    if (!take_words(&parser, argc, argv, wants_help)) {
        return FALSE;
    }
    if (*wants_help) {
        return TRUE;
    }
    if (self->words->len < command->min_words) {
        return refuse(self, "not enough arguments");
    }
    if (self->words->len > command->max_words) {
        return refuse(self, "too many arguments");
    }
    return check_format(self);
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

/* --- complaints --- */

/* "dev1: invalid format - format error\npath: ..." names the inner keys by
 * their whole path. What is of a format ends in a blank line. */
static void
print_problem(const char *problem)
{
    g_auto(GStrv) lines = g_strsplit(problem, "\n", -1);
    gsize n = strcspn(problem, ":");

    fprintf(stderr, "%s\n", lines[0]);
    for (guint i = 1; lines[i] != NULL; i++) {
        if (*lines[i] != '\0') {
            fprintf(stderr, "%.*s.%s\n", (int)n, problem, lines[i]);
        }
    }
    if (strstr(problem, ": invalid format - ") != NULL) {
        fputc('\n', stderr);
    }
}

int
pct_bad_parameters(const PctArgs *args, GPtrArray *problems)
{
    g_autofree char *synopsis = pct_command_synopsis(args->command);

    g_ptr_array_sort(problems, by_text);
    fprintf(stderr, "400 Parameter verification failed.\n");
    for (guint i = 0; i < problems->len; i++) {
        print_problem(problems->pdata[i]);
    }
    fprintf(stderr, "%s\n", synopsis);
    return EXIT_USAGE;
}

int
pct_bad_parameter(const PctArgs *args, const char *problem)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new();

    g_ptr_array_add(problems, (gpointer)problem);
    return pct_bad_parameters(args, problems);
}

/* --- help --- */

enum { WRAP_AT = 76, TEXT_INDENT = 13, NAME_WIDTH = 10 };

static void
print_wrapped(const char *text, guint indent)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    gsize column = 0;

    for (char **word = words; *word != NULL; word++) {
        if (column > 0 && column + 1 + strlen(*word) > WRAP_AT) {
            putchar('\n');
            column = 0;
        }
        if (column == 0) {
            printf("%*s%s", (int)indent, "", *word);
            column = indent + strlen(*word);
        } else {
            printf(" %s", *word);
            column += 1 + strlen(*word);
        }
    }
    putchar('\n');
}

static void
print_keys(const AgentPropKey *props)
{
    for (; props != NULL && props->name != NULL; props++) {
        g_autofree char *type = agent_value_describe(&props->rule);
        g_autofree char *text =
            g_strdup_printf("%s=%s: %s%s%s", props->name, type, props->text,
                            props->fallback != NULL ? "; default " : "",
                            props->fallback != NULL ? props->fallback : "");

        print_wrapped(text, TEXT_INDENT + 2);
    }
}

/* What has keys of its own is explained key by key. */
static void
print_option(const PctOption *option)
{
    g_autofree char *name =
        g_strdup_printf("--%s%s", option->name, option->count > 0 ? "[n]" : "");
    const char *type = option->type != NULL ? option->type : "<boolean>";

    printf("  %-*s %s", NAME_WIDTH, name, type);
    if (option->fallback != NULL) {
        printf("   (default=%s)", option->fallback);
    }
    printf("\n\n");
    print_wrapped(option->text, TEXT_INDENT);
    print_keys(option->props);
    putchar('\n');
}

void
pct_command_help(const PctCommand *command)
{
    g_autofree char *synopsis = pct_command_synopsis(command);
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    g_autofree PctOption *options = pct_command_options(command, texts);

    printf("USAGE: %s\n\n", synopsis);
    print_wrapped(command->summary, 2);
    putchar('\n');
    for (const PctOption *option = options; option->name != NULL; option++) {
        print_option(option);
    }
}
