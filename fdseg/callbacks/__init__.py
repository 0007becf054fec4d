"""What happens beside training: history, spectra, progress, an early end, and the scores."""

from fdseg.callbacks.checkpoints import RunCheckpoint, WholeCheckpoints
from fdseg.callbacks.guard import RefuseDivergence, RequireFolder, StopOnSignal
from fdseg.callbacks.history import History
from fdseg.callbacks.precision import CheckPrecision
from fdseg.callbacks.progress import RunProgress
from fdseg.callbacks.scores import TestScores
from fdseg.callbacks.spectra import Spectra

__all__ = [
    "CheckPrecision",
    "History",
    "RefuseDivergence",
    "RequireFolder",
    "RunCheckpoint",
    "RunProgress",
    "Spectra",
    "StopOnSignal",
    "TestScores",
    "WholeCheckpoints",
]
