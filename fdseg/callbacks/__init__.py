"""What happens beside training: history, progress, an early end, and the scoring of subjects."""

from fdseg.callbacks.checkpoints import WholeCheckpoints
from fdseg.callbacks.guard import RefuseDivergence, RequireFolder, StopOnSignal
from fdseg.callbacks.history import History
from fdseg.callbacks.progress import RunProgress
from fdseg.callbacks.scores import TestScores

__all__ = [
    "History",
    "RefuseDivergence",
    "RequireFolder",
    "RunProgress",
    "StopOnSignal",
    "TestScores",
    "WholeCheckpoints",
]
