"""The displays: that what is on the axes is what the model says."""

import subprocess
import sys
from functools import partial
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import rows, thorough
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from skgen import AutoEncoder, EMGaussianMixture, GaussianKDE
from skgen._checks import InvalidParameterError
from skgen.display import DensityDisplay, SampleDisplay
from skgen.display._panels import some_rows

mpl.use("Agg")
from matplotlib import pyplot as plt

density = DensityDisplay.from_estimator
images = SampleDisplay.from_estimator


@pytest.fixture(autouse=True)
def _figures_are_closed():
    plt.close("all")
    yield
    plt.close("all")


def drawn(display):
    """Render the figure, for whatever only then goes wrong."""
    display.figure_.canvas.draw()
    return display


# -- one feature -------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        GaussianKDE(),
        EMGaussianMixture(2, random_state=0),
        GaussianMixture(2, random_state=0),
        KernelDensity(bandwidth=0.5),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_curve_is_the_density_and_integrates_to_one(model):
    X = rows(300, 1)
    display = drawn(density(model.fit(X), X, random_state=0, grid_resolution=500))
    x, y = display.line_.get_data()
    assert x.size == 500
    np.testing.assert_allclose(y, np.exp(model.score_samples(x[:, None])))
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=0.005)
    assert display.ax_.get_ylim()[0] == 0.0
    assert display.ax_.get_legend().get_texts()[1].get_text() == type(model).__name__


def test_the_histogram_is_the_density_of_the_data():
    X = rows(200, 1)
    display = density(GaussianKDE().fit(X), X)
    heights, edges, _ = display.ax_.patches[0].get_data()
    expected, _ = np.histogram(X, edges, density=True)
    np.testing.assert_allclose(heights, expected)
    np.testing.assert_allclose(edges[[0, -1]], [X.min(), X.max()])


def test_a_second_model_on_the_same_axes_keeps_the_first_in_sight():
    X = rows(200, 1)
    wide = density(GaussianKDE(3.0).fit(X), X, name="wide", random_state=0)
    narrow = GaussianKDE(0.05).fit(X)
    both = density(narrow, X, ax=wide.ax_, show_data=False, random_state=0)
    legend = [text.get_text() for text in both.ax_.get_legend().get_texts()]
    assert legend == ["data", "wide", "GaussianKDE"]
    low, high = both.ax_.get_xlim()
    assert low == pytest.approx(wide.grid[0][0])
    assert high == pytest.approx(wide.grid[0][-1])
    assert both.ax_.get_ylim()[1] > both.line_.get_ydata().max()


