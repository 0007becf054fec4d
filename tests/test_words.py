import shutil
import subprocess
from pathlib import Path

import pytest
from commands import assert_refused, compose, shell

from fdseg import config as configuration
from fdseg import status, sweep
from fdseg.errors import FdsegError
from fdseg.words import with_paths

HOME = str(Path.home())


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("exp=1/seed0", "exp=1/seed0"),
        ("in (left)", "in (left)"),
        ("/data/my study (2023)/x", "/data/my study (2023)/x"),
        ("~/x", f"{HOME}/x"),
        ("~", HOME),
        ("d#1", "d#1"),
        ("/daten/Müller & Söhne", "/daten/Müller & Söhne"),
        ("it's", "it's"),
        ("a=1\\", "a=1\\"),
        ("/d/[x]/y", "/d/[x]/y"),
        ("{case}/t1.nii.gz", "{case}/t1.nii.gz"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        ("plain/path", "plain/path"),
        ("'quoted, twice'", "quoted, twice"),
        ("null", None),
        ("[a,b]", ["a", "b"]),
        ("[a=1,~/b c,in (left)]", ["a=1", f"{HOME}/b c", "in (left)"]),
    ],
)
def test_a_path_is_taken_as_it_stands(given, path):
    words = with_paths([f"input={given}", "run=a", "output=b"])
    assert compose("predict", *words).input == path
    assert with_paths(words) == words


@pytest.mark.parametrize(
    "word",
    ["seed=range(3)", "theta=a=b", "-m", "--cfg", "runs=a,b", "runs=choice(a,b)", "~callbacks.best",
     "runs=${oc.env:HOME}/x", "callbacks.folder={_target_: x}"],
)  # fmt: skip
def test_other_words_and_sweeps_stay(word):
    assert with_paths([word]) == [word]


@pytest.mark.parametrize(
    ("word", "works"),
    [
        ("input=Smith, John (2023)", 'input="Smith, John (2023)"'),
        ("input=a=1,b", 'input="a=1,b"'),
        ("input='a", 'input="a"'),
    ],
)
def test_where_a_path_may_be_several_the_quotes_that_work_are_named(word, works):
    with pytest.raises(FdsegError) as refused:
        with_paths([word])
    assert str(refused.value).startswith(f"{word}: ")
    assert str(refused.value).endswith(f": '{works}'.")
    assert with_paths([works]) == [works]


def test_a_sweep_over_such_a_folder_hands_it_on_to_its_runs(tmp_path):
    """The launchers give a run the words of its job."""
    words = ["data.root=null", "data.phantom.subjects=6", f"runs={tmp_path}/exp=1 (a)", "seed=0,1"]
    points = sweep.grid(words)
    for seed, point in enumerate(points):
        assert point.run.folder.is_relative_to(tmp_path / "exp=1 (a)")
        (again,) = sweep.grid(point.words)
        assert again.run.folder == point.run.folder
        assert again.run.config.seed == seed


@pytest.mark.parametrize(
    ("command", "word", "message"),
    [
        ("predict", "run=exp=1/seed0", "in (left): no such file"),
        ("train", "optimizer=a=b", "optimizer=a=b: Hydra cannot read this value."),
        ("status", "study", "study: expected key=value."),
    ],
)
def test_commands_read_such_words_or_name_them(command, word, message, tmp_path):
    rest = ["input=in (left)", "output=o"] if command == "predict" else []
    ended = shell(command, word, *rest, cwd=tmp_path)
    assert_refused(ended, message)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_takes_the_examples_that_the_help_prints():
    texts = [path.read_text() for path in configuration.FOLDER.glob("*.yaml")] + [status.EPILOG]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    examples = [line for line in lines if line.startswith("python -m fdseg.")]
    assert len(examples) > 10
    subprocess.run(["bash", "-n", "-c", "\n".join(examples)], check=True)
