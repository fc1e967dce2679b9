"""The body of every stage on a few digits: what it reads, what it leaves, and that the next one can go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunus.core import files
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Plan
from prunus.core.score import Score
from prunus.flow.save import got
from prunus.prunables.combined import combine
from prunus.recipe.schema import DataTable, MeasureTable, ModelTable, PruneTable, RecoverTable, SignalsTable, TrainTable
from prunus.run.folder import samples_of
from prunus.run.models_on_disk import constructed, plans_of, read_model
from prunus.run.outside import plan_facts, target_facts
from prunus.run.plans_on_disk import modules_signals, rows_signals
from prunus.run.rows_on_disk import limited, read_rows
from prunus.run.stages import STAGES
from prunus.signals.rowset import Signals
from prunus.sources.models import open_model
from prunus.train.loop import fit
from prunus.train.tiles import TileCrop

Params = dict[str, Any]
DIGITS: Params = {"source": "sklearn:digits", "fit": {"limit": 96}, "val": {"share": 0.2, "limit": 16}}
DIGITS |= {"test": {"share": 0.25, "limit": 40}}
CNN: Params = {"source": "prunus:tinycnn", "options": {"width": 4}}
TRAIN: Params = {"epochs": 1, "batch": 32, "lr": 0.05}


class Made:
    """Folders of stages, each made once for the whole module."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, stage: str, name: str, params: Mapping[str, Any], **inputs: Path) -> Path:
        out = self.root / name
        if not out.exists():
            out.mkdir(parents=True)
            STAGES[stage].body(inputs, dict(params), out)
        return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("stages"))


def data(made: Made) -> Path:
    return made("data", "data", table(DataTable, **DIGITS))


def model(made: Made) -> Path:
    return made("model", "model", {**table(ModelTable, **CNN), "seed": 0})


def table(kind: type, **values: Any) -> Params:
    """A recipe's table with its defaults, as the resolver hands it to a stage."""
    return kind(**values).model_dump(mode="json")


def step(method: str, budget: str, **more: Any) -> Params:
    """One removal, as the resolver hands it to the plan stage."""
    plain = PruneTable(method=method, budget=budget, **more).model_dump(mode="json")
    first = ("method", "select", "allocate", "compensate")
    return {name: (value[0] if value else None) if name in first else value for name, value in plain.items()} | {
        "budget": budget
    }


def signals(made: Made) -> Path:
    """Recorded while training."""
    params = table(SignalsTable, seeds=[3, 4], train="t") | {"train": table(TrainTable, **TRAIN), "need": ["el2n_sum"]}
    return made("signals", "signals", params, data=data(made), model=model(made))


def calibration(made: Made) -> Path:
    """Of one pass."""
    params = table(SignalsTable, limit=32, batch=16) | {"train": None, "need": ["grad", "input_var", "input_mean"]}
    return made("signals", "calibration", params, data=data(made), model=model(made))


def score(made: Made) -> Path:
    params = {"unit": "rows", "method": {"name": "el2n_sum", "options": {}}, "at": ""}
    return made("score", "score", params, data=data(made), signals=signals(made))


def rows_plan(made: Made) -> Path:
    inputs = {"data": data(made), "signals": signals(made), "score": score(made)}
    return made("plan", "rows-plan", step("el2n_sum", "50% rows", select="ccs"), **inputs)


def validated(made: Made, train: Params | None) -> Path:
    """Signals of rows of role fit, and of those of role val."""
    params = table(SignalsTable, train="t") | {"train": train, "need": ["embedding"], "val": ["probs"]}
    name = "validated-pass" if train is None else "validated-training"
    return made("signals", name, params, data=data(made), model=model(made))


def trained(made: Made) -> Path:
    params = {**table(TrainTable, **TRAIN), "seed": 1}
    return made("train", "trained", params, data=data(made), model=model(made), plan=rows_plan(made))


def channels_plan(made: Made) -> Path:
    inputs = {"data": data(made), "model": trained(made), "dense": trained(made), "signals": calibration(made)}
    return made("plan", "channels-plan", step("taylor", "60% macs", compensate="mean_bias"), **inputs)