class Far(GaussianKDE):
    """Draws one row in a thousand far away."""

    def sample(self, n_samples=1, *, random_state=None):
        X = super().sample(n_samples, random_state=random_state)
        X[:: n_samples // 2] = 1e6
        return X


def test_far_draws_do_not_stretch_the_axes():
    X = rows(200, 1)
    plain, far = (density(c().fit(X), X, random_state=0) for c in (GaussianKDE, Far))
    assert far.draws.max() == 1e6
    assert far.grid[0][-1] < plain.grid[0][-1] + 1.0
    assert far.grid[0][0] < X.min()
    assert far.grid[0][-1] > X.max()


def test_the_axes_hold_far_data_and_most_draws():
    X = rows(200, 1)
    kde = GaussianKDE().fit(X)
    narrow = density(kde, X[:5], random_state=0)
    inside = np.mean(
        (narrow.draws > narrow.grid[0][0]) & (narrow.draws < narrow.grid[0][-1])
    )
    assert inside > 0.99
    ends = density(kde, [[50.0], [-50.0]], random_state=0).grid[0][[0, -1]]
    np.testing.assert_allclose(ends, [-65.0, 65.0])  # a margin of 0.15 of the range


def test_a_constant_column_is_plotted():
    X = np.ones((20, 1))
    drawn(density(KernelDensity(bandwidth=0.1).fit(X), X))


# -- two features ------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixture():
    return EMGaussianMixture(2, random_state=0).fit(rows(500, 2))


def test_levels_hold_their_mass_of_fresh_draws(mixture):
    display = density(mixture, rows(500, 2), random_state=0, n_draws=20_000)
    fresh = mixture.score_samples(mixture.sample(20_000, random_state=1))
    held = [np.mean(fresh > level) for level in display.log_levels]
    np.testing.assert_array_equal(display.masses, [0.5, 0.9, 0.99])
    np.testing.assert_allclose(held, display.masses, atol=0.015)


@pytest.mark.parametrize("fill", [True, False])
def test_contours_are_drawn_at_the_levels(mixture, fill):
    display = drawn(density(mixture, rows(500, 2), fill=fill, masses=[0.8, 0.2]))
    np.testing.assert_array_equal(display.masses, [0.2, 0.8])
    np.testing.assert_allclose(display.contours_.levels[:2], display.log_levels[::-1])
    assert display.contours_.filled is fill
    # The border of a region is where the density is that of its level.
    lines = display.ax_.contour(
        *display.grid, display.log_density, levels=display.log_levels[1:]
    )
    border = lines.get_paths()[0].vertices
    np.testing.assert_allclose(
        mixture.score_samples(border), display.log_levels[1], atol=0.02
    )
    drawn_area = display.contours_.get_paths()[0].get_extents()
    np.testing.assert_allclose(drawn_area.p0, border.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(drawn_area.p1, border.max(axis=0), atol=1e-6)


def test_the_area_that_is_painted_holds_its_mass(mixture):
    display = density(mixture, rows(500, 2), random_state=0)
    x, y = display.grid
    cell = (x[1] - x[0]) * (y[1] - y[0])
    for mass, level in zip(display.masses, display.log_levels, strict=True):
        p = np.exp(display.log_density)
        assert p[display.log_density > level].sum() * cell == pytest.approx(
            mass, abs=0.03
        )


def test_darker_is_denser(mixture):
    colors = density(mixture, rows(500, 2)).contours_.get_facecolor()
    lightness = colors[:, :3].sum(axis=1)
    assert (np.diff(lightness) < -0.1).all()


def test_the_grid_has_the_features_in_place(mixture):
    X = rows(500, 2)
    display = density(mixture, X, random_state=0, grid_resolution=20)
    x, y = display.grid
    point = [[x[3], y[11]]]
    assert display.log_density[11, 3] == pytest.approx(mixture.score_samples(point)[0])
    swapped = density(mixture, X, features=[1, 0], random_state=0, grid_resolution=20)
    np.testing.assert_allclose(swapped.log_density, display.log_density.T)
    np.testing.assert_array_equal(swapped.data, X[:, ::-1])
    np.testing.assert_allclose(swapped.log_levels, display.log_levels)
    assert swapped.ax_.get_xlabel() == "feature 1"


@pytest.mark.parametrize("fill", [True, False])
def test_axes_that_are_shared_show_the_grids_of_all(mixture, fill):
    X = rows(500, 2)
    _, (left, right) = plt.subplots(1, 2, sharex=True, sharey=True)
    wide = density(GaussianKDE(3.0).fit(X), X, ax=left, fill=fill, random_state=0)
    narrow = density(mixture, X, ax=right, fill=fill, random_state=0)
    x, y = wide.grid
    assert x[0] < narrow.grid[0][0]
    np.testing.assert_allclose(
        [*right.get_xlim(), *right.get_ylim()], [*x[[0, -1]], *y[[0, -1]]]
    )
    alone = density(mixture, X, fill=fill, random_state=0)
    np.testing.assert_allclose(alone.ax_.get_xlim(), alone.grid[0][[0, -1]])


def test_all_data_are_dots_unless_they_outnumber_the_draws(mixture):
    X = rows(500, 2)
    dots = density(mixture, X).ax_.lines[-1]
    np.testing.assert_array_equal(np.transpose(dots.get_data()), X)
    few = np.transpose(density(mixture, X, n_draws=100).ax_.lines[-1].get_data())
    assert few.shape == (100, 2)
    assert {tuple(row) for row in few} <= {tuple(row) for row in X}


def test_the_legend_says_the_masses_and_stands_clear_of_the_data(mixture):
    X = rows(500, 2)  # along the rising diagonal, or nearly
    display = density(mixture, X, masses=(0.5, 0.999))
    legend = display.ax_.get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["densest 50 %", "densest 99.9 %", "data"]
    drawn(display)
    dots = display.ax_.transData.transform(X)
    box = legend.get_window_extent()
    assert np.mean([box.contains(*dot) for dot in dots]) < 0.02


class Blocked(BaseEstimator):
    """A density of a square, whose levels are one and where most is -inf."""

    def fit(self, X, y=None):
        self.n_features_in_ = 2
        return self

    def sample(self, n_samples=1, *, random_state=None):
        return np.random.RandomState(0).uniform(size=(n_samples, 2))

    def score_samples(self, X):
        inside = ((np.asarray(X) >= 0) & (np.asarray(X) <= 1)).all(axis=1)
        return np.where(inside, 0.0, -np.inf)


@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("masses", [(0.5, 0.9, 0.99), (0.9,)])
def test_a_plateau_is_the_region_of_all_masses(fill, masses):
    blocked, data = Blocked().fit(None), [[0.1, 0.2], [0.5, 0.6]]
    display = drawn(density(blocked, data, fill=fill, masses=masses))
    (path,) = display.contours_.get_paths()
    # To half a step of the grid, on which the density is zero.
    step = np.diff(display.grid[0][:2])[0]
    np.testing.assert_allclose(path.vertices.min(axis=0), 0.0, atol=step)
    np.testing.assert_allclose(path.vertices.max(axis=0), 1.0, atol=step)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == [f"densest {100 * max(masses):.4g} %", "data"]


@pytest.mark.parametrize("fraction", [0.005, 0.3, 1.0])
def test_draws_without_density_leave_levels_without_nan(fraction):
    class Beside(Blocked):
        def sample(self, n_samples=1, *, random_state=None):
            draws = super().sample(n_samples)
            draws[: int(fraction * n_samples)] += 2.0
            return draws

    display = drawn(density(Beside().fit(None), [[0.1, 0.2], [0.5, 0.6]]))
    mass = 1.0 - fraction  # of the square, in which the density is positive
    expected = np.where(display.masses < mass, 0.0, -np.inf)
    np.testing.assert_array_equal(display.log_levels, expected)
    assert (display.contours_ is None) == (fraction == 1.0)


@pytest.mark.parametrize("offset", [0.3, 1e8, -1e-3])
def test_data_that_are_constant_up_to_rounding_have_a_histogram(offset):
    X = np.full((50, 1), offset)
    X[::2] = np.nextafter(X[::2], np.inf)
    grid = offset + np.linspace(-1e-3, 1e-3, 9)
    given = {"grid": [grid], "log_density": np.zeros(9)}
    display = drawn(DensityDisplay(X, X, **given).plot())
    (patch,) = [p for p in display.ax_.patches if isinstance(p, mpl.patches.StepPatch)]
    heights, edges, _ = patch.get_data()
    assert (np.diff(edges) > 0).all()
    assert heights @ np.diff(edges) == pytest.approx(1.0)


# -- more features -----------------------------------------------------------------


def test_a_corner_plot_has_histograms_on_the_diagonal_and_pairs_below():
    X = rows(150, 5)
    kde = GaussianKDE().fit(X)
    display = drawn(density(kde, X, features=[4, 0, 2], random_state=0))
    assert display.axes_.shape == (3, 3)
    assert not hasattr(display, "ax_")
    shown = X[:, [4, 0, 2]]
    draws = kde.sample(2000, random_state=0)[:, [4, 0, 2]]
    np.testing.assert_array_equal(display.draws, draws)
    for (i, j), ax in np.ndenumerate(display.axes_):
        if i < j:
            assert ax is None
        elif i == j:
            of_data, of_draws = (patch.get_data() for patch in ax.patches)
            for (heights, edges, _), rows_ in ((of_data, shown), (of_draws, draws)):
                counts = np.histogram(rows_[:, i], edges)[0]
                expected = counts / rows_.shape[0] / np.diff(edges)
                np.testing.assert_allclose(heights, expected)
        else:
            some, data = (np.transpose(line.get_data()) for line in ax.lines)
            np.testing.assert_array_equal(data, shown[:, [j, i]])
            pairs = {tuple(row) for row in draws[:, [j, i]]}
            assert some.shape == data.shape
            assert {tuple(row) for row in some} <= pairs
    labels = [ax.get_xlabel() for ax in display.axes_[-1]]
    assert labels == ["feature 4", "feature 0", "feature 2"]
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["", *labels[1:]]
    ends = [ax.get_xlim() for ax in display.axes_[-1]]
    for i in range(3):
        for j in range(i + 1):
            assert display.axes_[i, j].get_xlim() == ends[j]
            assert i == j or display.axes_[i, j].get_ylim() == ends[i]


def test_four_columns_are_shown_unless_others_are_chosen():
    X = rows(60, 6)
    display = density(GaussianKDE().fit(X), X, n_draws=50)
    assert display.axes_.shape == (4, 4)
    np.testing.assert_array_equal(display.data, X[:, :4])


def test_one_column_of_several_is_a_histogram():
    X = rows(60, 2)
    _, ax = plt.subplots()
    display = drawn(density(GaussianKDE().fit(X), X, features=[1], ax=ax))
    assert display.axes_.shape == (1, 1)
    assert display.axes_[0, 0] is ax
    assert len(ax.patches) == 2
    assert ax.get_xlabel() == "feature 1"


def test_a_corner_plot_needs_no_score_samples():
    class Sampler(BaseEstimator):
        def fit(self, X):
            self.n_features_in_ = 3
            return self

        def sample(self, n_samples=1):
            return np.random.RandomState(0).standard_normal((n_samples, 3))

    X = rows(30, 3)
    display = density(Sampler().fit(X), X)
    assert display.log_density is None


def test_without_data_only_draws_are_shown():
    X = rows(60, 3)
    display = drawn(density(GaussianKDE().fit(X), X, show_data=False))
    assert len(display.axes_[0, 0].patches) == 1
    assert len(display.axes_[1, 0].lines) == 1
    two = density(GaussianKDE().fit(X[:, :2]), X[:, :2], show_data=False)
    assert not two.ax_.lines
    one = density(GaussianKDE().fit(X[:, :1]), X[:, :1], show_data=False)
    assert not one.ax_.patches
    assert one.ax_.get_ylim()[0] == 0.0


def test_a_corner_plot_fills_one_axes_or_an_array_of_them():
    X = rows(60, 3)
    kde = GaussianKDE().fit(X)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    bounds = right.get_position().extents
    display = drawn(density(kde, X, ax=right))
    assert plt.get_fignums() == [figure.number]
    assert display.figure_ is figure
    assert not right.axison
    assert left.axison
    for ax in display.axes_[np.tril_indices(3)]:
        box = ax.get_position().extents
        assert (box[:2] >= bounds[:2] - 1e-9).all()
        assert (box[2:] <= bounds[2:] + 1e-9).all()

    figure, given = plt.subplots(3, 3)
    display = drawn(density(kde, X, ax=given))
    assert display.figure_ is figure
    assert display.axes_[2, 1] is given[2, 1]
    assert not given[0, 1].get_visible()
    assert given[0, 1] is not None
    assert len(plt.get_fignums()) == 2


# -- axes, seeds, dataframes ---------------------------------------------------------


@pytest.mark.parametrize("n_features", [1, 2])
def test_axes_that_are_given_are_used(n_features):
    X = rows(60, n_features)
    figure, ax = plt.subplots()
    display = density(GaussianKDE().fit(X), X, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_a_display_can_be_plotted_again(n_features):
    X = rows(60, n_features)
    display = density(GaussianKDE().fit(X), X)
    first = display.figure_
    assert display.plot(color="tab:red") is display
    assert display.figure_ is not first
    drawn(display)


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_a_display_can_be_made_by_hand(n_features):
    X = rows(60, n_features)
    made = density(GaussianKDE().fit(X), X)
    keys = ("grid", "log_density", "log_levels", "masses")
    display = DensityDisplay(X, X, **{key: getattr(made, key) for key in keys})
    drawn(display.plot())


MODELS = [
    GaussianKDE(),
    EMGaussianMixture(2, random_state=3),
    GaussianMixture(2),
    GaussianMixture(2, random_state=3),
    KernelDensity(bandwidth=0.5),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_draws_follow_their_seed_and_no_other(model):
    X = rows(60, 3)
    seeded = partial(density, model.fit(X), X, features=[0], n_draws=50)
    before = np.random.get_state()[1].copy()
    a, b, c = (seeded(random_state=s) for s in (0, 0, 1))
    d, e = (seeded(random_state=np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(d.draws, e.draws)
    free = seeded(), seeded()
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.testing.assert_array_equal(a.draws, b.draws)
    assert not np.array_equal(a.draws, c.draws)
    fixed = getattr(model, "random_state", None) is not None
    assert np.array_equal(free[0].draws, free[1].draws) is fixed
    assert getattr(model, "random_state", None) in (None, 3)


@pytest.mark.parametrize("n_features", [1, 2, thorough(3)])
@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("fitted_with_names", [True, False])
@pytest.mark.parametrize(
    "model",
    [GaussianKDE(), GaussianMixture(random_state=0), KernelDensity()],
    ids=lambda model: type(model).__name__,
)
def test_dataframes_give_their_names_and_no_warning(
    model, library, n_features, fitted_with_names
):
    names = ["a", "b", "c"][:n_features]
    array = rows(60, n_features)
    X = library.DataFrame(dict(zip(names, array.T, strict=True)))
    model.fit(X if fitted_with_names else array)
    display = density(model, X, features=names[::-1])
    assert display.feature_names == names[::-1]
    np.testing.assert_array_equal(display.data, array[:, ::-1])


def test_names_are_those_given_or_those_of_fit():
    X = pd.DataFrame(rows(60, 3), columns=["a", "b", "c"])
    kde = GaussianKDE().fit(X)
    display = density(kde, X.to_numpy(), features=["c", 0], n_draws=50)
    assert display.feature_names == ["c", "a"]
    given = ["one", "two", "three"]
    display = density(kde, X, features=["two", 0], feature_names=given, n_draws=50)
    assert display.feature_names == ["two", "one"]
    numbered = pd.DataFrame(X.to_numpy())
    kde = GaussianKDE().fit(numbered)
    assert density(kde, numbered, n_draws=50).feature_names == ["0", "1", "2"]


def test_float32_models_are_plotted():
    X = rows(60, 2).astype(np.float32)
    drawn(density(EMGaussianMixture(2, random_state=0).fit(X), X))


# -- images ------------------------------------------------------------------------


def cell(display, row, column, shape):
    """Return the pixels of one image of the page."""
    h, w = shape
    page = display.image_.get_array()
    top, left = row * (h + 1) + 1, column * (w + 1) + 1
    return page[top : top + h, left : left + w]


def test_the_page_holds_the_draws_and_borders():
    X = rows(80, 6)
    kde = GaussianKDE(0.3).fit(X)
    display = drawn(
        images(kde, image_shape=(2, 3), n_images=7, n_columns=4, random_state=5)
    )
    page = display.image_.get_array()
    assert page.shape == (2 * 3 + 1, 4 * 4 + 1)
    draws = kde.sample(7, random_state=5)
    for i, draw in enumerate(draws):
        image = cell(display, *divmod(i, 4), (2, 3))
        np.testing.assert_array_equal(image, draw.reshape(2, 3))
    assert page.count() == draws.size  # all else is masked: borders, the eighth place
    assert display.image_.get_clim() == tuple(np.quantile(draws, (0.01, 0.99)))


@pytest.mark.parametrize(
    "model",
    [GaussianMixture(2, random_state=0), KernelDensity()],
    ids=lambda model: type(model).__name__,
)
def test_pages_of_other_estimators(model):
    X = rows(60, 4)
    display = images(model.fit(X), image_shape=(2, 2), n_images=3, random_state=0)
    assert display.images.shape == (3, 2, 2)


@pytest.fixture(scope="module")
def autoencoder():
    return AutoEncoder(2, hidden_layer_sizes=(6,), max_epochs=2, random_state=0).fit(
        rows(100, 6)
    )


def test_originals_stand_above_their_reconstructions(autoencoder):
    X = rows(30, 6, seed=1)
    display = drawn(
        images(autoencoder, X, image_shape=(2, 3), n_images=5, n_columns=3, vmin=0)
    )
    remade = autoencoder.inverse_transform(autoencoder.transform(X[:5]))
    assert display.image_.get_array().shape == (4 * 3 + 1, 3 * 4 + 1)
    for i in range(5):
        row, column = divmod(i, 3)
        above = cell(display, 2 * row, column, (2, 3))
        below = cell(display, 2 * row + 1, column, (2, 3))
        np.testing.assert_array_equal(above, X[i].reshape(2, 3))
        np.testing.assert_allclose(below, remade[i].reshape(2, 3))
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["data", "reconstructed"] * 2
    np.testing.assert_allclose(display.ax_.get_yticks(), [1.125, 4.375, 7.625, 10.875])
    assert display.image_.get_clim() == (0, np.quantile(X[:5], 0.99))


def test_reconstructions_need_no_sample_and_take_dataframes():
    X = pd.DataFrame(rows(30, 6), columns=list("abcdef"))
    pca = PCA(2).fit(X)
    display = images(pca, X, image_shape=(6, 1), n_images=4)
    expected = pca.inverse_transform(pca.transform(X))[:4]
    np.testing.assert_allclose(display.reconstructions.reshape(4, 6), expected)
    pca.set_output(transform="pandas")
    polars = pl.from_pandas(X)
    again = images(pca, polars, image_shape=(6, 1), n_images=4)
    np.testing.assert_allclose(again.reconstructions.reshape(4, 6), expected)


def test_means_of_draws_have_no_noise(autoencoder):
    display = images(
        autoencoder, image_shape=(2, 3), n_images=4, noise=False, random_state=2
    )
    codes = autoencoder.sample_latent(4, random_state=2)
    expected = autoencoder.inverse_transform(codes).reshape(4, 2, 3)
    np.testing.assert_allclose(display.images, expected)


def test_three_channels_are_colours():
    X = rows(60, 12)
    kde = GaussianKDE(0.3).fit(X)
    display = drawn(
        images(
            kde, image_shape=(3, 2, 2), n_images=2, vmin=-1.0, vmax=3.0, random_state=0
        )
    )
    draws = kde.sample(2, random_state=0)
    scaled = np.clip((draws + 1.0) / 4.0, 0.0, 1.0)
    for i in range(2):
        red, green, blue = scaled[i].reshape(3, 2, 2)
        image = cell(display, 0, i, (2, 2))
        np.testing.assert_allclose(image, np.stack([red, green, blue], axis=-1))
    border = display.image_.get_array()[0]
    np.testing.assert_allclose(border, 0.85)


def test_one_channel_is_an_image():
    X = rows(60, 4)
    kde = GaussianKDE().fit(X)
    one, plain = (
        images(kde, image_shape=shape, n_images=3, random_state=0)
        for shape in ((1, 2, 2), (2, 2))
    )
    np.testing.assert_array_equal(one.image_.get_array(), plain.image_.get_array())


def test_a_page_is_put_on_the_axes_given_and_plotted_again():
    X = rows(60, 4)
    figure, ax = plt.subplots()
    display = images(GaussianKDE().fit(X), image_shape=(2, 2), ax=ax, cmap="viridis")
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert display.image_.get_cmap().name == "viridis"
    assert display.plot() is display
    assert display.figure_ is not figure
    assert len(plt.get_fignums()) == 2


# -- errors --------------------------------------------------------------------------

KDE = GaussianKDE().fit(rows(30, 6))
FRAME = pd.DataFrame(rows(30, 2), columns=["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": [0, 6]}, r"'features'.* ints from 0 to 5\. Got \[0, 6\]"),
        ({"features": [0, 0]}, "'features'"),
        ({"features": []}, "'features'"),
        ({"features": ["a"]}, "'features'"),
        ({"features": 2}, "'features'"),
        ({"features": [True]}, "'features'"),
        ({"features": [-1]}, "'features'"),
        ({"feature_names": ["a"]}, "'feature_names'.* 6 names, one for each"),
        ({"feature_names": "abcdef"}, "'feature_names'"),
        ({"grid_resolution": 1}, "'grid_resolution'.* an int of at least 2. Got 1"),
        ({"n_draws": 0}, "'n_draws'"),
        ({"masses": [0.5, 1.0]}, r"'masses'.* between 0 and 1. Got \[0.5, 1.0\]"),
        ({"masses": [0.5, 0.5]}, "'masses'"),
        ({"masses": 0.5}, "'masses'"),
        ({"masses": []}, "'masses'"),
        ({"random_state": "a"}, "'random_state'"),
    ],
)
def test_wrong_arguments_of_density_are_named(arguments, message):
    with pytest.raises(InvalidParameterError, match=message) as caught:
        density(KDE, rows(30, 6), **arguments)
    assert "argument of DensityDisplay.from_estimator must be" in str(caught.value)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (3, 4)}, r"of 6 pixels, one for each.* Got \(3, 4\) instead"),
        ({"image_shape": (2, 1, 3)}, r"1 or 3 channels. Got \(2, 1, 3\) instead"),
        ({"image_shape": 6}, "'image_shape'"),
        ({"image_shape": (6,)}, "'image_shape'"),
        ({"image_shape": (2.0, 3)}, "'image_shape'"),
        ({"image_shape": (1, 1, 2, 3)}, "'image_shape'"),
        ({"image_shape": (-2, -3)}, "'image_shape'"),
        ({"n_images": 0}, "'n_images'"),
        ({"n_columns": 2.0}, "'n_columns'"),
        ({"random_state": -1}, "'random_state'"),
        ({"noise": False}, "'sample_latent' and 'inverse_transform'. Got GaussianKDE"),
    ],
)
def test_wrong_arguments_of_images_are_named(arguments, message):
    with pytest.raises(InvalidParameterError, match=message) as caught:
        images(KDE, **{"image_shape": (2, 3), **arguments})
    assert "argument of SampleDisplay.from_estimator must be" in str(caught.value)
    assert not plt.get_fignums()


