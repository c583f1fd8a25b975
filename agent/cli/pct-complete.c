/* pct bashcomplete: what may come next on the command line. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/pct.h"
#include "agent/core/guestopts.h"
#include "agent/io/configs.h"
#include "agent/io/holds.h"
#include "agent/io/ops.h"

enum { FIRST_ID = 100, END_ID = 10000 };

typedef struct {
    const PctCommand *command; /* nullable: still to be typed */
    GPtrArray *words;          /* char, words of the command without options */
    const char *option;        /* nullable: whose value it is; borrowed */
    char *current;             /* what is typed of it */
    GPtrArray *found;          /* char */
} Place;

static void
offer(Place *self, const char *text)
{
    if (g_str_has_prefix(text, self->current)) {
        g_ptr_array_add(self->found, g_strdup(text));
    }
}

static void
offer_number(Place *self, guint32 number)
{
    g_autofree char *text = g_strdup_printf("%u", number);

    offer(self, text);
}

/* --- what there is --- */

static void
offer_guests(Place *self, PctPlace which)
{
    g_autoptr(GArray) ids = agent_configs_list(agent_holds_node());

    for (guint i = 0; i < ids->len; i++) {
        guint32 ctid = g_array_index(ids, guint32, i);

        if (which == PCT_GUEST ||
            agent_ops_is_running(ctid) == (which == PCT_RUNNING)) {
            offer_number(self, ctid);
        }
    }
}

static void
offer_free_id(Place *self)
{
    for (guint32 ctid = FIRST_ID; ctid < END_ID; ctid++) {
        g_autofree char *owner = agent_configs_owner(ctid);

        if (owner == NULL) {
            offer_number(self, ctid);
            return;
        }
    }
}

static void
offer_storages(Place *self, const char *content, const char *suffix)
{
    g_autoptr(AgentStorageCfg) cfg = agent_configs_storages();
    g_auto(GStrv) ids = agent_storagecfg_ids(cfg);

    for (char **id = ids; *id != NULL; id++) {
        g_autofree char *text = g_strconcat(*id, suffix, NULL);

        if (agent_storagecfg_use(cfg, *id, agent_holds_node(), content, NULL) !=
            NULL) {
            offer(self, text);
        }
    }
}

/* STORAGE:vztmpl/FILE of each file. */
static void
offer_templates(Place *self)
{
    g_autoptr(AgentStorageCfg) cfg = agent_configs_storages();
    g_auto(GStrv) ids = agent_storagecfg_ids(cfg);

    for (char **id = ids; *id != NULL; id++) {
        const AgentStorage *storage =
            agent_storagecfg_use(cfg, *id, agent_holds_node(), "vztmpl", NULL);
        g_autofree char *path =
            storage != NULL && storage->path != NULL
                ? g_build_filename(storage->path, "template/cache", NULL)
                : NULL;
        g_autoptr(GDir) dir = path != NULL ? g_dir_open(path, 0, NULL) : NULL;
        const char *name;

        while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
            g_autofree char *volume =
                g_strdup_printf("%s:vztmpl/%s", *id, name);

            offer(self, volume);
        }
    }
}

static AgentGuestConf *
guest_of(const Place *self)
{
    guint32 ctid =
        self->words->len > 0
            ? (guint32)g_ascii_strtoull(self->words->pdata[0], NULL, 10)
            : 0;

    return ctid >= FIRST_ID ? pct_load(ctid, NULL, NULL) : NULL;
}

/* The last item of a list is the one that is being typed. */
static void
offer_item(Place *self, const char *item)
{
    const char *comma = strrchr(self->current, ',');
    g_autofree char *before =
        comma != NULL
            ? g_strndup(self->current, (gsize)(comma - self->current) + 1)
            : g_strdup("");
    g_autofree char *whole = g_strconcat(before, item, NULL);

    offer(self, whole);
}

