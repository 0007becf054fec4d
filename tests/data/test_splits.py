import hashlib
import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fdseg.config import FOLDER
from fdseg.data.cases import Case
from fdseg.data.msd import MSDCohort
from fdseg.data.splits import PARTS, Split, apportion, draw, make_split, read_split
from fdseg.errors import FdsegError

# Cases for training, validation and test (paper, section 3).
SIZES = {
    "red_nucleus": (51, 13, 16),
    "dentate_nucleus": (42, 11, 14),
    "spleen": (25, 7, 9),
    "heart": (12, 4, 4),
    "hippocampus": (166, 42, 52),
}
GROUPS = {
    "red_nucleus": {"HC": 18, "PD": 46, "iRBD": 16},
    "dentate_nucleus": {"HC": 17, "PD": 39, "iRBD": 11},
}
HIPPOCAMPUS = dict(zip(PARTS, SIZES["hippocampus"], strict=True))


def case(name, participant=None, group=None):
    return Case(
        name, Path(f"{name}.nii.gz"), Path(f"{name}_seg.nii.gz"), participant or name, group
    )


def hippocampus():
    """90 people with both sides, 40 with the first and 40 with the second only: 260 files."""
    cases = []
    for person in range(1, 171):
        sides = (2 * person - 1, 2 * person)
        if person > 90:
            sides = sides[person % 2 :][:1]
        cases += [case(f"hippocampus_{number:03}", f"pair{person}") for number in sides]
    return cases


def iceberg(groups):
    order = [group for group, count in groups.items() for _ in range(count)]
    random.Random(0).shuffle(order)
    return [case(f"sub-{i:03}", group=group) for i, group in enumerate(order)]


def cohort_of(task):
    if task == "hippocampus":
        return hippocampus()
    if task in GROUPS:
        return iceberg(GROUPS[task])
    return [case(f"{task}_{number}") for number in range(sum(SIZES[task]))]


def split_of(cases, sizes, **options):
    return make_split(cases, **dict(zip(PARTS, sizes, strict=True)), **options)


def part_of(split):
    return {name: part for part in PARTS for name in getattr(split, part)}


def digest(split):
    return hashlib.sha256(split.to_json().encode()).hexdigest()[:16]


def people_in(part, cases):
    return {c.participant for c in cases if c.name in set(part)}


@pytest.mark.parametrize("task", SIZES)
def test_the_configured_sizes_are_those_of_the_paper(task):
    configured = OmegaConf.load(FOLDER / "data" / f"{task}.yaml").split
    assert tuple(configured[part] for part in PARTS) == SIZES[task]