def small(made: Made) -> Path:
    return made("apply", "small", {"unit": "channels", "mode": "cut"}, model=trained(made), plan=channels_plan(made))


def test_data_roles_are_apart_and_limited(made: Made) -> None:
    roles = {role: read_rows(data(made), role) for role in ("fit", "val", "test")}
    assert {role: len(rows) for role, rows in roles.items()} == {"fit": 96, "val": 16, "test": 40}
    every = np.concatenate([rows.ids for rows in roles.values()])
    assert np.unique(every).size == every.size
    assert all(rows.role == role for role, rows in roles.items())
    x = next(roles["fit"].batches(8))
    assert isinstance(x, tuple) and x[1].shape == (8, 1, 8, 8)


def test_a_role_that_is_not_there_is_asked_for(made: Made) -> None:
    alone = made("data", "alone", table(DataTable, **{**DIGITS, "test": None}))
    with pytest.raises(BadInput, match="no rows of role test"):
        read_rows(alone, "test")


def test_a_role_with_a_limit_says_where_its_rows_come_from(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"val .*share = .* source = "):
        STAGES["data"].body({}, table(DataTable, **{**DIGITS, "val": {"limit": 16}}), tmp_path)


def test_a_limit_draws_the_same_rows_in_any_order(made: Made) -> None:
    rows = read_rows(data(made), "fit")
    turned = rows.select(np.arange(len(rows))[::-1])
    assert set(limited(rows, 10, "x").ids.tolist()) == set(limited(turned, 10, "x").ids.tolist())
    assert limited(rows, 1000, "x") is rows


def test_label_noise_is_in_fit_only_and_told(made: Made) -> None:
    noisy = made("data", "noisy", table(DataTable, **DIGITS, label_noise=0.3))
    labels = {role: (read_rows(data(made), role), read_rows(noisy, role)) for role in ("fit", "val", "test")}
    wrong = {role: int((clean.labels != rows.labels).sum()) for role, (clean, rows) in labels.items()}
    assert all(np.array_equal(clean.ids, rows.ids) for clean, rows in labels.values())
    assert wrong["val"] == wrong["test"] == 0 and 15 < wrong["fit"] < 45  # 96 rows
    told = files.read_json(noisy / "data.json")["roles"]
    assert told["fit"] == {"rows": 96, "label_noise": 0.3, "wrong_labels": wrong["fit"]} and told["test"] == {
        "rows": 40
    }
    assert np.array_equal(files.read_arrays(noisy / "fit.safetensors")["clean_labels"], labels["fit"][0].labels)
    assert labels["fit"][0].fingerprint() != labels["fit"][1].fingerprint()


def test_images_are_written_sized_and_read_normalised(made: Made, tmp_path: Path) -> None:
    from PIL import Image

    for place in range(24):
        folder = tmp_path / "images" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * place, 0, 255)).save(folder / f"{place}.png")
    params = table(DataTable, source=str(tmp_path / "images"), size=4, normalise="half", val={"share": 0.3})
    folder = made("data", "images", params)
    stored = files.read_arrays(folder / "fit.safetensors")
    assert stored["x"].dtype == np.uint8 and stored["x"].shape[1:] == (3, 4, 4)
    rows = read_rows(folder, "fit")
    batch = next(rows.batches(2))
    assert isinstance(batch, tuple)
    assert batch[1].dtype == torch.float32
    assert float(batch[1][:, 2].min()) == 1.0  # blue 255, normalised by (0.5, 0.5)
    assert rows.classes == ("a", "b")


def test_classes_of_the_test_set_are_numbered_like_those_of_fit(made: Made, tmp_path: Path) -> None:
    (tmp_path / "fit.csv").write_text("x,label\n" + "".join(f"{i},{'abc'[i % 3]}\n" for i in range(9)))
    (tmp_path / "test.csv").write_text("x,label\n0,c\n1,b\n")
    params = table(
        DataTable, source=str(tmp_path / "fit.csv"), label="label", test={"source": str(tmp_path / "test.csv")}
    )
    labels = read_rows(made("data", "classes", params), "test").labels
    assert labels is not None and labels.tolist() == [2, 1]


