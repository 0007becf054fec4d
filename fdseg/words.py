"""Words of a command whose value is a path: taken as they stand where Hydra cannot read them."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from fdseg.errors import FdsegError

#: Last parts of the keys whose values are paths, or patterns of paths.
PATHS = frozenset(
    ["run", "runs", "input", "output", "predictions", "labels", "folder", "root", "cache", "file",
     "dir", "image", "label"]
)  # fmt: skip
_WORD = re.compile(r"(\+{0,2})([\w./@]+)=(.*)", re.DOTALL)
_AMBIGUOUS = re.compile(r""",|^\s*['"[]""")  # several values, or quotes that do not close


def with_paths(words: Sequence[str]) -> list[str]:
    """Return the words with the paths among them in quotes where Hydra's grammar asks for them.

    ``~`` at the beginning of a path is the home folder. Lists, sweeps and quoted values stay.

    Args:
        words: of a command line, options among them.

    Raises:
        FdsegError: a path may be one or several; names the quotes that tell.
    """
    return [_with_path(word) for word in words]


def _with_path(word: str) -> str:
    match = _WORD.fullmatch(word)
    if not match or match[2].rpartition(".")[2] not in PATHS:
        return word
    start, value = word[: match.start(3)], match[3]
    if _is_read(word) and not value.startswith("~"):
        return word
    listed = value.startswith("[") and value.endswith("]")
    parts = value[1:-1].split(",") if listed else [value]
    if any(_AMBIGUOUS.search(part) for part in parts):
        raise FdsegError(unreadable(word))
    quoted = ",".join(_quoted(part.strip()) for part in parts)
    return f"{start}[{quoted}]" if listed else start + quoted


def _is_read(word: str) -> bool:
    """Whether Hydra takes the value of a word as it is written; a number may get other digits."""
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return override.is_sweep_override() or not isinstance(override.value(), int | float)


def _quoted(value: str) -> str:
    if value == "~" or value.startswith("~/"):
        value = str(Path.home() / value[2:])
    return QuotedString(value, Quote.single).with_quotes()


def unreadable(word: str) -> str:
    """Say how a word that Hydra cannot read is to be written."""
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word}: expected key=value. A value with spaces goes into quotes: 'key=a b'."
    text = QuotedString(value.strip("\"'"), Quote.double).with_quotes()
    return (
        f"{word}: Hydra cannot read this value. A list is [a,b], several values of a sweep are "
        "a,b. Text with other characters than letters, digits and /-_.:%+ goes into quotes twice, "
        f"for the shell and for Hydra: {shlex.quote(f'{key}={text}')}."
    )
