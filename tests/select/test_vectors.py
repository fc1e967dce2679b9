"""Selectors over embeddings: naive references, guarantees, and that nothing but the data decides."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from prunus.core.errors import BadInput, NonFinite
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths import certified
from prunus.select import craig as craig_module
from prunus.select import grad_match as grad_match_module
from prunus.select.craig import craig
from prunus.select.facility_location import facility_location
from prunus.select.glister import Validation, glister
from prunus.select.grad_match import grad_match
from prunus.select.graph_cut import graph_cut
from prunus.select.herding import herding
from prunus.select.k_center import k_center, radius
from prunus.select.log_determinant import log_determinant
from prunus.select.moderate import moderate
from prunus.signals.rowset import Signals

RNG = Rng(0, "select/k_center")
GREEDY = {
    "k_center": lambda s, m, **o: k_center(s, m, rng=RNG, **o),
    "k_center random": lambda s, m, **o: k_center(s, m, first="random", rng=RNG, **o),
    "herding": herding,
    "facility_location": facility_location,
    "facility_location sparse": lambda s, m, **o: facility_location(s, m, neighbours=7, **o),
    "graph_cut": graph_cut,
    "craig": lambda s, m, **o: craig(s, m, **{"within": "all", **o}),
    "log_determinant": log_determinant,
    "craig cosine": lambda s, m, **o: craig(s, m, similarity="cosine", **{"within": "all", **o}),
}
EVERY = {
    **GREEDY,
    "moderate": moderate,
    "glister": glister,
    "grad_match": lambda s, m, **o: grad_match(s, m, **{"within": "all", **o}),
}
greedy = pytest.mark.parametrize("select", GREEDY.values(), ids=GREEDY)
every = pytest.mark.parametrize("select", EVERY.values(), ids=EVERY)


def scored(n=60, d=5, seed=0, x=None, ids=None) -> GroupScore:
    """Clusters with an offset, probabilities and labels, ids in no order."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, n)
    x = (draw.normal(size=(n, d)) + 3 * draw.normal(size=(3, d))[labels] + 2).astype(np.float32) if x is None else x
    probs = draw.dirichlet(np.ones(3), n)
    ids = 100 + draw.permutation(n) if ids is None else ids
    signals = Signals(ids, embedding=x, labels=labels, probs=probs)
    return GroupScore(draw.random(n), ids, "hard", signals, "rows")


def moved(score: GroupScore, order) -> GroupScore:
    return GroupScore(score.values[order], score.ids[order], score.sense, score.signals.take(order), score.name)


def embedding(score: GroupScore) -> np.ndarray:
    return score.signals.embedding.numpy().astype(np.float64)


def cosines(x: np.ndarray) -> np.ndarray:
    u = x / np.linalg.norm(x, axis=1)[:, None]
    return 0.5 + 0.5 * u @ u.T


def naive(score: GroupScore, count: int, value) -> list[int]:
    """Greedy by trying every unit: `value(kept, unit)` is to be largest; of equals, up to rounding, the lower id."""
    kept: list[int] = []
    for _ in range(count):
        rest = [i for i in np.argsort(score.ids) if i not in kept]
        kept.append(int(rest[int(np.argmax(np.round([value(kept, int(i)) for i in rest], 9)))]))
    return kept


@every
def test_exact_distinct_and_follows_its_rows(select):
    score = scored()
    order = np.random.default_rng(3).permutation(60)
    back = moved(score, order)
    for count in (0, 1, 17, 60):
        chosen = select(score, count)
        assert chosen.dtype == np.int64 and np.unique(chosen).size == count == chosen.size
        np.testing.assert_array_equal(back.ids[select(back, count)], score.ids[chosen])