def test_a_canvas_gives_several_rows_of_each_digit(made: Made) -> None:
    chosen = {"name": "canvas", "side": 16, "digit": 8, "copies": 3}
    folder = made("data", "canvas", table(DataTable, **DIGITS, transform=chosen))
    fit, test = read_rows(folder, "fit"), read_rows(folder, "test")
    assert len(fit) == 3 * 96 and len(test) == 40
    assert files.read_json(folder / "data.json")["roles"]["fit"]["rows"] == len(fit)
    assert {str(one).rpartition("/")[2] for one in fit.ids} == {"0", "1", "2"}
    batch = next(fit.batches(4))
    assert isinstance(batch, tuple) and batch[1].shape == (4, 1, 16, 16)
    first, second = (fit.take([f"{str(fit.ids[0]).rpartition('/')[0]}/{copy}"])[0] for copy in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("chosen", "message"), [({"name": "canvass"}, "did you mean canvas"), ({"name": "canvas", "sise": 8}, "sise.*side")]
)
def test_unknown_transforms_are_named(tmp_path: Path, chosen: Params, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        STAGES["data"].body({}, table(DataTable, **DIGITS, transform=chosen), tmp_path)


def test_text_becomes_windows_of_tokens(made: Made, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcdefgh" * 40)
    params = table(
        DataTable, source=str(tmp_path / "text.txt"), window=8, tokenizer="bytes", val={}, test={"share": 0.2}
    )
    folder = made("data", "windows", params)
    rows = read_rows(folder, "fit")
    batch = next(rows.batches(2))
    assert isinstance(batch, dict)
    assert bytes(batch["input_ids"][0].tolist()) == b"abcdefgh"
    assert torch.equal(batch["labels"], batch["input_ids"])
    assert files.read_json(folder / "data.json")["roles"]["fit"]["tokenizer"]
    with pytest.raises(BadInput, match="tokenizer"):
        STAGES["data"].body({}, params | {"tokenizer": ""}, tmp_path)


def test_a_model_is_drawn_from_its_seed(made: Made) -> None:
    other = made("model", "other", {**table(ModelTable, **CNN), "seed": 1})
    first, second = (dict(read_model(folder).named_parameters()) for folder in (model(made), other))
    assert first["conv1.weight"].shape[0] == 4
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])


def test_signals_of_a_training_are_one_run_a_seed(made: Made) -> None:
    runs = rows_signals(signals(made))
    ids = read_rows(data(made), "fit").ids
    assert [run.provenance["seed"] for run in runs] == [3, 4]
    assert all(np.array_equal(run.ids, ids) and "el2n_sum" in run.names for run in runs)
    assert modules_signals(signals(made)) is None


def test_signals_of_a_pass_are_those_of_modules(made: Made) -> None:
    found = modules_signals(calibration(made))
    assert found is not None and "conv1" in found
    assert rows_signals(calibration(made)) == []
    assert rows_signals(None) == [] and modules_signals(None) is None


def test_scores_are_of_rows_or_channels(made: Made) -> None:
    rows = Score.load(score(made))
    assert rows.unit == "rows" and rows.group("rows").values.shape == (96,)
    params = {"unit": "channels", "method": {"name": "l1", "options": {}}, "at": ""}
    channels = Score.load(made("score", "channels-score", params, data=data(made), model=model(made)))
    assert channels.unit == "channels" and all(np.isfinite(values).all() for values in channels.values.values())


def test_a_plan_over_rows_keeps_what_its_budget_says(made: Made) -> None:
    plan = Plan.load(rows_plan(made))
    assert plan.keep().size == 48
    assert str(plan.provenance["select"]).endswith("ccs")


