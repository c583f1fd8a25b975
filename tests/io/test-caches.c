/* test-caches.c - what the kernel may keep, and what it is told to let go of.
 *
 * The notifier is ours: the linker takes that of this file instead, and the
 * test says what the kernel answers, and when.
 */
#include "config.h"

#include "pmxcfs/io/caches.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#include "pmxcfs/io/notifier.h"

#define NUMBER_BASE 1000u
#define LONG_S 10.0

typedef struct {
    guint64 serial; /* 0: at once */
    int code;
    guint64 number; /* of the inode, or of the directory of the name */
    gboolean with_content;
    char *name;
    gboolean is_sent_again;
} Message;

struct CfsNotifier {
    CfsNotifierHandler handler;
    gboolean is_running;
};

static CfsNotifier fake;
static GPtrArray *messages; /* of Message, since the last look */

static void
message_free(gpointer data)
{
    Message *message = data;

    g_free(message->name);
    g_free(message);
}

static Message *
read_message(const guint8 *bytes, gsize size)
{
    Message *message = g_new0(Message, 1);
    const guint8 *body = bytes + sizeof(struct fuse_out_header);
    struct fuse_notify_inval_entry_out entry;
    struct fuse_notify_inval_inode_out inode;
    struct fuse_out_header header;

    memcpy(&header, bytes, sizeof(header));
    g_assert_cmpuint(header.len, ==, size);
    g_assert_cmpuint(header.unique, ==, 0);
    message->code = header.error;
    if (header.error == FUSE_NOTIFY_INVAL_ENTRY) {
        memcpy(&entry, body, sizeof(entry));
        message->number = entry.parent;
        message->name = g_strdup((const char *)body + sizeof(entry));
        g_assert_cmpuint(strlen(message->name), ==, entry.namelen);
        g_assert_cmpuint(header.len, ==,
                         sizeof(header) + sizeof(entry) + entry.namelen + 1);
    } else if (header.error == FUSE_NOTIFY_INVAL_INODE) {
        memcpy(&inode, body, sizeof(inode));
        message->number = inode.ino;
        message->with_content = inode.off >= 0;
        g_assert_cmpint(inode.len, ==, 0); /* to the end */
    } else {
        g_assert_cmpint(header.error, ==, CFS_NOTIFIER_INC_EPOCH);
    }
    return message;
}

CfsNotifier *
cfs_notifier_new(int fuse, int mount, const CfsNotifierHandler *handler)
{
    fake.handler = *handler;
    fake.is_running = TRUE;
    fake.handler.running(fake.handler.data, TRUE);
    return &fake;
}

void
cfs_notifier_free(CfsNotifier *self)
{
}

gboolean
cfs_notifier_is_running(CfsNotifier *self)
{
    return self->is_running;
}

void
cfs_notifier_send(CfsNotifier *self,
                  guint64 serial,
                  guint64 lane,
                  GBytes *message)
{
    gsize size;
    const guint8 *bytes = g_bytes_get_data(message, &size);

    g_assert_true(self->is_running);
    g_ptr_array_add(messages, read_message(bytes, size));
    ((Message *)messages->pdata[messages->len - 1])->serial = serial;
}

void
cfs_notifier_send_now(CfsNotifier *self, gconstpointer message, gsize size)
{
    g_ptr_array_add(messages, read_message(message, size));
}

/* ------------------------------------------------------------------------- */

typedef struct {
    CfsTree *tree;
    CfsInodes *inodes;
    CfsCaches *caches;
    guint64 settled; /* the newest step */
} Fixture;

static guint64
number_of(guint64 inode)
{
    return NUMBER_BASE + inode;
}

static void
on_settled(gpointer data, guint64 step)
{
    Fixture *f = data;

    g_assert_cmpuint(step, ==, f->settled + 1); /* in order, each once */
    f->settled = step;
}

static void
report(guint64 serial, int verdict)
{
    fake.handler.done(fake.handler.data, serial, verdict);
}

/* The kernel is done with all that it was told. */
static void
report_all(int verdict)
{
    for (guint i = 0; i < messages->len; i++) {
        const Message *message = messages->pdata[i];

        if (message->serial != 0) {
            report(message->serial, verdict);
        }
    }
    g_ptr_array_set_size(messages, 0);
}

/* @epoch: the verdict on the probe. */
static void
start(Fixture *f, int epoch)
{
    messages = g_ptr_array_new_with_free_func(message_free);
    f->tree = cfs_tree_new(1);
    f->inodes = cfs_inodes_new();
    (void)cfs_inodes_remember(f->inodes, cfs_tree_root(f->tree));
    f->caches = cfs_caches_new(f->inodes, number_of, on_settled, f);
    cfs_caches_start(f->caches, -1, -1);
    g_assert_cmpuint(messages->len, ==, 1);
    report_all(epoch);
}

