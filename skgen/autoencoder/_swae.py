"""Sliced-Wasserstein autoencoder."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skgen._checks import (
    Described,
    check_integer,
    check_nonnegative,
    invalid_parameter,
)
from skgen._interop import is_density
from skgen._typing import ArrayLike, RandomState
from skgen.autoencoder._base import AbstractAutoencoder
from skgen.autoencoder._latent_density import as_prior, check_prior
from skgen.autoencoder._networks import AutoencoderModule
from skgen.autoencoder._parameters import Network, Optimizer, with_docs
from skgen.autoencoder._parts import AutoencoderParts
from skgen.autoencoder._prior import Cube, Ring, standard_normal
from skgen.autoencoder._sliced_wasserstein import (
    directions,
    sliced_distance,
    sliced_distance_to_normal,
)
from skgen.kde import GaussianKDE
from skgen.neural._parameters import Sizes

# Bandwidth of the kernel at each sample, relative to the standard deviation of the
# samples.
_NARROW = 0.05

# Number of stored draws from a density, to which batches are matched.
_POOL = 20_000


class Sliced(AutoencoderModule):
    """Reconstruction loss plus `weight` * k * sliced-Wasserstein distance to a prior.

    draw: function of a shape (n, k) and a generator that returns codes from the prior;
    None is the standard normal prior, by its quantiles.
    """

    def forward(self, x):
        z, fit = self.reconstruct(x)  # (n, k), (n,)
        projections = directions(
            self.n_projections, z.shape[1], z.detach(), self.generator
        )
        if self.draw is None:
            distance = sliced_distance_to_normal(z, projections)
        else:
            prior = self.draw(z.shape, self.generator).to(z.dtype)
            distance = sliced_distance(z, prior, projections)
        return self.weight * z.shape[1] * distance - fit.mean()


def _empty(shape, generator):
    """Return an uninitialised tensor on the device of `generator`, if it is given."""
    device = None if generator is None else generator.device
    return torch.empty(shape, dtype=torch.float32, device=device)


class Pool(torch.nn.Module):
    """Random draws (n, k), with replacement, from stored draws (N, k)."""

    def __init__(self, draws):
        super().__init__()
        self.register_buffer("draws", draws)

    def forward(self, shape, generator):
        chosen = torch.empty(shape[0], dtype=torch.long, device=self.draws.device)
        return self.draws[chosen.random_(self.draws.shape[0], generator=generator)]


class Uniform(torch.nn.Module):
    """Uniform draws (n, k) from the cube [-1, 1]^k."""

    def forward(self, shape, generator):
        return _empty(shape, generator).uniform_(-1, 1, generator=generator)


class Shell(torch.nn.Module):
    """Uniform draws (n, k) from the shell between two spheres."""

    def __init__(self, inner, outer):
        super().__init__()
        self.inner, self.outer = inner, outer

    def forward(self, shape, generator):
        k = shape[1]
        low, high = self.inner**k, self.outer**k
        u = _empty((shape[0], 1), generator).uniform_(generator=generator)
        noise = _empty(shape, generator).normal_(generator=generator)
        size = noise.norm(dim=1, keepdim=True).clamp(min=1e-30)
        return noise * ((low + u * (high - low)) ** (1 / k) / size)


# Priors by name: the density in k dimensions, and a module that draws codes from it.
# None stands for exact quantiles in place of draws.
_RADII = (0.8, 1.2)
NAMED = {
    "normal": (standard_normal, None),
    "uniform": (Cube, Uniform),
    "ring": (lambda k: Ring(k, *_RADII), lambda: Shell(*_RADII)),
}


def check_prior_parameter(model, name):
    """Raise unless a prior is a name, a fitted density or an array of samples."""
    prior, k = getattr(model, name), model.n_components
    if isinstance(prior, str) and prior in NAMED:
        return
    listed = ", ".join(map(repr, NAMED))
    rule = (
        f"one of {listed}, a fitted density of {k} features with score_samples "
        f"and sample, or an array of samples of shape (n, {k})"
    )
    if is_density(prior):
        width = getattr(prior, "n_features_in_", None)
        if width != k:
            got = (
                "one that is not fitted (in a search, where estimators are cloned, "
                "wrap it in sklearn.frozen.FrozenEstimator)"
                if width is None
                else f"one of {width} features"
            )
            raise invalid_parameter(model, name, rule, Described(got))
        try:
            check_prior(unguided(prior, k))
        except Exception as error:
            got = Described(f"{prior!r}, which cannot be used ({error})")
            raise invalid_parameter(model, name, rule, got) from error
    elif isinstance(prior, str) or not is_table_of(prior, k):
        raise invalid_parameter(model, name, rule, prior)


def is_table_of(value, k):
    """Return whether a value is a finite array (n, k) with two different rows."""
    try:
        table = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    if np.ma.is_masked(value):
        return False
    if table.shape[1:] != (k,) or not np.isfinite(table).all():
        return False
    return bool((table[1:] != table[:-1]).any())


def unguided(density, k):
    """Return a fitted density as a prior, without codes for a guide."""
    return as_prior(density, np.concatenate([np.eye(k), -np.eye(k)]))


def prior_density(prior):
    """Return the name or the fitted density of a prior; samples become a KDE."""
    if isinstance(prior, str) or hasattr(prior, "score_samples"):
        return prior
    samples = np.asarray(prior, dtype=np.float64)
    width = _NARROW * np.sqrt(samples.var(axis=0).mean())
    return GaussianKDE(float(width)).fit(samples)


def training_draws(density, k):
    """Return a module that draws codes from a prior, or None for exact quantiles."""
    if isinstance(density, str):
        module = NAMED[density][1]
        return module and module()
    pool = unguided(density, k).draw(_POOL, np.random.RandomState(0))
    return Pool(torch.as_tensor(pool, dtype=torch.float32))


@with_docs
class SWAE(AutoencoderParts, AbstractAutoencoder):
    r"""Sliced-Wasserstein autoencoder.

    Training minimises the reconstruction loss plus a distance between the codes of a
    batch and draws from a prior [1]_,

    .. math:: -\frac1n \sum_i \log p(x_i | z_i)
              + \lambda k \, \mathrm{SW}_2^2(\{z_i\}, \{\tilde z_i\}),
              \qquad z_i = f(x_i), \quad \tilde z_i \sim p(z),

    where :math:`f` is the encoder and :math:`k` the latent dimension.
    :math:`\mathrm{SW}_2^2` is the mean squared difference between the sorted
    projections of the two samples, over rows and random directions. Read more in the
    :doc:`/guide/autoencoders`.

    Parameters
    ----------
    prior : str, estimator or array-like of shape (n, n_components)
        Prior of the codes.

        - "normal": standard normal.
        - "uniform": uniform on the cube [-1, 1]^k.
        - "ring": uniform between the spheres with radii 0.8 and 1.2.
        - estimator: fitted density of `n_components` features with `score_samples` and
          `sample`. In a search, wrap it in ``sklearn.frozen.FrozenEstimator``, because
          a clone of it is not fitted.
        - array-like: samples. The prior is an equally weighted mixture of normal
          densities around the samples, with 0.05 times their standard deviation.

        Scores are most accurate for at most 500 samples, or at most 500 kernels of a
        :class:`GaussianKDE` with one bandwidth.
    swd_weight : float
        Weight :math:`\lambda` of the distance. The factor :math:`k` in the loss
        compensates for the mean over directions, which is about :math:`1 / k` of the
        squared Wasserstein distance. The weight need not grow with `n_components`.
    n_projections : int
        Number of random directions for each batch.

    Attributes
    ----------
    latent_density_ : estimator or None
        Prior, if `prior` is an estimator or samples; None for a named prior.

    See Also
    --------
    AutoEncoder : Autoencoder with a density that is fitted to its codes afterwards.
    VAE : Autoencoder with a normal prior, trained by a lower bound.
    sliced_wasserstein_distance : Distance between two samples.

    Notes
    -----
    For the "normal" prior, exact quantiles replace the sorted draws, because every
    projection of a standard normal vector is standard normal. Codes can match a prior
    in all projections of a batch and still leave holes in the latent space. A prior
    with bounded support ("uniform", "ring") gives low scores to rows whose codes lie
    outside. The noise variances are fitted after training, under the posterior of the
    codes.

    References
    ----------
    .. [1] Kolouri, S., Pope, P. E., Martin, C. E. and Rohde, G. K. (2019). Sliced
       Wasserstein auto-encoders. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import SWAE
    >>> rng = np.random.RandomState(0)
    >>> t = rng.uniform(0, 3, 200)
    >>> X = np.column_stack([np.sin(t), np.cos(t)]) + 0.05 * rng.normal(size=(200, 2))
    >>> model = SWAE(n_components=1, max_epochs=20, random_state=0).fit(X)
    >>> model.sample(3).shape
    (3, 2)
    >>> model.inverse_transform(model.transform(X)).shape
    (200, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        prior: str | BaseEstimator | ArrayLike = "normal",
        swd_weight: float = 1.0,
        n_projections: int = 50,
        hidden_layer_sizes: Sizes = (128,),
        activation: str = "relu",
        encoder: Network | None = None,
        decoder: Network | None = None,
        image_shape: Sizes | None = None,
        encode_mask: bool = False,
        likelihood: str = "gaussian",
        noise_covariance: str = "diag",
        n_importance_samples: int = 64,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        lr: float = 5e-3,
        optimizer: Optimizer = "adam",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        net_callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        random_state: RandomState = None,
        device: str = "cpu",
    ) -> None:
        self._set_shared(locals())
        self.prior = prior
        self.swd_weight = swd_weight
        self.n_projections = n_projections

    _loss_checks: ClassVar = {
        "prior": check_prior_parameter,
        "swd_weight": check_nonnegative,
        "n_projections": partial(check_integer, minimum=1),
    }

    def _loss_module(self, *networks, prior, swd_weight, n_projections):
        self._prior_density = prior_density(prior)
        draw = training_draws(self._prior_density, self.n_components)
        return Sliced(
            *networks, weight=swd_weight, n_projections=n_projections, draw=draw
        )

    def _prior_in_training(self, codes):
        if isinstance(self._prior_density, str):
            return NAMED[self._prior_density][0](self._fitted_n_components)
        return as_prior(self._prior_density, codes)