@greedy
def test_a_smaller_count_keeps_a_prefix_and_start_is_kept(select):
    score = scored(seed=1)
    chosen = select(score, 20)
    np.testing.assert_array_equal(select(score, 9), chosen[:9])
    start = tuple(score.ids[chosen[:6]].tolist())
    np.testing.assert_array_equal(select(score, 20, start=start), chosen)
    assert set(start) <= set(score.ids[select(score, 20, start=start, within="class")].tolist())
    with pytest.raises(BadInput, match="6 units where 3 are kept"):
        select(score, 3, start=start)
    with pytest.raises(BadInput, match="7"):
        select(score, 3, start=(7,))
    with pytest.raises(BadInput, match="different units"):
        select(score, 3, start=start[:1] * 2)


@every
def test_copies_of_rows_are_ties_by_id(select):
    half = scored(30, seed=2)
    twice = moved(half, np.arange(60) % 30)
    ids = np.concatenate([np.arange(30) + 50, np.arange(30)])
    signals = Signals(ids, **{name: twice.signals.field(name) for name in ("embedding", "labels", "probs")})
    score = GroupScore(np.zeros(60), ids, "hard", signals)
    order = np.random.default_rng(0).permutation(60)
    back = moved(score, order)
    kept = score.ids[select(score, 20)]
    np.testing.assert_array_equal(back.ids[select(back, 20)], kept)
    place = {int(i): at for at, i in enumerate(kept)}
    if select is moderate:
        return
    for low in range(30):  # a copy with the higher id never comes before its twin
        assert place.get(low, 99) <= place.get(low + 50, 99)


@every
def test_equal_rows_keep_the_lowest_ids(select):
    n = 12
    ids = np.arange(n)[::-1].copy()
    signals = Signals(ids, embedding=np.ones((n, 3)), labels=np.zeros(n, dtype=int), probs=np.full((n, 2), 0.5))
    score = GroupScore(np.zeros(n), ids, "hard", signals)
    chosen = score.ids[select(score, 5)]
    first = 0 if select is not moderate else 4  # the middle of the ranking by id: (12 - 5) / 2 to even
    expected = sorted(chosen.tolist()) if select is GREEDY["k_center random"] else list(range(first, first + 5))
    assert sorted(chosen.tolist()) == expected


@every
def test_within_class_keeps_shares(select):
    score = scored(seed=4)
    labels = score.signals.labels.numpy()
    chosen = select(score, 30, within="class")
    assert np.abs(np.bincount(labels[chosen], minlength=3) - np.bincount(labels, minlength=3) / 2).max() < 1


