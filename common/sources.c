#include "config.h"

#include "common/sources.h"

guint
pve_fd_watch(int fd,
             GIOCondition condition,
             int priority,
             GUnixFDSourceFunc function,
             gpointer data)
{
    GSource *source = g_unix_fd_source_new(fd, condition);
    guint id;

    g_source_set_priority(source, priority);
    g_source_set_callback(source, G_SOURCE_FUNC(function), data, NULL);
    g_source_set_can_recurse(source, TRUE);
    id = g_source_attach(source, NULL);
    g_source_unref(source);
    return id;
}