static void
offer_keys(Place *self, AgentGuestSection section)
{
    g_autoptr(AgentGuestConf) conf = guest_of(self);
    g_auto(GStrv) keys =
        conf != NULL ? agent_guestconf_section_keys(conf, section) : NULL;
    g_auto(GStrv) deleted = conf != NULL && section == AGENT_SECTION_PENDING
                                ? agent_guestconf_deletions(conf)
                                : NULL;

    for (char **key = keys; key != NULL && *key != NULL; key++) {
        const AgentGuestOpt *opt = agent_guestopt_find(*key);

        if (opt != NULL && (section == AGENT_SECTION_PENDING ||
                            !(opt->flags & AGENT_OPT_NEEDED))) {
            offer_item(self, *key);
        }
    }
    for (char **key = deleted; key != NULL && *key != NULL; key++) {
        offer_item(self, *key);
    }
}

static void
offer_snapshots(Place *self)
{
    g_autoptr(AgentGuestConf) conf = guest_of(self);
    g_auto(GStrv) names =
        conf != NULL ? agent_guestconf_snapshot_names(conf) : NULL;

    for (char **name = names; name != NULL && *name != NULL; name++) {
        offer(self, *name);
    }
}

static void
offer_commands(Place *self)
{
    for (const PctCommand *row = pct_commands; row->name != NULL; row++) {
        offer(self, row->name);
    }
}

static void
offer_list(Place *self, const char *const *list)
{
    for (; list != NULL && *list != NULL; list++) {
        offer(self, *list);
    }
}

static void
offer_place(Place *self, PctPlace place)
{
    static const char *const formats[] = {"text", "json", "json-pretty", "yaml",
                                          NULL};

    switch (place) {
    case PCT_GUEST:
    case PCT_RUNNING:
    case PCT_STOPPED:
        offer_guests(self, place);
        break;
    case PCT_FREE_ID:
        offer_free_id(self);
        break;
    case PCT_TEMPLATE:
        offer_templates(self);
        break;
    case PCT_STORAGE:
        offer_storages(self, "rootdir", "");
        break;
    case PCT_SNAPSHOT:
        offer_snapshots(self);
        break;
    case PCT_KEYS:
        offer_keys(self, AGENT_SECTION_MAIN);
        break;
    case PCT_PENDING:
        offer_keys(self, AGENT_SECTION_PENDING);
        break;
    case PCT_COMMAND:
        offer_commands(self);
        break;
    case PCT_FORMAT:
        offer_list(self, formats);
        break;
    case PCT_ANY:
        break;
    }
}

/* --- options and their values --- */

static void
offer_booleans(Place *self)
{
    static const char *const booleans[] = {"0", "1", NULL};

    offer_list(self, booleans);
}

/* `name=eth0,br` can go on to `name=eth0,bridge=`. */
static void
offer_props(Place *self, const AgentPropKey *schema)
{
    const char *comma = strrchr(self->current, ',');
    const char *item = comma != NULL ? comma + 1 : self->current;

    if (strchr(item, '=') != NULL) {
        return;
    }
    for (const AgentPropKey *key = schema; key->name != NULL; key++) {
        g_autofree char *text = g_strconcat(key->name, "=", NULL);

        offer_item(self, text);
    }
}

static void
offer_guest_value(Place *self, const AgentGuestOpt *opt)
{
    if (opt->props == agent_rootfs_schema || opt->props == agent_mp_schema) {
        offer_storages(self, "rootdir", ":");
    }
    if (opt->props != NULL) {
        offer_props(self, opt->props);
    } else if (opt->rule.type == AGENT_VALUE_BOOLEAN) {
        offer_booleans(self);
    } else {
        offer_list(self, opt->rule.choices);
    }
}

/* Returns: the row of @name ("net0" too), or NULL. */
static const PctOption *
find_option(const PctOption *options, const char *name)
{
    for (; options->name != NULL; options++) {
        if (options->count == 0 ? strcmp(options->name, name) == 0
                                : agent_guestopt_index(name, options->name,
                                                       options->count) >= 0) {
            return options;
        }
    }
    return NULL;
}

static void
offer_value(Place *self, const PctOption *options)
{
    const PctOption *option = find_option(options, self->option);
    const AgentGuestOpt *guest = agent_guestopt_find(self->option);

    if (option == NULL) {
        return;
    }
    if (option->place != PCT_ANY) {
        offer_place(self, option->place);
    } else if (guest != NULL && guest->flags & self->command->guest_flags) {
        offer_guest_value(self, guest);
    } else if (option->kind == PCT_BOOLEAN) {
        offer_booleans(self);
    }
}

