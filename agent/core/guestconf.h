/* guestconf.h - a container's configuration, text and struct.
 *
 * The text is what lies in nodes/NODE/lxc/CTID.conf. Parsing never fails:
 * what is not understood is kept and written back, and
 * agent_guestconf_is_broken() says that nobody may act on it. Beside the
 * reference's options there are ours: `state` (started or stopped) and, in
 * requests, `ostemplate`.
 *
 * Owner   the caller. Strings that a query returns are borrowed until the
 *         next change of the same object.
 * Units   values are the texts of the file; sizes bytes.
 * Errors  GError in AGENT_GUESTCONF_ERROR; texts as in the spec.
 * Thread  any, one at a time per object.
 * Source  spec/container-config.md 2 to 8, DESIGN.md 3.
 */
#ifndef AGENT_GUESTCONF_H
#define AGENT_GUESTCONF_H

#include <glib.h>

#define AGENT_GUESTCONF_ERROR (agent_guestconf_error_quark())
GQuark agent_guestconf_error_quark(void);

typedef enum {
    AGENT_GUESTCONF_ERROR_VALUE,
} AgentGuestConfError;

typedef struct AgentGuestConf AgentGuestConf;

typedef enum {
    AGENT_MOUNT_VOLUME,  /* STORAGE:NAME */
    AGENT_MOUNT_REQUEST, /* STORAGE:GiB, a volume still to be made */
    AGENT_MOUNT_DEVICE,  /* /dev/x */
    AGENT_MOUNT_BIND,    /* /path */
} AgentMountKind;

/* rootfs or mpN. */
typedef struct {
    char *key; /* "rootfs", "mp0" ... */
    AgentMountKind kind;
    char *volume;       /* as written */
    char *mp;           /* target in the container; "/" for rootfs */
    char *mountoptions; /* nullable, joined by ';' */
    char *idmap;        /* nullable */
    int acl;            /* -1 unset, 0, 1 */
    gboolean ro;
    gboolean backup;
    gboolean keepattrs;
    gboolean quota;
    gboolean replicate; /* default TRUE */
    gboolean shared;
    gint64 size_bytes; /* -1 unset */
} AgentMount;

/* netN. */
typedef struct {
    char *key; /* "net0" ... */
    guint index;
    char *name;
    char *bridge;              /* nullable */
    char *hwaddr;              /* nullable */
    char *ip, *ip6, *gw, *gw6; /* nullable */
    char *trunks;              /* nullable */
    char *rate;                /* nullable */
    guint mtu;                 /* 0 unset */
    guint tag;                 /* 0 unset */
    gboolean firewall;
    gboolean host_managed;
    gboolean link_down;
} AgentNet;

/* devN. */
typedef struct {
    char *key;  /* "dev0" ... */
    char *path; /* nullable: of the host, and of the container */
    gboolean deny_write;
    guint32 uid, gid; /* as the container sees them */
    guint mode;
} AgentDevice;

void agent_mount_free(AgentMount *self);
void agent_device_free(AgentDevice *self);
void agent_net_free(AgentNet *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentMount, agent_mount_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentNet, agent_net_free)

/* Returns: (owned) the empty configuration of @ctid. */
AgentGuestConf *agent_guestconf_new(guint32 ctid);
/* Parses @size bytes of @text. Never fails. @diagnostics, nullable, gets an
 * owned line for each thing that was not understood. Returns: (owned). */
AgentGuestConf *agent_guestconf_parse(guint32 ctid,
                                      const char *text,
                                      gsize size,
                                      GPtrArray *diagnostics);
AgentGuestConf *agent_guestconf_copy(const AgentGuestConf *conf);
void agent_guestconf_free(AgentGuestConf *conf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentGuestConf, agent_guestconf_free)

guint32 agent_guestconf_ctid(const AgentGuestConf *conf);
/* TRUE when a line of the main section could not be parsed, or a known option
 * has a bad value there; then @reason (nullable) is set to
 * "line N: reason", borrowed. */
gboolean agent_guestconf_is_broken(const AgentGuestConf *conf,
                                   const char **reason);
/* Returns: (owned) the canonical text. */
char *agent_guestconf_serialize(const AgentGuestConf *conf);
/* Could the text be read back as what it is? FALSE when a key or value of any
 * section has a control character other than TAB, which could end its line:
 * "detected invalid newline inside property 'KEY'". */
gboolean agent_guestconf_is_writable(const AgentGuestConf *conf,
                                     GError **error);

/* --- options of the main section --- */

/* Returns: (borrowed) the value of @key, or NULL. `description` is decoded. */
const char *agent_guestconf_get(const AgentGuestConf *conf, const char *key);
/* Stores a value unchecked; the empty string is the same as unset. */
void
agent_guestconf_set(AgentGuestConf *conf, const char *key, const char *value);
void agent_guestconf_unset(AgentGuestConf *conf, const char *key);
/* Booleans and numbers with their default. */
gboolean agent_guestconf_get_bool(const AgentGuestConf *conf,
                                  const char *key,
                                  gboolean fallback);
guint64 agent_guestconf_get_uint(const AgentGuestConf *conf,
                                 const char *key,
                                 guint64 fallback);
/* Checks @value as the command line does and brings it into stored form.
 * Returns: (owned) the text to store, or NULL with the message of spec
 * section 4. */
char *agent_guestconf_check(const char *key, const char *value, GError **error);
/* Is @key an option of the spec's table, or ours? */
gboolean agent_guestconf_is_option(const char *key);
/* Returns: (owned) all keys, sorted bytewise, NULL-terminated; @env and raw
 * lines are not among them. */
