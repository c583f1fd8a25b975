"""Makes the cluster and its fixtures known to pytest."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))

from clustertest import (cluster, module_cluster,  # noqa: E402,F401
                         pytest_collection_modifyitems,
                         pytest_runtest_makereport, pytest_sessionstart)
