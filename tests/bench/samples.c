#include "config.h"

#include "tests/bench/samples.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NS_PER_S 1000000000

gint64
bench_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (gint64)now.tv_sec * NS_PER_S + now.tv_nsec;
}

void
bench_sleep_until(gint64 at)
{
    struct timespec when = {.tv_sec = at / NS_PER_S, .tv_nsec = at % NS_PER_S};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) ==
           EINTR) {
    }
}

static int
compare(gconstpointer a, gconstpointer b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

    return x < y ? -1 : x > y;
}

static double
percentile_ms(GArray *samples, double part)
{
    guint at = (guint)(part * (samples->len - 1) + 0.5);

    return (double)g_array_index(samples, gint64, at) / 1e6;
}

void
bench_print(GArray *samples, gint64 elapsed_ns)
{
    if (samples->len == 0) {
        printf("{\"count\": 0}\n");
        return;
    }
    g_array_sort(samples, compare);
    printf("{\"count\": %u, \"rate\": %.1f, \"p50\": %.6f, \"p99\": %.6f, "
           "\"max\": %.6f}\n",
           samples->len, (double)samples->len * NS_PER_S / (double)elapsed_ns,
           percentile_ms(samples, 0.5), percentile_ms(samples, 0.99),
           percentile_ms(samples, 1.0));
}

void
bench_die(const char *what, const char *object)
{
    fprintf(stderr, "%s %s: %s\n", what, object, g_strerror(errno));
    exit(EXIT_FAILURE);
}
