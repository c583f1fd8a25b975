/* json-text.h - strings of strangers inside the JSON we write.
 *
 * Owner   the caller.
 * Thread  any.
 * Source  RFC 8259, 7.
 */
#ifndef CFS_JSON_TEXT_H
#define CFS_JSON_TEXT_H

#include <glib.h>

/* Appends @text in quotes, escaped. What is no UTF-8 becomes '?'. */
void cfs_json_append_string(GString *out, const char *text);

#endif
