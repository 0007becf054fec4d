"""What happens beside training: history, progress, and the scoring of the test subjects."""

from fdseg.callbacks.history import History
from fdseg.callbacks.progress import RunProgress
from fdseg.callbacks.scores import TestScores

__all__ = ["History", "RunProgress", "TestScores"]
