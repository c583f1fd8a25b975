/* store.h - the rows of the tree in their SQLite file.
 *
 * What is handed over is merged by inode, the latest row wins, and one thread
 * writes all that is pending in one transaction: while the disk is busy the
 * next transaction grows. That thread exists because a commit may take as
 * long as the disk likes and the loop must not. It is the only user of the
 * connection once cfs_store_start() was called.
 *
 * A transaction that fails changes nothing on disk; its rows stay pending and
 * are tried again each second, for ever. The report tells of both.
 *
 * Somebody may remove or replace the file or its log of changes under us; what
 * we then write would be gone with our process. That is looked for after each
 * transaction, before it counts as done, and each second; then the whole tree
 * is written into a new file, which takes the place of what is there.
 *
 * The file must never be opened and closed by its path in this process: that
 * would drop SQLite's POSIX locks (fcntl(2)), and the next foreign reader
 * would delete the log of changes under us (spec/filesystem.md W1).
 *
 * Owner   the daemon; opened after the last fork.
 * Errors  GError in CFS_ERROR; positive errno values in reports.
 * Thread  the loop calls; reports and flush answers come on the loop.
 * Source  spec/filesystem.md 1.6, 2.1, 2.2.
 */
#ifndef CFS_STORE_H
#define CFS_STORE_H

#include "pmxcfs/core/metrics.h"
#include "pmxcfs/core/repair.h"
#include "pmxcfs/io/dbfile.h"

#include <glib.h>

typedef struct CfsStore CfsStore;

/* Everything handed over with a number up to @committed is in the file.
 * @problem: 0, or the errno of the last attempt: ENOSPC, EIO, or EBUSY while
 * somebody else holds the database. */
typedef void (*CfsStoreReport)(gpointer data, guint64 committed, int problem);
/* @id: as given; @verdict: 0 or a positive errno. */
typedef void (*CfsStoreFlushed)(gpointer data, guint64 id, int verdict);

/* Returns: (owned array of CfsEntry, with the root) the whole tree with all
 * that was submitted. */
typedef GPtrArray *(*CfsStoreSnapshot)(gpointer data);

/* Opens or creates the file, mode 0600. CFS_ERROR_CONTENT: it is there, and no
 * database. */
CfsStore *cfs_store_open(const char *path, GError **error);
/* Returns: (owned array of CfsRow) all rows, whatever they hold. Empty for a
 * new database. @problems: as of cfs_dbfile_read(). */
GPtrArray *cfs_store_load(CfsStore *self, GPtrArray *problems, GError **error);
/* What the file keeps of terms; zeros where there is nothing. Before
 * cfs_store_start(). */
void cfs_store_load_terms(CfsStore *self, CfsDbTerms *terms);
/* For a store that cannot load them: what they are. */
void cfs_store_set_terms(CfsStore *self, const CfsDbTerms *terms);
/* One transaction, now: makes the table when it is missing, and the rows.
 * A database that was cut off before this is still a new one. */
gboolean cfs_store_create(CfsStore *self, GPtrArray *entries, GError **error);

/* A store for a file that cannot be opened to write, for want of room: its rows
 * were read by other means. Once started it reports that, and writes all anew
 * as soon as it can; @is_kept: what is there is put aside then. */
CfsStore *cfs_store_new_unwritable(const char *path, gboolean is_kept);
/* Closes what was only loaded; file and log stay as they are. */
void cfs_store_abandon(CfsStore *self);
/* Before cfs_store_start(): whom to ask for everything, on the loop. */
void cfs_store_set_snapshot(CfsStore *self,
                            CfsStoreSnapshot snapshot,
                            gpointer data);

/* From here on the thread has the connection. The table must be there. */
gboolean cfs_store_start(CfsStore *self,
                         CfsStoreReport report,
                         gpointer data,
                         GError **error);
/* Merges into what is pending. @deletes of guint64 inode, or NULL; done before
 * the @puts of CfsEntry, of which inode 0 is the version record. @terms: NULL
 * for no change. Returns: its number, counted from 1. */
guint64 cfs_store_submit(CfsStore *self,
                         GPtrArray *puts,
                         GArray *deletes,
                         const CfsDbTerms *terms);
/* Lets the thread begin with what was submitted. */
void cfs_store_commit(CfsStore *self);
/* Answers when all that was submitted before is on stable storage. */
void cfs_store_flush(CfsStore *self,
                     CfsStoreFlushed done,
                     gpointer data,
                     guint64 id);

/* Sets what it has counted. */
void cfs_store_collect(CfsStore *self, CfsMetrics *metrics);

/* Writes what is pending (for some seconds, if it must), checkpoints, closes.
 * Flushes under way are not answered. FALSE when rows were lost, or when the
 * disk hangs: then the thread is left behind with what it uses. */
gboolean cfs_store_close(CfsStore *self);

#endif
