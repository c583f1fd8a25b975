/* pvecfs-private.h - what the files of the tool share. Nobody else includes
 * this.
 */
#ifndef CFS_PVECFS_PRIVATE_H
#define CFS_PVECFS_PRIVATE_H

#include <glib.h>

#define CFS_PVECFS_TOOL "pvecfs"

enum {
    CFS_PVECFS_WELL = 0,
    CFS_PVECFS_ILL = 1,
    CFS_PVECFS_TROUBLE = 2,
};

/* Says it on stderr. Returns CFS_PVECFS_TROUBLE. */
int cfs_pvecfs_trouble(const char *text);
/* FALSE: said why. The words left are argv[1] and on. */
gboolean cfs_pvecfs_parse(GOptionEntry *entries,
                          const char *usage,
                          int *argc,
                          char ***argv,
                          int min_words,
                          int max_words);

#endif
