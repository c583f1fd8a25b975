#include "config.h"

#include "common/log.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

static struct {
    gboolean to_stderr;
    gboolean to_syslog;
    gint debug; /* atomic */
} writer;

static const char *
level_name(GLogLevelFlags level, int *priority)
{
    switch (level & G_LOG_LEVEL_MASK) {
    case G_LOG_LEVEL_ERROR:
    case G_LOG_LEVEL_CRITICAL:
        *priority = LOG_CRIT;
        return "crit";
    case G_LOG_LEVEL_WARNING:
    case G_LOG_LEVEL_MESSAGE:
        *priority = LOG_NOTICE;
        return "notice";
    case G_LOG_LEVEL_INFO:
        *priority = LOG_INFO;
        return "info";
    default:
        *priority = LOG_DEBUG;
        return "debug";
    }
}

/* Names come from users: a control character must not forge a line. */
static char *
escape_controls(const char *text)
{
    GString *out = g_string_sized_new(strlen(text));

    for (const char *p = text; *p != '\0'; p++) {
        if ((guchar)*p < 32 || *p == 127) {
            g_string_append_printf(out, "#%03d", (guchar)*p);
        } else {
            g_string_append_c(out, *p);
        }
    }
    return g_string_free(out, FALSE);
}

static GLogWriterOutput
write_line(GLogLevelFlags level,
           const GLogField *fields,
           gsize n_fields,
           gpointer unused)
{
    const char *domain = NULL, *text = NULL, *name;
    g_autofree char *clean = NULL;
    int priority = LOG_DEBUG;

    for (gsize i = 0; i < n_fields; i++) {
        if (strcmp(fields[i].key, "MESSAGE") == 0) {
            text = fields[i].value;
        } else if (strcmp(fields[i].key, "GLIB_DOMAIN") == 0) {
            domain = fields[i].value;
        }
    }
    name = level_name(level, &priority);
    if (text == NULL || (priority == LOG_DEBUG && !pve_log_get_debug())) {
        return G_LOG_WRITER_HANDLED;
    }
    clean = escape_controls(text);
    if (writer.to_stderr) {
        fprintf(stderr, "[%s] %s: %s\n", domain != NULL ? domain : "main", name,
                clean);
    }
    if (writer.to_syslog) {
        syslog(priority, "[%s] %s: %s", domain != NULL ? domain : "main", name,
               clean);
    }
    return G_LOG_WRITER_HANDLED;
}

void
pve_log_init(const char *ident, gboolean to_stderr, gboolean to_syslog)
{
    static gboolean done;

    writer.to_stderr = to_stderr;
    writer.to_syslog = to_syslog;
    if (to_syslog) {
        openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
    }
    if (!done) {
        g_log_set_writer_func(write_line, NULL, NULL);
        done = TRUE;
    }
}

void
pve_log_set_debug(gboolean on)
{
    g_atomic_int_set(&writer.debug, on ? 1 : 0);
}

gboolean
pve_log_get_debug(void)
{
    return g_atomic_int_get(&writer.debug) != 0;
}
