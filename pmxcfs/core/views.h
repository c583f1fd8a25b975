/* views.h - the dot files: a table of names and texts.
 *
 * Owner   the replica. Texts are owned by the caller.
 * Thread  the loop.
 * Source  spec/filesystem.md 4 (links), 9.
 */
#ifndef CFS_VIEWS_H
#define CFS_VIEWS_H

#include "pmxcfs/core/metrics.h"
#include "pmxcfs/core/status.h"
#include "pmxcfs/core/tree.h"

#include <glib.h>

typedef struct CfsViews CfsViews;

CfsViews *cfs_views_new(const char *node_name, guint32 start_time);
void cfs_views_free(CfsViews *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsViews, cfs_views_free)

const char *cfs_views_node_name(CfsViews *self);
/* What .members, .clusterlog, .rrd and the keys of .version show; borrowed for
 * as long as we live. Without it they are empty. */
void cfs_views_set_status(CfsViews *self, CfsStatus *status);
/* Borrowed; NULL: there is none. */
CfsStatus *cfs_views_status(CfsViews *self);

/* What .metrics shows; borrowed. Without it it is empty. */
void cfs_views_set_metrics(CfsViews *self, CfsMetrics *metrics);

/* What the counters of .version live on. */
void cfs_views_on_changes(CfsViews *self, const CfsOp *op, GPtrArray *changes);
void cfs_views_on_reload(CfsViews *self); /* load or state transfer */
/* From here on the counters and the guests are shown only as far as they were
 * released: announce.h. FALSE: at once again. @tree: as it is now. */
void cfs_views_set_holding(CfsViews *self, gboolean is_holding, CfsTree *tree);
/* Ends what one operation or reload changed, now that @tree has it. Returns:
 * the step to release when the kernel's caches have let go; 0: none. */
guint64 cfs_views_end_step(CfsViews *self, CfsTree *tree);
/* With all steps before it. */
void cfs_views_release(CfsViews *self, guint64 step);
void cfs_views_set_quorate(CfsViews *self, gboolean quorate);

/* The virtual entries of the root, in the order they are listed. */
typedef enum { CFS_VIEW_FILE, CFS_VIEW_LINK } CfsViewKind;
guint cfs_views_count(void);
/* @position 0 to count - 1. */
const char *cfs_views_name(guint position, CfsViewKind *kind);
/* FALSE: whoever knows its name finds it; a peer's tools never saw it. */
gboolean cfs_views_is_listed(guint position);
/* -1: there is none of that name. */
int cfs_views_find(const char *name);
/* Returns: (owned) the text of a file, or the target of a link. */
char *cfs_views_text(CfsViews *self, guint position, CfsTree *tree);
/* As cfs_views_text(), nothing held back: for who reads past the kernel. */
char *cfs_views_text_now(CfsViews *self, guint position, CfsTree *tree);
/* Writes to a virtual file; needs no quorum. Returns the number of bytes
 * taken, or a negative errno. */
int cfs_views_write(CfsViews *self,
                    guint position,
                    const char *bytes,
                    gsize size,
                    guint64 offset);
/* 0 where it may be truncated, which does nothing; else EIO. */
int cfs_views_truncate(guint position);
/* Permission bits. */
mode_t cfs_views_mode(guint position, gboolean quorate);

#endif