static void
setup(Fixture *f, gconstpointer unused)
{
    start(f, 0);
}

static void
setup_old_kernel(Fixture *f, gconstpointer unused)
{
    start(f, EINVAL);
}

static void
teardown(Fixture *f, gconstpointer unused)
{
    cfs_caches_free(f->caches);
    cfs_inodes_free(f->inodes);
    cfs_tree_free(f->tree);
    g_ptr_array_unref(messages);
}

/* Applies @op as another node's change, or as one of the kernel's own.
 * @step: 0 or what watchers wait for. */
static void
apply(Fixture *f, CfsOp *op, gboolean is_known, guint64 step)
{
    g_autoptr(GPtrArray) changes = cfs_changes_new();

    g_assert_cmpint(cfs_tree_apply(f->tree, op, 1, 2, changes), ==, 0);
    cfs_caches_on_changes(f->caches, changes, is_known, step);
    for (guint i = 0; i < changes->len; i++) {
        cfs_inodes_on_changed(f->inodes, changes->pdata[i]);
    }
    cfs_op_free(op);
}

static CfsEntry *
make_file(Fixture *f, const char *path)
{
    apply(f, cfs_op_new(CFS_OP_CREATE, path), FALSE, 0);
    return cfs_tree_lookup(f->tree, path);
}

/* Returns the timeout of the name; both are the same here. */
static double
look_up(Fixture *f, CfsEntry *entry)
{
    CfsInode *record = cfs_inodes_remember(f->inodes, entry);
    double attributes;
    double name =
        cfs_caches_tell_name(f->caches, entry->parent, record, &attributes);

    g_assert_cmpfloat(name, ==, attributes);
    return name;
}

static CfsEntry *
make_known_file(Fixture *f, const char *path)
{
    CfsEntry *entry = make_file(f, path);

    g_assert_cmpfloat(look_up(f, entry), ==, 0); /* the first */
    g_assert_cmpfloat(look_up(f, entry), ==, LONG_S);
    g_assert_cmpuint(messages->len, ==, 0);
    return entry;
}

static void
read_content(Fixture *f, CfsEntry *entry)
{
    CfsInode *record = cfs_inodes_find(f->inodes, entry->inode);
    gboolean keep;

    g_assert_true(cfs_caches_tell_open(f->caches, record, &keep));
    cfs_caches_tell_content(record);
}

/* How many messages there are of this kind; @name: NULL: any. */
static guint
count(int code, guint64 inode, const char *name)
{
    guint n = 0;

    for (guint i = 0; i < messages->len; i++) {
        const Message *message = messages->pdata[i];

        n += message->code == code && message->number == number_of(inode) &&
             (name == NULL || g_strcmp0(message->name, name) == 0);
    }
    return n;
}

static CfsOp *
op_write(const char *path, const char *text)
{
    g_autoptr(GBytes) data = g_bytes_new(text, strlen(text));

    return cfs_op_new_write(path, data, 0);
}

/* A remote rename over a file that the kernel knows. */
static void
test_names_go(Fixture *f, gconstpointer unused)
{
    guint64 inode = make_known_file(f, "a")->inode;

    (void)make_known_file(f, "b");
    apply(f, cfs_op_new_rename("a", "b"), FALSE, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "a"), ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "b"), >=, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_INODE, inode, NULL), ==, 1);
    g_assert_cmpuint(f->settled, ==, 0);
    report_all(0);
    g_assert_cmpuint(f->settled, ==, 1);
}

/* What the kernel was never told is not taken back. */
static void
test_the_unknown_costs_nothing(Fixture *f, gconstpointer unused)
{
    (void)make_file(f, "a");
    apply(f, op_write("a", "text"), FALSE, 1);
    apply(f, cfs_op_new_rename("a", "b"), FALSE, 2);
    apply(f, cfs_op_new(CFS_OP_DELETE, "b"), FALSE, 3);
    g_assert_cmpuint(messages->len, ==, 0);
    g_assert_cmpuint(f->settled, ==, 3);
}

/* Without the helper: nobody waits for it. */
static void
test_attributes_go_at_once(Fixture *f, gconstpointer unused)
{
    CfsEntry *entry = make_known_file(f, "a");
    CfsInode *record = cfs_inodes_find(f->inodes, entry->inode);

    apply(f, op_write("a", "text"), FALSE, 1);
    g_assert_cmpuint(messages->len, ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_INODE, record->inode, NULL), ==,
                     1);
    g_assert_false(((Message *)messages->pdata[0])->with_content);
    g_assert_cmpuint(((Message *)messages->pdata[0])->serial, ==, 0);
    g_assert_cmpuint(f->settled, ==, 1);
    /* It has none now. */
    apply(f, op_write("a", "more text"), FALSE, 2);
    g_assert_cmpuint(messages->len, ==, 1);
    g_assert_cmpfloat(cfs_caches_tell_attributes(f->caches, record), ==,
                      LONG_S);
    apply(f, op_write("a", "yet more text"), FALSE, 3);
    g_assert_cmpuint(messages->len, ==, 2);
}

