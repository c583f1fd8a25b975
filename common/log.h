/* log.h - one log writer for every program.
 *
 * Use g_message (an operator wants to know), g_warning (worse but working),
 * g_critical (we stop or lose something), g_debug. G_LOG_DOMAIN is the domain
 * of the line: `[domain] level: text` (spec/filesystem.md 1.1).
 *
 * Thread  any, after pve_log_init() from main().
 */
#ifndef PVE_LOG_H
#define PVE_LOG_H

#include <glib.h>

/* @ident names the program in syslog; must outlive the process' logging.
 * @to_stderr also prints each line; @to_syslog sends it to syslog(3). */
void pve_log_init(const char *ident, gboolean to_stderr, gboolean to_syslog);
void pve_log_set_debug(gboolean on);
gboolean pve_log_get_debug(void);

#endif
