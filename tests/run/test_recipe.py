"""Recipes: what is refused and how, what a sweep becomes, what changes the hash."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from prunus.core.errors import BadInput, UnknownName
from prunus.recipe import cases, load, parse
from run.tiny_stages import RECIPE

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def tiny(**changed: Any) -> dict[str, Any]:
    return copy.deepcopy(RECIPE) | copy.deepcopy(changed)


def prune(**changed: Any) -> list[dict[str, Any]]:
    return [{"prune": {"method": "loss", "budget": "30% rows"} | changed}]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_are_read(path: Path) -> None:
    recipe = load(path)
    tried = cases(recipe)
    assert recipe.run.name == path.stem
    assert any(case.control for case in tried)
    assert any(case.arm.startswith("dense") for case in tried)
    assert len({(case.arm, case.budget) for case in tried}) == len(tried)


def test_a_single_table_needs_no_name() -> None:
    named = tiny(data={"main": RECIPE["data"]}, model={"main": RECIPE["model"]}, train={"main": RECIPE["train"]})
    assert parse(named).canonical() == parse(tiny()).canonical()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (tiny(run={"name": "x", "sedes": [1]}), r"key in run .*'sedes'; did you mean seeds"),
        (tiny(dta={}), r"key in the recipe .*'dta'; did you mean data"),
        (tiny(data={"sorce": "x"}), r"'sorce'; did you mean source"),
        (tiny(data={"a": {"source": "x", "lable": "y"}}), r"key in data\.a .*'lable'; did you mean label"),
        (tiny(arms=prune(metod="x")), r"key in arms\.0\.prune\.0 .*'metod'; did you mean method"),
        (tiny(arms=[{**prune()[0], "data": "mian"}]), r"\[data\] .*'mian'; did you mean main"),
        (tiny(arms=prune(budget="30% rosw")), "rosw"),
        (tiny(controls={"rowss": []}), "did you mean rows"),
        (tiny(signals={"train": "f"}), r"\[train\] for signals main.*'f'"),
        (
            tiny(arms=[{**prune()[0], "teacher": "ful"}], teacher={"full": {}}),
            r"\[teacher\] .*'ful'; did you mean full",
        ),
        (tiny(teacher={"full": {"train": "mian"}}), r"\[train\] for teacher full.*'mian'; did you mean main"),
        (tiny(teacher={"full": {"alfa": 1}}), r"key in teacher\.full .*'alfa'; did you mean alpha"),
    ],
)
def test_unknown_names_tell_the_nearest(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (tiny(run={}), "run.name is missing"),
        (tiny(run={"name": "../up"}), r"run\.name: .*pattern.*'\.\./up'"),
        (tiny(run={"name": "x", "seeds": [1, 1]}), "seeds must differ"),
        (tiny(run={"name": "x", "seeds": "a"}), r"run\.seeds"),
        (tiny(arms=[]), "arms"),
        (tiny(arms=prune(budget=["30% rows", "50% macs"])), "different units: channels, rows"),
        (tiny(arms=prune(unit="row")), "unit is one of"),
        (tiny(arms=prune(budget="lots")), "not a budget"),
        (tiny(train={"epochs": 1, "steps": 2}), "either epochs or steps"),
        (tiny(teacher={"full": {"alpha": 1.5}}), r"teacher\.full\.alpha.*1\.5"),
        (tiny(teacher={"full": {"temperature": 0}}), r"teacher\.full\.temperature"),
        (tiny(teacher={"full": {}}, arms=[{**prune(budget="50% macs")[0], "teacher": "full"}]), "nobody can teach"),
        (tiny(train={"a": {"epochs": 1}, "b": {"epochs": 2}}), r"must say which \[train\].*a, b"),
        (tiny(arms=prune() + prune()), "two arms are called 'loss'"),
        (tiny(controls={"rows": [3]}), "3 is no control"),
    ],
)
def test_bad_values_are_placed(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        cases(parse(raw))


def test_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no recipe"):
        load(tmp_path / "no.toml")
    (tmp_path / "a.toml").write_text("[run\n")
    with pytest.raises(BadInput, match="not valid TOML"):
        load(tmp_path / "a.toml")


def test_overrides() -> None:
    given = ["run.seeds=[3]", 'arms.0.prune.budget="10% rows"', "data.fit.limit=5", "run.name=other"]
    recipe = parse(tiny(), given)
    assert (recipe.run.seeds, recipe.run.name) == ((3,), "other")
    assert recipe.arms[0].prune[0].budget == ("10% rows",)
    assert recipe.data["main"].fit.limit == 5
    for bad in ("run.sedes=[1]", "run", "arms.7.name=x", "run.name.x=1", "=3"):
        with pytest.raises(BadInput):
            parse(tiny(), [bad])


def test_code_needs_permission() -> None:
    raw = tiny(model={"source": "my_models.nets:small"})
    with pytest.raises(BadInput, match=r"model\.main\.source = 'my_models\.nets:small'.*--allow-code"):
        parse(copy.deepcopy(raw))
    assert parse(raw, allow_code=True).model["main"].source == "my_models.nets:small"
    with pytest.raises(UnknownName, match="trust_remote_code"):
        parse(tiny(model={"source": "hf:x", "trust_remote_code": True}))


def test_hash_follows_numbers_only() -> None:
    base = parse(tiny())
    same = [
        parse(dict(reversed(tiny().items()))),
        parse(tiny(), ["run.jobs=7", "run.max_hours=1"]),
        parse(tiny(), ['report.title="x"']),
        parse(tiny(), ['arms.0.prune.method={name="loss"}', "train.lr=0.1"]),
    ]
    assert {recipe.hash() for recipe in same} == {base.hash()}
    assert base.folder == f"tiny-{base.hash()}"
    for change in ("run.seeds=[0]", "train.lr=0.2", 'arms.0.prune.method={name="loss", x=1}', "data.fit.limit=3"):
        assert parse(tiny(), [change]).hash() != base.hash()


def test_label_noise_counts_and_no_noise_is_what_it_always_was() -> None:
    base = parse(tiny())
    assert parse(tiny(), ["data.label_noise=0.0"]).hash() == base.hash()
    assert "label_noise" not in base.canonical()["data"]["main"]
    noisy = parse(tiny(), ["data.label_noise=0.2"])
    assert noisy.canonical()["data"]["main"]["label_noise"] == 0.2 and noisy.hash() != base.hash()
    with pytest.raises(BadInput, match="label_noise"):
        parse(tiny(), ["data.label_noise=1.5"])


SETTINGS = {
    "data": {"clean": {"source": "x"}, "noisy": {"source": "x", "label_noise": 0.2}},
    "train": {"same_steps": {"epochs": 1}, "same_epochs": {"epochs": 1, "equal": "epochs"}},
}


def test_an_arm_in_several_settings_is_named_by_each_with_controls_of_its_own() -> None:
    arms = [{**prune()[0], "data": ["clean", "noisy"], "train": ["same_steps", "same_epochs"]}]
    tried = cases(parse(tiny(**SETTINGS, arms=arms)))
    words = ("clean, same_steps", "clean, same_epochs", "noisy, same_steps", "noisy, same_epochs")
    names = [f"{arm} ({word})" for arm in ("dense", "loss", "random") for word in words]
    assert [case.arm for case in tried] == names
    assert [(case.data, case.train) for case in tried] == [tuple(word.split(", ")) for word in words] * 3


def test_an_arm_of_one_setting_keeps_its_name() -> None:
    both = {**prune()[0], "data": ["clean", "noisy"], "train": "same_steps"}
    alone = {**prune(method="other")[0], "data": "noisy", "train": "same_steps", "controls": []}
    tried = cases(parse(tiny(**SETTINGS, arms=[both, alone])))
    assert [case.arm for case in tried if not case.control] == [
        "dense (clean)", "dense (noisy)", "loss (clean)", "loss (noisy)", "other",
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"two arms are called 'loss \(noisy\)'"):
        cases(parse(tiny(**SETTINGS, arms=[both, {**both, "data": "noisy"}])))
    with pytest.raises(UnknownName, match="nosy"):
        parse(tiny(**SETTINGS, arms=[{**both, "data": ["clean", "nosy"]}]))


def test_lists_are_sweeps() -> None:
    arms = prune(method=["a", {"name": "b", "x": 2}], budget=["30% rows", "10% rows"], select=["ccs", "hardest"])
    tried = [case for case in cases(parse(tiny(arms=arms, controls={"rows": []}))) if case.steps]
    assert len(tried) == 8
    assert {case.arm for case in tried} == {"a + ccs", "a + hardest", "b(x=2) + ccs", "b(x=2) + hardest"}


def test_controls_are_shared_or_copy_counts() -> None:
    arms = prune(method=["a", "b"]) + [
        {"prune": {"method": ["c", "d"], "budget": "50% macs", "compensate": "joint_ls"}, "train": "main"},
    ]
    tried = cases(parse(tiny(arms=arms, recover={"how": "finetune", "epochs": 1})))
    names = [case.arm for case in tried if case.control]
    assert names.count("random") == 1
    assert "random + joint_ls (as c + joint_ls)" in names
    assert "random + joint_ls (as d + joint_ls)" in names
    copies = next(case for case in tried if case.arm.startswith("random + joint_ls (as c"))
    assert copies.like is not None
    assert copies.like.arm == "c + joint_ls"
    assert (copies.train, copies.recover) == ("main", "main")
    dense = [case for case in tried if not case.steps]
    assert [case.recover for case in dense] == ["", "main"]


def test_no_controls() -> None:
    assert not any(case.control for case in cases(parse(tiny(controls={"rows": []}))))
    arm = [{**prune()[0], "controls": [{"name": "b", "select": "ccs"}]}]
    assert [case.arm for case in cases(parse(tiny(arms=arm))) if case.control] == ["b + ccs"]


def test_several_units_in_one_arm() -> None:
    steps = [{"method": "a", "budget": ["30% rows", "10% rows"]}, {"method": "c", "budget": "50% macs"}]
    tried = cases(parse(tiny(arms=[{"prune": steps}], controls={"rows": [], "channels": ["r"]})))
    arms = [case for case in tried if case.steps and not case.control]
    assert [case.arm for case in arms] == ["a then c"] * 2
    assert [case.budget for case in arms] == ["30% rows then 50% macs", "10% rows then 50% macs"]
    assert [case.arm for case in tried if case.control] == ["a then r"] * 2


def test_teachers_are_a_sweep_and_the_dense_arm_is_never_taught() -> None:
    arms = [{**prune()[0], "teacher": ["none", "full"]}]
    tried = cases(parse(tiny(arms=arms, teacher={"full": {}})))
    assert [(case.arm, case.teacher) for case in tried if not case.control] == [
        ("dense", ""),
        ("loss", ""),
        ("loss, taught by full", "full"),
    ]
    controls = {case.arm: case for case in tried if case.control}
    assert set(controls) == {"random", "random, taught by full"}
    assert controls["random, taught by full"].teacher == "full"


def test_an_arm_that_is_taught_stands_beside_the_same_rows_without_a_teacher() -> None:
    raw = tiny(arms=[{**prune()[0], "teacher": "full"}], teacher={"full": {}})
    raw.pop("controls")
    tried = cases(parse(raw))
    untaught = next(case for case in tried if case.arm == "loss, taught by full (not taught)")
    taught = next(case for case in tried if case.arm == "loss, taught by full")
    assert (untaught.control, untaught.teacher, untaught.steps, untaught.like) == (True, "", taught.steps, taught)
    assert not any("not taught" in case.arm for case in cases(parse(tiny(controls={"rows": ["no_teacher"]}))))


def test_a_budget_in_milliseconds_is_one_over_channels() -> None:
    text = "15 ms at batch 16, 2 threads"
    (arm,) = [c for c in cases(parse(tiny(arms=prune(method="l1", budget=text)))) if c.arm == "l1" and not c.control]
    assert arm.budget == text and arm.steps[0].unit == "channels" and arm.steps[0].round_to is None
