"""The energy of a task's images and labels by frequency, from its prepared cases to a figure."""

import math

import numpy as np
import pytest
from commands import compose, table

from fdseg import spectra as command
from fdseg.data.cache import PreparedCase, Preparer
from fdseg.errors import FdsegError
from fdseg.report.energies import mean_shares, measure, spectra

TOY = [
    "data=hippocampus", "data.cohort.folder=Task99_Toy", "data.size=[12,14,8]", "theta=0.4",
    "data.split.training=6", "data.split.validation=2", "data.split.test=2",
]  # fmt: skip


def run(msd, runs, *overrides):
    words = [*TOY, f"data.root={msd.root}", f"runs={runs}", *overrides]
    command.run(compose("spectra", *words))
    return runs / "hippocampus" / "cohort"


def prepared(msd, case, folder, image, label):
    """A case in the cache with these arrays."""
    folder.mkdir()
    np.save(folder / "image.npy", image.astype(np.float32))
    np.save(folder / "label.npy", label.astype(np.uint8))
    return PreparedCase(msd.case(case), folder)


def share_above(volumes, theta):
    """Outside of the in-plane box, by a Fourier transform."""
    power = (abs(np.fft.fftn(volumes, axes=(1, 2, 3))) ** 2).sum(axis=(0, 3))
    k = [np.minimum(np.arange(n), n - np.arange(n)) for n in power.shape]
    inside = [kn <= math.floor(theta * n / 2) for kn, n in zip(k, power.shape, strict=True)]
    return 1 - power[np.ix_(*inside)].sum() / power.sum()


def test_image_label_and_boundary_are_measured_each(msd, tmp_path):
    image = np.random.default_rng(0).random((16, 12, 6))
    label = np.zeros((16, 12, 6), int)
    label[3:9, 2:8, 1:5], label[9:12, 4:9, 2:4] = 1, 2
    case = prepared(msd, "toy_001", tmp_path / "case", image, label)
    (found,) = measure([case], 2, theta=0.3)
    boundaries = np.zeros((2, *label.shape), bool)
    for x, y, z in np.ndindex(label.shape):
        around = [(x + 1, y, z), (x - 1, y, z), (x, y + 1, z), (x, y - 1, z), (x, y, z + 1),
                  (x, y, z - 1)]  # fmt: skip
        number = label[x, y, z]
        if number and any(label[place] != number for place in around):
            boundaries[number - 1, x, y, z] = True
    masks = np.stack([label == 1, label == 2])
    expected = {"image": image[None], "label": masks, "boundary": boundaries}
    for kind, volumes in expected.items():
        assert found.above[kind] == pytest.approx(share_above(volumes, 0.3), abs=1e-6)
        # All shares of all frequencies, those of the whole plane, add up to one.
        r = np.hypot(*np.meshgrid(2 * np.fft.fftfreq(16), 2 * np.fft.fftfreq(12), indexing="ij"))
        band = np.clip(np.ceil(r * 6 - 1e-9), 1, 6).astype(int) - 1
        counts = np.bincount(band.ravel(), minlength=6)
        assert (found.power[kind] * counts).sum() == pytest.approx(1, rel=1e-5)
    assert found.above["label"] < found.above["boundary"]


def test_the_command_writes_a_row_for_every_case_and_band(msd, tmp_path, capsys):
    folder = run(msd, tmp_path / "runs")
    names = ["above_theta.csv", "power.csv", "spectra.png", "spectra.svg"]
    assert sorted(path.name for path in folder.iterdir()) == names
    shares = table(folder / "above_theta.csv")
    assert [row["case"] for row in shares] == list(msd.images)
    assert {row["theta"] for row in shares} == {"0.4"}
    assert [float(row["upper"]) for row in table(folder / "power.csv")] == pytest.approx(
        [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 2**0.5]
    )
    printed = capsys.readouterr().out
    labels = sorted(float(row["label"]) for row in shares)
    assert f"{100 * labels[5]:.2f} %" in printed
    assert "PHANTOM" not in printed


@pytest.mark.parametrize(
    ("size", "upper"),
    [
        ("[1,14,8]", [1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 2**0.5]),
        ("[12,1,8]", [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 2**0.5]),
        ("[2,14,1]", [2**0.5]), ("[3,3,8]", [2**0.5]), ("[1,1,8]", [2**0.5]),
    ],
)  # fmt: skip
def test_an_axis_of_one_voxel_has_no_bands_of_its_own(size, upper, msd, tmp_path):
    words = [f"data.size={size}", "data.reshape=resize", "theta=1"]
    folder = run(msd, tmp_path / "runs", *words)
    assert [float(row["upper"]) for row in table(folder / "power.csv")] == pytest.approx(upper)
    assert (folder / "spectra.png").is_file()


