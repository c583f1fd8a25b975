/* samples.h - times taken by a benchmark's loop, and what to say of them.
 *
 * Owner   the caller.
 * Units   nanoseconds of the monotonic clock, which all namespaces share.
 * Thread  any, one at a time.
 */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <glib.h>

gint64 bench_now_ns(void);
/* Sleeps until @at; at once when that is past. */
void bench_sleep_until(gint64 at);

/* Prints one JSON object on a line: count, rate, p50, p99, max in ms.
 * @samples of gint64; sorted here. */
void bench_print(GArray *samples, gint64 elapsed_ns);

/* Ends the program with the reason; errno is added. */
G_NORETURN void bench_die(const char *what, const char *object);

#endif
