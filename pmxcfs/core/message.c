#include "config.h"

#include "pmxcfs/core/message.h"

CfsParse
cfs_message_parse(PveReader *reader, guint32 protocol, CfsHeader *header)
{
    header->type = pve_reader_u16(reader);
    header->subtype = pve_reader_u16(reader);
    header->protocol = pve_reader_u32(reader);
    header->time = pve_reader_u32(reader);
    (void)pve_reader_u32(reader); /* reserved, not checked */
    header->count = 0;
    header->epoch = (CfsEpoch){0};
    if (!pve_reader_ok(reader)) {
        return CFS_PARSE_MALFORMED;
    }
    if (header->protocol > protocol) {
        return CFS_PARSE_NEWER;
    }
    if (header->protocol < protocol) {
        return CFS_PARSE_OLDER;
    }
    if (header->type == CFS_MESSAGE_NORMAL) {
        header->count = pve_reader_u64(reader);
    } else {
        header->epoch.counter = pve_reader_u32(reader);
        header->epoch.time = pve_reader_u32(reader);
        header->epoch.nodeid = pve_reader_u32(reader);
        header->epoch.pid = pve_reader_u32(reader);
    }
    return pve_reader_ok(reader) ? CFS_PARSE_OK : CFS_PARSE_MALFORMED;
}

void
cfs_message_write(GByteArray *out, const CfsHeader *header)
{
    pve_write_u16(out, header->type);
    pve_write_u16(out, header->subtype);
    pve_write_u32(out, header->protocol);
    pve_write_u32(out, header->time);
    pve_write_u32(out, 0);
    if (header->type == CFS_MESSAGE_NORMAL) {
        pve_write_u64(out, header->count);
        return;
    }
    pve_write_u32(out, header->epoch.counter);
    pve_write_u32(out, header->epoch.time);
    pve_write_u32(out, header->epoch.nodeid);
    pve_write_u32(out, header->epoch.pid);
}

gboolean
cfs_member_equal(CfsMember a, CfsMember b)
{
    return a.nodeid == b.nodeid && a.pid == b.pid;
}

gboolean
cfs_epoch_equal(const CfsEpoch *a, const CfsEpoch *b)
{
    return a->counter == b->counter && a->time == b->time &&
           a->nodeid == b->nodeid && a->pid == b->pid;
}

int
cfs_member_compare(gconstpointer a, gconstpointer b)
{
    const CfsMember *x = a, *y = b;

    if (x->nodeid != y->nodeid) {
        return x->nodeid < y->nodeid ? -1 : 1;
    }
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}
