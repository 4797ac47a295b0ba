"""Held-out log-likelihood of each candidate, by cross-validation."""

import warnings
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold


@dataclass
class Result:
    """Cross-validation of one candidate."""

    candidate: object
    log_density: np.ndarray  # (n,) of each row while it was held out
    fit_seconds: list
    score_seconds: list
    notes: dict  # the first warning of each category, and the error if the fit failed
    failed: bool = False

    @property
    def mean(self):
        return -np.inf if self.failed else float(self.log_density.mean())


class Timed(BaseEstimator):
    """A density that times itself, as the last step of a pipeline.

    The checks of a pipeline take some milliseconds, which are not the density's.
    """

    def __init__(self, density):
        self.density = density

    def fit(self, X, y=None):
        """Fit the density."""
        start = perf_counter()
        self.density_ = clone(self.density).fit(X)
        self.fit_seconds_ = perf_counter() - start
        return self

    def score_samples(self, X):
        """Return the log-densities of rows."""
        start = perf_counter()
        answer = self.density_.score_samples(X)
        self.score_seconds_ = perf_counter() - start
        return answer

    def sample(self, n_samples=1, *, random_state=None):
        """Return draws from the density."""
        return self.density_.sample(n_samples, random_state=random_state)


def mean_and_error(values):
    """Return the mean of independent values and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def cross_validate(candidates, X, n_folds, random_state, advance):
    """Return the Result of each candidate on the held-out rows of X, (n, d).

    Calls `advance` with the label of a candidate before each of its folds.
    """
    folds = list(KFold(n_folds, shuffle=True, random_state=random_state).split(X))
    results = [Result(c, np.full(X.shape[0], np.nan), [], [], {}) for c in candidates]
    # Fold by fold: a busy moment of the machine then slows all candidates alike.
    for train, test in folds:
        for result in results:
            advance(result.candidate.label)
            if not result.failed:
                _score_fold(result, X, train, test)
    return results


def _score_fold(result, X, train, test):
    """Fit to the training rows, score the held-out rows, and time both."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = result.candidate.build(X[train])
            start = perf_counter()
            model.fit(X[train])
            fitted = perf_counter()
            result.log_density[test] = model.score_samples(X[test])
            seconds = fitted - start, perf_counter() - fitted
            last = model[-1] if hasattr(model, "steps") else None
            if isinstance(last, Timed):
                seconds = last.fit_seconds_, last.score_seconds_
            result.fit_seconds.append(seconds[0])
            result.score_seconds.append(seconds[1])
            if not np.isfinite(result.log_density[test]).all():
                raise ValueError("log-densities that are not finite")
        except (ValueError, FloatingPointError) as error:
            result.failed = True
            result.notes[ValueError] = f"failed: {_one_line(error)}"
    for warning in caught:
        if not issubclass(warning.category, RuntimeWarning):
            message = _one_line(warning.message)
            result.notes.setdefault(warning.category, message)


def _one_line(message, most=300):
    text = " ".join(str(message).split())
    return text if len(text) <= most else text[: most - 3] + "..."
