/* lxcnetaddbr - called by liblxc (lxc.net.N.script.up) as
 *     lxcnetaddbr NAME net up veth INTERFACE
 * on the host, before the other end moves into the container. It puts the
 * interface where the container's current file says. A failure aborts the
 * start; its message goes to the log of liblxc (spec/container-runtime.md
 * 6.2). */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "agent/core/guestconf.h"
#include "agent/io/configs.h"
#include "agent/io/netplug.h"
#include "agent/io/prepare.h"
#include "common/files.h"
#include "common/log.h"
#include "common/names.h"

/* The netN whose host end is @interface; NULL with an error. */
static const AgentNet *
find_net(GPtrArray *nets, guint32 ctid, const char *interface)
{
    for (guint i = 0; i < nets->len; i++) {
        const AgentNet *net = nets->pdata[i];
        g_autofree char *name = g_strdup_printf("veth%ui%u", ctid, net->index);

        if (strcmp(name, interface) == 0) {
            return net;
        }
    }
    return NULL;
}

static gboolean
plug(guint32 ctid, const char *interface, char **reason)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(AgentGuestConf) conf = agent_configs_load(ctid, &error);
    g_autoptr(GPtrArray) nets =
        conf != NULL ? agent_guestconf_nets(conf, &error) : NULL;
    const AgentNet *net = nets != NULL ? find_net(nets, ctid, interface) : NULL;

    if (nets == NULL) {
        *reason = g_strdup(error->message);
    } else if (net == NULL) {
        *reason = g_strdup_printf(
            "unable to find network definition for interface '%s'", interface);
    } else if (net->bridge == NULL) {
        *reason = g_strdup("missing bridge configuration");
    } else if (!agent_netplug(interface, net, &error)) {
        *reason = g_strdup(error->message);
    } else {
        return TRUE;
    }
    return FALSE;
}

/* liblxc keeps a hook's output to itself: the supervisor reads this file. */
static void
complain(guint32 ctid, const char *interface, const char *reason)
{
    g_autofree char *path = agent_prepare_reason_path(ctid);
    g_autofree char *line = g_strdup_printf("%s: %s\n", interface, reason);
    g_autoptr(GError) error = NULL;

    fputs(line, stderr);
    if (!pve_file_replace(path, line, strlen(line), 0644, &error)) {
        fprintf(stderr, "%s\n", error->message);
    }
}

int
main(int argc, char **argv)
{
    g_autofree char *reason = NULL;
    guint32 ctid = argc > 1 ? pve_ctid_parse(argv[1]) : 0;

    pve_log_init("lxcnetaddbr", TRUE, FALSE);
    if (argc != 6 || strcmp(argv[2], "net") != 0) {
        fprintf(stderr, "usage: lxcnetaddbr NAME net up veth INTERFACE\n");
        return 1;
    }
    /* Not one of our containers, or going down: nothing to do. */
    if (ctid == 0 || strcmp(argv[3], "up") != 0) {
        return 0;
    }
    if (!plug(ctid, argv[5], &reason)) {
        complain(ctid, argv[5], reason);
        return 1;
    }
    return 0;
}
