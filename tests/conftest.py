"""Tests run as the command line does by default: the operations of a step one at a time, so that steps repeat."""

import os

os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
