/* sim-dice.h - small random numbers that replay.
 *
 * A decision of a script brings its own number, from which everything that is
 * left to chance in it follows: so decisions can be left out, and the others
 * do the same as before.
 *
 * Owner   whoever rolls. Thread: one.
 * Source  splitmix64 (Steele, Lea, Flood 2014).
 */
#ifndef SIM_DICE_H
#define SIM_DICE_H

#include <glib.h>

typedef struct {
    guint64 state;
} SimDice;

static inline guint64
sim_mix(guint64 x)
{
    x += G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * G_GUINT64_CONSTANT(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline guint64
sim_dice_next(SimDice *self)
{
    guint64 result = sim_mix(self->state);

    self->state += G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
    return result;
}

/* 0 to @n - 1. */
static inline guint
sim_dice(SimDice *self, guint n)
{
    return (guint)((sim_dice_next(self) >> 32) * n >> 32);
}

/* @low to @high, both included. */
static inline guint
sim_dice_range(SimDice *self, guint low, guint high)
{
    return low + sim_dice(self, high - low + 1);
}

/* TRUE once in @n times. */
static inline gboolean
sim_dice_once_in(SimDice *self, guint n)
{
    return sim_dice(self, n) == 0;
}

#endif
