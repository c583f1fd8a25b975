/* names.h - what a node, a guest or a guest's file may be called.
 *
 * Owner   the caller; nothing here keeps a pointer.
 * Errors  booleans; a name is valid or it is not.
 * Thread  any.
 * Source  spec/filesystem.md 7, spec/container-config.md 1.
 */
#ifndef PVE_NAMES_H
#define PVE_NAMES_H

#include <glib.h>

/* The ids tools may give; the filesystem itself also takes lower ones. */
#define PVE_CTID_MIN 100u
#define PVE_CTID_MAX 999999999u
#define PVE_NODE_NAME_MAX 63

typedef enum {
    PVE_GUEST_QEMU,   /* nodes/NODE/qemu-server/ID.conf */
    PVE_GUEST_LXC,    /* nodes/NODE/lxc/ID.conf */
    PVE_GUEST_OPENVZ, /* nodes/NODE/openvz/ID.conf */
} PveGuestType;

typedef struct {
    guint32 id;
    PveGuestType type;
    char node[256]; /* NUL-terminated */
} PveGuestPath;

/* Letters, digits and inner hyphens, at least one character. */
gboolean pve_name_is_node(const char *name);
/* Parses a path relative to the mount, without leading slash. FALSE when it is
 * no guest path; then @out is untouched. */
gboolean pve_guest_path_parse(const char *path, PveGuestPath *out);
/* "qemu", "lxc", "openvz": the word of .vmlist. */
const char *pve_guest_type_name(PveGuestType type);
/* Returns: (owned) the guest's path relative to the mount. */
char *pve_guest_path_build(const char *node, PveGuestType type, guint32 id);
/* Decimal 100 to 999999999, no leading zero. Returns 0 when @text is no id. */
guint32 pve_ctid_parse(const char *text);
/* A name that can stand between two slashes of a path: not empty, not "." or
 * "..", no slash, at most 255 bytes. */
gboolean pve_name_is_component(const char *name);

#endif
