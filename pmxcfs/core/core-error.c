#include "config.h"

#include "pmxcfs/core/core-error.h"

G_DEFINE_QUARK(cfs - error - quark, cfs_error)
