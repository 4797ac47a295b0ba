"""Answers of an autoencoder for rows with NaN."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from skgen._parts import (
    AbstractPart,
    PartialRows,
    PartOfPattern,
    incomplete_rows,
    inverse_of,
    mixture_cdf,
    mixture_quantile,
)
from skgen.autoencoder._conditional import components, draw_latents, expectations
from skgen.compose._partial_density import PartialDensity

# Minimum number of samples of a distribution function.
_OF_DISTRIBUTION = 1024


class AutoencoderPart(AbstractPart):
    """The observed features of rows (n, d) of any pattern, and the features with NaN.

    Answers for missing features are in the order of the rows: (m,) for m of them.
    """

    def __init__(self, model):
        self._model = model

    def log_density(self, X):
        # The sum over no features is exactly 0.
        answer = self._model._log_density(X)
        return np.where(np.isnan(X).all(axis=1), 0.0, answer)

    def posterior_mean(self, X):
        return self._expectations(X)[0]

    def conditional_mean(self, X):
        means = self._model._coordinates.restored(self._expectations(X)[1])
        return means[np.isnan(X)]

    def _expectations(self, X):
        model, total = self._model, 0.0
        posteriors, weights = model._posteriors_given(X)
        U = torch.tensor(model._coordinates.standardized(X))
        with model._answering():
            for posterior, weight in zip(posteriors, weights.T, strict=True):
                found = expectations(posterior, U, model.n_importance_samples)
                both = torch.cat(found, dim=1)  # (n, k + d')
                total = total + weight[:, None] * both.numpy()
        return np.split(total, [model._n_latent], axis=1)

    def draw(self, X, n_samples, rng):
        missing, d = np.isnan(X), X.shape[1]
        empty = missing.all(axis=1)
        draws = np.empty((n_samples, *X.shape))
        if empty.any():
            drawn = self._model._draw(n_samples * int(empty.sum()), rng)
            draws[:, empty] = drawn.reshape(n_samples, -1, d)
        if not empty.all():
            draws[:, ~empty] = self._drawn(X[~empty], n_samples, rng)
        return draws[:, missing]

    def _drawn(self, X, n_samples, rng):
        """Return draws (n_samples, n, d) given rows with observed features."""
        model = self._model
        posteriors, weights = model._posteriors_given(X)
        U = torch.tensor(model._coordinates.standardized(X))
        varying = np.empty((n_samples * len(X), model._coordinates.n_varying))
        chosen = _chosen(weights, n_samples, rng)  # (n_samples, n)
        with model._answering():
            for i, posterior in enumerate(posteriors):
                own = torch.from_numpy(chosen == i)
                some = own.any(dim=0)  # rows of which draws are needed
                if some.any():
                    n_importance = model.n_importance_samples
                    z = draw_latents(posterior, U[some], n_samples, n_importance, rng)
                    a = posterior.decode(z[own[:, some]])
                    drawn = posterior.module.likelihood.draw(a, rng)
                    varying[own.flatten().numpy()] = drawn
        return model._with_constants(varying, rng).reshape(n_samples, *X.shape)


def _chosen(weights, n_samples, rng):
    """Return indices (n_samples, n) that are drawn with the weights (n, C) of rows."""
    n, n_posteriors = weights.shape
    if n_posteriors == 1:
        return np.zeros((n_samples, n), dtype=np.intp)
    u = rng.uniform(size=(n_samples, n, 1))
    ends = weights.cumsum(axis=1)
    return (u * ends[:, -1:] >= ends[:, :-1]).sum(axis=2)


class AutoencoderParts(PartialRows):
    """Mixin of the autoencoders that are fitted to rows with NaN, and answer them."""

    _fits_incomplete = True

    def _posteriors_given(self, X):
        """Return posteriors, C of them, and their weights (n, C) given rows (n, d)."""
        return [self._posterior_with_density()], np.ones((len(X), 1))

    def _part(self, observed):
        return PartOfPattern(AutoencoderPart(self), observed)

    def _incomplete(self, X, bytes_per_row):
        part = AutoencoderPart(self)
        for rows, values, missing in incomplete_rows(X, bytes_per_row):
            yield rows, part, values, missing

    def _marginal(self, features):
        return PartialDensity.of(self, features)

    def _condition(self, row):
        return PartialDensity.of(self, np.flatnonzero(np.isnan(row)), row)

    def _cdf(self, x):
        return self._distribution_given(np.full(1, np.nan), 0)[0](x)

    def _quantile(self, q):
        return self._distribution_given(np.full(1, np.nan), 0)[1](q)

    def _distribution_given(self, row, feature):
        """Return the distribution function of a feature given a row, and its inverse.

        The row (d,) has NaN for all features that are not given.
        """
        coordinates = self._coordinates
        if not coordinates.varying[feature]:
            mean, scale = coordinates.whitening.mean, coordinates.whitening.scale
            return _of_normals(np.ones(1), mean[[feature]], scale[[feature]])
        j = int(coordinates.varying[:feature].sum())
        U = torch.tensor(coordinates.standardized(row[None]))
        posteriors, shares = self._posteriors_given(row[None])
        n_samples = max(self.n_importance_samples, _OF_DISTRIBUTION)
        weights, a, variances = [], [], []
        for posterior, share in zip(posteriors, shares[0], strict=True):
            with self._answering():
                weight, output, slopes = components(posterior, U, n_samples)
            weights.append(share * weight.numpy())
            a.append(output[:, j])
            spread = 0.0 if slopes is None else float(slopes[:, j].square().sum())
            variances.append(np.full(weight.numel(), spread))
        weights, a = np.concatenate(weights), torch.cat(a)
        likelihood = posteriors[0].module.likelihood  # of all posteriors
        if not coordinates.is_normal:
            return _of_family(weights, a, likelihood)
        scale = coordinates.whitening.scale[feature]
        means = coordinates.whitening.mean[feature] + scale * a.numpy()
        variance = float(likelihood.variance[j]) + np.concatenate(variances)
        deviations = scale * np.sqrt(variance)
        return _of_normals(weights, means, deviations)


def _of_normals(weights, means, deviations):
    """Return the distribution function of normal components (C,), and its inverse."""
    of = {"weights": weights, "means": means, "deviations": deviations}
    return partial(mixture_cdf, **of), partial(mixture_quantile, **of)


def _of_family(weights, a, likelihood):
    """Return the distribution function of a feature in [0, 1], and its inverse.

    weights, a: (C,) weights and decoder outputs.
    """

    def cdf(x):
        return np.array([float(weights @ likelihood.cdf(t, a).numpy()) for t in x])

    def quantile(q):
        # From below 0, because a probability can be at 0.
        found = inverse_of(cdf, q, np.full(q.size, -1.0), np.ones(q.size))
        return np.maximum(found, 0.0)

    return cdf, quantile
