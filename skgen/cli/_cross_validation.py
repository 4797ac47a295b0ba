"""Held-out log-likelihood of each candidate, by cross-validation."""

import warnings
from dataclasses import dataclass
from time import perf_counter

import numpy as np
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
            start = perf_counter()
            model = result.candidate.build(X[train])
            model.fit(X[train])
            fitted = perf_counter()
            result.log_density[test] = model.score_samples(X[test])
            result.score_seconds.append(perf_counter() - fitted)
            result.fit_seconds.append(fitted - start)
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
