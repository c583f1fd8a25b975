/* terms.h - which copy is the newest, and what a majority of nodes knows.
 *
 * A version counts changes on both sides of a cut alike, so the higher one
 * proves nothing. A term does: each configuration in which members of ours are
 * a strict majority of the node list begins one, with a number above all that
 * its members know of. Any two such configurations share a node, so whatever
 * one of them made safe, the next begins with.
 *
 * A copy is newer by (term, acked, version, mtime), then by the lower member:
 * acked is the version up to which this copy, in its term, told the group that
 * it is on stable storage. It decides between two copies of one term, of which
 * one may have counted on behind a cut, by messages that only it got or by
 * votes that an administrator lowered. Neither of their numbers could.
 *
 *   SYNC_START -> everyone of ours sends its TERM; a reference peer its STATE
 *   all there  -> the candidate is known to all alike; where the rule of the
 *                 reference would choose another, the candidate raises its root
 *                 version first; then everyone of ours sends its STATE
 *   synced     -> all take over the record of the leader; where they are a
 *                 majority a new term is chosen
 *   a majority has its number on disk
 *              -> the term begins
 *
 * Before that it must not count: a majority that does not know of it, because
 * its members were cut off or died meanwhile, would begin lower ones.
 *
 * It counts where all members are ours, or ours are a strict majority of the
 * node list; else the rule of the reference decides alone, and no term begins:
 * two majorities may then share nothing but a reference node, which knows of no
 * terms.
 *
 * Copies of clusters that were never one are not merged: see cfs_terms_judge().
 *
 * Owner   the replica. What queries return is borrowed until the next change.
 * Units   versions, terms: counts. Nodes are counted by node id, not process.
 * Errors  none.
 * Thread  the loop.
 * Source  docs/replication.md.
 */
#ifndef CFS_TERMS_H
#define CFS_TERMS_H

#include "pmxcfs/core/extension.h"

#include <glib.h>

typedef struct CfsTerms CfsTerms;

CfsTerms *cfs_terms_new(void);
void cfs_terms_free(CfsTerms *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CfsTerms, cfs_terms_free)

/* What this member's copy says. */
const CfsTermRecord *cfs_terms_record(CfsTerms *self);
void cfs_terms_set_record(CfsTerms *self, const CfsTermRecord *record);
/* What this member offers; 0: it behaves as a reference peer. */
void cfs_terms_set_features(CfsTerms *self, guint64 features);
gboolean cfs_terms_is_spoken(CfsTerms *self);
/* How many nodes the node list has; 0: not known. */
void cfs_terms_set_n_nodes(CfsTerms *self, guint n_nodes);

/* --- a round */

/* A new membership: forgets what was collected, and the features. */
void cfs_terms_set_members(CfsTerms *self,
                           CfsMember me,
                           const CfsMember *members,
                           guint n_members);
/* A new epoch of the same members. */
void cfs_terms_begin_round(CfsTerms *self);
/* What to send: all but the epoch and what is said of the tree. */
void cfs_terms_fill(CfsTerms *self, CfsTermMessage *message);
/* Each may complete the round. Non-members are ignored, as are seconds. */
void cfs_terms_add_term(CfsTerms *self,
                        CfsMember sender,
                        const CfsTermMessage *message);
void cfs_terms_add_state(CfsTerms *self, CfsMember sender, GBytes *state);
/* TRUE once per round: of each member there is a TERM or a STATE. */
gboolean cfs_terms_take_complete(CfsTerms *self);

/* --- a complete round; members of ours find the same */

typedef enum {
    CFS_TERMS_AGREE,
    CFS_TERMS_OTHERS_REFUSED, /* some leave; we stay */
    CFS_TERMS_REFUSED,        /* our copy is the foreign one */
} CfsTermsVerdict;

/* Two copies are of different clusters where both name one, the names differ,
 * and they do not share an id: that is given once, and survives a renaming. The
 * side with more members stays, of equal ones that with the lowest node id; who
 * names no cluster stays. @why: (owned) what to tell, or NULL. */
CfsTermsVerdict cfs_terms_judge(CfsTerms *self, char **why);

/* The version the candidate must take, where the reference would choose
 * another; else 0. @candidate is set where terms count. */
guint64 cfs_terms_raise(CfsTerms *self, CfsMember *candidate);

/* --- synced */

/* @leader's copy, with @version and @epoch, is now everyone's. TRUE when
 * the record changed and must be stored. A majority chooses a new term. */
gboolean cfs_terms_settle(CfsTerms *self,
                          CfsMember leader,
                          const CfsEpoch *epoch,
                          guint64 version);
/* The same for a member that is alone, with what cfs_terms_fill() and the
 * caller put into @own. */
gboolean cfs_terms_settle_alone(CfsTerms *self, const CfsTermMessage *own);

/* A term was chosen and has not begun. */
gboolean cfs_terms_is_beginning(CfsTerms *self);
/* The one that is beginning, or the record's. */
guint64 cfs_terms_current(CfsTerms *self);
/* Its number is on the disks of a majority: it is the record's, which must be
 * stored. */
void cfs_terms_begin(CfsTerms *self);

/* Is a copy as of @record, at @version, what @leader's continues, as far as the
 * numbers say? Changes heard shortly before a cut may have none of their own.
 * Unknown leaders, those of the reference, continue nothing for sure. */
gboolean cfs_terms_is_continued(CfsTerms *self,
                                const CfsTermRecord *record,
                                guint64 version,
                                CfsMember leader);

/* Is that answer certain? @leader told its history, and @record has one. */
gboolean cfs_terms_is_comparable(CfsTerms *self,
                                 const CfsTermRecord *record,
                                 CfsMember leader);

/* What all members understand; 0 until the round is complete. */
guint64 cfs_terms_features(CfsTerms *self);
/* TRUE while members of ours are a strict majority of the node list, with a
 * term begun by this membership. */
gboolean cfs_terms_has_majority(CfsTerms *self);
/* Are @n_nodes nodes a strict majority of the node list? */
gboolean cfs_terms_is_majority(CfsTerms *self, guint n_nodes);
/* How many nodes have a member of ours. */
guint cfs_terms_n_ours(CfsTerms *self);

/* Raises what is acknowledged; TRUE when the record changed. */
gboolean cfs_terms_note_acked(CfsTerms *self, guint64 version);
/* Back to what the group has seen of it. */
gboolean cfs_terms_limit_acked(CfsTerms *self, guint64 version);

#endif
