/* dbfile.h - the database as a file: read, written anew, put in place.
 *
 * What belongs to a file and not to the daemon that works with it, so that the
 * offline tool does the same. A new file is complete and flushed as PATH.new
 * before PATH goes; a start finds PATH, or PATH.new and finishes.
 *
 * The live file must not be opened and closed by its path in the process that
 * has it open: see store.h.
 *
 * Owner   the caller.
 * Errors  GError in CFS_ERROR: CONTENT when the file is no good, STORE when the
 *         world fails; or in G_FILE_ERROR (NOSPC: the disk is full).
 * Thread  any.
 * Source  spec/filesystem.md 1.6, 2.1, 2.2, 13.
 */
#ifndef CFS_DBFILE_H
#define CFS_DBFILE_H

#include <glib.h>
#include <sqlite3.h>

#include "pmxcfs/core/extension.h"
#include "pmxcfs/core/repair.h"

/* The table of the tree, to the letter as the reference makes it. */
extern const char cfs_dbfile_schema[];

/* What is kept of terms (terms.h): one row of a table of ours, made with the
 * first term. The reference reads and writes the other table alone; a database
 * goes to it and comes back with what it then holds. */
extern const char cfs_dbfile_terms_schema[];
typedef struct {
    CfsTermRecord record;
    guint64 version; /* of the tree it was stored with */
} CfsDbTerms;

/* Each change writes whole pages, that of the version record among them: the
 * smaller they are, the less goes to the disk. Only a new database takes it. */
#define CFS_DBFILE_PAGE_BYTES "512"

/* Sets @error from what @db said last, with CONTENT where the file is to
 * blame. Returns FALSE. */
gboolean cfs_dbfile_error(sqlite3 *db, const char *what, GError **error);

/* Opens without ever writing to the file or its log of changes. A database in
 * use is read as it is at this moment. */
sqlite3 *cfs_dbfile_open_readonly(const char *path, GError **error);

/* All rows of the table; none when there is no table. Returns: (owned array of
 * CfsRow), or NULL with @error set. What could not be read of a damaged file is
 * told in @problems (of char *), and the rest is given. */
GPtrArray *cfs_dbfile_read(sqlite3 *db, GPtrArray *problems, GError **error);

/* All zeros where there is none, or none that we understand: then @problems,
 * unless NULL, says so. */
gboolean cfs_dbfile_read_terms(sqlite3 *db,
                               CfsDbTerms *terms,
                               GPtrArray *problems,
                               GError **error);
/* Within the caller's transaction. Returns SQLite's code. */
int cfs_dbfile_put_terms(sqlite3 *db, const CfsDbTerms *terms);

/* Makes a complete, flushed database of @entries (of CfsEntry, with the root)
 * at @path, mode 0600, in the place of what is there. @terms: NULL for none. */
gboolean cfs_dbfile_write(const char *path,
                          GPtrArray *entries,
                          const CfsDbTerms *terms,
                          GError **error);

/* Returns: (owned) PATH.new. */
char *cfs_dbfile_new_path(const char *path);
/* Puts PATH.new in the place of @path. What was there goes to @keep, its log of
 * changes to KEEP-wal; NULL: it is removed. Nobody may have it open. */
gboolean cfs_dbfile_install(const char *path, const char *keep, GError **error);
/* Ends an installation that was cut off, or takes back one that never began.
 * TRUE with @finished set when @path came of it. */
gboolean
cfs_dbfile_finish(const char *path, gboolean *finished, GError **error);

/* Returns: (owned) a name beside @path, "PATH.WHAT-<epoch>", that is free. */
char *cfs_dbfile_aside(const char *path, const char *what);

#endif
