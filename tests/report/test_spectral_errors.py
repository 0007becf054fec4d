"""Heat maps of errors by frequency, and the courses of learned widths."""

import csv
import json

import numpy as np
import pytest
from commands import table
from matplotlib.collections import QuadMesh
from synthetic import FAMILY, Grid

from fdseg.report import findings as report
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.contrasts import Rules
from fdseg.report.drawing import look
from fdseg.report.figures import figures
from fdseg.report.paper import FUSIONS
from fdseg.report.spectra import BandErrors, errors, mean_errors, read_errors
from fdseg.report.widths import widths


def findings(root):
    (found,) = report.findings(studies(collect(root).runs), Rules(FAMILY))
    return found


def write_errors(folder, values, steps=(20, 40, 60)):
    """The table of the callback, of values by step and band."""
    values = np.asarray(values)
    bands = values.shape[1]
    rows = [("step", "band", "lower", "upper", "error")]
    for step, line in zip(steps, values, strict=True):
        for band, value in enumerate(line):
            upper = 2**0.5 if band == bands - 1 else (band + 1) / bands
            rows.append((step, band, band / bands, upper, "" if np.isnan(value) else value))
    with (folder / "spectra.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def random_errors(seed, bands=4):
    return np.random.default_rng(seed).uniform(0.1, 4, (3, bands))


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Three fusions at two n, two seeds with tables each, and a seed without."""
    grid = Grid(tmp_path_factory.mktemp("runs"), "heart")
    for place, fusion in enumerate(FUSIONS):
        for n in (4, 12):
            for seed, folder in enumerate(grid.cell(fusion, n, 3)[:2]):
                write_errors(folder, random_errors([place, n, seed]))
    return grid


def panels(drawing):
    """Titles and colours of the heat maps, as ``[step, band]``."""
    found = {}
    for axis in drawing.figure.axes:
        meshes = [c for c in axis.collections if isinstance(c, QuadMesh)]
        if axis.get_title(loc="left"):
            found[axis.get_title(loc="left")] = np.asarray(meshes[0].get_array()).T
    return found


def draw(make, found):
    with look():
        return make(found)


def test_heat_maps_are_the_mean_over_the_seeds_side_by_side(grid):
    shown = panels(draw(errors, findings(grid.root)))
    assert list(shown) == [f"{fusion}, n = {n}" for n in (4, 12) for fusion in FUSIONS]
    for place, fusion in enumerate(FUSIONS):
        for n in (4, 12):
            expected = (random_errors([place, n, 0]) + random_errors([place, n, 1])) / 2
            np.testing.assert_allclose(shown[f"{fusion}, n = {n}"], expected)


def test_a_column_ends_at_its_step_and_theta_is_a_line(grid):
    axis = draw(errors, findings(grid.root)).figure.axes[0]
    (mesh,) = (c for c in axis.collections if isinstance(c, QuadMesh))
    assert mesh.get_coordinates()[0, :, 0].tolist() == [0, 20, 40, 60]
    assert mesh.get_coordinates()[:, 0, 1].tolist() == [0, 0.25, 0.5, 0.75, 2**0.5]
    assert axis.lines[0].get_ydata() == [0.1, 0.1]


def test_what_the_heat_maps_show_at_the_end_is_also_said_in_words(grid):
    drawing = draw(errors, findings(grid.root))
    end = np.mean([random_errors([1, 4, seed])[-1] for seed in (0, 1)], axis=0)
    assert f"early, n = 4: {end[0]:.2f} and {np.median(end):.2f}" in drawing.alt


def test_the_report_has_the_heat_maps_where_runs_have_tables(grid, tmp_path):
    assert "heart-spectra" in {drawing.name for drawing in figures(findings(grid.root))}
    Grid(tmp_path, "heart").add()
    assert errors(findings(tmp_path)) is None


def test_a_table_is_read_as_it_was_written(tmp_path):
    values = random_errors(3)
    values[0, 2] = np.nan
    write_errors(tmp_path, values)
    table = read_errors(tmp_path)
    np.testing.assert_array_equal(table.values, values)
    assert table.steps.tolist() == [20, 40, 60]
    assert table.edges.tolist() == [0, 0.25, 0.5, 0.75, 2**0.5]


@pytest.mark.parametrize(
    "text",
    ["", "step,band\n1,2\n", "step,band,lower,upper,error\n", "\0", "[]",
     "step,band,lower,upper,error\n1,0,0,1,x\n", "step,band,lower,upper,error\n1,0,0\n",
     "step,band,lower,upper,error\n1,0,0,.5,1\n1,1,.5,1,1\n2,0,0,.5,1\n"],
)  # fmt: skip
def test_a_broken_table_is_none(text, tmp_path):
    assert read_errors(tmp_path) is None
    (tmp_path / "spectra.csv").write_text(text)
    assert read_errors(tmp_path) is None


def test_seeds_are_averaged_where_they_have_the_same_steps_and_bands():
    edges = np.array([0, 0.5, 2**0.5])
    one = BandErrors(np.array([10, 20]), edges, np.array([[1.0, 2], [3, 4]]))
    two = BandErrors(np.array([20, 30]), edges, np.array([[5.0, 8], [0, 0]]))
    other = BandErrors(np.array([20]), np.array([0, 2**0.5]), np.array([[9.0]]))
    mean = mean_errors([one, two, other])
    assert mean.steps.tolist() == [20]
    assert mean.values.tolist() == [[4, 6]]


def learn(folder, courses):
    """Give a run's files what a learned split leaves in them."""
    rows = table(folder / "history.csv")
    for number, row in enumerate(rows):
        row.update({name: values[number] for name, values in courses.items()})
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path = folder / "result.json"
    tested = {f"learned_{name}": values[9] for name, values in courses.items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | tested))


def test_a_learned_theta_is_drawn_with_the_tested_one(tmp_path):
    grid = Grid(tmp_path, "heart")
    grid.cell("none", 4, 2)
    grid.cell("early", 4, 2)
    courses = [list(np.linspace(0.1, end, 20)) for end in (0.3, 0.05)]
    for folder, course in zip(
        grid.cell("early", 4, 2, "split=learnable", dice=0.5), courses, strict=True
    ):
        learn(folder, {"theta": course})
    drawing = draw(widths, findings(tmp_path))
    lines = drawing.figure.axes[0].lines
    for course, line, dot in zip(courses, lines[::2], lines[1::2], strict=True):
        assert line.get_ydata().tolist() == course
        assert dot.get_xydata().tolist() == [[10, course[9]]]
        assert f"theta {course[9]:.3f}" in drawing.alt
    assert "split=learnable" in drawing.figure.axes[0].get_title(loc="left")


def test_each_axis_has_a_line_where_it_has_a_width(tmp_path):
    grid = Grid(tmp_path, "heart")
    folder = grid.add("early", 4, 0, "split=learnable")
    learn(folder, {"theta_x": [0.1] * 20, "theta_z": [0.4] * 20})
    drawing = draw(widths, findings(tmp_path))
    assert "theta_x 0.100" in drawing.alt
    assert "theta_z 0.400" in drawing.alt


def test_runs_that_learn_no_width_have_no_such_figure(grid):
    assert widths(findings(grid.root)) is None