def test_estimators_need_the_methods_that_are_asked():
    X = rows(30, 2)
    forest = IsolationForest(n_estimators=5, random_state=0).fit(X)
    with pytest.raises(InvalidParameterError, match=r"'sample'. Got IsolationForest"):
        density(forest, X)
    with pytest.raises(InvalidParameterError, match=r"'estimator'.* 'sample'"):
        images(forest, image_shape=(1, 2))
    mixture = GaussianMixture().fit(X)
    with pytest.raises(
        InvalidParameterError, match="'transform' and 'inverse_transform'"
    ):
        images(mixture, X, image_shape=(1, 2))
    with pytest.raises(InvalidParameterError, match="Got GaussianKDE instead"):
        density(GaussianKDE, X)


@pytest.mark.parametrize("model", [GaussianKDE(), GaussianMixture(), KernelDensity()])
def test_estimators_have_to_be_fitted(model):
    with pytest.raises(NotFittedError):
        density(model, rows(30, 2))
    with pytest.raises(NotFittedError):
        images(model, image_shape=(1, 2))


def test_data_that_do_not_match_the_model_are_refused():
    with pytest.raises(InvalidParameterError, match=r"6 columns.* Got 2 columns"):
        density(KDE, rows(30, 2))
    kde = GaussianKDE().fit(FRAME)
    with pytest.raises(InvalidParameterError, match=r"\['a', 'b'\].*\['b', 'a'\]"):
        density(kde, FRAME[["b", "a"]])
    with pytest.raises(InvalidParameterError, match="numbers only"):
        density(KDE, [["a"] * 6])
    with pytest.raises(ValueError, match="NaN"):
        density(KDE, [[np.nan] * 6])


