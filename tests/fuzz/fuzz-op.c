/* The payload of a normal message, behind one byte for its subtype. What is
 * understood must survive being written and read again. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "pmxcfs/core/op.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(CfsOp) op = NULL, again = NULL;
    g_autoptr(GByteArray) out = g_byte_array_new();
    PveReader reader;

    if (size < 1) {
        return 0;
    }
    pve_reader_init(&reader, data + 1, size - 1);
    op = cfs_op_decode(data[0], &reader);
    if (op == NULL || (op->path == NULL && data[0] > CFS_OP_MTIME)) {
        return 0;
    }
    cfs_op_encode(op, out);
    pve_reader_init(&reader, out->data, out->len);
    again = cfs_op_decode(data[0], &reader);
    g_assert_nonnull(again);
    g_assert_cmpstr(again->path, ==, op->path);
    g_assert_cmpstr(again->to, ==, op->to);
    g_assert_cmpuint(again->offset, ==, op->offset);
    return 0;
}
