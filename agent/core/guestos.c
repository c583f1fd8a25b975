#include "config.h"

#include "agent/core/guestos.h"

#include <elf.h>
#include <string.h>

static const struct {
    const char *id;
    const char *ostype;
} known[] = {
    {"alpine", "alpine"},
    {"arch", "archlinux"},
    {"archlinux", "archlinux"},
    {"almalinux", "centos"},
    {"centos", "centos"},
    {"rocky", "centos"},
    {"debian", "debian"},
    {"devuan", "devuan"},
    {"fedora", "fedora"},
    {"gentoo", "gentoo"},
    {"nixos", "nixos"},
    {"opensuse", "opensuse"},
    {"opensuse-leap", "opensuse"},
    {"opensuse-slowroll", "opensuse"},
    {"opensuse-tumbleweed", "opensuse"},
    {"sles", "opensuse"},
    {"ubuntu", "ubuntu"},
    {"unmanaged", "unmanaged"},
};

/* Returns: (owned) the value of ID, quotes removed; NULL: none. */
static char *
find_id(const char *os_release)
{
    g_auto(GStrv) lines = g_strsplit(os_release, "\n", -1);
    char *id = NULL;

    for (char **line = lines; *line != NULL; line++) {
        const char *text = g_strstrip(*line);
        gsize n;

        if (!g_str_has_prefix(text, "ID=")) {
            continue;
        }
        text += strlen("ID=");
        if (*text == '"' || *text == '\'') {
            n = strcspn(text + 1, (const char[]){*text, '\0'});
            text++;
        } else {
            n = strcspn(text, " \t");
        }
        g_free(id);
        id = g_strndup(text, n);
    }
    return id;
}

const char *
agent_guestos_type(const char *os_release)
{
    g_autofree char *id = find_id(os_release);

    for (guint i = 0; id != NULL && i < G_N_ELEMENTS(known); i++) {
        if (strcmp(id, known[i].id) == 0) {
            return known[i].ostype;
        }
    }
    return NULL;
}

const char *
agent_guestos_arch(const guint8 *bytes, gsize size)
{
    gboolean is_64;
    guint machine;

    if (size < 20 || memcmp(bytes, ELFMAG, SELFMAG) != 0) {
        return NULL;
    }
    is_64 = bytes[EI_CLASS] == ELFCLASS64;
    machine = bytes[EI_DATA] == ELFDATA2MSB
                  ? (guint)(bytes[18] << 8 | bytes[19])
                  : (guint)(bytes[19] << 8 | bytes[18]);
    switch (machine) {
    case EM_X86_64:
        return "amd64";
    case EM_386:
        return "i386";
    case EM_AARCH64:
        return "arm64";
    case EM_ARM:
        return "armhf";
    case EM_RISCV:
        return is_64 ? "riscv64" : "riscv32";
    default:
        return NULL;
    }
}