def test_axes_that_hold_no_corner_plot_are_refused():
    _, axes = plt.subplots(2, 2)
    with pytest.raises(InvalidParameterError, match=r"shape \(4, 4\). Got .* \(2, 2\)"):
        density(KDE, rows(30, 6), ax=axes)
    loose = plt.figure().add_axes((0, 0, 1, 1))
    with pytest.raises(InvalidParameterError, match=r"plt.subplots"):
        density(KDE, rows(30, 6), ax=loose)


@pytest.mark.process
def test_without_matplotlib_the_package_works_and_says_what_to_install():
    program = """
import sys
sys.modules["matplotlib"] = None
from skgen import GaussianKDE
from skgen.display import DensityDisplay, SampleDisplay
from skgen.display._panels import some_rows
kde = GaussianKDE(1.0).fit([[0.0], [1.0]])
for call in (
    lambda: DensityDisplay.from_estimator(kde, [[0.0], [1.0]]),
    lambda: SampleDisplay.from_estimator(kde, image_shape=(1, 1)),
    lambda: DensityDisplay(None, None).plot(),
    lambda: SampleDisplay(None).plot(),
):
    try:
        call()
    except ImportError as error:
        if 'matplotlib. Install with: pip install "scikit-generative[cli]"' not in str(
            error
        ):
            raise
    else:
        raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# -- several displays on one axes ------------------------------------------------------


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_two_curves_on_one_axes_have_two_colours_and_one_histogram():
    X = rows(200, 1)
    _, ax = plt.subplots()
    wide = density(GaussianKDE(3.0).fit(X), X, ax=ax, label="wide")
    narrow = density(GaussianKDE(0.1).fit(X), X, ax=ax, label="narrow")
    assert len(ax.patches) == 1
    assert wide.line_.get_color() == "#0072B2"
    assert narrow.line_.get_color() == "#D55E00"
    assert legend_of(ax) == ["data", "wide", "narrow"]
    density(GaussianKDE().fit(X), X[:50], ax=ax, color="red", name="other data")
    assert len(ax.patches) == 2
    assert ax.lines[-1].get_color() == "red"
    ax.clear()
    again = density(GaussianKDE().fit(X), X, ax=ax)
    assert again.line_.get_color() == "#0072B2"
    assert len(ax.patches) == 1


def test_two_models_of_two_features_on_one_axes(mixture):
    X = rows(500, 2)
    _, ax = plt.subplots()
    first = density(mixture, X, ax=ax, random_state=0)
    second = drawn(
        density(GaussianKDE().fit(X), X, ax=ax, masses=[0.5], random_state=0)
    )
    assert first.contours_.filled
    assert not second.contours_.filled
    assert len(ax.lines) == 1
    expected = ["EMGaussianMixture (50, 90, 99 %)", "GaussianKDE (50 %)", "data"]
    assert legend_of(ax) == expected
    blue = first.contours_.get_facecolor()[-1]
    orange = second.contours_.get_edgecolor()[-1]
    assert np.abs(blue - orange).max() > 0.3


@pytest.mark.parametrize("given", ["one axes", "an array of axes", "its own axes"])
def test_two_models_in_one_corner_plot(given):
    X = rows(60, 3)
    _, ax = plt.subplots(3, 3) if given == "an array of axes" else plt.subplots()
    first = density(GaussianKDE().fit(X), X, ax=ax, random_state=0)
    ax = first.axes_ if given == "its own axes" else ax
    wide = GaussianKDE(5.0).fit(X)
    second = drawn(density(wide, X, ax=ax, random_state=0, label="wide"))
    assert (second.axes_ == first.axes_).all()
    for (i, j), panel in np.ndenumerate(second.axes_):
        if i == j:
            models = panel.patches[1:]
            assert len(models) == 2
            assert models[0].get_edgecolor() != models[1].get_edgecolor()
            # The axes hold both models, and their heights.
            assert panel.get_xlim()[0] <= first.limits_[j, 0]
            assert panel.get_ylim()[1] >= max(p.get_data()[0].max() for p in models)
            assert panel.get_ylim()[0] == 0.0
        elif i > j:
            assert len(panel.lines) == 3
    expected = ["data", "draws of GaussianKDE", "draws of wide"]
    assert legend_of(first.axes_[0, 0]) == expected
    assert second.limits_[0, 0] < first.limits_[0, 0]


def test_an_axes_holds_one_size_of_corner_plot():
    X = rows(60, 3)
    kde = GaussianKDE().fit(X)
    _, ax = plt.subplots()
    density(kde, X, ax=ax)
    with pytest.raises(InvalidParameterError, match="a corner plot of 3 columns"):
        density(kde, X, ax=ax, features=[0, 1])


# -- limits --------------------------------------------------------------------------


@pytest.mark.parametrize("n_features", [thorough(1), 2, thorough(3)])
def test_two_displays_share_their_limits(n_features):
    X = rows(100, n_features)
    wide = density(GaussianKDE(3.0).fit(X), X, random_state=0)
    narrow = GaussianKDE(0.1).fit(X)
    shared = drawn(density(narrow, X, limits=wide.limits_, random_state=0))
    assert wide.limits_.shape == (n_features, 2)
    np.testing.assert_array_equal(shared.limits_, wide.limits_)
    axes = shared.axes_.diagonal() if n_features == 3 else [shared.ax_]
    for ax, ends in zip(axes, wide.limits_, strict=False):
        np.testing.assert_allclose(ax.get_xlim(), ends)
    if n_features == 2:
        np.testing.assert_allclose(shared.ax_.get_ylim(), wide.limits_[1])
    alone = density(narrow, X, random_state=0)
    assert alone.limits_[0, 0] > wide.limits_[0, 0]


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_limits_can_leave_data_out(n_features):
    X = rows(300, n_features)
    limits = [(X[:, j].min() + 1.0, np.median(X[:, j])) for j in range(n_features)]
    display = drawn(density(GaussianKDE().fit(X), X, limits=limits))
    ax = display.axes_[0, 0] if n_features == 3 else display.ax_
    np.testing.assert_allclose(ax.get_xlim(), limits[0])
    if n_features != 2:  # heights are of all rows, also of rows outside
        heights, edges, _ = ax.patches[0].get_data()
        counts = np.histogram(X[:, 0], edges)[0]
        np.testing.assert_allclose(heights, counts / X.shape[0] / np.diff(edges))
        np.testing.assert_allclose(edges[[0, -1]], limits[0])


@pytest.mark.parametrize(
    "limits", [3, [1, 2], [(0, 1)] * 2, [(0, 1)] * 7, [(1, 0)] * 4, [(0, "a")] * 4]
)
def test_wrong_limits_are_named(limits):
    with pytest.raises(
        InvalidParameterError, match=r"'limits'.* 4 pairs \(low, high\)"
    ):
        density(KDE, rows(30, 6), limits=limits)
    assert not plt.get_fignums()


# -- pages: letters and contrast -----------------------------------------------------


@pytest.mark.parametrize("n_columns", [1, 10, 40])
@pytest.mark.parametrize("n_images", [1, 10, thorough(80)])
@pytest.mark.parametrize("reconstructed", [True, False])
def test_no_letter_of_a_page_is_cut_or_covers_another(
    tmp_path, n_columns, n_images, reconstructed
):
    images = np.random.RandomState(0).uniform(size=(n_images, 8, 8))
    reconstructions = images if reconstructed else None
    display = SampleDisplay(
        images, reconstructions=reconstructions, n_columns=n_columns
    ).plot()
    display.ax_.set_title("page")
    display.figure_.savefig(tmp_path / "page.png")
    shown = [text for text in display.ax_.get_yticklabels() if text.get_text()]
    boxes = [text.get_window_extent() for text in [display.ax_.title, *shown]]
    figure = display.figure_.bbox
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.x1
        assert box.y1 <= figure.y1
    ends = sorted((box.y0, box.y1) for box in boxes)
    assert all(b[0] >= a[1] - 1 for a, b in pairwise(ends))


def test_a_few_extreme_pixels_do_not_make_a_page_pale():
    images = np.random.RandomState(0).uniform(0, 16, size=(40, 8, 8))
    images[0, :2, 0] = -50.0, 90.0
    display = SampleDisplay(images).plot()
    low, high = display.clim_
    assert 0.0 <= low < 1.0
    assert 15.0 < high < 16.0
    assert display.image_.get_clim() == display.clim_


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        # Ink on paper: the noise of empty pixels is white.
        (lambda ink, noise: ink + noise, 0.0),
        # Deviations from a mean, about 0.
        (lambda ink, noise: ink - ink.mean(), None),
        (lambda ink, noise: ink + 100.0, None),
    ],
)
def test_the_scale_begins_at_zero_for_ink_on_paper(images, expected):
    rng = np.random.RandomState(0)
    ink = np.where(rng.uniform(size=(40, 8, 8)) < 0.3, 16.0, 0.0)
    shown = images(ink, rng.normal(size=ink.shape))
    low, _ = SampleDisplay(shown).plot().clim_
    assert low == (np.quantile(shown, 0.01) if expected is None else expected)


def test_pages_that_are_nearly_empty_have_a_scale():
    images = np.zeros((40, 8, 8))
    images[0, 0, 0] = 3.0
    assert SampleDisplay(images).plot().clim_ == (0.0, 3.0)


def test_two_pages_share_their_scale():
    X = rows(80, 6)
    data = SampleDisplay(X[:20].reshape(-1, 2, 3)).plot()
    vmin, vmax = data.clim_
    draws = images(KDE, image_shape=(2, 3), vmin=vmin, vmax=vmax)
    assert draws.image_.get_clim() == data.image_.get_clim()


# -- what planted faults showed to be untested ---------------------------------------


def test_some_rows_are_chosen_from_all_of_the_table():
    ranks = np.arange(1000.0)[:, None]
    some = some_rows(ranks, 100)[:, 0]
    assert np.unique(some).size == 100
    assert some.mean() == pytest.approx(500, abs=120)
    np.testing.assert_array_equal(some, some_rows(ranks, 100)[:, 0])


def test_a_page_of_few_images_is_no_wider_than_they_are():
    display = SampleDisplay(rows(2, 6).reshape(2, 2, 3)).plot()
    assert display.image_.get_array().shape == (2 + 2, 2 * 3 + 3)


def test_a_narrow_model_leaves_the_limits_of_a_wide_one():
    X = rows(60, 3)
    _, ax = plt.subplots()
    wide = density(GaussianKDE(5.0).fit(X), X, ax=ax, random_state=0, n_draws=200)
    ends = wide.axes_[2, 1].get_xlim()
    density(GaussianKDE(0.1).fit(X), X, ax=ax, random_state=0, n_draws=200)
    np.testing.assert_allclose(wide.axes_[2, 1].get_xlim(), ends)


def test_long_names_of_columns_do_not_overlap(tmp_path):
    names = ["od280/od315_of_diluted_wines", "price of a litre (dollars)", r"$\mu$ _ b"]
    X = pd.DataFrame(rows(60, 3) * [1e-6, 1, 1], columns=names)
    display = DensityDisplay.from_estimator(GaussianKDE().fit(X), X, random_state=0)
    figure = display.figure_
    figure.savefig(tmp_path / "corner.png")
    labels = [ax.xaxis.label for ax in display.axes_[-1]]
    assert labels[0].get_text() == "od280/od315_\nof_diluted_\nwines"
    assert labels[2].get_text() == names[2]
    boxes = [label.get_window_extent() for label in labels]
    for left, right in pairwise(boxes):
        assert left.x1 < right.x0
    assert boxes[0].x0 > 0
    offset = display.axes_[-1, 0].xaxis.get_offset_text()
    assert offset.get_text()
    assert not offset.get_window_extent().overlaps(boxes[0])