def test_pinned_rows_stay_and_banned_rows_go(made: Made, tmp_path: Path) -> None:
    ids = read_rows(data(made), "fit").ids
    pinned, banned = tmp_path / "pinned.txt", tmp_path / "banned.npy"
    pinned.write_text("".join(f"{one}\n" for one in ids[:5].tolist()))
    np.save(banned, ids[5:9])
    params = step("el2n_sum", "40% rows", select="top", pin=str(pinned), ban=str(banned))
    inputs = {"data": data(made), "signals": signals(made), "score": score(made)}
    kept = Plan.load(made("plan", "pinned-plan", params, **inputs)).keep()
    assert np.isin(ids[:5], kept).all() and not np.isin(ids[5:9], kept).any()
    before = plan_facts(params)
    pinned.write_text(f"{ids[0]}\n")
    assert set(before) == {"pin", "ban"} and plan_facts(params) != before
    assert plan_facts(step("el2n_sum", "40% rows")) == {}


def test_a_target_is_found_and_counts_with_its_file(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.full((6, 10), -1.0)
    logits[:4, 3], logits[4:, 8] = 1.0, 1.0
    np.savez(tmp_path / "target.npz", logits=logits)
    monkeypatch.setenv("PRUNUS_DATA", str(tmp_path))
    params = {"unit": "rows", "method": {"name": "label_mapping", "options": {"target": "target.npz"}}, "at": ""}
    found = Score.load(made("score", "mapped-score", params, data=data(made)))
    labels = read_rows(data(made), "fit").labels
    assert set(found.group("rows").values[labels == 3]) == {10} and set(found.group("rows").values[labels == 8]) == {9}
    before = target_facts(params)
    np.savez(tmp_path / "target.npz", logits=logits[:5])
    assert set(before) == {"target target.npz"} and target_facts(params) != before
    assert plan_facts({"select": params["method"]}) == target_facts(params)


def test_training_reads_the_rows_that_stay_and_tells_its_cost(made: Made) -> None:
    facts = files.read_json(trained(made) / "training.json")
    assert facts["steps"] == 3  # as many as an epoch of all 96 rows
    assert samples_of(trained(made)) == facts["samples"] <= 3 * 32
    assert samples_of(model(made)) is None
    before, after = (read_model(folder).state_dict()["linear.weight"] for folder in (model(made), trained(made)))
    assert not torch.equal(before, after)


def test_rows_may_be_chosen_while_training(made: Made) -> None:
    table_of = {**table(TrainTable, **TRAIN | {"epochs": 2, "equal": "epochs"}), "seed": 1}
    params = {**table_of, "dynamic": {"method": {"name": "rs2", "options": {}}, "budget": "50% rows"}}
    folder = made("train", "dynamic", params, data=data(made), model=model(made))
    assert samples_of(folder) == 2 * 48


def test_a_teacher_teaches_the_rows_that_stay(made: Made, tmp_path: Path) -> None:
    params = {**table(TrainTable, **TRAIN), "seed": 1, "teacher": {"alpha": "auto", "temperature": 2.0}}
    inputs = {"data": data(made), "model": model(made), "plan": rows_plan(made), "teacher": trained(made)}
    folder = made("train", "taught", params, **inputs)
    assert files.read_json(folder / "training.json")["alpha"] == 0.75  # half of the rows: 1 - 0.5 / 2
    rows = Plan.load(rows_plan(made)).apply(read_rows(data(made), "fit"))
    alike, teacher = read_model(model(made)), read_model(trained(made))
    settings: Params = {"batch": 32, "lr": 0.05, "steps": 3, "seed": 1, "channels_last": True}
    fit(alike, rows, teacher=teacher, distill=0.75, temperature=2.0, **settings)
    torch.testing.assert_close(dict(read_model(folder).state_dict()), dict(alike.state_dict()))
    assert not torch.equal(alike.state_dict()["linear.weight"], teacher.state_dict()["linear.weight"])


def test_images_that_stay_are_combined_in_the_order_of_their_score(made: Made) -> None:
    params = {**table(TrainTable, **TRAIN, combine={"scale": [0.7, 1.0]}), "seed": 1}
    inputs = {"data": data(made), "model": model(made), "plan": rows_plan(made)}
    folder = made("train", "combined", params, **inputs, score=score(made))
    rows = combine(Plan.load(rows_plan(made)).apply(read_rows(data(made), "fit")), score=Score.load(score(made)))
    assert len(rows) < 48 / 2
    alike, crop = read_model(model(made)), TileCrop(2, scale=(0.7, 1.0))
    fit(alike, rows, batch=32, lr=0.05, steps=3, seed=1, channels_last=True, augment=crop)
    torch.testing.assert_close(dict(read_model(folder).state_dict()), dict(alike.state_dict()))


def test_unknown_augmentations_are_named(made: Made, tmp_path: Path) -> None:
    params = {**table(TrainTable, **TRAIN, augment=["flipp"]), "seed": 1}
    with pytest.raises(UnknownName, match="did you mean flip"):
        STAGES["train"].body({"data": data(made), "model": model(made)}, params, tmp_path)


def test_a_cut_is_smaller_proved_and_carried_on(made: Made) -> None:
    dense, cut = read_model(trained(made)), read_model(small(made))
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in dense.parameters())
    assert files.read_json(small(made) / "applied.json")["got"]["mask_equivalence_error"] < 1e-4
    assert [plan.unit for plan in plans_of(small(made))] == ["channels"]