@every
@pytest.mark.parametrize("name", ["embedding", "probs"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_not_finite_is_refused_by_id(select, name, wrong):
    score = scored()
    field = score.signals.field(name).clone()
    field[4, 1] = wrong
    score.signals._parts[name] = (field,)
    if name == "probs" and select not in [EVERY[n] for n in EVERY if n.startswith(("craig", "grad"))]:
        return
    with pytest.raises(NonFinite, match=str(score.ids[4])):
        select(score, 10)


def test_zero_vectors_are_refused_where_directions_count():
    x = np.random.default_rng(0).normal(size=(20, 3))
    x[7] = 0
    score = scored(20, x=x)
    for select in (facility_location, graph_cut):
        with pytest.raises(BadInput, match=str(score.ids[7])):
            select(score, 4)
    assert herding(score, 4).size == k_center(score, 4, rng=RNG).size == 4


@every
def test_missing_signals_are_named(select):
    ids = np.arange(8)
    with pytest.raises(BadInput, match="embedding"):
        select(GroupScore(np.zeros(8), ids, "hard", Signals(ids, labels=np.zeros(8, dtype=int))), 2)
    fields = {"embedding": np.zeros((8, 2, 2)), "labels": np.zeros(8, dtype=int), "probs": np.full((8, 2), 0.5)}
    score = GroupScore(np.zeros(8), ids, "hard", Signals(ids, **fields))
    with pytest.raises(BadInput, match=r"\[n, d\]"):
        select(score, 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_k_center_is_the_naive_one(seed, offset):
    score = scored(50, 7, seed)
    x = (score.signals.embedding.numpy() + np.float32(offset)).astype(np.float32)
    score = scored(50, 7, seed, x=x)
    x = x.astype(np.float64)
    away = ((x[:, None] - x) ** 2).sum(-1)
    first = int(np.argmin(((x - x.mean(0)) ** 2).sum(1)))
    expected = naive(score, 25, lambda kept, i: away[i, kept].min() if kept else float(i == first))
    np.testing.assert_array_equal(k_center(score, 25, rng=RNG), expected)


def test_k_center_covers_within_twice_the_best_radius():
    score = scored(11, 2, 5)
    x = embedding(score)
    away = np.linalg.norm(x[:, None] - x, axis=-1)
    radii = [radius(score, k_center(score, m, rng=RNG)) for m in range(1, 6)]
    assert radii == sorted(radii, reverse=True)
    for m, found in enumerate(radii, 1):
        best = min(away[:, list(kept)].min(1).max() for kept in combinations(range(11), m))
        assert found <= 2 * best + 1e-9


@pytest.mark.parametrize("parity", ["paper", "official"])
def test_herding_is_the_naive_one(parity):
    score = scored(40, 6, 2)
    x, sign = embedding(score), -1 if parity == "paper" else 1

    def value(kept, i):
        return sign * np.linalg.norm((len(kept) + 1) * x.mean(0) - x[kept].sum(0) - x[i])

    np.testing.assert_array_equal(herding(score, 20, parity=parity), naive(score, 20, value))


def test_herding_matches_the_mean_better_than_random():
    score = scored(400, 4, 7)
    x = embedding(score)
    chosen = herding(score, 100)
    errors = [np.linalg.norm(x[chosen[:m]].mean(0) - x.mean(0)) * m for m in (10, 20, 50, 100)]
    assert max(errors) < 10  # O(1/m)
    assert errors[-1] / 100 < np.linalg.norm(x[RNG.sample(score.ids, 100)].mean(0) - x.mean(0))


@pytest.mark.parametrize("max_ram", [24 * 40, 24 * 40 * 5, 1 << 30])
def test_facility_location_is_the_naive_one_whatever_the_memory(max_ram):
    score = scored(40, 6, 3)
    s = cosines(embedding(score))

    def value(kept, i):
        return s[:, [*kept, i]].max(1).sum()

    np.testing.assert_array_equal(facility_location(score, 20, max_ram=max_ram), naive(score, 20, value))


def test_facility_location_refuses_memory_for_less_than_one_row():
    with pytest.raises(BadInput, match="1440 bytes"):
        facility_location(scored(), 5, max_ram=100)


@pytest.mark.parametrize("seed", range(4))
def test_facility_location_reaches_its_guarantee(seed):
    score = scored(10, 3, seed)
    s = cosines(embedding(score))
    values = {kept: s[:, list(kept)].max(1).sum() for kept in combinations(range(10), 3)}
    found = s[:, facility_location(score, 3)].max(1).sum()
    assert found >= (1 - np.exp(-1)) * max(values.values())


@pytest.mark.parametrize("lam", [0.0, 1.0, 2.0])
def test_graph_cut_is_the_naive_one(lam):
    score = scored(40, 6, 6)
    s = cosines(embedding(score))

    def value(kept, i):
        every = [*kept, i]
        return lam * s[:, every].sum() - s[np.ix_(every, every)].sum()

    # The first pick of lam 0 is a tie of all gains, decided by id in one and by rounding in the other.
    start = tuple(score.ids[:1].tolist()) if lam == 0 else ()
    if lam:
        np.testing.assert_array_equal(graph_cut(score, 15, lam=lam), naive(score, 15, value))
    else:
        first = graph_cut(score, 2, lam=lam, start=start)
        assert first[1] == s[0].argmin()
    with pytest.raises(BadInput, match="lam"):
        graph_cut(score, 3, lam=-1.0)


def outer(score: GroupScore) -> np.ndarray:
    """Last-layer gradients, written out."""
    errors = score.signals.probs.numpy() - np.eye(3)[score.signals.labels.numpy()]
    inputs = np.concatenate([np.ones((score.ids.size, 1)), embedding(score)], axis=1)
    return (errors[:, :, None] * inputs[:, None]).reshape(score.ids.size, -1)


def test_craig_is_facility_location_of_the_gradients_written_out():
    score = scored(40, 4, 8)
    g = outer(score)
    away = np.linalg.norm(g[:, None] - g, axis=-1)
    s = away.max() - away
    expected = naive(score, 15, lambda kept, i: s[:, [*kept, i]].max(1).sum())
    chosen = craig(score, 15, within="all")
    np.testing.assert_array_equal(chosen, expected)
    counts = np.bincount(away[:, chosen].argmin(1), minlength=15)
    np.testing.assert_array_equal(craig_module.weights(score, chosen, within="all"), counts)
    assert craig_module.weights(score, craig(score, 15)).sum() == 40


def test_grad_match_is_pursuit_of_the_gradients_written_out():
    score = scored(40, 4, 9)
    g, kept = outer(score), []
    target = residual = g.mean(0)
    for _ in range(15):
        along = g @ residual
        along[kept] = -np.inf
        kept.append(int(along.argmax()))
        a = g[kept]
        residual = target - a.T @ np.linalg.solve(a @ a.T + 0.5 * np.eye(len(kept)), a @ target)
    chosen = grad_match(score, 15, lam=0.5, within="all")
    np.testing.assert_array_equal(chosen, kept)
    weights = grad_match_module.weights(score, chosen, lam=0.5, within="all")
    assert (weights >= 0).all()
    assert np.linalg.norm(g[chosen].T @ weights - target) < np.linalg.norm(target)
    with pytest.raises(BadInput, match="lam"):
        grad_match(score, 3, lam=0.0)


def test_gradients_refuse_labels_that_are_no_class():
    score = scored()
    labels = score.signals.labels.clone()
    labels[3] = 9
    score.signals._parts["labels"] = (labels,)
    with pytest.raises(BadInput, match=str(score.ids[3])):
        craig(score, 5)


def test_moderate_keeps_the_middle_ranks():
    x = np.arange(9.0)[:, None] ** 2
    signals = Signals(np.arange(9), embedding=x, labels=np.zeros(9, dtype=int))
    away = np.abs(x[:, 0] - 16)
    chosen = moderate(GroupScore(np.zeros(9), np.arange(9), "hard", signals), 3)
    np.testing.assert_array_equal(chosen, np.argsort(away, kind="stable")[3:6])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales_change_nothing(scale):
    score = scored(30)
    far = scored(30, x=embedding(score) * scale)
    near = scored(30, x=embedding(score))
    for select in EVERY.values():
        if select in [EVERY[n] for n in ("craig", "craig cosine", "grad_match", "glister")]:
            continue  # gradients have a bias next to the embedding
        np.testing.assert_array_equal(select(far, 12), select(near, 12))


def test_chunks_do_not_matter(monkeypatch):
    score = scored(60, seed=5)
    before = [select(score, 30) for select in EVERY.values()]
    monkeypatch.setattr(certified, "CHUNK", 3)
    for select, chosen in zip(EVERY.values(), before):
        np.testing.assert_array_equal(select(score, 30), chosen)


@pytest.mark.parametrize("lam", [0.01, 1.0])
@pytest.mark.parametrize("d", [2, 9])
def test_log_determinant_is_the_naive_one(d, lam):
    score = scored(n=50, d=d)
    order = np.argsort(score.ids)
    kernel = cosines(embedding(score))[np.ix_(order, order)]
    picked: list[int] = []
    for _ in range(25):
        inside = kernel[np.ix_(picked, picked)] + lam * np.eye(len(picked))
        across = kernel[:, picked]
        left = np.diag(kernel) - (across * np.linalg.solve(inside, across.T).T).sum(1) if picked else np.diag(kernel)
        left = np.round(left, 9)
        left[picked] = -np.inf
        picked.append(int(left.argmax()))
    assert np.searchsorted(score.ids[order], score.ids[log_determinant(score, 25, lam=lam)]).tolist() == picked
    with pytest.raises(BadInput, match="lam must be above 0"):
        log_determinant(score, 5, lam=0.0)


def test_log_determinant_reaches_its_guarantee():
    score, lam = scored(n=12, d=3), 1.0
    kernel = cosines(embedding(score))
    value = {at: np.linalg.slogdet(np.eye(4) + kernel[np.ix_(at, at)] / lam)[1] for at in combinations(range(12), 4)}
    kept = tuple(sorted(log_determinant(score, 4, lam=lam).tolist()))
    assert value[kept] >= (1 - 1 / np.e) * max(value.values())


def loss_after(score: GroupScore, val: GroupScore, kept, eta: float) -> np.ndarray:
    """Gradient of the validation loss, written out, after one step on the mean gradient of the kept rows."""
    x, h = (np.c_[np.ones(s.ids.size), embedding(s)] for s in (score, val))
    p, q = (s.signals.probs.numpy().astype(np.float64) for s in (score, val))
    y, z = (np.eye(3)[s.signals.labels.numpy()] for s in (score, val))
    each = np.einsum("nc,nk->nck", p - y, x)
    moved = eta * each[kept].mean(0) if len(kept) else np.zeros((3, x.shape[1]))
    logits = np.log(q) - h @ moved.T
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.einsum("nck,ck->n", each, (q - z).T @ h / h.shape[0])


@pytest.mark.parametrize("other", [True, False])
def test_glister_is_the_naive_one(other):
    score, eta = scored(n=40), 0.05
    val = scored(n=25, seed=3) if other else score
    kept = glister(score, 12, val=val.signals if other else None, eta=eta)
    picked: list[int] = []
    for _ in range(12):
        gains = loss_after(score, val, picked, eta)
        gains[picked] = -np.inf
        picked.append(int(gains.argmax()))
    assert kept.tolist() == picked
    steps = Validation(val)
    assert not np.allclose(steps.gradient(), steps.gradient(0.1 * np.eye(3, 6)))
    assert glister(score, 12, eta=eta, refresh=5).size == 12


def test_glister_refuses_what_does_not_fit():
    score = scored()
    with pytest.raises(BadInput, match="validation rows have 3 classes and 4 features, the rows 3 and 5"):
        glister(score, 5, val=scored(d=4).signals)
    with pytest.raises(BadInput, match="has no validation rows"):
        glister(score, 9, val=scored(n=9).signals.take([0]), within="class")
    for wrong in ({"eta": 0.0}, {"refresh": 0}):
        with pytest.raises(BadInput, match="eta must be above 0 and refresh"):
            glister(score, 5, **wrong)


@pytest.mark.parametrize("neighbours", [3, 59])
def test_sparse_facility_location_is_the_naive_one(neighbours):
    score = scored()
    s = cosines(embedding(score))
    ranks = np.argsort(np.argsort(-(s - 2 * np.eye(60)), axis=1), axis=1)
    linked = (ranks < neighbours) | (ranks < neighbours).T | np.eye(60, dtype=bool)
    s = np.where(linked, s, 0.0)
    np.testing.assert_array_equal(
        facility_location(score, 15, neighbours=neighbours),
        naive(score, 15, lambda kept, i: s[:, [*kept, i]].max(1).sum()),
    )
    if neighbours == 59:
        np.testing.assert_array_equal(facility_location(score, 15), facility_location(score, 15, neighbours=59))
    with pytest.raises(BadInput, match="neighbours must be 1 or more"):
        facility_location(score, 15, neighbours=0)
