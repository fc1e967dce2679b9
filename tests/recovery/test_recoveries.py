import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.errors import BadInput, SplitError, UnknownName
from prunus.prunables.combined import combine as px_combine
from prunus.prunables.dataset import Dataset
from prunus.recovery.bn_stats import bn_stats
from prunus.recovery.combine import combine
from prunus.recovery.distill import distill, lessons, weight_of_teacher
from prunus.recovery.finetune import finetune
from prunus.train.loop import fit
from prunus.train.tiles import TileCrop


def rows(count: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


def loss_of(model: nn.Module) -> float:
    x, y = rows()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model.eval()(x), y))


def test_finetune_trains_and_tells_its_cost():
    model, report = net(), {}
    before = loss_of(model)
    out = finetune(model, rows(), steps=20, lr=0.1, batch=32, report=report)
    assert out is model
    assert not model.training
    assert loss_of(model) < before
    assert report["steps"] == 20
    assert report["samples"] == 640
    assert report["cpu_seconds"] > 0


def test_finetune_is_a_function_of_the_seed():
    one, other, third = (finetune(net(), rows(), steps=5, seed=s) for s in (0, 0, 1))
    assert torch.equal(one[0].weight, other[0].weight)
    assert not torch.equal(one[0].weight, third[0].weight)


@pytest.mark.parametrize("how", ["finetune", "distill"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masked_weights_stay_zero(how, optimizer):
    model = net()
    mask = torch.rand(16, 6) < 0.5
    options = {"steps": 6, "optimizer": optimizer, "masks": {"0.weight": mask}, "lr": 0.05}
    if how == "finetune":
        finetune(model, rows(), **options)
    else:
        distill(model, rows(), teacher=net(1), **options)
    assert (model[0].weight[~mask] == 0).all()
    assert (model[0].weight[mask] != 0).all()


def test_norms_only_trains_norms_only_and_restores_flags():
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    finetune(model, rows(), steps=3, norms_only=True)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"1.weight", "1.bias"}
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(BadInput, match="no normalisation"):
        finetune(nn.Linear(6, 4), rows(), steps=1, norms_only=True)


def test_distillation_moves_towards_the_teacher_and_leaves_it_alone():
    teacher = net(1).train()
    state = copy.deepcopy(teacher.state_dict())
    model = net()
    x, _ = rows()

    def gap() -> float:
        with torch.no_grad():
            p, q = teacher.eval()(x).log_softmax(-1), model.eval()(x).log_softmax(-1)
            return float((p.exp() * (p - q)).sum(-1).mean())

    before = gap()
    teacher.train()
    distill(model, rows(), teacher=teacher, steps=40, lr=0.1, batch=32, alpha=1.0)
    assert teacher.training
    assert all(torch.equal(v, state[k]) for k, v in teacher.state_dict().items())
    assert gap() < before / 2


def test_alpha_one_does_not_read_the_labels():
    x, y = rows()
    one = distill(net(), (x, y), teacher=net(1), steps=4, alpha=1.0)
    other = distill(net(), (x, 3 - y), teacher=net(1), steps=4, alpha=1.0)
    assert torch.equal(one[0].weight, other[0].weight)


def test_weight_of_teacher():
    assert weight_of_teacher("auto", 1.0) == 0.5
    assert weight_of_teacher("auto", 0.1) == pytest.approx(0.95)
    assert weight_of_teacher(0.3, 1.0) == 0.3
    for alpha, kept in ((1.5, 1.0), ("more", 1.0), ("auto", 0.0)):
        with pytest.raises(BadInput):
            weight_of_teacher(alpha, kept)


def test_a_much_larger_teacher_is_warned_of_where_few_rows_are_kept():
    large = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 4))
    with pytest.warns(UserWarning, match=r"10% of the rows are kept and the teacher is much larger"):
        lessons(net(), large, alpha="auto", kept=0.1, temperature=4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = lessons(net(), large, alpha="auto", kept=0.5, temperature=2.0)
        lessons(large, net(), alpha=0.0, kept=0.1, temperature=4.0)
    assert told == {"teacher": large, "distill": 0.75, "temperature": 2.0}


def test_a_teacher_is_needed_and_is_another_model():
    model = net()
    with pytest.raises(BadInput, match="teacher"):
        distill(model, rows(), steps=1)
    with pytest.raises(BadInput, match="itself"):
        distill(model, rows(), steps=1, teacher=model)


def test_recovery_never_sees_test_or_validation_rows():
    x, y = rows()
    for role in ("test", "val"):
        for method in (finetune, bn_stats):
            with pytest.raises(SplitError):
                method(net(), Dataset((x, y), role=role))


def test_bn_stats_are_those_of_the_data_and_nothing_else_changes():
    x, y = rows(64)
    model = net().train()
    weights = {k: v.detach().clone() for k, v in model.named_parameters()}
    report = {}
    out = bn_stats(model, (x, y), batch=64, report=report)
    hidden = model[0](x)
    torch.testing.assert_close(model[1].running_mean, hidden.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model[1].running_var, hidden.var(0), atol=1e-5, rtol=1e-5)
    assert out is model
    assert not model.training
    assert model[1].momentum == 0.1
    assert report["samples"] == 64
    assert all(torch.equal(v, weights[k]) for k, v in model.named_parameters())


def test_bn_stats_do_not_depend_on_row_order_and_skip_the_rest():
    x, y = rows(90)
    ids, order = np.arange(90), np.random.RandomState(0).permutation(90)
    one = bn_stats(net(), (ids, x, y), batch=32)
    other = bn_stats(net(), (ids[order], x[order], y[order]), batch=32)
    torch.testing.assert_close(one[1].running_mean, other[1].running_mean, atol=1e-6, rtol=1e-5)
    assert int(one[1].num_batches_tracked) == 2


def test_bn_stats_without_batch_norm_change_nothing():
    model = nn.Linear(6, 4).train()
    assert bn_stats(model, rows()) is model
    assert not model.training


def pictures(count: int = 48) -> Dataset:
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(count) % 2
    return Dataset(((x + y.view(-1, 1, 1, 1)).numpy(), y.numpy()))


def flat(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def test_combined_images_are_trained_on_by_their_tiles():
    report = {}
    model = combine(flat(), pictures(), epochs=2, batch=4, lr=0.05, report=report)
    assert report["samples"] == 2 * 48 / 4  # a view of every stored image each epoch
    by_hand = flat()
    crop = TileCrop(2)
    fit(by_hand, px_combine(pictures()), epochs=2, batch=4, lr=0.05, augment=crop)
    torch.testing.assert_close(model[1].weight, by_hand[1].weight)
    whole = combine(flat(), pictures(), epochs=2, batch=4, lr=0.05, within="none")
    image = combine(flat(), pictures(), epochs=2, batch=4, lr=0.05, within="image")
    assert not torch.equal(whole[1].weight, image[1].weight)
    with pytest.raises(UnknownName, match="did you mean tile"):
        combine(flat(), pictures(), epochs=1, within="tiles")


def test_what_follows_the_crop_sees_its_result():
    seen = []

    def zeros(x, generator):
        seen.append(x.shape)
        return x * 0

    combine(flat(), pictures(), steps=1, batch=4, augment=zeros)
    assert seen == [(4, 1, 8, 8)]