def test_a_control_copies_the_counts(made: Made) -> None:
    inputs = {"data": data(made), "model": trained(made), "dense": trained(made), "signals": calibration(made)}
    params = {**step("random", "60% macs"), "seed": 7}
    plan, like = (
        Plan.load(folder)
        for folder in (
            made("plan", "control", params, like=channels_plan(made), **inputs),
            channels_plan(made),
        )
    )
    assert {name: kept.count for name, kept in plan.groups.items()} == {n: k.count for n, k in like.groups.items()}
    assert plan.provenance["method"] == "channels/random"


def test_weights_are_planned_without_a_score(made: Made) -> None:
    inputs = {"data": data(made), "model": trained(made), "dense": trained(made)}
    plan = Plan.load(made("plan", "weights", step("magnitude", "50% weights", within="group"), **inputs))
    assert plan.unit == "weights" and plan.provenance["within"] == "group"


def test_recovery_goes_on_from_the_cut(made: Made) -> None:
    how = ["bn_stats", "finetune", {"name": "distill", "temperature": 2.0}]
    params = {**table(RecoverTable, how=how, epochs=1, limit=32, batch=16), "seed": 0}
    inputs = {"data": data(made), "model": small(made), "dense": trained(made), "plan": channels_plan(made)}
    recovered = read_model(made("recover", "recovered", params, **inputs))
    before = read_model(small(made))
    assert recovered.state_dict()["conv1.weight"].shape == before.state_dict()["conv1.weight"].shape
    assert not torch.equal(recovered.state_dict()["linear.weight"], before.state_dict()["linear.weight"])
    assert not torch.equal(recovered.state_dict()["bn1.running_mean"], before.state_dict()["bn1.running_mean"])
    proof = got(small(made))["mask_equivalence_error"]
    assert got(made.root / "recovered")["mask_equivalence_error"] == proof < 1e-4


def test_measures_become_lines_with_notes(made: Made) -> None:
    params = table(MeasureTable, metrics=["accuracy", "params", "macs"])
    inputs = {"data": data(made), "model": small(made), "dense": trained(made), "plan": channels_plan(made)}
    folder = made("measure", "measured", params, **inputs)
    found = {line["metric"]: line for line in files.read_json_lines(folder / "metrics.jsonl")}
    assert 0 <= found["accuracy"]["value"] <= 1 and found["accuracy"]["interval"]
    assert "role=test" in found["accuracy"]["note"]
    assert found["params"]["value"] == sum(p.numel() for p in read_model(small(made)).parameters())
    masked = {**inputs, "model": trained(made), "plan": made.root / "weights"}
    test_weights_are_planned_without_a_score(made)
    lines = files.read_json_lines(made("measure", "masked", params, **masked) / "metrics.jsonl")
    assert [line["metric"] for line in lines if "masked" in line["note"]] == ["params", "nonzero_params", "macs"]


