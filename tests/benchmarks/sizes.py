"""The sizes of benchmarks: full and with limits, or tiny and without, to see that they still run.

`FDSEG_BENCHMARKS=tiny pytest -o addopts= tests/benchmarks` takes a minute or two.
"""

import os

TINY = os.environ.get("FDSEG_BENCHMARKS") == "tiny"


def sized(full, tiny):
    """Return the value for the size at hand."""
    return tiny if TINY else full


def at_full_size(holds):
    """Assert a limit, which says nothing of tiny sizes."""
    assert holds or TINY
