/* connector.h - opens and closes connections to corosync off the loop.
 *
 * Connecting asks corosync and waits for the answer: for ever when corosync
 * hangs or is just starting. So one worker thread does it, one call after the
 * other (libqb's tables of handles are not made for two at once). The loop
 * looks every 100 ms whether corosync's socket is there at all.
 *
 * Owner   the user of the connection.
 * Units   milliseconds.
 * Thread  the loop; open and close of the class run in the worker.
 */
#ifndef CFS_CONNECTOR_H
#define CFS_CONNECTOR_H

#include <glib.h>

typedef struct CfsConnector CfsConnector;

typedef struct {
    guint64 handle; /* libcpg's, libquorum's or libcmap's */
    int fd;
    guint32 nodeid;   /* libcpg only */
    gpointer content; /* what else open found; the class knows */
} CfsConnection;

typedef struct {
    const char *socket_name; /* libqb's name of the service */
    /* FALSE with @error set: not now. Must not leave anything open then. */
    gboolean (*open)(gpointer argument, CfsConnection *out, GError **error);
    /* Of a handle only; @content is the user's. */
    void (*close)(const CfsConnection *connection);
    GDestroyNotify free_content; /* for one that nobody took */
    int priority;
} CfsConnectorClass;

typedef struct {
    /* @connection is the user's now. */
    void (*on_open)(gpointer data, const CfsConnection *connection);
    /* The descriptor has something to read, or hung up: @is_gone. */
    void (*on_ready)(gpointer data, gboolean is_gone);
    gpointer data;
} CfsConnectorHandler;

/* Sets @error from a cs_error_t. Returns FALSE. */
gboolean cfs_connector_fail(GError **error, const char *what, int code);

/* @class, @argument: outlive the connector; constant. */
CfsConnector *cfs_connector_new(const CfsConnectorClass *class,
                                gpointer argument,
                                const CfsConnectorHandler *handler);
/* Tries after @delay_ms, then again and again. */
void cfs_connector_open(CfsConnector *self, guint delay_ms);
/* Ends the connection or the attempt; comes before any later open. */
void cfs_connector_close(CfsConnector *self);
/* Waits up to @patience_ms until what was closed is closed. */
void cfs_connector_free(CfsConnector *self, guint patience_ms);

#endif
