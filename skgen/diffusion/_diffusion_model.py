"""Diffusion model, trained by flow matching, with exact scores."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from skgen._checks import (
    Described,
    check_choice,
    check_integer,
    column_names,
    float_type,
    invalid_parameter,
    is_real,
    rows_to_answer,
)
from skgen._docs import documented
from skgen._interop import seeded_clone
from skgen._threads import one_blas_thread
from skgen._torch import float64_copy, threads_for, torch_seed
from skgen._typing import FloatArray, MatrixLike, RandomState
from skgen._warnings import warn_user
from skgen.diffusion._coordinates import (
    FlowCoordinates,
    fitted_coordinates,
    image_coordinates,
    joined,
    normal_log_density,
)
from skgen.diffusion._images import ImageVelocity, error_of_mean
from skgen.diffusion._ode import refined, solve
from skgen.diffusion._training import (
    BestDensity,
    FlowMatching,
    density_and_noise,
)
from skgen.diffusion._velocity import FIRST, LAST, Velocity
from skgen.flow._normalizing_flow import NormalizingFlow, is_fitted
from skgen.neural._compared import ComparesBases
from skgen.neural._parameters import (
    TRAINING,
    Sizes,
    are_sizes,
    check_dropout,
    check_image_shape,
    check_pixels,
    dropout_of,
    image_shape,
)

# Numbers of steps of the first and of the finest solution, and the lowest tolerance for
# which images are drawn in single precision.
_STEPS, _MOST_STEPS, _SINGLE = 2, 256, 1e-3

# Epochs of the model for one epoch of the flow from which it starts, and largest number
# of rows in all epochs of the flow.
_EPOCHS_OF_FLOW, _FLOW_ROWS = 5, 2**22

_NAMED = ("auto", "normal", "spline", "flow")
_BASES = "'auto', 'normal', 'spline', 'flow' or a NormalizingFlow"


# Parameters and attributes that the model shares with other models trained by gradients
# are documented in TRAINING.
@documented(TRAINING)
class DiffusionModel(ClassNamePrefixFeaturesOutMixin, ComparesBases):
    r"""Diffusion model: noise becomes a row by an ordinary differential equation.

    Noise :math:`e \sim N(0, I)` is mixed with a row :math:`x` of unit covariance,

    .. math:: x_u = \frac{e^u x + e}{\sqrt{1 + e^{2u}}}, \qquad u \text{ from } -3
              \text{ to } 6,

    and a network :math:`f` is trained to predict the velocity of the noisy row (flow
    matching [1]_; with this path it is the diffusion model of [2]_). The density of the
    model is the density of the solution of :math:`dx/du = f(x, u) / (2 \cosh u)` that
    starts at noise,

    .. math:: \log p(x) = \log N(e; 0, I)
              - \int \frac{\nabla \cdot f(x_u, u)}{2 \cosh u} \, du,

    which `score_samples` computes by a solution backwards from the row, with the exact
    divergence [3]_. Read more in the :doc:`/guide/diffusion`.

    Parameters
    ----------
    hidden_layer_sizes : tuple or list of int
        Number of units in each hidden layer of the network. Scores are fast for one or
        two layers; for more layers the time is proportional to the number of features.
        With `image_shape`, number of channels of the U-Net at a half of the height and
        width, at a quarter, and so on.
    base : {"auto", "normal", "spline", "flow"} or estimator
        Density of the rows before training. Noise is added in coordinates in which it
        is standard normal.

        - "normal": normal density with the covariance of the rows. With `image_shape`,
          the only base.
        - "spline": each feature is mapped by a monotonic spline through its quantiles
          to a nearly normal feature, where this scores higher on held-out rows than a
          linear map, and the results are normal with their covariance.
        - "flow": :class:`NormalizingFlow`, which is trained first [7]_, for a fifth of
          `max_epochs`, or fewer epochs for more than 70,000 rows.
        - "auto": "spline" or "flow". Two models are trained, for `max_epochs` from the
          splines and for a third of it from the flow, and the model with the higher
          log-density of held-out rows is kept. "spline" in `partial_fit`, and where no
          rows are held out.
        - unfitted estimator: `NormalizingFlow`, which is cloned and fitted.
        - fitted estimator: `NormalizingFlow`, which is used as it is. In a search, wrap
          it in ``sklearn.frozen.FrozenEstimator``, because a clone of it is not fitted.
    image_shape : tuple or list of int
        Shape of the image in each row: (height, width) or (channels, height, width). If
        given, noise is added to pixels and the network is a U-Net, a convolutional
        network [5]_. Scores are then estimates: see `n_probes`.
    n_probes : int
        Number of random directions in which the divergence of images is measured [6]_,
        at least 2. They are orthogonal, and the same for all rows and times, so scores
        are deterministic. `score_samples_se` returns their standard error. With a
        direction for each pixel that varies, scores are exact. Ignored without
        `image_shape`.
    rtol : float
        Tolerance of scores and latents, relative to the density: the absolute error of
        a log-density, or its relative error where its absolute value is above 1. The
        error of each row is estimated, and the steps of its solution are halved until
        the estimate is below `rtol`.
    batch_size : int or "auto"
        Maximum number of rows in a batch. "auto" is one fortieth of the rows, but at
        least 16 and at most 512, or 128 with `image_shape`. Small batches have each row
        of a table several times, with different noise.
    lr : float
        Learning rate. In `fit` it decreases to nearly 0 along half a cosine; in
        `partial_fit` it is constant.
    early_stopping : bool
        Whether to keep the weights with the highest mean log-density of at most 500
        held-out rows, which may be those before training, and to stop training when it
        no longer improves. Images are chosen by the held-out loss, because their scores
        take long. Ignored if fewer than 5 rows would be held out.
    n_iter_no_change : int
        Number of epochs without an improvement of the held-out rows after which
        training stops. Only used if `early_stopping` is True.
    warm_start : bool
        If True, `fit` continues to train the network of the previous fit, with the same
        coordinates. Parameters that define the network or the optimiser must not have
        changed.
    random_state : int, RandomState, Generator or None
        Seed or generator of the initial weights, the held-out rows, the order of the
        rows, noise, dropout and the draws of `sample`. Pass an int for reproducible
        results.

    Attributes
    ----------
    base_ : str or NormalizingFlow
        "normal", "spline", or the flow from which training started.
    history_ : list of dict
        Record of each epoch: its number (``epoch``), the mean loss of the training
        batches during the epoch (``train``), the loss of the held-out rows after the
        epoch (``validation``, NaN without early stopping) and the duration
        (``seconds``). The loss is the variational bound of the negative mean
        log-density, in nats per row and in the units of the data [4]_. With
        `image_shape`, it is the mean squared error of the velocity of a pixel, in units
        in which it is 1 before training.
    net_ : skorch.NeuralNet
        Trained net. The ``average`` of its ``module_`` has the weights of the model: an
        exponential moving average of the trained weights.

    See Also
    --------
    NormalizingFlow : Exact scores in one pass through its networks.
    EMGaussianMixture : Gaussian mixture, which needs fewer rows.

    Notes
    -----
    Scores are deterministic and do not depend on the other rows. They are computed in
    double precision by a Runge-Kutta method of order 8 with steps of equal length.
    Collinear features are whitened without splines, and directions without variance get
    the normal density that all models share.

    References
    ----------
    .. [1] Lipman, Y., Chen, R. T. Q., Ben-Hamu, H., Nickel, M. and Le, M. (2023). Flow
       matching for generative modeling. ICLR.
    .. [2] Karras, T., Aittala, M., Aila, T. and Laine, S. (2022). Elucidating the
       design space of diffusion-based generative models. NeurIPS.
    .. [3] Song, Y., Sohl-Dickstein, J., Kingma, D. P., Kumar, A., Ermon, S. and Poole,
       B. (2021). Score-based generative modeling through stochastic differential
       equations. ICLR.
    .. [4] Kingma, D. P., Salimans, T., Poole, B. and Ho, J. (2021). Variational
       diffusion models. NeurIPS.
    .. [5] Ronneberger, O., Fischer, P. and Brox, T. (2015). U-Net: convolutional
       networks for biomedical image segmentation. MICCAI.
    .. [6] Hutchinson, M. F. (1989). A stochastic estimator of the trace of the
       influence matrix for Laplacian smoothing splines. Communications in Statistics.
    .. [7] Kim, D., Na, B., Kwon, S. J., Lee, D., Kang, W. and Moon, I.-C. (2022).
       Maximum likelihood training of implicit nonlinear diffusion models. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import DiffusionModel
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(0, 3, 200)
    >>> X = np.column_stack([np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(200, 2))
    >>> model = DiffusionModel(max_epochs=20, random_state=0).fit(X)
    >>> model.sample(3).shape
    (3, 2)
    >>> np.allclose(model.inverse_transform(model.transform(X)), X, atol=1e-4)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] | list[int] = (128, 128),
        *,
        base: str | BaseEstimator = "auto",
        image_shape: Sizes | None = None,
        n_probes: int = 8,
        rtol: float = 1e-4,
        dropout: float | str = "auto",
        max_epochs: int = 300,
        batch_size: int | str = "auto",
        lr: float = 5e-3,
        optimizer: str | type[torch.optim.Optimizer] = "adam",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 100,
        warm_start: bool = False,
        net_callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.base = base
        self.image_shape = image_shape
        self.n_probes = n_probes
        self.rtol = rtol
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.net_callbacks = net_callbacks
        self.net_params = net_params
        self.random_state = random_state
        self.device = device

    def score_samples_se(self, X: MatrixLike) -> FloatArray:
        """Return the standard error of the score of each row, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data.

        Returns
        -------
        ndarray of shape (n_samples,)
            Standard error of ``score_samples(X)`` that is due to the random directions
            of `n_probes`, zero without `image_shape`. The directions are the same for
            all rows, so errors of different rows can be correlated, and the mean score
            of many rows can have an error as large as the score of one.
        """
        check_is_fitted(self)
        X = rows_to_answer(self, X, "score_samples_se")
        errors = self._by_chunks(self._score_and_error, X)[:, 1]
        return errors.astype(float_type(X.dtype), copy=False)

    # -- hooks of ComparesBases ------------------------------------------------

    # From a flow, scores hardly rise after a hundred epochs.
    _trials = {"flow": 1 / 3, "spline": 1.0}  # noqa: RUF012 (read only)

    @property
    def _held_out_loss(self):
        return -dict(self.net_.callbacks_)["schedule"].highest_

    def _quick_log_density(self, X):
        # Before training: solutions for thousands of rows would take minutes.
        return normal_log_density(self._coordinates, X)

    def _compares(self, X):
        return self.image_shape is None and super()._compares(X)

    # -- hooks of GradientModel ------------------------------------------------

    _anneals = True

    @property
    def _largest_batch(self):
        return 512 if self.image_shape is None else 128

    _whitening_type = "full"
    _fixed = (
        *("hidden_layer_sizes", "base", "image_shape", "dropout"),
        *ComparesBases._fixed,
    )

    def _check_own(self):
        sizes = self.hidden_layer_sizes
        if not (are_sizes(sizes) and sizes):
            rule = "a tuple of ints of at least 1, one for each layer"
            raise invalid_parameter(self, "hidden_layer_sizes", rule, sizes)
        check_image_shape(self)
        if self.image_shape is not None:
            check_choice(self, "base", ("auto", "normal"))
        elif not (isinstance(self.base, str) and self.base in _NAMED):
            as_flow(self, self.base)
        check_integer(self, "n_probes", 2)
        if not (is_real(self.rtol) and self.rtol > 0):
            rule = "a finite number above 0"
            raise invalid_parameter(self, "rtol", rule, self.rtol)
        check_dropout(self)
        check_integer(self, "n_iter_no_change", 1)

    def _prepare(self, rows, rng):
        if self.image_shape is not None:
            self.base_ = "normal"
            return
        self.base_ = self._named_base or as_flow(self, self.base)
        if self.base_ == "flow":
            n_epochs = min(
                self.max_epochs // _EPOCHS_OF_FLOW, _FLOW_ROWS // rows.shape[0]
            )
            self.base_ = NormalizingFlow(
                max_epochs=max(1, n_epochs),
                dropout=self.dropout,
                early_stopping=self.early_stopping,
                validation_fraction=self.validation_fraction,
                device=self.device,
            )
        if isinstance(self.base_, str):
            return
        if is_fitted(self.base_):
            self._check_width_of(self.base_, rows.shape[1])
            return
        self.base_ = seeded_clone(self.base_, torch_seed(rng))
        try:
            self.base_._learn_split(rows, self)
        except (KeyboardInterrupt, FloatingPointError) as error:
            # Errors of a stopped fit would keep this model, which is not complete.
            interrupted = isinstance(error, KeyboardInterrupt)
            kind = KeyboardInterrupt if interrupted else FloatingPointError
            raise kind(*error.args) from None

    def _check_width_of(self, flow, d):
        """Raise ValueError unless a fitted flow has d features."""
        if flow.n_features_in_ != d:
            got = Described(f"a flow of {flow.n_features_in_} features")
            raise invalid_parameter(self, "base", f"{_BASES} of {d} features", got)

    def _new_module(self, rows, rng):
        if self.image_shape is not None:
            return FlowMatching(self._image_velocity(rows))
        if isinstance(self.base_, str):
            self._coordinates = fitted_coordinates(
                rows, self.base_, self._fit_dtype, column_names(self), rng
            )
        else:
            self._coordinates = FlowCoordinates(self.base_)
        n_varying = int(self._coordinates.varying.sum())
        # A network needs a feature, even where all are constant.
        sizes = max(1, n_varying), self.hidden_layer_sizes
        return FlowMatching(Velocity(*sizes, dropout_of(self, *rows.shape)))

    def _image_velocity(self, rows):
        """Set the coordinates of images; return their velocity before training."""
        check_pixels(self, rows.shape[1])
        self._coordinates = image_coordinates(rows, self._fit_dtype, column_names(self))
        factor = self._coordinates.scaling.factor[:, self._coordinates.varying]
        if not factor.shape[1]:
            factor = np.eye(rows.shape[1], 1)
        sizes = image_shape(self), self.hidden_layer_sizes
        return ImageVelocity(*sizes, dropout_of(self, *rows.shape), factor)

    def _encoded(self, X):
        Z, log_det, _ = self._coordinates.of_rows(self._coordinates.inside(X))
        Z = Z if Z.shape[1] else np.zeros((X.shape[0], 1))
        return np.column_stack([Z, log_det]).astype(np.float32)

    def _callbacks(self):
        return [("schedule", BestDensity(self.n_iter_no_change))]

    def _loss_offset(self):
        if self.image_shape is not None:
            return 0.0
        n_missing = np.count_nonzero(~self._coordinates.varying)
        return 0.5 * n_missing * np.log(2 * np.pi)

    def _adopted(self):
        history = self._losses()
        velocity = float64_copy(self.net_.module_.average).cpu()
        return {"history_": history, "n_iter_": len(history), "_velocity": velocity}

    # -- hooks of GenerativeModel ------------------------------------------------

    def _by_blocks(self, function, Z):
        """Apply a function of tensors to blocks of coordinates (n, d'), refined.

        `function` maps a block and a number of steps to answers (b, m).
        """
        block = self._velocity.block

        def solution(Z, n_steps):
            return np.concatenate(
                [
                    function(torch.from_numpy(Z[rows]), n_steps).numpy()
                    for rows in gen_batches(Z.shape[0], block)
                ]
            )

        threads = threads_for(min(block, Z.shape[0]) * self._velocity.work)
        with one_blas_thread(), threads, torch.no_grad():
            answers, errors = refined(solution, Z, self.rtol, _STEPS, _MOST_STEPS)
        if not (errors <= self.rtol).all():
            missed = np.count_nonzero(~(errors <= self.rtol))
            warn_user(
                f"The estimated error of {missed} of {errors.size} rows is above "
                f"rtol={self.rtol:g} after {_MOST_STEPS} steps. Its maximum is "
                f"{errors.max():.1e}.",
                ConvergenceWarning,
                kind="errors above rtol",
            )
        return answers

    def _log_density(self, X):
        return self._score_and_error(X)[:, 0]

    def _score_and_error(self, X):
        """Return log-densities of rows (n, d) and their standard errors: (n, 2)."""
        Z, log_det, rest = self._coordinates.of_rows(X)
        log_p = log_det - 0.5 * (rest**2 + np.log(2 * np.pi)).sum(axis=1)
        error = np.zeros(X.shape[0])
        if Z.shape[1]:
            found = self._densities_and_noise(Z, self.n_probes)[:, : -Z.shape[1]]
            log_p += found.mean(axis=1)
            error = error_of_mean(found, Z.shape[1]) if found.shape[1] > 1 else error
        return np.column_stack([log_p, error])

    def _densities_and_noise(self, Z, n_probes):
        """Return log-densities of coordinates (n, d') and their noise: (n, p + d').

        There is one log-density, or one for each probe of images.
        """
        function = partial(density_and_noise, self._velocity)
        if self.image_shape is not None:
            function = partial(function, probes=self._velocity.probes(n_probes))
        # The noise makes the estimate of an error reliable: of the log-densities alone,
        # two solutions can agree by chance.
        return self._by_blocks(function, Z)

    def _draw(self, n_samples, rng):
        noise = rng.standard_normal((n_samples, self._n_latent))
        if self.image_shape is None or self.rtol < _SINGLE:
            return self._conditional_mean(noise)
        # In double precision, convolutions take ten times as long.
        velocity = copy.deepcopy(self._velocity).float()
        return self._conditional_mean(noise.astype(np.float32), velocity)

    def _posterior_mean(self, X):
        Z, _, rest = self._coordinates.of_rows(X)
        if Z.shape[1]:
            Z = self._densities_and_noise(Z, 0)[:, -Z.shape[1] :]
        return joined(Z, rest, self._coordinates.varying)

    def _conditional_mean(self, Z, velocity=None):
        velocity = velocity or self._velocity
        varying = self._coordinates.varying
        rows, rest = Z[:, varying], Z[:, ~varying]
        if rows.shape[1]:
            dtype = torch.float32 if Z.dtype == np.float32 else torch.float64
            field = velocity.field(torch.device("cpu"), dtype)
            solution = partial(solve, field, start=FIRST, end=LAST)
            rows = self._by_blocks(lambda z, n_steps: solution(z, n_steps)[0], rows)
        return self._coordinates.rows_of(rows, rest)

    @property
    def _n_latent(self):
        return self.n_features_in_

    _n_features_out = _n_latent

    @property
    def _bytes_per_row(self):
        return 64 * self.n_features_in_  # blocks limit all other memory


def as_flow(model, base):
    """Return the flow that is the `base` of a model; raise ValueError otherwise."""
    flow = base.estimator if isinstance(base, FrozenEstimator) else base
    if not isinstance(flow, NormalizingFlow):
        raise invalid_parameter(model, "base", _BASES, base)
    return flow
