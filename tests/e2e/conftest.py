"""Makes the cluster and its fixtures known to pytest."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "net")]

from clustertest import (cluster, module_cluster,  # noqa: E402,F401
                         pytest_collection_modifyitems,
                         pytest_runtest_makereport, pytest_sessionstart)
