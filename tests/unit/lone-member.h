/* lone-member.h - one real member of a group whose other members a test plays.
 *
 * The test says what is delivered and sees what is sent. What a member sends
 * comes back to it only when the test delivers it.
 *
 * Owner   the test. Thread: one.
 * Units   seconds for messages, milliseconds for waiting.
 */
#ifndef TESTS_LONE_MEMBER_H
#define TESTS_LONE_MEMBER_H

#include "pmxcfs/core/replica.h"

typedef struct LoneMember LoneMember;

/* Quorate and connected; takes @tree. */
LoneMember *lone_member_new(CfsMember self, CfsTree *tree);
void lone_member_free(LoneMember *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LoneMember, lone_member_free)

CfsReplica *lone_member_replica(LoneMember *self);
CfsMode lone_member_mode(LoneMember *self);
void lone_member_set_time(LoneMember *self, guint32 time_s);
/* The clock goes on; one tick at its end. */
void lone_member_wait(LoneMember *self, gint64 ms);
void lone_member_set_quorate(LoneMember *self, gboolean quorate);
/* The node list has @n_listed, corosync sees @n_seen of them and quorum. */
void lone_member_see(LoneMember *self, guint n_listed, guint n_seen);
void lone_member_connect(LoneMember *self);
void lone_member_disconnect(LoneMember *self);
void lone_member_confchg(LoneMember *self,
                         const CfsMember *members,
                         guint n_members);
void lone_member_hear(LoneMember *self, CfsMember sender, GBytes *bytes);
/* Work in pieces waits until lone_member_work(), one piece each; else it is
 * done at once. */
void lone_member_hold_work(LoneMember *self);
gboolean lone_member_work(LoneMember *self);
/* Takes @op; returns the request's number. */
guint64 lone_member_request(LoneMember *self, CfsOp *op);

/* It was made as a member of the reference, which speaks of no terms: from now
 * on it speaks of all there is, and knows how many nodes there are. */
void lone_member_speak(LoneMember *self, guint n_nodes);
/* A barrier, as of an fsync; returns the request's number. */
guint64 lone_member_sync(LoneMember *self);
/* The disk is done with what it was asked to flush. FALSE: it was not. */
gboolean lone_member_flushed(LoneMember *self, int problem);

/* Returns: (owned) the oldest message that was sent and not taken, or NULL. */
GBytes *lone_member_take_sent(LoneMember *self);
void lone_member_forget_sent(LoneMember *self);
/* How often it left since it was made, and the last pause before joining. */
guint lone_member_n_left(LoneMember *self);
guint lone_member_rejoin_ms(LoneMember *self);
/* -1: no answer yet. */
int lone_member_verdict(LoneMember *self, guint64 id);
/* Lines for the cluster log so far. */
guint lone_member_n_logged(LoneMember *self);

/* Returns: (owned) a message of the database group; @epoch NULL: normal, and
 * @count counts. @payload NULL: none. */
GBytes *lone_member_message(guint16 type,
                            guint16 subtype,
                            const CfsEpoch *epoch,
                            guint64 count,
                            GBytes *payload);
/* Returns: (owned) the message of @op. */
GBytes *lone_member_normal(const CfsOp *op, guint64 count);

#endif
