/* corosync-text.h - a corosync.conf(5): is it whole, and is it newer?
 *
 * A corosync.conf in the cluster filesystem is copied to every host and
 * corosync reads it there. A half-written one has stopped whole clusters, so
 * it is parsed first: as strictly as corosync does it, or a little more.
 *
 * Owner   the caller.
 * Errors  GError CFS_ERROR_CONTENT: the line and what is wrong with it.
 * Thread  any; immutable input.
 * Source  spec/filesystem.md 11; corosync.conf(5).
 */
#ifndef CFS_COROSYNC_TEXT_H
#define CFS_COROSYNC_TEXT_H

#include <glib.h>

#define CFS_COROSYNC_CONF "corosync.conf"

/* The config_version in section totem of a text whose braces match. 0: it has
 * none, or is broken. */
guint32 cfs_corosync_text_version(GBytes *text);

/* Whose configuration it is. Returns: (owned) the cluster's name, "" where the
 * text has none or is broken; @n_nodes: how many nodes it lists. */
char *cfs_corosync_text_cluster(GBytes *text, guint *n_nodes);

/* TRUE when corosync on this host could run with it: balanced sections; totem
 * with version 2, a cluster_name and a config_version; a nodelist that has a
 * node called, or addressed, as one of @self_names (NULL-terminated). */
gboolean cfs_corosync_text_check(GBytes *text,
                                 const char *const *self_names,
                                 GError **error);

typedef enum {
    CFS_COROSYNC_KEEP,    /* nothing to do */
    CFS_COROSYNC_REPLACE, /* take @text over */
    CFS_COROSYNC_REFUSE,  /* keep what the host has, and say why */
} CfsCorosyncVerdict;

/* What becomes of the host's file, @host (NULL: it has none), when the tree
 * holds @text. @error is set on CFS_COROSYNC_REFUSE. */
CfsCorosyncVerdict cfs_corosync_text_judge(GBytes *text,
                                           GBytes *host,
                                           const char *const *self_names,
                                           GError **error);

#endif