@pytest.mark.parametrize("task", SIZES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_complete_cohort_is_split_into_exactly_the_papers_sizes(task, seed):
    cases = cohort_of(task)
    split = split_of(cases, SIZES[task], seed=seed)
    assert tuple(len(getattr(split, part)) for part in PARTS) == SIZES[task]
    assert part_of(split).keys() == {c.name for c in cases}


def test_nobody_of_the_hippocampus_cohort_is_on_two_sides():
    cases = hippocampus()
    assert len(cases) == 260
    assert len({c.participant for c in cases}) == 170
    parts = [people_in(getattr(make_split(cases, **HIPPOCAMPUS), p), cases) for p in PARTS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 170


@pytest.mark.data
def test_the_real_hippocampus_is_split_exactly_with_nobody_on_two_sides(real_data):
    cases = MSDCohort("Task04_Hippocampus", participant="pairs")(real_data).cases
    split = make_split(cases, **HIPPOCAMPUS)
    assert tuple(len(getattr(split, part)) for part in PARTS) == SIZES["hippocampus"]
    parts = [people_in(getattr(split, part), cases) for part in PARTS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 170
    assert digest(split) == "afecdb21bdc0e8b0"


@pytest.mark.parametrize("task", GROUPS)
@pytest.mark.parametrize("seed", range(5))
def test_every_group_is_represented_in_proportion_in_every_part(task, seed):
    cases = iceberg(GROUPS[task])
    split = split_of(cases, SIZES[task], seed=seed)
    group_of = {c.name: c.group for c in cases}
    for part, size in zip(PARTS, SIZES[task], strict=True):
        found = Counter(group_of[name] for name in getattr(split, part))
        for group, count in GROUPS[task].items():
            assert abs(found[group] - size * count / len(cases)) <= 1


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("red_nucleus", "2f00911a8ae24fab"),
        ("dentate_nucleus", "6d3d348034ecbe60"),
        ("spleen", "fed6b602b8ef8edf"),
        ("heart", "dc3c4282a52d41c3"),
        ("hippocampus", "94f6d28c5b415dcf"),
    ],
)
def test_the_split_is_the_one_it_always_was(task, expected):
    # All published runs depend on it: a change here makes them incomparable.
    assert digest(split_of(cohort_of(task), SIZES[task])) == expected


def test_another_seed_makes_another_split():
    cases = hippocampus()
    first, second = (make_split(cases, **HIPPOCAMPUS, seed=seed) for seed in (0, 1))
    assert set(first.test) != set(second.test)


@pytest.mark.parametrize("total", [26, 130, 259])
def test_an_incomplete_cohort_is_split_in_proportion(total):
    split = make_split(hippocampus()[:total], **HIPPOCAMPUS)
    for part in PARTS:
        # Within a person: the first files of the cohort are all pairs.
        assert abs(len(getattr(split, part)) - total * HIPPOCAMPUS[part] / 260) <= 2


def test_the_parts_do_not_depend_on_the_order_of_the_cases():
    cases = hippocampus()
    shuffled = random.Random(1).sample(cases, len(cases))
    first, second = (make_split(c, **HIPPOCAMPUS) for c in (cases, shuffled))
    assert part_of(first) == part_of(second)


def test_the_names_of_a_part_keep_the_cohorts_order():
    names = [c.name for c in hippocampus()]
    split = make_split(hippocampus(), **HIPPOCAMPUS)
    for part in PARTS:
        assert list(getattr(split, part)) == sorted(getattr(split, part), key=names.index)


@pytest.mark.parametrize("missing", [1, 5, 20])
def test_a_few_more_cases_leave_almost_all_the_others_where_they_were(missing):
    cases = hippocampus()
    before = part_of(make_split(cases[:-missing], **HIPPOCAMPUS))
    after = part_of(make_split(cases, **HIPPOCAMPUS))
    assert sum(after[name] != part for name, part in before.items()) <= 3


def test_a_split_by_file_has_the_same_sizes_and_separates_the_sides_of_people():
    cases = hippocampus()
    split = make_split(cases, **HIPPOCAMPUS, by="file")
    assert tuple(len(getattr(split, part)) for part in PARTS) == SIZES["hippocampus"]
    assert people_in(split.training, cases) & people_in(split.test, cases)


def test_a_split_by_something_else_is_refused():
    with pytest.raises(FdsegError, match=r"data.split.by=person: expected participant or file"):
        make_split(hippocampus(), **HIPPOCAMPUS, by="person")


@pytest.mark.parametrize("files", [1, 2, 3])
def test_three_people_are_enough_however_many_files_each_has(files):
    cases = [case(f"{p}{f}", participant=p) for p in "abc" for f in range(files)]
    split = make_split(cases, **HIPPOCAMPUS)
    assert [len(people_in(getattr(split, part), cases)) for part in PARTS] == [1, 1, 1]


@pytest.mark.parametrize("people", [0, 1, 2])
def test_fewer_than_three_people_are_refused(people):
    cases = [case(f"{p}{f}", participant=p) for p in "ab"[:people] for f in range(4)]
    with pytest.raises(
        FdsegError, match=f"{people} participants? with {4 * people} cases: too few"
    ):
        make_split(cases, **HIPPOCAMPUS)


def test_a_part_that_is_to_hold_nothing_is_refused():
    with pytest.raises(FdsegError, match="too few"):
        split_of(hippocampus(), (200, 60, 0))


@st.composite
def cohorts(draw):
    people = draw(st.lists(st.tuples(st.integers(1, 2), st.sampled_from("AB")), min_size=5))
    return [
        case(f"case{number}{side}", f"person{number}", group)
        for number, (files, group) in enumerate(people)
        for side in range(files)
    ]


@given(cohorts(), st.integers(0, 99), st.randoms(use_true_random=False))
def test_parts_are_disjoint_cover_the_cohort_and_keep_people_together(cases, seed, random):
    split = split_of(cases, (6, 2, 2), seed=seed)
    named = [name for part in PARTS for name in getattr(split, part)]
    assert sorted(named) == sorted(c.name for c in cases)
    assert all(getattr(split, part) for part in PARTS)
    parts = part_of(split)
    assert len({(c.participant, parts[c.name]) for c in cases}) == len(
        {c.participant for c in cases}
    )
    random.shuffle(cases)
    assert part_of(split_of(cases, (6, 2, 2), seed=seed)) == parts


weights = st.lists(st.integers(0, 300), min_size=1, max_size=6).filter(any)


@given(weights, st.integers(0, 500))
def test_shares_add_up_and_are_within_one_of_proportion(weights, total):
    shares = apportion(weights, total)
    assert sum(shares) == total
    assert all(share == 0 for share, weight in zip(shares, weights, strict=True) if weight == 0)
    exact = [total * weight / sum(weights) for weight in weights]
    lifted = sum(0 < x < 1 for x in exact)  # they are given one at the cost of the largest
    for share, x in zip(shares, exact, strict=True):
        assert -1 - lifted < share - x < 1 or share == 1


@given(weights, st.integers(0, 500))
def test_a_larger_weight_never_has_a_share_that_is_smaller_by_more_than_one(weights, total):
    shares = apportion(weights, total)
    pairs = sorted(zip(weights, shares, strict=True))
    for (small, its_share), (large, other_share) in pairwise(pairs):
        assert small == large or its_share <= other_share + 1  # one may be given to the smallest


@given(weights, st.integers(0, 500))
def test_everyone_has_a_share_where_there_is_enough(weights, total):
    shares = apportion(weights, total)
    if total >= len(weights):
        assert all(share > 0 for share, weight in zip(shares, weights, strict=True) if weight)


def test_shares_of_the_complete_cohort_are_the_weights():
    assert apportion((166, 42, 52), 260) == [166, 42, 52]
    assert apportion((166, 42, 52), 130) == [83, 21, 26]
    assert apportion((3, 1, 1), 4) == [2, 1, 1]  # 2.4, 0.8, 0.8


# Split files


@pytest.fixture
def pairs():
    return [case(f"{person}{side}", participant=person) for person in "abcd" for side in "12"]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "my_split.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


FINE = {"training": ["a1", "a2", "b1"], "validation": ["c2", "c1"], "test": ["d1"]}


def test_a_split_file_is_followed_and_cases_it_does_not_name_take_no_part(pairs, write):
    split = read_split(write(FINE), pairs)
    assert split == Split(("a1", "a2", "b1"), ("c2", "c1"), ("d1",))


def test_a_split_that_was_written_is_read_again(pairs, write):
    split = split_of(pairs, (4, 2, 2))
    assert read_split(write(split.to_json()), pairs) == split


def test_a_split_file_with_a_byte_order_mark_is_read(pairs, tmp_path):
    path = tmp_path / "split.json"
    path.write_text("\ufeff" + json.dumps(FINE), encoding="utf-8")
    assert read_split(path, pairs).test == ("d1",)


def test_an_unknown_subject_in_a_split_file_is_named(pairs, write):
    with pytest.raises(FdsegError, match=r"my_split.json: d9 not in the cohort.*without their end"):
        read_split(write(FINE | {"test": ["d1", "d9"]}), pairs)


@pytest.mark.parametrize("change", [{"test": ["d1", "a1"]}, {"test": ["d1", "d1"]}])
def test_a_subject_that_stands_twice_in_a_split_file_is_named(pairs, write, change):
    (twice,) = {"a1", "d1"} & {change["test"][-1]}
    with pytest.raises(FdsegError, match=rf"my_split.json: split: {twice} stands in two parts or"):
        read_split(write(FINE | change), pairs)


def test_a_person_in_two_parts_of_a_split_file_is_refused_with_the_way_around(pairs, write):
    path = write(FINE | {"test": ["b2"]})
    with pytest.raises(FdsegError, match=r"participant b \(b2\) is in training and in test") as e:
        read_split(path, pairs)
    assert "data.split.by=file" in str(e.value)
    assert read_split(path, pairs, by="file").test == ("b2",)


def test_a_misspelt_way_around_is_no_way_around(pairs, write):
    with pytest.raises(FdsegError, match=r"data.split.by=files: expected participant or file"):
        read_split(write(FINE | {"test": ["b2"]}), pairs, by="files")


@pytest.mark.parametrize("part", PARTS)
def test_an_empty_part_of_a_split_file_is_named(pairs, write, part):
    with pytest.raises(FdsegError, match=f"{part} is empty"):
        read_split(write(FINE | {part: []}), pairs)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "training: [a1]",
        [],
        {"training": ["a1"], "test": ["b1"]},
        FINE | {"test": "d1"},
        FINE | {"test": [1]},
        FINE | {"test": None},
        FINE | {"test": {"d1": 1}},
    ],
)
def test_a_malformed_split_file_is_named_with_what_belongs_there(pairs, write, content):
    with pytest.raises(FdsegError, match=r"my_split.json: not a split .*JSON with the lists train"):
        read_split(write(content), pairs)


