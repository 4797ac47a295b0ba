"""Steps of a pipeline: parameters, names, slices and routing, as in scikit-learn."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, process_routing
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skgen._checks import (
    RANDOM_STATE_RULE,
    InvalidParameterError,
    column_names,
    has_methods,
    invalid_parameter,
    is_random_state,
    seed_of,
)
from skgen._interop import as_set_output, framed, framed_like
from skgen._typing import ArrayLike, NDArray
from skgen.compose._changes import PRINCIPAL, change_of
from skgen.compose._wrapper import innermost, is_continuous


class Steps(_BaseComposition):
    """Named steps in the parameter `steps`; after a fit, fitted ones in `steps_`."""

    steps: list[tuple[str, Any]]
    steps_: list[tuple[str, Any]]

    def _check_parameters(self):
        rule = "a list of pairs of a name and an estimator"
        if not (isinstance(self.steps, list) and self.steps):
            raise invalid_parameter(self, "steps", rule, self.steps)
        for step in self.steps:
            if not (isinstance(step, tuple) and len(step) == 2):
                raise invalid_parameter(self, "steps", rule, step)
        self._validate_names([name for name, _ in self.steps])
        what = f"of {type(self).__name__} must be"
        for name, step in self.steps[:-1]:
            if not (is_passthrough(step) or has_methods(step, "fit", "transform")):
                raise InvalidParameterError(
                    f"The step {name!r} {what} a transformer, with 'fit' and "
                    f"'transform', or 'passthrough'. Got {step!r} instead."
                )
        last = innermost(self.steps[-1][1])
        if not has_methods(last, "fit", "score_samples", "sample"):
            raise InvalidParameterError(
                f"The last step {what} a density, with 'fit', 'score_samples' and "
                f"'sample'. Got {last!r} instead."
            )
        # A pipeline has no parameter `random_state` of its own.
        if isinstance(last, Steps):
            last._check_parameters()
        elif not is_random_state(seed_of(last)):
            raise invalid_parameter(
                last, "random_state", RANDOM_STATE_RULE, seed_of(last)
            )

    @property
    def _served(self):
        """Return the fitted steps; before a fit, the parameter `steps`."""
        return self.__dict__.get("steps_", self.steps)

    @property
    def named_steps(self) -> Bunch:
        """The steps by name. After a fit, these are the fitted steps."""
        return Bunch(**dict(self._served))

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int | str | slice) -> Any:
        if not isinstance(index, slice):
            return (
                self.named_steps[index]
                if isinstance(index, str)
                else self._served[index][1]
            )
        steps = self._served[index]
        if index.step not in (None, 1):
            raise ValueError("Slices of a pipeline have a step of 1.")
        if not steps or steps[-1][0] != self.steps[-1][0]:
            return Pipeline(steps, memory=self.memory)
        part = type(self)(self.steps[index], memory=self.memory)
        if "_sklearn_output_config" in vars(self):
            part._sklearn_output_config = self._sklearn_output_config.copy()
        if "steps_" in self.__dict__:
            part._take_over(self, steps)
        return part

    def _take_over(self, whole, steps):
        """Set the fitted attributes to the last `steps` of a fitted pipeline."""
        first = steps[0][1]
        self.steps_ = steps
        self.n_features_in_ = getattr(first, "n_features_in_", whole.n_features_in_)
        if hasattr(first, "feature_names_in_"):
            self.feature_names_in_ = first.feature_names_in_
        for name in ("_fit_dtype", "_frame_kind", "_scaled_rounding"):
            setattr(self, name, getattr(whole, name))
        self._settle()

    def _fitted_steps(self):
        """Return the fitted steps, without nested pipelines."""
        return list(unnested(step for _, step in self.steps_))

    def _handed(self, step, X):
        """Return (n, d) rows as a dataframe if the step was fitted to a dataframe."""
        names = getattr(step, "feature_names_in_", None)
        return framed(X, names, self._frame_kind)

    # Seed of `sample`. A public attribute would suggest a parameter `random_state`.
    @property
    def _random_state(self):
        return seed_of(innermost(self._served[-1][1]))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the pipeline and of its steps.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the steps and their parameters as ``name__parameter``.

        Returns
        -------
        dict
            Parameter names and values.
        """
        return self._get_params("steps", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the pipeline and of its steps.

        Parameters
        ----------
        **params : dict
            Parameter names and values: the name of a step replaces the step, and
            ``name__parameter`` sets one of its parameters.

        Returns
        -------
        self : object
            The pipeline. Fit it again for the parameters to take effect.
        """
        self._set_params("steps", **params)
        return self

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the output container of the pipeline and of its steps.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Container that `transform` returns. If the pipeline was fitted to a
            dataframe, `sample` and `inverse_transform` return it too. "default" is a
            NumPy array. None leaves the setting unchanged.

        Returns
        -------
        self : object
            The pipeline.
        """
        super().set_output(transform=transform)
        fitted = self.__dict__.get("steps_", [])
        for _, step in [*self.steps, *fitted]:
            if hasattr(step, "set_output"):
                step.set_output(transform=transform)
        return self

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> NDArray[np.object_]:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the input features. None uses the names seen in `fit`.

        Returns
        -------
        ndarray of str objects
            Names of the latents of the last step.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        *steps, last = self._fitted_steps()
        for step in steps:
            names = names_out(step, names)
        return last.get_feature_names_out(names)

    def _names_after(self, steps):
        """Return the names of the columns after fitted steps; None if unknown."""
        names = column_names(self)
        if names is None:
            return None
        try:
            for step in steps:
                names = names_out(step, names)
        except (AttributeError, TypeError, ValueError):  # from a custom transformer
            return None
        return None if names is None else list(names)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the metadata routing of the pipeline.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
            Routing of a scikit-learn pipeline with the same steps.
        """
        return Pipeline(self.steps).get_metadata_routing()

    def _sk_visual_block_(self):
        return Pipeline(self._served)._sk_visual_block_()

    # Whether tied data make the likelihood of the last step unbounded.
    @property
    def _is_continuous(self):
        return is_continuous(self.steps[-1][1])

    @property
    def _n_fit_tasks(self):
        return len(self.steps)

    def _routed(self, params):
        """Return the `fit` parameters of each step: a dict of dicts."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **params)
            # scikit-learn's router routes `fit_transform` of transformers.
            return {
                name: dict(
                    routed[name].get("fit_transform") or routed[name].get("fit", {})
                )
                for name, _ in self.steps
            }
        routed = {name: {} for name, _ in self.steps}
        for key, value in params.items():
            name, _, parameter = key.partition("__")
            if name not in routed or not parameter:
                raise InvalidParameterError(
                    f"The arguments of {type(self).__name__}.fit must be named "
                    f"'step__parameter' after one of its steps. Got {key!r} instead."
                )
            routed[name][parameter] = value
        return routed


def names_out(step, names):
    """Return the names of the columns that a fitted transformer returns, or None.

    `names` (d,) are the names of its input columns, or None.
    """
    if hasattr(step, "get_feature_names_out"):
        return step.get_feature_names_out(names)
    # NumPy's universal functions transform every value on its own.
    elementwise = isinstance(step, FunctionTransformer) and (
        step.func is None or isinstance(step.func, np.ufunc)
    )
    return names if elementwise else None


def unnested(steps):
    """Yield steps, and the steps of scikit-learn's pipelines, without "passthrough"."""
    for step in steps:
        if isinstance(step, Pipeline):
            yield from unnested(inner for _, inner in step.steps)
        elif not is_passthrough(step):
            yield step


def is_passthrough(step):
    """Return whether a step is a placeholder for no transformer."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def fitted_step(fit, step, codes, *more):
    """Return a clone of a step that ``fit(step, rows, *more)`` fits to codes (n, k)."""
    # The solvers of principal components square the rows, which are centred before.
    if isinstance(next(unnested([step]), None), PRINCIPAL):
        values = np.asarray(codes, dtype=np.float64)
        centre = values.mean(axis=0)
        rows = framed_like(codes, values - centre)
    else:
        rows, centre = _spared(step, codes), 0.0
    step = clone(step)
    # scikit-learn's check of an inverse takes NaN for a difference, and warns.
    spared = isinstance(step, FunctionTransformer) and step.check_inverse
    spared = spared and np.isnan(np.asarray(rows, dtype=np.float64)).any()
    if spared:
        step.check_inverse = False
    step = fit(step, rows, *more)
    if spared:
        step.check_inverse = True
    first = next(unnested([step]), None)
    if isinstance(first, PRINCIPAL):
        first.mean_ = first.mean_ + centre
    return step


def settled_output(step, codes, rounding):
    """Correct the attributes of a step that was fitted to codes; return its output."""
    values = np.asarray(codes, dtype=np.float64)
    change_of(step).settle(step, values, rounding.errors)
    return output_of(step, codes)


def output_of(step, codes):
    """Return the output (n, k) of a fitted transformer, an array or a dataframe."""
    forward = change_of(step).forward
    if forward is not None:
        values = forward(step, np.asarray(codes, dtype=np.float64))
        return as_set_output(step, values, codes, step.get_feature_names_out)
    codes = step.transform(_spared(step, codes))
    return codes.toarray() if issparse(codes) else codes


def _spared(step, codes):
    """Return rows (n, k), copied if the step, or a step in it, may overwrite them."""
    overwrites = any(
        name.split("__")[-1] == "copy" and value is False
        for name, value in step.get_params().items()
    )
    return deepcopy(codes) if overwrites else codes
