/* pct-output.h - data as JSON or YAML.
 *
 * Owner   a node is taken.
 * Errors  none.
 * Thread  the tool's only one.
 * Source  spec/pct.md 1, --output-format.
 */
#ifndef AGENT_PCT_OUTPUT_H
#define AGENT_PCT_OUTPUT_H

#include "agent/cli/pct-options.h"

#include <json-glib/json-glib.h>

/* Is something else than text wanted? */
gboolean pct_output_is_data(const PctArgs *args);
/* Takes @node. Prints it: members by name, booleans as 1 and 0. */
void pct_output(const PctArgs *args, JsonNode *node);
/* Sets @name to @value, as a number where the option's row says it is one. */
void pct_output_set_option(JsonObject *object,
                           const char *name,
                           const char *key,
                           const char *value);

#endif