static void
test_content_goes(Fixture *f, gconstpointer unused)
{
    CfsEntry *entry = make_known_file(f, "a");
    CfsInode *record = cfs_inodes_find(f->inodes, entry->inode);
    gboolean keep;

    read_content(f, entry);
    g_assert_true(cfs_caches_tell_open(f->caches, record, &keep));
    g_assert_true(keep);
    apply(f, op_write("a", "text"), FALSE, 1);
    g_assert_cmpuint(messages->len, ==, 1);
    g_assert_true(((Message *)messages->pdata[0])->with_content);
    /* Not while it is being taken back. */
    cfs_caches_tell_content(record);
    g_assert_true(cfs_caches_tell_open(f->caches, record, &keep));
    g_assert_false(keep);
    g_assert_cmpfloat(cfs_caches_tell_attributes(f->caches, record), ==, 0);
    g_assert_cmpuint(f->settled, ==, 0);
    report_all(ENOENT);
    g_assert_cmpuint(f->settled, ==, 1);
    g_assert_cmpfloat(cfs_caches_tell_attributes(f->caches, record), ==,
                      LONG_S);
}

/* Watchers hear of a step when all before it is gone as well. */
static void
test_steps_settle_in_order(Fixture *f, gconstpointer unused)
{
    guint64 first, second;

    (void)make_known_file(f, "a");
    (void)make_known_file(f, "b");
    apply(f, cfs_op_new(CFS_OP_DELETE, "a"), FALSE, 1);
    first = ((Message *)messages->pdata[0])->serial;
    g_ptr_array_set_size(messages, 0);
    apply(f, cfs_op_new(CFS_OP_DELETE, "b"), TRUE, 2);
    second = ((Message *)messages->pdata[0])->serial;
    g_assert_cmpuint(cfs_caches_own_step(f->caches), ==, 2);
    report(second, 0);
    g_assert_cmpuint(f->settled, ==, 0);
    g_assert_true(cfs_caches_has_own_step(f->caches, 2));
    report(first, 0);
    g_assert_cmpuint(f->settled, ==, 2);
    g_assert_cmpuint(cfs_caches_own_step(f->caches), ==, 0);
}

static void
test_missing_names(Fixture *f, gconstpointer unused)
{
    g_assert_cmpfloat(cfs_caches_tell_missing(f->caches, 0, "x"), ==, 0);
    g_assert_cmpfloat(cfs_caches_tell_missing(f->caches, 0, "x"), >, 0);
    g_assert_cmpfloat(cfs_caches_tell_missing(f->caches, 0, "y"), ==, 0);
    apply(f, cfs_op_new(CFS_OP_CREATE, "x"), FALSE, 1);
    apply(f, cfs_op_new(CFS_OP_CREATE, "y"), FALSE, 2);
    g_assert_cmpuint(messages->len, ==, 1); /* y was only told once */
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "x"), ==, 1);
    g_assert_cmpfloat(cfs_caches_tell_missing(f->caches, 0, "z"), ==, 0);
    g_assert_cmpfloat(cfs_caches_tell_missing(f->caches, 0, "z"), ==, 0);
    report_all(0);
    g_assert_cmpuint(f->settled, ==, 2);
}

/* A program that guesses names must not fill the memory. */
static void
test_missing_names_are_bounded(Fixture *f, gconstpointer unused)
{
    guint kept = 0;

    for (guint i = 0; i < 20000; i++) {
        g_autofree char *name = g_strdup_printf("guess-%u", i);

        g_assert_cmpfloat(cfs_caches_tell_missing(f->caches, 0, name), ==, 0);
        if (cfs_caches_tell_missing(f->caches, 0, name) > 0) {
            kept++;
        }
        report_all(0);
    }
    /* Those that were dropped were taken back: the new ones can be kept. */
    g_assert_cmpuint(kept, >, 10000);
}