def test_a_report_shows_scores_classes_and_pictures(made: Made, tmp_path: Path) -> None:
    place = tmp_path / "arms" / "el2n_sum" / "50% rows" / "seed0"
    place.mkdir(parents=True)
    for name, folder in (("score", score(made)), ("plan", rows_plan(made)), ("data", data(made))):
        (place / name).symlink_to(folder)
    row = {"what": "el2n_sum", "method": "rows/el2n_sum", "budget": "50% rows", "seed": 0, "metric": "accuracy"}
    (tmp_path / "metrics").mkdir()
    files.append_json(tmp_path / "metrics" / "el2n_sum.jsonl", [{**row, "value": 0.5}])
    files.write_json(tmp_path / "env.json", {})
    out = tmp_path / "out"
    out.mkdir()
    STAGES["report"].body({"run": tmp_path}, {"name": "digits", "title": "Few digits", "forms": ["html"]}, out)
    (page,) = out.glob("*.html")
    text = page.read_text("utf-8")
    assert "Few digits" in text
    for part in ("rows kept in each class", "scores", "data:image"):
        assert part in text, part


def test_recorded_runs_start_as_the_constructor_starts(tmp_path: Path) -> None:
    """ResNets draw their own initialisation; torch's reset would lose it."""
    out = made_model(tmp_path)
    first, again, other = (constructed(out, seed).state_dict() for seed in (3, 3, 4))
    own = open_model("prunus:resnet8", seed=3, weights="random").state_dict()
    assert all(torch.equal(own[name], value) for name, value in first.items())
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.equal(other["conv1.weight"], first["conv1.weight"])


def made_model(folder: Path) -> Path:
    STAGES["model"].body({}, table(ModelTable, source="prunus:resnet8"), folder)
    return folder


@pytest.mark.parametrize("train", [None, table(TrainTable, **TRAIN)])
def test_quotas_by_the_recall_of_validation_rows(made: Made, train: Params | None) -> None:
    inputs = {"data": data(made), "signals": validated(made, train), "score": score(made)}
    name = f"quotas-{train is None}"
    params = step("el2n_sum", "50% rows", select="random", allocate="by_recall", floor=2)
    val = Signals.load(inputs["signals"] / "val")
    labels = read_rows(inputs["data"], "fit").labels
    assert {"probs", "labels"} <= set(val.names) and len(val) == 16 and labels is not None
    absent = set(labels.tolist()) - set(np.asarray(val.labels).tolist())
    if absent:  # 16 rows of ten classes
        with pytest.raises(BadInput, match="no validation rows"):
            made("plan", name, params, **inputs)
    given = params | {"allocate": {"name": "by_recall", "options": {"recall": [0.9] * 5 + [0.5] * 5}}}
    plan = Plan.load(made("plan", f"{name}-given", given, **inputs))
    rows = read_rows(inputs["data"], "fit")
    kept = np.bincount(labels[np.isin(rows.ids, plan.keep())], minlength=10)
    assert kept.sum() == 48 and kept[5:].sum() > 2 * kept[:5].sum() and kept.min() >= 2


def test_selectors_in_turn_and_clusters(made: Made) -> None:
    inputs = {"data": data(made), "signals": validated(made, None), "score": score(made)}
    select = {"name": "semdedup,ccs", "eps": 0.001}
    params = step("el2n_sum", "25% rows", select=select, allocate="uniform", over="clusters:3")
    plan = Plan.load(made("plan", "in-turn", params, **inputs))
    assert plan.keep().size == 24
    told = {name: plan.provenance[name] for name in ("select", "allocate", "over")}
    assert told == {"select": "select/semdedup,ccs", "allocate": "uniform", "over": "clusters:3"}
