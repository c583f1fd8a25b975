#include "config.h"

#include "tests/sim/sim-shrink.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- one attempt ---------------------------------------------------------- */

static void
be_child(const SimScript *self, int out)
{
    g_autofree char *violation = NULL;
    int nowhere = open("/dev/null", O_WRONLY);
    gsize size, done = 0;

    (void)dup2(nowhere, STDOUT_FILENO);
    (void)dup2(nowhere, STDERR_FILENO);
    violation = sim_script_run(self);
    size = violation != NULL ? strlen(violation) : 0;
    while (done < size) {
        gssize n = write(out, violation + done, size - done);

        if (n <= 0) {
            break;
        }
        done += (gsize)n;
    }
    _exit(0);
}

static char *
read_all(int in)
{
    GString *text = g_string_new(NULL);
    char buffer[512];
    gssize n;

    while ((n = read(in, buffer, sizeof(buffer))) > 0 ||
           (n < 0 && errno == EINTR)) {
        if (n > 0) {
            g_string_append_len(text, buffer, n);
        }
    }
    return g_string_free(text, FALSE);
}

char *
sim_script_try(const SimScript *self)
{
    int ends[2], status = 0;
    g_autofree char *text = NULL;
    pid_t child;

    g_assert_cmpint(pipe(ends), ==, 0);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        (void)close(ends[0]);
        be_child(self, ends[1]);
    }
    (void)close(ends[1]);
    text = read_all(ends[0]);
    (void)close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) {
        return g_strdup_printf("crash: signal %d", WTERMSIG(status));
    }
    if (WEXITSTATUS(status) != 0) {
        return g_strdup_printf("crash: exit status %d", WEXITSTATUS(status));
    }
    return text[0] != '\0' ? g_steal_pointer(&text) : NULL;
}

/* --- taking out ----------------------------------------------------------- */

typedef struct {
    SimScript *script;
    char *kind; /* of the violation: without its numbers */
    gint64 deadline_us;
} Shrink;

static gboolean
is_over(const Shrink *self)
{
    return g_get_monotonic_time() > self->deadline_us;
}

/* (owned) The text without what differs from run to run. */
static char *
kind_of(const char *violation)
{
    GString *kind = g_string_new(NULL);

    for (const char *p = violation; *p != '\0' && *p != '\''; p++) {
        if (!g_ascii_isdigit(*p)) {
            g_string_append_c(kind, *p);
        }
    }
    return g_string_free(kind, FALSE);
}

static gboolean
still_fails(const Shrink *self, const SimScript *script)
{
    g_autofree char *violation = sim_script_try(script);
    g_autofree char *kind = violation != NULL ? kind_of(violation) : NULL;

    return g_strcmp0(kind, self->kind) == 0;
}

static void
take_over(Shrink *self, SimScript *smaller)
{
    GArray *old = self->script->decisions;

    self->script->decisions = smaller->decisions;
    smaller->decisions = old;
}

/* TRUE when it fails without @count decisions from @start. */
static gboolean
try_without(Shrink *self, guint start, guint count)
{
    g_autoptr(SimScript) smaller = sim_script_new(self->script->n_nodes);
    GArray *all = self->script->decisions;

    count = MIN(count, all->len - start);
    g_array_append_vals(smaller->decisions, all->data, start);
    if (start + count < all->len) {
        g_array_append_vals(smaller->decisions,
                            &g_array_index(all, SimDecision, start + count),
                            all->len - start - count);
    }
    if (!still_fails(self, smaller)) {
        return FALSE;
    }
    take_over(self, smaller);
    return TRUE;
}

static gboolean
remove_chunks(Shrink *self, guint size)
{
    gboolean did = FALSE;
    guint start = 0;

    while (start < self->script->decisions->len && !is_over(self)) {
        if (try_without(self, start, size)) {
            did = TRUE;
        } else {
            start += size;
        }
    }
    return did;
}

/* Fewer steps at once, no special numbers. */
static gboolean
simplify(Shrink *self)
{
    gboolean did = FALSE;

    for (guint i = 0; i < self->script->decisions->len && !is_over(self); i++) {
        SimDecision *d =
            &g_array_index(self->script->decisions, SimDecision, i);
        SimDecision old = *d;

        if (d->what > SIM_DO_WORK || d->number <= 1) {
            continue;
        }
        d->number = 1;
        if (still_fails(self, self->script)) {
            did = TRUE;
        } else {
            *d = old;
        }
    }
    return did;
}

/* What comes after the failure does nothing, but takes long to try. */
static void
cut_end(Shrink *self)
{
    guint low = 0, high = self->script->decisions->len;

    while (low < high && !is_over(self)) {
        guint middle = (low + high) / 2;
        g_autoptr(SimScript) shorter = sim_script_new(self->script->n_nodes);

        g_array_append_vals(shorter->decisions, self->script->decisions->data,
                            middle);
        if (still_fails(self, shorter)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (high < self->script->decisions->len) {
        (void)try_without(self, high, G_MAXUINT);
    }
}

void
sim_script_shrink(SimScript *self, guint seconds)
{
    g_autofree char *violation = sim_script_try(self);
    g_autofree char *kind = NULL;
    Shrink shrink = {.script = self};
    gboolean did = TRUE;

    if (violation == NULL) {
        return;
    }
    kind = kind_of(violation);
    shrink.kind = kind;
    shrink.deadline_us =
        g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    cut_end(&shrink);
    while (did && !is_over(&shrink)) {
        did = FALSE;
        for (guint size = MAX(self->decisions->len / 2, 1); size > 0;
             size /= 2) {
            did = remove_chunks(&shrink, size) || did;
        }
        did = simplify(&shrink) || did;
    }
}
