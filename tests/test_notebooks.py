"""The notebooks: each runs from top to bottom, and what is kept of it is whole and clean."""

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import fdseg

ROOT = Path(fdseg.__file__).parent.parent
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))

# Small settings by notebook, run after its cell of parameters.
SMALL = {"01_quickstart": "epochs, scale = 1, 0.1", "02_frequency_split": "subjects = 4"}
# What each shows: how many pictures, and some of its words.
SHOWN = {
    "01_quickstart": (3, "PHANTOM heart, unet, fusion early", "Dice", "1 prediction, mean ± SEM"),
    "02_frequency_split": (6, "| θ | low band's grid |", "| a wave of 1 cycle | 100 % | 0 % | 0 %"),
    "03_reproduction": (2, "### hippocampus: Dice and HD95", "paper", "### hippocampus: All arms"),
    "04_when_does_it_help": (
        3,
        "| regime | difference |",
        "early − double",
        "Holm: over all 44 rows",
    ),
}


def read(name, folder=FOLDER):
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def texts(notebook):
    """Of all outputs: what was printed, tables, and words for what else there is."""
    found = []
    for output in outputs(notebook):
        data = output.get("data", {})
        found += [output.get("text", ""), data.get("text/plain", ""), data.get("text/markdown", "")]
    return "\n".join(found)


def assert_shows(notebook, name):
    pictures, *words = SHOWN[name]
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= pictures
    for word in words:
        assert word in texts(notebook)


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a copy of a notebook, small and elsewhere, and return it with its outputs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(FOLDER, tmp_path / "notebooks", ignore=shutil.ignore_patterns("runs"))

    def run(name):
        notebook = read(name, tmp_path / "notebooks")
        if name in SMALL:
            (place,) = (
                index
                for index, cell in enumerate(notebook.cells)
                if "parameters" in cell.metadata.get("tags", [])
            )
            notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL[name]))
        folder = {"metadata": {"path": str(tmp_path / "notebooks")}}
        return NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources=folder
        ).execute()

    return run


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SMALL else []) for n in NAMES]
)
def test_it_runs_from_top_to_bottom_without_data(name, execute, monkeypatch):
    monkeypatch.delenv("FDSEG_DATA", raising=False)
    notebook = execute(name)
    assert_shows(notebook, name)
    if name not in SMALL:  # the numbers of the files beside it, as they are now
        assert texts(notebook) == texts(read(name))


@pytest.mark.data
def test_with_data_the_volumes_shown_are_real(real_data, execute):
    notebook = execute("02_frequency_split")
    assert_shows(notebook, "02_frequency_split")
    assert "hippocampus, 4 volumes" in texts(notebook)
    assert "PHANTOM" not in texts(notebook)


@pytest.mark.parametrize("name", NAMES)
class TestKept:
    def test_it_keeps_its_outputs_in_the_order_of_its_cells(self, name):
        notebook = read(name)
        cells = code(notebook)
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        assert_shows(notebook, name)

    def test_nothing_went_wrong_in_it(self, name):
        kinds = {output.output_type for output in outputs(read(name))}
        assert "error" not in kinds
        assert all(output.get("name") != "stderr" for output in outputs(read(name)))

    def test_it_names_no_place_of_a_machine(self, name):
        text = (FOLDER / f"{name}.ipynb").read_text()
        pictures = re.compile(r'"image/png": "[^"]*"')
        assert not re.search(
            r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|var|mnt|Users|private)/|[A-Z]:\\\\Users",
            pictures.sub("", text),
        )
        assert sys.prefix not in text

    def test_it_is_small_enough_to_look_at_in_a_browser(self, name):
        assert (FOLDER / f"{name}.ipynb").stat().st_size < 600_000
