/* guestos.h - what a tree is, from texts and bytes found in it.
 *
 * Owner   the caller.
 * Thread  any.
 * Source  spec/guest-setup.md 3.
 */
#ifndef AGENT_GUESTOS_H
#define AGENT_GUESTOS_H

#include <glib.h>

/* The container `ostype` of an os-release text; NULL: none that we know. */
const char *agent_guestos_type(const char *os_release);
/* The container `arch` of an ELF header; NULL: none, or one that we do not
 * know. */
const char *agent_guestos_arch(const guint8 *bytes, gsize size);

#endif
