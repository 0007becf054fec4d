"""The page as text: whole, by itself, and deaf to what files say."""

import base64
import hashlib
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import Grid

import fdseg.report
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.page import Chapter, PageFigure, page
from fdseg.report.pictures import overlays
from fdseg.report.provenance import command, runs_table, versions_table
from fdseg.report.tables import Column, Entry, Table

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7*7 }} </style>"


class Elements(HTMLParser):
    """All elements with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One for each rank, as large as those of a run."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).resize((1056, 1400)).save(folder / "worst.png")
    for rank in ("median", "best"):
        shutil.copy(folder / "worst.png", folder / f"{rank}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def study(tmp_path, pictures):
    grid = Grid(tmp_path / "runs", "heart", pictures=pictures)
    for fusion in ("none", "early"):
        grid.cell(fusion, 4, 2)
    (found,) = studies(collect(grid.root).runs)
    return found


def evil_table():
    return Table(
        EVIL, EVIL, (Column(EVIL, ("a",)),), ((Entry(EVIL, (EVIL,), bold=True),),), (EVIL,)
    )


def make(study, table=None, pictures=()):
    table = table or evil_table()
    figure = PageFigure(EVIL, EVIL, b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    return page([Chapter(study, [table], [figure], pictures, 3)], [figure], table, [table], EVIL)


def test_what_came_from_files_is_text_and_nothing_else(study):
    elements = Elements(make(study))
    assert len(elements.all("script")) == 1
    assert all("onerror" not in attributes for _, attributes in elements.found)
    assert elements.text.count("<script>alert(1)") >= 6
    assert "{{ 7*7 }}" in elements.text
    assert [image["src"][:5] for image in elements.all("img")] == ["data:", "data:"]


def test_it_fetches_nothing(study):
    text = make(study, pictures=overlays(study, 1e6)[0])
    for tag, attributes in Elements(text).found:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    css = re.search("<style>(.*?)</style>", text, re.S)[1]
    assert "url(" not in css
    assert "@import" not in css


def test_its_policy_allows_its_own_script_and_style_only(study):
    text = make(study)
    (policy,) = (meta["content"] for meta in Elements(text).all("meta") if "content" in meta
                 and "default-src" in meta["content"])  # fmt: skip
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_picture_has_a_text_and_every_column_a_button(study):
    elements = Elements(make(study, pictures=overlays(study, 1e6)[0]))
    assert all(len(image["alt"]) > 20 for image in elements.all("img"))
    headers = elements.all("th")
    assert headers
    assert all(header["scope"] == "col" for header in headers)
    assert len(elements.all("button")) == len(headers) + 2


def test_the_files_of_the_page_are_in_the_package():
    folder = Path(fdseg.report.__file__).parent
    assert {"page.html", "page.css", "page.js", "paper.csv"} <= {p.name for p in folder.iterdir()}


class TestOverlays:
    def test_the_worst_subject_comes_first(self, study):
        found, more = overlays(study, 1e9)
        assert more == 0
        assert len(found) == 2 * 2 * 3
        dice = [overlay.dice for overlay in found]
        assert dice == sorted(dice)
        worst = min(
            (case.scores["dice"], case.case, run.seed)
            for arm in study.arms for run in arm.runs[4] for case in run.cases
        )  # fmt: skip
        assert (found[0].dice, found[0].case, found[0].seed) == worst
        assert found[0].rank == "worst"

    def test_they_are_small_pictures(self, study):
        for overlay in overlays(study, 1e9)[0]:
            image = Image.open(io.BytesIO(overlay.webp))
            assert image.format == "WEBP"
            assert image.size == (800, 1061)

    def test_where_there_is_no_room_every_arm_keeps_its_worst(self, study):
        size = len(overlays(study, 1e9)[0][0].webp)
        found, more = overlays(study, 1.5 * size)
        assert {(overlay.arm, overlay.rank) for overlay in found} == {
            ("none", "worst"), ("early", "worst"),
        }  # fmt: skip
        assert len(found) + more == 12

    def test_what_is_no_picture_is_left_out(self, study):
        run = study.arms[0].runs[4][0]
        path = run.folder / "overlays" / "worst.png"
        path.unlink()  # a hard link to all others
        path.write_bytes(b"\x89PNG\r\n\x1a\n but no picture")
        assert len(overlays(study, 1e9)[0]) == 11

    def test_a_picture_that_would_fill_the_memory_is_left_out(self, study):
        run = study.arms[0].runs[4][0]
        path = run.folder / "overlays" / "worst.png"
        path.unlink()
        Image.new("1", (10_000, 2_500)).save(path)
        assert len(overlays(study, 1e9)[0]) == 11

    def test_runs_without_pictures_have_none(self, tmp_path):
        Grid(tmp_path / "other", "heart").add()
        (found,) = studies(collect(tmp_path / "other").runs)
        assert overlays(found, 1e9) == ([], 0)


class TestProvenance:
    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["train.py", "n=4", "seed=range(10)"], "python -m fdseg.train n=4 'seed=range(10)'"),
            (["fdseg-train", "-m"], "fdseg-train -m"),
            (["train.py", "a=$(rm -rf x)"], "python -m fdseg.train 'a=$(rm -rf x)'"),
            (None, ""),
            ("rm", ""),
        ],
    )
    def test_a_command_can_be_given_to_a_shell(self, words, text):
        assert command(words) == text

    def test_every_run_stands_with_its_command_and_commit(self, study):
        table = runs_table([study])
        assert len(table.rows) == 4
        texts = [entry.text for entry in table.rows[0]]
        assert texts[:4] == ["heart", "none", "4", "0"]
        assert texts[-1] == "python -m fdseg.train fusion=none n=4 seed=0"
        assert "0123abcd" in texts

    def test_versions_that_differ_are_counted(self, study):
        runs = [run for arm in study.arms for run in arm.runs[4]]
        runs[0].manifest["versions"]["torch"] = "2.9.0"
        rows = {row[0].text: row[1].text for row in versions_table(runs).rows}
        assert rows["torch"] == "2.13.0 (3 runs), 2.9.0 (1 run)"
        assert rows["fdseg"] == "0.1.0"

    def test_a_manifest_of_other_kinds_does_no_harm(self, study):
        run = study.arms[0].runs[4][0]
        run.manifest.update(versions=[1], seconds="x", git=None, command={}, device=EVIL)
        assert len(runs_table([study]).rows) == 4
        assert versions_table([run]).rows == ()