char **agent_guestconf_keys(const AgentGuestConf *conf);

/* started: 1, stopped: 0, no such key: -1. */
int agent_guestconf_wants_running(const AgentGuestConf *conf);
gboolean agent_guestconf_is_template(const AgentGuestConf *conf);
/* `unprivileged: 1`, or any raw lxc.idmap line. */
gboolean agent_guestconf_is_unprivileged(const AgentGuestConf *conf);
/* Returns: (borrowed) the value of `lock`, or NULL. */
const char *agent_guestconf_lock(const AgentGuestConf *conf);
/* Host ids of the container's root. */
void agent_guestconf_root_ids(const AgentGuestConf *conf,
                              guint32 *uid,
                              guint32 *gid);
/* The host id of the container's @id, of users ('u') or groups ('g'); one that
 * is not mapped is itself. */
guint32
agent_guestconf_host_id(const AgentGuestConf *conf, char type, guint32 id);
/* Returns: (owned) lines for /proc/PID/uid_map (@type 'u') or gid_map ('g');
 * NULL for a privileged container. */
char *agent_guestconf_idmap(const AgentGuestConf *conf, char type);
/* Returns: (owned) the configured host name, or CT<id>. */
char *agent_guestconf_hostname(const AgentGuestConf *conf);

/* --- parsed lists --- */

/* Returns: (owned) of AgentMount, rootfs first, then mp0, mp1 ... by number;
 * or NULL when one cannot be parsed ("mp0: reason"). */
GPtrArray *agent_guestconf_mounts(const AgentGuestConf *conf, GError **error);
/* Returns: (owned) of AgentNet by number, or NULL. */
GPtrArray *agent_guestconf_nets(const AgentGuestConf *conf, GError **error);
/* Returns: (owned) of AgentDevice by number, or NULL. */
GPtrArray *agent_guestconf_devices(const AgentGuestConf *conf, GError **error);
/* Parses the value of one rootfs or mpN. */
AgentMount *
agent_mount_parse(const char *key, const char *value, GError **error);
AgentNet *agent_net_parse(const char *key, const char *value, GError **error);
/* Returns: (owned) the canonical value. */
char *agent_mount_format(const AgentMount *self);
char *agent_net_format(const AgentNet *self);
/* Returns: (owned) ids of all volumes (not binds, devices, requests) that
 * rootfs, mpN and unusedN of the main section, the pending section and the
 * snapshots name; sorted, each once, NULL-terminated. */
char **agent_guestconf_volumes(const AgentGuestConf *conf);

/* Raw lxc.* lines of the main section, in order. */
guint agent_guestconf_n_raw(const AgentGuestConf *conf);
void agent_guestconf_raw(const AgentGuestConf *conf,
                         guint index,
                         const char **key,
                         const char **value);
gboolean agent_guestconf_has_raw(const AgentGuestConf *conf, const char *key);
/* Appends VAR=value to the environment. */
void agent_guestconf_add_env(AgentGuestConf *conf, const char *variable);
/* Returns: (borrowed) VAR=value texts, NULL-terminated. */
const char *const *agent_guestconf_env(const AgentGuestConf *conf);

/* --- other sections --- */

gboolean agent_guestconf_has_pending(const AgentGuestConf *conf);

/* The two sections that changes go through (guestchange.h). */
typedef enum {
    AGENT_SECTION_MAIN,
    AGENT_SECTION_PENDING,
} AgentGuestSection;

/* Returns: (owned) the value of @key there, or NULL. `env` is all variables,
 * joined with LF. */
char *agent_guestconf_peek(const AgentGuestConf *conf,
                           AgentGuestSection section,
                           const char *key);
/* Stores a value unchecked; NULL or the empty string unsets it. */
void agent_guestconf_put(AgentGuestConf *conf,
                         AgentGuestSection section,
                         const char *key,
                         const char *value);
/* Returns: (owned) all keys of the section, sorted bytewise, NULL-terminated:
 * those of agent_guestconf_keys() and `env`; not `delete`. */
char **agent_guestconf_section_keys(const AgentGuestConf *conf,
                                    AgentGuestSection section);
/* Returns: (owned) the options whose deletion is pending, sorted bytewise,
 * without marks, NULL-terminated. */
char **agent_guestconf_deletions(const AgentGuestConf *conf);
void agent_guestconf_queue_deletion(AgentGuestConf *conf, const char *key);
void agent_guestconf_unqueue_deletion(AgentGuestConf *conf, const char *key);
/* Does any key but @except (nullable, of the main section) of any section name
 * @volume? */
gboolean agent_guestconf_uses_volume(const AgentGuestConf *conf,
                                     const char *volume,
                                     const char *except);
/* Returns: (owned) main with pending values merged and pending deletions
 * removed; the result has no sections. */
AgentGuestConf *agent_guestconf_with_pending(const AgentGuestConf *conf);
/* Returns: (owned) the keys of @values, which are strings, sorted bytewise,
 * NULL-terminated. */
char **agent_guestconf_sort_keys(GHashTable *values);
/* Returns: (owned) the names of all snapshots, sorted, NULL-terminated. */
char **agent_guestconf_snapshot_names(const AgentGuestConf *conf);
/* Returns: (owned) the content of snapshot @name as a main section, or NULL
 * when there is none. */
AgentGuestConf *agent_guestconf_snapshot(const AgentGuestConf *conf,
                                         const char *name);

#endif
