"""The figure across tasks: from runs and the spectra of their labels to its points."""

from synthetic import FAMILY, Grid

from fdseg.report.across import Gain, across, gains
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.contrasts import Rules
from fdseg.report.findings import findings


def write(root, task, *, phantom=False, shares=(), theta=0.1):
    """Two arms of a task, and what fdseg.spectra says of its labels."""
    grid = Grid(root, task, phantom)
    for fusion in ("none", "early"):
        grid.cell(fusion, 4, 3)
    folder = root / f"{task}{'-phantom' * phantom}" / "cohort"
    folder.mkdir()
    lines = ["case,theta,image,label,boundary", *(f"a,{theta},0.5,{s},0.9" for s in shares)]
    (folder / "above_theta.csv").write_text("\n".join(lines))


def drawn(root):
    return across(findings(studies(collect(root).runs), Rules(FAMILY)))


def test_each_task_stands_at_the_mean_share_of_its_labels_and_at_its_gain(tmp_path):
    write(tmp_path, "heart", shares=(0.2, 0.4))
    write(tmp_path, "hippocampus", shares=(0.5, 0.6, "nan"))
    found = findings(studies(collect(tmp_path).runs), Rules(FAMILY))
    (drawing,) = across(found)
    gain = {f.study.task: 100 * f.contrasts[0].comparison.mean for f in found}
    points = drawing.figure.axes[0].containers[0][0].get_xydata()
    assert sorted(points.round(9).tolist()) == sorted(
        [[30, round(gain["heart"], 9)], [55, round(gain["hippocampus"], 9)]]
    )
    assert drawing.name == "across"
    assert not drawing.figure.get_suptitle().startswith("PHANTOM")


def test_phantoms_and_patients_never_share_the_figure(tmp_path):
    write(tmp_path, "heart", shares=(0.2,))
    write(tmp_path, "spleen", shares=(0.3,), phantom=True)
    assert drawn(tmp_path) == []
    write(tmp_path, "hippocampus", shares=(0.2,), phantom=True)
    (drawing,) = drawn(tmp_path)
    assert drawing.name == "across-phantom"
    assert drawing.figure.get_suptitle().startswith("PHANTOM")
    assert "heart" not in drawing.alt


def test_shares_of_another_theta_or_of_a_broken_table_are_no_points(tmp_path):
    write(tmp_path, "heart", shares=(0.2,), theta=0.2)
    write(tmp_path, "spleen", shares=("much",))
    write(tmp_path, "hippocampus", shares=(0.4,))
    write(tmp_path, "red_nucleus", shares=("nan",))
    assert drawn(tmp_path) == []


def test_gains_stand_against_the_share_above_theta_with_their_intervals(tmp_path):
    points = [
        Gain("heart", "early", 0.4, 2.0, 1.0, 3.5), Gain("heart", "late", 0.4, -1.0, -2.0, 0.5),
        Gain("spleen", "early", 0.6, 5.0, 4.0, 6.0),
    ]  # fmt: skip
    drawing = gains("gains", "All tasks", points)
    (axis,) = drawing.figure.axes
    early, late = axis.containers
    assert early[0].get_xydata().tolist() == [[40, 2], [60, 5]]
    assert late[0].get_xydata().tolist() == [[40, -1]]
    ends = [segment[:, 1].tolist() for segment in early[2][0].get_segments()]
    assert ends == [[1.0, 3.5], [4.0, 6.0]]
    assert {text.get_text() for text in axis.texts} == {"heart", "spleen"}
    assert "spleen, early: 60.0 %, +5.0" in drawing.alt
    drawing.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"gains.svg", "gains.png"}
