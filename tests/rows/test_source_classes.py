"""Label mapping and feature mapping: what must hold of votes and rankings, several targets, paths, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput, NonFinite, UnknownName
from prunus.core.rng import Rng
from prunus.core.score import Score
from prunus.flow.rows import plan_rows, score_rows
from prunus.maths import euclidean
from prunus.prunables.dataset import Dataset
from prunus.rows import feature_mapping as feature_module
from prunus.rows import label_mapping as label_module
from prunus.rows.feature_mapping import centroids, feature_mapping
from prunus.rows.label_mapping import label_mapping
from prunus.signals.rowset import Signals

RNG = np.random.default_rng(0)
CENTRES = 4 * RNG.standard_normal((6, 5))
LABELS = np.repeat(np.arange(6), 10)
SOURCE = CENTRES[LABELS] + RNG.standard_normal((60, 5))
LOGITS = RNG.standard_normal((40, 6))


def like(*classes, rows=15, seed=1):
    """Rows of a target that look like some source classes."""
    rng = np.random.default_rng(seed)
    return CENTRES[rng.choice(classes, rows)] + rng.standard_normal((rows, 5))


def source(**more):
    return Signals(1000 + np.arange(60), embedding=SOURCE, labels=LABELS, **more)


def feature_ranking(*targets, **options):
    return feature_module.ranking(centroids(SOURCE, LABELS), list(targets), **options)


def test_votes_are_counted_and_more_classes_keep_all_of_fewer():
    found = label_module.ranking(LOGITS)
    assert found.votes.sum() == 40
    kept = [set(found.kept(number)) for number in range(1, 7)]
    assert all(a < b for a, b in zip(kept, kept[1:]))
    certain = label_module.ranking(100.0 * np.eye(6)[[2, 2, 5]])
    assert certain.votes.tolist() == [0, 0, 2, 0, 0, 1] and certain.order[:2].tolist() == [2, 5]


@pytest.mark.parametrize("only", range(6))
def test_a_target_that_copies_one_class_finds_it(only):
    assert feature_ranking(SOURCE[only == LABELS]).order[0] == only
    assert label_module.ranking(LOGITS[LOGITS.argmax(1) == only]).order[0] == only


def test_copies_of_the_target_scale_the_votes():
    once, thrice = label_module.ranking(LOGITS), label_module.ranking(np.tile(LOGITS, (3, 1)))
    np.testing.assert_array_equal(thrice.votes, 3 * once.votes)
    np.testing.assert_array_equal(thrice.order, once.order)


def test_feature_mapping_does_not_move_with_a_common_rotation_and_translation():
    turn, shift = np.linalg.qr(RNG.standard_normal((5, 5)))[0], 100 * RNG.standard_normal(5)
    target = like(0, 3, 4)
    plain, moved = centroids(SOURCE, LABELS), centroids(SOURCE @ turn + shift, LABELS)
    found = feature_module.ranking(moved, [target @ turn + shift])
    np.testing.assert_array_equal(found.votes, feature_module.ranking(plain, [target]).votes)
    np.testing.assert_array_equal(found.order, feature_module.ranking(plain, [target]).order)
    assert set(found.order[:3]) == {0, 3, 4}
    trimmed = feature_module.ranking(centroids(SOURCE, LABELS, centroid="trimmed"), [target])
    assert set(trimmed.order[:3]) == {0, 3, 4}


def test_equal_votes_go_by_probability_then_by_class():
    logits = np.array([[5.0, 1, 0, 2], [5.0, 1, 0, 2]])
    assert label_module.ranking(logits).order.tolist() == [0, 3, 1, 2]
    assert label_module.ranking(logits, ties="id").order.tolist() == [0, 1, 2, 3]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert label_module.ranking(probs).order.tolist() == [0, 3, 1, 2]
    assert label_module.ranking(logits, reverse=True).order.tolist() == [2, 1, 3, 0]


def test_the_mean_and_the_median_of_the_target_rank_by_distance():
    target = like(2, rows=9)
    for by, point in (("mean", target.mean(0)), ("median", np.median(target, axis=0))):
        away = ((centroids(SOURCE, LABELS) - point) ** 2).sum(1)
        assert feature_ranking(target, by=by).order.tolist() == np.argsort(away).tolist()


def test_several_targets():
    small, large = like(0, rows=5), like(4, rows=50)
    both = feature_ranking(small, large)
    assert set(both.order[:2]) == {0, 4} and both.votes.sum() == pytest.approx(2)
    assert feature_ranking(small, large, combine="max").votes.max() <= 1
    score = feature_mapping(source(), target=[Signals(embedding=small), large])
    np.testing.assert_array_equal(score.numpy(), both.values(LABELS))


def test_what_a_number_of_classes_rests_on():
    found = label_module.ranking(100.0 * np.eye(6)[[2] * 18 + [5] + [1]])
    assert (found.covering(0.9), found.covering(0.91), found.covering(1.0)) == (1, 2, 3)
    assert found.unvoted(4).tolist() == [0] and found.unvoted(3).size == 0
    assert found.rows(LABELS, 1).tolist() == list(range(20, 30))
    for wrong in (0, 7):
        with pytest.raises(BadInput, match="source classes"):
            found.kept(wrong)
    with pytest.raises(BadInput, match="share"):
        found.covering(0)


def test_whole_classes_are_planned_and_the_last_in_part():
    data = Dataset((SOURCE.astype(np.float32), LABELS), ids=1000 + np.arange(60), name="source")
    score = score_rows(data, "label_mapping", signals=source(), options={"target": LOGITS})
    order = label_module.ranking(LOGITS).order
    whole = plan_rows(score, "20 rows").keep() - 1000
    assert set(LABELS[whole]) == set(order[:2]) and whole.size == 20
    more = plan_rows(score, "23 rows").keep() - 1000
    assert set(LABELS[more]) == set(order[:3]) and (LABELS[more] == order[2]).sum() == 3


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_target_by_path_counts_by_its_content(kind, tmp_path):
    data = Dataset((SOURCE.astype(np.float32), LABELS), ids=1000 + np.arange(60), name="source")
    place = tmp_path / "target" if kind == "folder" else tmp_path / "target.npz"
    if kind == "folder":
        Signals(logits=LOGITS).save(place)
    else:
        np.savez(place, logits=LOGITS)
    score = score_rows(data, "label_mapping", signals=source(), options={"target": str(place)})
    given = score_rows(data, "label_mapping", signals=source(), options={"target": LOGITS})
    np.testing.assert_array_equal(score.values["rows"], given.values["rows"])
    saved = (Score.load(score.save(tmp_path / "score")).save(tmp_path / "again") / "score.json").read_text()
    assert str(tmp_path) not in saved and '"target"' in saved
    with pytest.raises(BadInput, match="does not exist"):
        score_rows(data, "label_mapping", signals=source(), options={"target": str(tmp_path / "no.npz")})


def test_clusters_where_there_are_no_labels():
    target, bare = like(1, 5), Signals(1000 + np.arange(60), embedding=SOURCE)
    found = feature_mapping(bare, target=target, clusters=6, rng=Rng(0, "test")).numpy()
    best = {int(label) for label in LABELS[found >= np.unique(found)[-2]]}
    assert {1, 5} <= best and len(best) <= 3
    order = np.random.default_rng(3).permutation(60)
    moved = feature_mapping(bare.take(order), target=target, clusters=6, rng=Rng(0, "test")).numpy()
    np.testing.assert_array_equal(moved, found[order])
    assert feature_mapping(bare, target=target, rng=Rng(0, "test")).max() == 8  # sqrt(60) clusters


def test_means_of_clusters_and_rows_nearest_to_them():
    found = euclidean.means(SOURCE, LABELS, 7)
    np.testing.assert_allclose(found[:6], [SOURCE[one == LABELS].mean(0) for one in range(6)])
    assert np.isnan(found[6]).all()  # no row, and no row is ever nearest to it
    expected = ((SOURCE[:, None] - found[:6]) ** 2).sum(-1)
    np.testing.assert_allclose(next(euclidean.distances(SOURCE, found))[:, :6], expected)
    np.testing.assert_array_equal(euclidean.nearest(SOURCE, found), expected.argmin(1))


@pytest.mark.parametrize(
    "target, error, match",
    [
        (None, BadInput, "target="),
        (np.zeros((0, 6)), BadInput, "not empty"),
        (np.zeros(6), BadInput, r"\[n, d\]"),
        (np.full((2, 6), np.nan), NonFinite, r"\[0, 1\]"),
        (Signals([7, 8], logits=[[0.0, np.inf], [0.0, 1.0]]), NonFinite, r"\[7\]"),
        (Signals(embedding=np.ones((3, 6))), BadInput, "embedding"),
        ([np.ones((3, 6)), np.ones((3, 5))], BadInput, "one width"),
        (np.ones((3, 5)), BadInput, "label 5 of id 1050"),
    ],
)
def test_targets_that_cannot_be_used(target, error, match):
    with pytest.raises(error, match=match):
        label_mapping(source(), target=target)


def test_sources_and_options_that_cannot_be_used():
    with pytest.raises(BadInput, match="same encoder"):
        feature_mapping(source(), target=np.ones((3, 4)))
    with pytest.raises(BadInput, match="class number"):
        label_mapping(Signals(labels=LABELS / 2), target=LOGITS)
    with pytest.raises(BadInput, match="class number"):
        label_mapping(Signals(labels=LABELS - 1), target=LOGITS)
    for options in ({"by": "mode"}, {"centroid": "mode"}, {"middle": 0.0}, {"combine": "mean"}, {"ties": "no"}):
        with pytest.raises(BadInput):
            feature_mapping(source(), target=like(0), **options)
    data = Dataset((SOURCE.astype(np.float32), LABELS), name="source")
    with pytest.raises(UnknownName, match="target"):
        score_rows(data, "label_mapping", signals=None, options={"targets": LOGITS})
