"""Offline CPU tests."""

import os
import sys

if "pytest" in sys.modules:  # the benchmark in this folder wants all cores
    # before any import: the hub's client and the OpenMP runtime read these once
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny matrices: a second thread only waits
