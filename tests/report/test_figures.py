"""Figures: that they show the numbers of the tables, and are pictures."""

import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread
from synthetic import FAMILY, Grid

from fdseg.report import findings as report
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.contrasts import Rules
from fdseg.report.drawing import look, style
from fdseg.report.figures import controls, differences, figures, scores, theta
from fdseg.report.learning import learning
from fdseg.report.paper import FUSIONS


def findings(root):
    (found,) = report.findings(studies(collect(root).runs), Rules(FAMILY))
    return found


@pytest.fixture(scope="module")
def heart(tmp_path_factory):
    """Two sizes, three fusions, three seeds, two more θ and augmentation."""
    grid = Grid(tmp_path_factory.mktemp("runs"), "heart")
    for n in (4, 12):
        for fusion in FUSIONS:
            grid.cell(fusion, n, 3)
    for width in (0.05, 0.3):
        grid.cell("early", 4, 2, f"theta={width}", dice=0.8 - width)
    grid.cell("none", 4, 2, "augmentation=standard")
    return findings(grid.root)


@pytest.fixture(scope="module")
def drawn(heart):
    return {drawing.name: drawing for drawing in figures(heart)}


def test_every_figure_that_there_are_runs_for_is_drawn(drawn):
    kinds = ("scores", "differences", "theta", "controls", "learning")
    assert list(drawn) == [f"heart-{kind}" for kind in kinds]


def test_a_single_run_has_no_differences_and_no_theta(tmp_path):
    Grid(tmp_path, "heart").add()
    names = [drawing.name for drawing in figures(findings(tmp_path))]
    assert names == ["heart-scores", "heart-learning"]


def test_runs_without_a_history_have_no_learning_curve(tmp_path):
    (Grid(tmp_path, "heart").add() / "history.csv").unlink()
    assert learning(findings(tmp_path)) is None


def test_files_are_svg_and_png_with_something_in_them(drawn, tmp_path):
    for drawing in drawn.values():
        drawing.write(tmp_path)
    for path in tmp_path.iterdir():
        if path.suffix == ".png":
            pixels = imread(path)[..., :3]
            assert min(pixels.shape[:2]) > 300
            assert pixels.std() > 0.05
        else:
            assert ET.parse(path).getroot().tag.endswith("svg")
            assert not {"script", "image", "a"} & {
                e.tag.split("}")[-1] for e in ET.parse(path).iter()
            }


def test_nothing_is_drawn_outside_the_picture(drawn):
    for drawing in drawn.values():
        drawing.figure.draw_without_rendering()
        box = drawing.figure.get_tightbbox()
        width, height = drawing.figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.01, drawing.name
        assert box.x1 < width + 0.01, drawing.name
        assert box.y1 < height + 0.01, drawing.name


def test_each_subjects_difference_is_a_point(heart):
    axis = differences(heart).figure.axes[0]  # Dice, n = 4
    (points, *_) = (line for line in axis.lines if line.get_marker() == "o")
    contrast = heart.gain(4, heart.study.reference_arm("early"), "dice")
    expected = 100 * contrast.comparison.difference.means
    assert points.get_ydata() == pytest.approx(expected)


def test_the_papers_means_are_dotted_beside_real_runs_only(heart, tmp_path):
    def dotted(found):
        axis = scores(found).figure.axes[0]
        return [list(line.get_ydata()) for line in axis.lines if line.get_linestyle() == ":"]

    assert dotted(heart) == [[78.89, 82.74], [84.01, 90.55], [83.94, 90.26]]
    Grid(tmp_path, "heart", phantom=True).cell("none", 4, 2)
    assert dotted(findings(tmp_path)) == []


def test_a_star_stands_where_the_table_is_bold(heart):
    stars = [
        [text for text in axis.texts if text.get_text() == "★"]
        for axis in scores(heart).figure.axes
    ]
    for found, metric in zip(stars, ("dice", "hd95_mm"), strict=True):
        assert len(found) == sum(c.bold for c in heart.contrasts if c.metric == metric)


def test_theta_is_drawn_in_its_order_with_the_reference_among_it(heart):
    axis = theta(heart).figure.axes[0]
    lines = [list(line.get_xdata()) for line in axis.lines if line.get_marker() == "s"]
    assert [0.05, 0.1, 0.3] in lines


def test_controls_show_every_arm_by_name(heart):
    labels = [t.get_text() for t in controls(heart).figure.axes[0].get_yticklabels()]
    assert labels == [arm.name for arm in heart.study.arms]


def test_the_learning_curve_is_the_mean_over_seeds(heart):
    axis = learning(heart).figure.axes[0]
    rows = [np.genfromtxt(run.folder / "history.csv", delimiter=",", names=True)["train_loss"]
            for run in heart.study.reference_arm("none").runs[4]]  # fmt: skip
    line = next(line for line in axis.lines if line.get_label() == "none")
    assert line.get_ydata() == pytest.approx(np.mean(rows, axis=0))


def test_what_a_figure_shows_is_also_said_in_words(drawn, heart):
    mean = 100 * heart.cell(4, heart.study.reference_arm("none")).scores["dice"].mean
    assert f"n = 4, none: {mean:.1f}" in drawn["heart-scores"].alt
    assert all(len(drawing.alt) > 60 for drawing in drawn.values())


def test_a_phantom_says_so_in_every_figure(tmp_path):
    grid = Grid(tmp_path, "heart", phantom=True)
    for fusion in FUSIONS:
        grid.cell(fusion, 4, 2)
    for drawing in figures(findings(tmp_path)):
        assert "PHANTOM" in drawing.figure.get_suptitle()
        assert drawing.alt.startswith("PHANTOM")


def test_fusions_are_told_apart_by_marker_as_well_as_by_colour():
    others = ["double", "swap", "random"]
    looks = [style(fusion, others) for fusion in (*FUSIONS, *others)]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 6


def test_looking_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    with look():
        assert mpl.rcParams["axes.spines.top"] is False
    assert dict(mpl.rcParams) == before