static void
offer_options(Place *self, const PctOption *options)
{
    for (; options->name != NULL; options++) {
        /* A row for many: the first one that is meant. */
        for (guint i = 0; i < MAX(1, options->count); i++) {
            g_autofree char *text =
                options->count > 0 ? g_strdup_printf("--%s%u", options->name, i)
                                   : g_strdup_printf("--%s", options->name);

            if (i < 10 || strlen(self->current) >= strlen(text) - 1) {
                offer(self, text);
            }
        }
    }
}

/* --- the line --- */

/* What is typed up to the cursor, as words; the last one may be empty. */
static char **
typed_words(void)
{
    const char *line = g_getenv("COMP_LINE");
    const char *point = g_getenv("COMP_POINT");
    g_autofree char *typed = NULL;
    char **words = NULL;
    gsize n;

    if (line == NULL) {
        return NULL;
    }
    n = point != NULL ? (gsize)g_ascii_strtoull(point, NULL, 10) : strlen(line);
    typed = g_strndup(line, MIN(n, strlen(line)));
    if (!g_shell_parse_argv(typed, NULL, &words, NULL)) {
        /* A quote that is still open. */
        words = g_strsplit_set(typed, " \t", -1);
    } else if (g_str_has_suffix(typed, " ")) {
        guint length = g_strv_length(words);

        words = g_renew(char *, words, length + 2);
        words[length] = g_strdup("");
        words[length + 1] = NULL;
    }
    return words;
}

static gboolean
takes_word(const PctOption *options, const char *word)
{
    const PctOption *option = find_option(options, word + strspn(word, "-"));

    return *word == '-' && strchr(word, '=') == NULL && option != NULL &&
           option->kind != PCT_BOOLEAN;
}

/* Sorts what stands between the command and the cursor. */
static void
read_words(Place *self, char **words, guint n, const PctOption *options)
{
    for (guint i = 2; i + 1 < n; i++) {
        if (*words[i] != '-') {
            g_ptr_array_add(self->words, words[i]);
        } else if (takes_word(options, words[i])) {
            if (i + 2 == n) {
                self->option = words[i] + strspn(words[i], "-");
            }
            i++;
        } else if (i + 2 == n && strchr(words[i], '=') == NULL) {
            const PctOption *flag =
                find_option(options, words[i] + strspn(words[i], "-"));

            self->option = flag != NULL ? flag->name : NULL;
        }
    }
}

static void
complete_command(Place *self, char **words, guint n)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    g_autofree PctOption *options = pct_command_options(self->command, texts);

    read_words(self, words, n, options);
    if (self->option != NULL && *self->current != '-') {
        offer_value(self, options);
    }
    if (self->found->len == 0 && *self->current != '-' &&
        self->words->len < G_N_ELEMENTS(self->command->places)) {
        offer_place(self, self->command->places[self->words->len]);
    }
    if (self->found->len == 0 &&
        (self->option == NULL || *self->current == '-')) {
        offer_options(self, options);
    }
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int
pct_complete(int argc, char **argv)
{
    g_auto(GStrv) words = typed_words();
    guint n = words != NULL ? g_strv_length(words) : 0;
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) plain = g_ptr_array_new();
    Place self = {.words = plain, .found = found};

    (void)argc;
    (void)argv;
    if (n < 2) {
        return 0;
    }
    self.current = words[n - 1];
    for (const PctCommand *row = pct_commands; n > 2 && row->name != NULL;
         row++) {
        if (strcmp(row->name, words[1]) == 0) {
            self.command = row;
        }
    }
    if (n == 2) {
        offer_commands(&self);
    } else if (self.command != NULL) {
        complete_command(&self, words, n);
    }
    g_ptr_array_sort(found, by_text);
    for (guint i = 0; i < found->len; i++) {
        printf("%s\n", (const char *)found->pdata[i]);
    }
    return 0;
}
