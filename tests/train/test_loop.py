"""The training loop: determinism, resuming, rewinding, weights, plans, masks, distillation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.errors import (
    BadInput,
    CorruptFile,
    FingerprintMismatch,
    IdMismatch,
    NonFinite,
    SplitError,
    UnknownName,
)
from prunus.train.augment import flip, flip_shift, shift
from prunus.train.feed import Feed
from prunus.train.loop import fit
from prunus.train.masks import Masks
from prunus.train.models import TinyCNN, mlp, seeded

ROWS = 37


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 6, generator=generator)
    return x, (x[:, 0] > 0).long()


def net(seed: int = 0) -> nn.Module:
    return seeded(mlp, seed, 6, 12, 2)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values()))


def test_it_learns_and_says_what_it_did(rows):
    model = net()
    history = fit(model, rows, epochs=20, batch=8, lr=0.1)
    assert history.rows[-1]["loss"] < 0.2 < history.rows[0]["loss"]
    assert history.steps == 20 * 5
    assert history.samples == 20 * ROWS
    assert history.cpu_seconds > 0
    assert not model.training


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", lambda p: torch.optim.RMSprop(p, 1e-3)])
def test_equal_seeds_equal_weights(rows, optimizer):
    state = torch.get_rng_state()
    models = [net(), net(), net()]
    for model, seed in zip(models, (1, 1, 2)):
        fit(model, rows, epochs=3, batch=8, seed=seed, lr=0.01, optimizer=optimizer)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    assert torch.equal(state, torch.get_rng_state())


def test_dropout_is_seeded_and_the_order_does_not_depend_on_row_order(rows):
    x, y = rows
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    states = []
    for order in (torch.arange(ROWS), torch.randperm(ROWS)):
        for parameter in model.parameters():
            parameter.data.fill_(0.1)
        fit(model, (order.numpy(), x[order], y[order]), epochs=2, batch=8)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("save_every", [None, 3])
def test_a_killed_run_resumes_bit_for_bit(rows, tmp_path, optimizer, save_every):
    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))

    settings = {"epochs": 4, "batch": 8, "optimizer": optimizer, "lr": 0.05}
    whole = make()
    fit(whole, rows, **settings)

    class Killed(Exception):
        pass

    class Bomb:
        batches = 0

        def batch(self, *args, **options):
            self.batches += 1
            if self.batches == 13:
                raise Killed

        def end_epoch(self, epoch):
            pass

    broken, path = make(), tmp_path / "train.safetensors"
    with pytest.raises(Killed):
        fit(broken, rows, **settings, checkpoint=path, save_every=save_every, record=Bomb())
    resumed = make()
    history = fit(resumed, rows, **settings, checkpoint=path, save_every=save_every)
    assert same(whole, resumed)
    assert history.steps == 20
    assert history.samples == 4 * ROWS


def test_checkpoints_of_other_settings_and_broken_ones(rows, tmp_path):
    path = tmp_path / "train.safetensors"
    fit(net(), rows, epochs=1, batch=8, checkpoint=path)
    with pytest.raises(FingerprintMismatch, match="checkpoint"):
        fit(net(), rows, epochs=1, batch=8, seed=5, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptFile, match="delete it"):
        fit(net(), rows, epochs=1, batch=8, checkpoint=path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(CorruptFile):
        fit(net(), rows, epochs=1, batch=8, checkpoint=path)


def test_rewinding_runs_the_rest_of_the_same_schedule(rows):
    """Level 0 from W_k equals the dense run when momentum is off: same order, same rates."""
    dense = net()
    history = fit(dense, rows, steps=17, batch=8, momentum=0, snapshots=(6,), schedule="step")
    rewound = net(seed=9)
    rewound.load_state_dict(history.snapshots[6])
    fit(rewound, rows, steps=17, start=6, batch=8, momentum=0, schedule="step")
    assert same(dense, rewound)


def test_weights_scale_the_loss_of_their_rows(rows):
    x, y = rows
    ids = np.array([f"r{row}" for row in range(ROWS)])
    zeros = {identity: float(row < 20) for row, identity in enumerate(ids)}
    weighted, cut = net(), net()
    options = {"epochs": 1, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    fit(weighted, (ids, x, y), batch=ROWS, weights=zeros, **options)
    fit(cut, (ids[:20], x[:20], y[:20]), batch=20, **{**options, "lr": 0.1 * 20 / ROWS})
    for a, b in zip(weighted.parameters(), cut.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(IdMismatch, match="r"):
        fit(net(), (ids, x, y), epochs=1, weights={"r0": 1.0})
    with pytest.raises(NonFinite):
        fit(net(), rows, epochs=1, weights=np.full(ROWS, np.nan))


@dataclass
class Plan:
    ids: np.ndarray
    weights: np.ndarray | None = None


class Halves:
    """Odd and even rows in turn; counts what it is told."""

    def __init__(self):
        self.losses = np.zeros(ROWS)
        self.asked = []

    def epoch(self, t):
        self.asked.append(t)
        ids = np.arange(t % 2, ROWS, 2)
        return Plan(ids, np.full(len(ids), 2.0))

    def seen(self, ids, loss):
        self.losses[ids] += loss

    def state_dict(self):
        return {"losses": self.losses, "asked": list(self.asked)}

    def load_state_dict(self, state):
        self.losses, self.asked = state["losses"], list(state["asked"])


def test_a_dynamic_method_chooses_the_rows_of_each_epoch(rows):
    method = Halves()
    history = fit(net(), rows, epochs=4, batch=8, dynamic=method)
    assert method.asked == [0, 1, 2, 3]
    assert [row["samples"] for row in history.rows] == [19, 18, 19, 18]
    assert (method.losses > 0).all()


def test_a_dynamic_method_resumes_in_the_middle_of_an_epoch(rows, tmp_path):
    whole, method = net(), Halves()
    fit(whole, rows, epochs=3, batch=8, dynamic=method)

    class Stop(Exception):
        pass

    class Stopping(Halves):
        calls = 0

        def seen(self, ids, loss):
            super().seen(ids, loss)
            self.calls += 1
            if self.calls == 5:
                raise Stop

    path = tmp_path / "t.safetensors"
    with pytest.raises(Stop):
        fit(net(), rows, epochs=3, batch=8, dynamic=Stopping(), checkpoint=path, save_every=1)
    resumed, again = net(), Halves()
    fit(resumed, rows, epochs=3, batch=8, dynamic=again, checkpoint=path, save_every=1)
    assert same(whole, resumed)
    assert again.asked == [0, 1, 2]
    np.testing.assert_allclose(again.losses, method.losses)


def test_masked_weights_stay_zero_through_every_optimizer(rows):
    for optimizer in ("sgd", "adamw", lambda p: torch.optim.Adam(p, 1e-2, weight_decay=0.1)):
        model = net()
        mask = torch.rand(12, 6) < 0.4
        masks = Masks(model, {"1.weight": mask})
        fit(model, rows, epochs=3, batch=8, masks=masks, optimizer=optimizer, lr=0.05)
        assert (model[1].weight[~mask] == 0).all()
        assert (model[1].weight[mask] != 0).all()


def test_events_replace_masks_while_training(rows):
    @dataclass
    class Event:
        kind: str

    class Twice:
        def at(self, step, total):
            return Event("prune") if step in (4, 9) else None

    kept = []

    def prune(event, model):
        assert model[1].weight.grad is not None  # of the batch that the step was made of
        size = model[1].weight.abs().flatten()
        mask = model[1].weight.abs() >= size.kthvalue(len(size) // (3 if not kept else 2)).values
        kept.append(int(mask.sum()))
        return {"1.weight": mask}

    model = net()
    fit(model, rows, epochs=3, batch=8, events=Twice(), on_event=prune)
    assert len(kept) == 2
    assert int((model[1].weight != 0).sum()) == kept[1]


def test_distillation_moves_towards_the_teacher(rows):
    x, _ = rows
    teacher, student = net(5), net(6)
    wanted = teacher.eval()(x).softmax(1)
    before = (student.eval()(x).softmax(1) - wanted).abs().mean()
    fit(student, rows, epochs=30, batch=8, teacher=teacher, distill=1.0, lr=0.05)
    assert (student(x).softmax(1) - wanted).abs().mean() < 0.3 * before
    assert teacher[1].weight.grad is None


def test_a_loss_that_blows_up_names_step_and_rows(rows):
    x, y = rows
    x = x.clone()
    x[5] = float("nan")
    with pytest.raises(NonFinite, match=r"step \d+, rows \[5\]"):
        fit(net(), (x, y), epochs=1, batch=8)


def test_bad_requests(rows):
    class Test(torch.utils.data.Dataset):
        role = "test"

    with pytest.raises(SplitError, match="test"):
        fit(net(), Test(), epochs=1)
    with pytest.raises(BadInput, match="exactly one"):
        fit(net(), rows)
    with pytest.raises(UnknownName, match="cosine"):
        fit(net(), rows, epochs=1, schedule="cosin")
    with pytest.raises(UnknownName, match="sgd"):
        fit(net(), rows, epochs=1, optimizer="sdg")
    with pytest.raises(BadInput, match="one loss per row"):
        fit(net(), rows, epochs=1, loss_fn=nn.CrossEntropyLoss())
    with pytest.raises(BadInput, match="requires_grad"):
        fit(net().requires_grad_(False), rows, epochs=1)
    with pytest.raises(BadInput, match="no rows"):
        fit(net(), (torch.zeros(0, 6), torch.zeros(0)), epochs=1)


def test_feeds_of_every_form(rows):
    x, y = rows
    dataset = torch.utils.data.TensorDataset(x, y)

    class Own:
        ids = np.arange(ROWS)

        def batches(self, batch, *, ids):
            for start in range(0, len(ids), batch):
                at = ids[start : start + batch]
                yield at, x[at], y[at]

    results = []
    for data in ((x, y), dataset, Own()):
        model = net()
        fit(model, data, epochs=2, batch=8)
        results.append(model)
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    fit(net(), torch.utils.data.DataLoader(dataset, 8), epochs=2)
    with pytest.raises(IdMismatch, match="99"):
        list(Feed((x, y), 8).epoch(0, 0, np.array([1, 99])))
    assert np.concatenate([b[0] for b in Feed((x, y), 8).epoch(0, 0, np.array([3, 3, 1]))]).tolist().count(3) == 2


def test_augmentation_is_of_whole_batches_and_seeded():
    x = torch.arange(2 * 1 * 4 * 4, dtype=torch.float32).view(2, 1, 4, 4)
    for augment in (flip, shift, flip_shift):
        one, two = (augment(x, torch.Generator().manual_seed(4)) for _ in range(2))
        assert torch.equal(one, two)
        assert one.shape == x.shape
    still = shift(x, torch.Generator().manual_seed(0), pixels=0)
    assert torch.equal(still, x)
    model = seeded(TinyCNN, 0, 1, 4)
    fit(model, (x, torch.tensor([0, 1])), epochs=1, batch=2, augment=flip_shift, channels_last=True)


def test_a_silent_bar(rows, capfd):
    fit(net(), rows, epochs=1)
    assert capfd.readouterr() == ("", "")
    fit(net(), rows, epochs=1, progress=True)


def test_a_dataset_is_trained_on_recorded_and_measured(rows):
    """The whole of doors 2 and 3 on the project's own Dataset."""
    from prunus.prunables.dataset import Dataset
    from prunus.signals.collect import collect
    from prunus.signals.recorder import Recorder

    x, y = rows
    data = Dataset((x, y), ids=np.array([f"row{number}" for number in range(ROWS)]))
    recorder = Recorder(data, ("el2n_sum", "forgetting", "loss_last"))
    model = net()
    fit(model, data, epochs=4, batch=8, record=recorder)
    recorded = recorder.signals()
    measured = collect(model, data, ("probs", "grad_norm", "embedding")).rows
    assert recorded.ids.tolist() == measured.ids.tolist() == data.ids.tolist()
    assert measured.merge(recorded).forgetting.shape == (ROWS,)
    assert recorded.labels.tolist() == y.tolist()
    hidden = collect(model, data.with_role("val"), "loss").rows
    assert hidden.loss.mean() < 1
    with pytest.raises(SplitError):
        collect(model, data.with_role("test"), "loss")