def test_a_missing_split_file_is_named_with_its_key(pairs, tmp_path):
    with pytest.raises(FdsegError, match=r"data.split.file=.*none.json: No such file.*or null"):
        read_split(tmp_path / "none.json", pairs)


def test_a_folder_is_no_split_file(pairs, tmp_path):
    with pytest.raises(FdsegError, match=r"data.split.file=.*: Is a directory"):
        read_split(tmp_path, pairs)


# Draws

TRAINING = tuple(f"hippocampus_{number:03}" for number in range(166))


@pytest.mark.parametrize("seed", range(10))
def test_a_larger_draw_of_a_seed_contains_the_smaller(seed):
    draws = [set(draw(TRAINING, n, seed)) for n in (4, 17, 83, 166)]
    assert [len(d) for d in draws] == [4, 17, 83, 166]
    assert draws[0] < draws[1] < draws[2] < draws[3]


def test_a_seed_draws_the_same_again_whatever_the_order():
    assert draw(TRAINING, 17, 3) == draw(TRAINING, 17, 3)
    assert set(draw(TRAINING[::-1], 17, 3)) == set(draw(TRAINING, 17, 3))


def test_every_seed_draws_others():
    assert len({draw(TRAINING, 4, seed) for seed in range(10)}) == 10


def test_draws_are_even():
    counts = Counter(name for seed in range(1000) for name in draw(TRAINING[:10], 4, seed))
    # Binomial(1000, 0.4) has the standard deviation 15.5.
    assert all(abs(count - 400) < 4 * 15.5 for count in counts.values())


@pytest.mark.parametrize("n", [-1, 0, 167])
def test_an_impossible_n_is_refused_with_what_is_possible(n):
    with pytest.raises(FdsegError, match=rf"n={n}: .*166 subjects. Choose n from 1 to 166"):
        draw(TRAINING, n, seed=0)
