"""Diffusion models that start from a normalizing flow, and the choice of the start."""

import numpy as np
import pytest
import torch
from estimators import rows, thorough
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from test_diffusion import QUICK, UNTRAINED, mass_on_a_grid, random_velocity

from skgen import DiffusionModel, EMGaussianMixture, NormalizingFlow
from skgen.diffusion._training import BestDensity
from skgen.neural._training_rows import RowsInMemory

FLOW = NormalizingFlow(2, hidden_layer_sizes=(8,), max_epochs=5, random_state=0)


@pytest.fixture(autouse=True)
def fixed_numbers():
    """Make initial weights the same in every order of the tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def flow():
    """Return a flow that is fitted to rows in other units."""
    return clone(FLOW).fit(1e3 + 10 * rows(300, 3))


def with_flow(flow, **parameters):
    return DiffusionModel(**{**QUICK, "base": flow, **parameters})


def test_a_model_without_training_is_its_flow(flow):
    X = 1e3 + 10 * rows(200, 3)
    model = with_flow(flow, **{**UNTRAINED, "base": flow}).fit(X)
    assert model.base_ is flow
    far = np.vstack([X, X.mean(axis=0) + 1e4])
    expected = flow.score_samples(far)
    np.testing.assert_allclose(model.score_samples(far), expected, rtol=1e-10)
    np.testing.assert_allclose(model.transform(far), flow.transform(far), rtol=1e-10)
    np.testing.assert_array_equal(
        model.sample(20, random_state=0), flow.sample(20, random_state=0)
    )


@pytest.mark.parametrize("scale", [1.0, thorough(3.0)])
def test_the_density_of_any_network_and_flow_integrates_to_one(scale):
    X = rows(400, 2)
    model = with_flow("flow", max_epochs=25).fit(X)
    assert model.base_.max_epochs == 5
    model._velocity = random_velocity(2, (8, 8), scale=scale)
    # The derivative of a spline of the flow has kinks, and the sum over a grid an error
    # of the second order in its steps there.
    assert mass_on_a_grid(model, 201, 0.5) == pytest.approx(1, abs=5e-3)


def test_draws_are_the_rows_of_normal_noise(flow):
    model = with_flow(flow, rtol=1e-3).fit(1e3 + 10 * rows(200, 3))
    model._velocity = random_velocity(3, (8, 8))
    Z = model.transform(model.sample(4000, random_state=0))
    for column in Z.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(Z.T) - np.eye(3)).max() < 0.06


def test_flow_and_model_hold_out_the_same_rows(monkeypatch):
    seen = []
    place = RowsInMemory.placed

    def placed(self, encode, device):
        seen.append(self)
        return place(self, encode, device)

    monkeypatch.setattr(RowsInMemory, "placed", placed)
    X = rows(100, 2).astype(np.float32)
    model = with_flow("flow", max_epochs=1).fit(X)
    of_flow, of_model = seen
    assert of_flow is of_model
    assert of_flow.n_held_out == 10
    assert model.base_._fit_dtype == np.float32  # whose rounding sets the floor


def test_many_rows_have_few_epochs_of_the_flow(monkeypatch):
    monkeypatch.setattr("skgen.diffusion._diffusion_model._FLOW_ROWS", 290)
    X = rows(100, 2)
    assert with_flow("flow", max_epochs=30).fit(X).base_.max_epochs == 2
    assert with_flow("flow", max_epochs=7).fit(X).base_.max_epochs == 1
    assert with_flow("flow", max_epochs=1).fit(rows(300, 2)).base_.max_epochs == 1


@pytest.mark.parametrize(
    ("of_splines", "of_flow", "chosen"),
    [(-1.0, -2.0, "spline"), (-2.0, -1.0, "flow"), (-1.0, -1.0, "spline")],
)
def test_held_out_rows_choose_the_base(monkeypatch, of_splines, of_flow, chosen):
    trained = []

    def score(self, net):
        return of_splines if trained[-1].base_ == "spline" else of_flow

    train = DiffusionModel._train

    def remember(self, rows, held_out, epochs, *more):
        trained.append(self)
        epochs_of[str(self.base_)] = epochs
        train(self, rows, held_out, epochs, *more)

    epochs_of = {}
    monkeypatch.setattr(BestDensity, "_score", score)
    monkeypatch.setattr(DiffusionModel, "_train", remember)
    # The flow is trained by the method of its own class.
    X = rows(60, 2)
    model = with_flow("auto", max_epochs=9).fit(X)
    assert sorted(epochs_of.values()) == [3, 9]
    assert epochs_of["spline"] == 9
    if chosen == "spline":
        assert model.base_ == "spline"
        assert len(model.history_) == 9
    else:
        assert isinstance(model.base_, NormalizingFlow)
        assert len(model.history_) == 3
    alone = with_flow(chosen, max_epochs=9).fit(X)
    assert type(model._coordinates) is type(alone._coordinates)


def test_without_held_out_rows_training_starts_from_splines():
    X = rows(60, 2)
    assert with_flow("auto", early_stopping=False).fit(X).base_ == "spline"
    assert with_flow("auto", max_epochs=1).fit(X).base_ == "spline"
    assert with_flow("auto").fit(rows(20, 2)).base_ == "spline"
    assert with_flow("auto").partial_fit(X).base_ == "spline"


def test_an_unfitted_flow_is_cloned_and_fitted():
    X = rows(60, 2)
    model = with_flow(FLOW).fit(X)
    assert not hasattr(FLOW, "n_features_in_")
    assert model.base_.n_features_in_ == 2
    assert clone(model).base.get_params() == FLOW.get_params()
    again = with_flow(NormalizingFlow(max_epochs=2))
    np.testing.assert_array_equal(
        clone(again).fit(X).score_samples(X), again.fit(X).score_samples(X)
    )


def test_a_frozen_flow_survives_a_clone(flow):
    X = 1e3 + 10 * rows(60, 3)
    model = clone(with_flow(FrozenEstimator(flow))).fit(X)
    assert model.base_ is flow


def test_partial_fit_and_warm_start_keep_the_flow():
    X = rows(60, 2)
    model = with_flow("flow", warm_start=True).fit(X)
    first = model.base_
    assert model.partial_fit(X).base_ is first
    assert model.fit(X).base_ is first


@pytest.mark.parametrize("base", ["spline", "flow", "images"])
def test_training_continues_without_a_solution_for_every_row(monkeypatch, base):
    image = {"base": "normal", "image_shape": (1, 3), "early_stopping": False}
    given = image if base == "images" else {"base": base, "early_stopping": False}
    X = rows(60, 3)
    model = with_flow(**{"flow": "auto", **given, "warm_start": True}).fit(X)
    first = model.net_

    def solution(*args):
        raise AssertionError

    monkeypatch.setattr(DiffusionModel, "_densities_and_noise", solution)
    assert model.partial_fit(X).fit(X).net_ is first
    with pytest.warns(ConvergenceWarning, match="are far from the model"):
        assert model.partial_fit(1e4 * X).net_ is not first


def test_constant_and_collinear_features_keep_the_floor_of_the_flow():
    X = rows(200, 2)
    X = np.column_stack([X, X.sum(axis=1), np.full(200, 3.0)])
    with pytest.warns(UserWarning, match=r"[Cc]onstant|dimension"):
        model = with_flow(FLOW, lr=0.05).fit(X)
    assert model.net_.module_.velocity.layers[0].in_features == 2
    off = X.copy()
    off[:, 2] += 1  # off the plane
    assert (model.score_samples(off) < model.score_samples(X) - 1000).all()
    with pytest.warns(UserWarning, match="Constant"):
        model = with_flow("flow", max_epochs=5).fit(np.full((20, 2), 3.0))
    assert np.isfinite(model.score_samples(np.full((1, 2), 3.0))).all()


def test_an_interrupted_flow_leaves_the_model_as_it_was(monkeypatch):
    X = rows(60, 2)
    model = with_flow("spline").fit(X)
    before = model.score_samples(X)

    adopted = NormalizingFlow._adopted
    interrupts = [KeyboardInterrupt]

    def interrupt(self):
        if interrupts:
            raise interrupts.pop()
        return adopted(self)

    # After the first epoch the flow keeps its own model.
    monkeypatch.setattr(NormalizingFlow, "_adopted", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.set_params(base="flow", max_epochs=10).fit(X)
    np.testing.assert_array_equal(model.score_samples(X), before)
    assert not interrupts
    assert model.base_ == "spline"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("silver", "must be 'auto', 'normal', 'spline', 'flow' or a NormalizingFlow"),
        (EMGaussianMixture(), r"or a NormalizingFlow. Got EMGaussianMixture\(\)"),
        (NormalizingFlow, "'base' parameter of DiffusionModel must be"),
    ],
)
def test_other_bases_are_an_error(base, message):
    with pytest.raises(ValueError, match=message):
        with_flow(base).fit(rows(60, 2))


def test_a_flow_of_other_features_is_an_error(flow):
    with pytest.raises(ValueError, match=r"Flow of 2 features. Got a flow of 3"):
        with_flow(flow).fit(rows(60, 2))


def test_images_start_from_their_normal_density(flow):
    model = with_flow("auto", image_shape=(1, 3), max_epochs=1).fit(rows(60, 3))
    assert model.base_ == "normal"
    with pytest.raises(ValueError, match="'base' parameter of DiffusionModel must be"):
        with_flow(flow, image_shape=(1, 3)).fit(rows(60, 3))