def test_a_figure_that_fails_costs_nothing_else(msd, tmp_path, capsys):
    figure = tmp_path / "runs" / "hippocampus" / "cohort" / "spectra.svg"
    figure.mkdir(parents=True)
    with pytest.warns(
        UserWarning, match=r"spectra\.svg: this picture could not be made \(Is a dir"
    ):
        folder = run(msd, tmp_path / "runs")
    assert len(table(folder / "power.csv")) == 6
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [str(folder / "power.csv"), str(folder / "above_theta.csv")]


def test_a_phantom_says_so(msd, tmp_path, capsys):
    words = ["data.root=null", "data.cohort.folder=Task04_Hippocampus", "data.phantom.subjects=4",
             "data.phantom.scale=0.4", "theta=0.4"]  # fmt: skip
    command.run(compose("spectra", *words, f"runs={tmp_path}"))
    assert capsys.readouterr().out.startswith("PHANTOM COHORT")
    svg = (tmp_path / "hippocampus-phantom" / "cohort" / "spectra.svg").read_text()
    assert "PHANTOM hippocampus" in svg


def test_more_than_one_theta_and_a_folder_that_cannot_be_written_are_refused(msd, tmp_path):
    with pytest.raises(FdsegError, match=r"theta=\[0.1, 0.1, 1\]: expected one number"):
        run(msd, tmp_path / "runs", "theta=[0.1,0.1,1]")
    (tmp_path / "runs" / "hippocampus").mkdir(parents=True)
    (tmp_path / "runs" / "hippocampus" / "cohort").write_text("a file")
    with pytest.raises(FdsegError, match="cohort: cannot be written"):
        run(msd, tmp_path / "runs")


def test_a_table_does_not_replace_a_file_of_a_run(msd, make_run, tmp_path):
    config = make_run(tmp_path / "run") / "config.yaml"
    table = tmp_path / "runs" / "hippocampus" / "cohort" / "power.csv"
    table.parent.mkdir(parents=True)
    table.symlink_to(config)
    with pytest.raises(FdsegError, match=r"power.csv: belongs to the run .*/run, and w.* runs=…"):
        run(msd, tmp_path / "runs")
    assert table.is_symlink()


def measured(msd, tmp_path):
    cases = []
    for number, name in enumerate(list(msd.images)[:3]):
        rng = np.random.default_rng(number)
        label = np.zeros((16, 12, 6))
        label[4:8, 4 : 6 + number, 2:4] = 1
        cases.append(prepared(msd, name, tmp_path / name, rng.random(label.shape), label))
    return measure(cases, 1, theta=0.3)


def test_the_figure_has_three_spectra_with_their_shares_and_the_line_of_theta(msd, tmp_path):
    found = measured(msd, tmp_path)
    drawing = spectra("spectra", "PHANTOM toy", found, 0.3)
    (axis,) = drawing.figure.axes
    shares = mean_shares(found)
    for kind in ("image", "label", "boundary"):
        (line,) = (one for one in axis.lines if str(one.get_label()).startswith(kind))
        median = np.median([one.power[kind] for one in found], axis=0)
        assert line.get_ydata() == pytest.approx(median[:-1])
        assert line.get_label() == f"{kind}: {100 * shares[kind]:.1f} % above θ"
        assert f"{kind} {100 * shares[kind]:.1f} %" in drawing.alt
    assert axis.lines[-1].get_xdata() == [0.3, 0.3]
    assert drawing.figure.get_suptitle() == "PHANTOM toy"


@pytest.mark.data
def test_the_labels_of_real_hippocampi_have_two_fifths_of_their_energy_above_theta(
    real_data, tmp_path, make_task
):
    from fdseg.data.msd import MSDCohort

    task = make_task(
        root=real_data, cohort=MSDCohort("Task04_Hippocampus"), size=(56, 56, 40),
        structures={"anterior": 1, "posterior": 2},
    )  # fmt: skip
    cases = task.found.cases[:10]
    found = mean_shares(measure(Preparer.of(task)(cases, task.digests), 2, 0.1))
    assert 0.1 < found["image"] < 0.3 < found["label"] < 0.6 < found["boundary"] < 0.9
