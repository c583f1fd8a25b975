#include "config.h"

#include "agent/core/transfer.h"

#include <string.h>

#define START "pve-lxc-transfer 1\nvolume: "
#define END "\n\n"

char *
agent_transfer_header(const char *volume)
{
    return g_strconcat(START, volume, END, NULL);
}

gboolean
agent_transfer_header_is_whole(const char *text, gsize size)
{
    return size >= strlen(END) &&
           memcmp(text + size - strlen(END), END, strlen(END)) == 0;
}

char *
agent_transfer_header_parse(const char *text, gsize size)
{
    gsize around = strlen(START) + strlen(END);

    if (size <= around || size > AGENT_TRANSFER_HEADER_MAX ||
        memcmp(text, START, strlen(START)) != 0 ||
        !agent_transfer_header_is_whole(text, size)) {
        return NULL;
    }
    for (gsize i = strlen(START); i < size - strlen(END); i++) {
        if ((guchar)text[i] < 32 || text[i] == 127) {
            return NULL;
        }
    }
    return g_strndup(text + strlen(START), size - around);
}
