/* fuzz.h - what every fuzz target offers.
 *
 * libFuzzer calls it with bytes of its own; replay.c with the corpus and with
 * mutations of it, so that an ordinary build tests the same code.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Must not crash, whatever the bytes. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
