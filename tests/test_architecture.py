"""The house: imports go down five layers, and four libraries stay behind their walls."""

import ast
from pathlib import Path

import pytest

import fdseg

ROOT = Path(fdseg.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the ground up; a file may import from its own layer and those below.
LAYERS = [
    [
        "errors",
        "drafts",
        "locks",
        "__init__",
        "metrics",
        "runs",
        "result",
        "precision",
        "precision_check",
        "frequency",
        "statistics",
        "safety",
        "progress",
        "terminal",
        "originals",
        "records",
        "values",
    ],
    ["networks", "data", "memory"],
    ["module", "manifest", "trained", "inference", "windows", "portable"],
    [
        "callbacks",
        "report",
        "compose",
        "config",
        "sweep",
        "cost",
        "predictions",
        "responses",
        "words",
    ],
    ["train", "status", "predict", "evaluate", "prepare", "export", "spectra", "diagnose", "sync"],
]

ROOMS = {room for rooms in LAYERS for room in rooms}

COMMANDS = [*LAYERS[-1], "report/__main__"]

WALLS = {
    "torchio": ["data"],
    "nibabel": ["data"],
    "lightning": ["module", "callbacks", "data/datamodule", "train"],
    "hydra": ["compose", "config", "sweep", "words", *COMMANDS],
    "omegaconf": ["compose", "config", "sweep", "cost", *COMMANDS],
    "wandb": [],
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def room(path: Path) -> str:
    return name(path).split("/")[0]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(of: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if of in rooms)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_only_go_down(path):
    for module in imports(path):
        top, _, rest = module.partition(".")
        if top == "fdseg":
            below = rest.split(".")[0] if rest.split(".")[0] in ROOMS else "__init__"
            assert layer(below) <= layer(room(path)), f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_libraries_stay_behind_their_walls(path):
    for module in imports(path):
        allowed = WALLS.get(module.split(".")[0])
        if allowed is not None:
            assert any(name(path) == a or name(path).startswith(f"{a}/") for a in allowed), (
                f"{name(path)} imports {module}"
            )


def test_every_file_stands_in_a_layer():
    assert {room(path) for path in FILES} == ROOMS


def test_files_are_of_one_idea():
    lengths = {name(path): len(path.read_text().splitlines()) for path in FILES}
    assert max(lengths.values()) < 400
    assert sorted(lengths.values())[len(lengths) * 3 // 4] < 200
