"""The report as one HTML page that needs nothing but itself."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fdseg.report.arms import Study
from fdseg.report.pictures import Overlay
from fdseg.report.tables import Table
from fdseg.terminal import counted

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class PageFigure:
    """A figure in the page: its caption, what it shows in words, and its SVG."""

    title: str
    alt: str
    svg: bytes


@dataclass(frozen=True)
class Chapter:
    """All that the page says of one study.

    Attributes:
        study: of the chapter.
        tables: that have rows.
        figures: with their captions.
        overlays: as many as fit.
        more: number of overlays that did not fit.
        remarks: on what is not there yet.
    """

    study: Study
    tables: Sequence[Table]
    figures: Sequence[PageFigure]
    overlays: Sequence[Overlay]
    more: int
    remarks: Sequence[str] = ()


def page(
    chapters: Sequence[Chapter],
    across: Sequence[PageFigure],
    left_out: Table,
    sources: Sequence[Table],
    made: str,
) -> str:
    """The page's HTML.

    Everything that came from a file is escaped by the template engine, and the page's own policy
    lets a browser run this script and no other, and fetch nothing.

    Args:
        chapters: one per study.
        across: figures of several studies; those of phantoms say so.
        left_out: folders that are not in it.
        sources: of the numbers: runs, versions.
        made: the command that made the report, and with which version.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["counted"] = counted
    style, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        chapters=chapters,
        across=across,
        left_out=left_out,
        sources=sources,
        made=made,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src '{_sha256(style)}'; "
        f"script-src '{_sha256(script)}'",
    )


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
