/* kv.h - the status keys of one node: a table of names and values.
 *
 * Each key has a version. It only rises, also over a deletion, so that equal
 * versions always mean equal content to a client that caches; it is this
 * process' own and not on the wire.
 *
 * Owner   the node list. What queries return is borrowed until the next set.
 * Units   bytes.
 * Errors  verdicts.
 * Thread  the loop.
 * Source  spec/replication.md 10.1, 10.2; spec/ipc.md 3.1, 5.
 */
#ifndef CFS_KV_H
#define CFS_KV_H

#include <glib.h>

#define CFS_KV_MAX_KEY 255u
/* Of what a node sets; all its keys with their values. */
#define CFS_KV_MAX_VALUE 32768u
#define CFS_KV_MAX_BYTES (4u << 20)
/* Of what we take from a peer, who may have other limits. */
#define CFS_KV_MAX_PEER_BYTES (16u << 20)

typedef struct CfsKv CfsKv;

typedef void (*CfsKvVisit)(gpointer data, const char *key, GBytes *value);

CfsKv *cfs_kv_new(gsize max_bytes);
void cfs_kv_free(CfsKv *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsKv, cfs_kv_free)

/* An empty @value deletes. Verdict: ENOSPC when it does not fit. */
int cfs_kv_set(CfsKv *self, const char *key, GBytes *value);
/* Returns: (borrowed) or NULL. */
GBytes *cfs_kv_get(CfsKv *self, const char *key);
/* 0: there is no such key. */
guint32 cfs_kv_version(CfsKv *self, const char *key);
/* In the order of the keys. @visit must not set. */
void cfs_kv_foreach(CfsKv *self, CfsKvVisit visit, gpointer data);

/* The owner began anew: what it does not set again until the sweep goes. */
void cfs_kv_mark(CfsKv *self);
/* Returns: (owned, of char *) the keys that went. */
GPtrArray *cfs_kv_sweep(CfsKv *self);

/* `{`, a line per key and its version, `}`: as .version shows them. */
void cfs_kv_append_versions(CfsKv *self, GString *out);

/* A name that no peer's JSON breaks on: UTF-8 without control bytes, quote and
 * backslash, at most CFS_KV_MAX_KEY bytes. The reference does not escape. */
gboolean cfs_kv_is_name(const char *key);

#endif