/* One message for all names. */
static void
test_all_goes_at_once(Fixture *f, gconstpointer unused)
{
    CfsEntry *entry = make_known_file(f, "a");

    (void)make_known_file(f, "b");
    read_content(f, entry);
    cfs_caches_on_reloaded(f->caches, 1);
    g_assert_cmpint(((Message *)messages->pdata[0])->code, ==,
                    CFS_NOTIFIER_INC_EPOCH);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, NULL), ==, 0);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_INODE, entry->inode, NULL), ==, 1);
    g_assert_cmpfloat(look_up(f, entry), ==, 0);
    g_assert_cmpuint(f->settled, ==, 0);
    report_all(0);
    g_assert_cmpuint(f->settled, ==, 1);
}

/* Before Linux 6.16: name by name, those it may have and no others. */
static void
test_an_old_kernel_is_walked(Fixture *f, gconstpointer unused)
{
    CfsEntry *a = make_known_file(f, "a");
    CfsEntry *b = make_known_file(f, "b");
    CfsEntry *directory;
    CfsEntry *deep;
    guint64 last;

    apply(f, cfs_op_new(CFS_OP_MKDIR, "d"), FALSE, 0);
    directory = cfs_tree_lookup(f->tree, "d");
    (void)look_up(f, directory);
    (void)look_up(f, directory);
    deep = make_known_file(f, "d/deep");
    (void)make_file(f, "never looked up");
    (void)look_up(f, make_file(f, "once"));
    (void)cfs_caches_tell_missing(f->caches, 0, "missing");
    (void)cfs_caches_tell_missing(f->caches, 0, "missing");
    (void)cfs_caches_tell_missing(f->caches, 0, "missing once");
    read_content(f, b);
    g_assert_cmpuint(messages->len, ==, 0);

    cfs_caches_on_reloaded(f->caches, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, NULL), ==, 4);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "a"), ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "b"), ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "d"), ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "missing"), ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, directory->inode, "deep"),
                     ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_INODE, a->inode, NULL), ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_INODE, deep->inode, NULL), ==, 1);

    /* The last name that the kernel lets go of settles it. */
    last = 0;
    for (guint i = 0; i < messages->len; i++) {
        guint64 serial = ((Message *)messages->pdata[i])->serial;

        if (serial != 0 && last != 0) {
            report(last, 0);
            g_assert_cmpuint(f->settled, ==, 0);
        }
        last = serial != 0 ? serial : last;
    }
    report(last, ENOENT);
    g_assert_cmpuint(f->settled, ==, 1);
    g_ptr_array_set_size(messages, 0);
    /* All is to be told anew. */
    g_assert_cmpfloat(look_up(f, a), ==, 0);
    g_assert_cmpfloat(look_up(f, a), ==, LONG_S);
}

/* Nothing is kept without a helper; the next one is told all that the last one
 * did not report. */
static void
test_a_new_helper_takes_over(Fixture *f, gconstpointer unused)
{
    CfsEntry *a = make_known_file(f, "a");
    CfsInode *record = cfs_inodes_find(f->inodes, a->inode);
    gboolean keep;

    (void)make_known_file(f, "b");
    apply(f, cfs_op_new(CFS_OP_DELETE, "b"), FALSE, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "b"), ==, 1);
    g_ptr_array_set_size(messages, 0);

    fake.is_running = FALSE;
    fake.handler.running(fake.handler.data, FALSE);
    g_assert_cmpfloat(look_up(f, a), ==, 0);
    g_assert_false(cfs_caches_tell_open(f->caches, record, &keep));
    g_assert_false(keep);
    apply(f, cfs_op_new_rename("a", "c"), FALSE, 2);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, NULL), ==, 0);
    g_assert_cmpuint(f->settled, ==, 0);

    fake.is_running = TRUE;
    fake.handler.running(fake.handler.data, TRUE);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "b"), ==, 1);
    g_assert_cmpuint(count(FUSE_NOTIFY_INVAL_ENTRY, 0, "a"), ==, 1);
    report_all(0);
    g_assert_cmpuint(f->settled, ==, 2);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        gboolean is_old;
        void (*function)(Fixture *f, gconstpointer unused);
    } tests[] = {
        {"/caches/names", FALSE, test_names_go},
        {"/caches/unknown", FALSE, test_the_unknown_costs_nothing},
        {"/caches/attributes", FALSE, test_attributes_go_at_once},
        {"/caches/content", FALSE, test_content_goes},
        {"/caches/steps", FALSE, test_steps_settle_in_order},
        {"/caches/missing", FALSE, test_missing_names},
        {"/caches/missing-bounded", FALSE, test_missing_names_are_bounded},
        {"/caches/epoch", FALSE, test_all_goes_at_once},
        {"/caches/walk", TRUE, test_an_old_kernel_is_walked},
        {"/caches/helper", FALSE, test_a_new_helper_takes_over},
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, Fixture, NULL,
                   tests[i].is_old ? setup_old_kernel : setup,
                   tests[i].function, teardown);
    }
    return g_test_run();
}
