/* formats.h - the value formats that have a name.
 *
 * Owner   the caller owns returned messages.
 * Errors  NULL: fine; else the message of the spec.
 * Thread  any.
 * Source  spec/container-config.md 4 to 7.
 */
#ifndef AGENT_FORMATS_H
#define AGENT_FORMATS_H

#include <glib.h>

char *agent_format_dns_name(const char *value);
char *agent_format_dns_list(const char *value);
char *agent_format_ip_list(const char *value);
char *agent_format_ipv4(const char *value);
char *agent_format_ipv6(const char *value);
char *agent_format_ipv4_config(const char *value);
char *agent_format_ipv6_config(const char *value);
char *agent_format_mac(const char *value);
char *agent_format_volume_id(const char *value);
char *agent_format_mount_path(const char *value);
char *agent_format_tags(const char *value);
char *agent_format_timezone(const char *value);
char *agent_format_startup(const char *value);
char *agent_format_config_id(const char *value);
char *agent_format_device_path(const char *value);

gboolean agent_pattern_interface(const char *value);
gboolean agent_pattern_trunks(const char *value);
gboolean agent_pattern_device_mode(const char *value);
gboolean agent_pattern_fs_types(const char *value);
gboolean agent_pattern_idmap(const char *value);
gboolean agent_pattern_mountoptions(const char *value);
gboolean agent_pattern_entrypoint(const char *value);
gboolean agent_pattern_variable(const char *value);

/* STORAGE of `STORAGE:NAME`: at least two characters, a letter first. */
gboolean agent_storage_id_is_valid(const char *text, gsize length);
/* `STORAGE:GiB`: a volume still to be made. */
gboolean agent_volume_is_request(const char *value);

#endif
