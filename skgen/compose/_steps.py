"""The manners of a scikit-learn pipeline: steps by name, slices, nested parameters."""

from abc import abstractmethod

from sklearn import get_config
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skgen._frames import framed
from skgen._parameters import InvalidParameterError, has_methods, invalid_parameter
from skgen._validation import seed_of
from skgen.base import GenerativeModel
from skgen.compose._fitting import innermost, is_continuous


class AbstractPipeline(GenerativeModel, _BaseComposition):
    """A model that holds steps, and fits clones of them into `steps_`.

    Abstract: besides the hooks of `GenerativeModel` it asks for ``_settle``, which
    finds out what follows from fitted steps.
    """

    @abstractmethod
    def _settle(self):
        """Set what follows from the fitted steps."""

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
            if not (passes(step) or has_methods(step, "fit", "transform")):
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

    def _routed(self, params):
        """Return what each step's `fit` is given: a dict of dicts."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **params)
            # A pipeline asks transformers for both at once.
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

    # -- the steps -----------------------------------------------------------------

    @property
    def _served(self):
        """Return the fitted steps, and those to fit before there are any."""
        return self.__dict__.get("steps_", self.steps)

    @property
    def named_steps(self):
        """The steps by their names, the fitted ones once there are any."""
        return Bunch(**dict(self._served))

    def __len__(self):
        return len(self.steps)

    def __getitem__(self, index):
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
        if "steps_" in self.__dict__:
            part._take_over(self, steps)
        return part

    def _take_over(self, whole, steps):
        """Be fitted, as the last steps of a fitted pipeline."""
        first = steps[0][1]
        self.steps_ = steps
        self.n_features_in_ = getattr(first, "n_features_in_", whole.n_features_in_)
        if hasattr(first, "feature_names_in_"):
            self.feature_names_in_ = first.feature_names_in_
        for name in ("_fit_dtype", "_frame_kind", "_scaled_rounding"):
            setattr(self, name, getattr(whole, name))
        self._settle()

    def _flat_steps(self):
        """Return the fitted steps, those of pipelines within one by one."""
        return list(flat(step for _, step in self.steps_))

    def _handed(self, step, X):
        """Return rows as a step saw them when it was fitted: with names or without."""
        names = getattr(step, "feature_names_in_", None)
        return framed(X, names, self._frame_kind)

    # -- scikit-learn --------------------------------------------------------------

    # Seed of `sample`. A public attribute would suggest a parameter `random_state`.
    @property
    def _random_state(self):
        return seed_of(innermost(self._served[-1][1]))

    def get_params(self, deep=True):
        """Return the parameters, and those of the steps.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return those of the steps as well, as ``name__parameter``.

        Returns
        -------
        dict
            The names of the parameters and their values.
        """
        return self._get_params("steps", deep=deep)

    def set_params(self, **params):
        """Set parameters: steps by their names, and theirs by ``name__parameter``.

        Parameters
        ----------
        **params : dict
            The names of the parameters and their values.

        Returns
        -------
        self : object
            The pipeline, to be fitted again.
        """
        self._set_params("steps", **params)
        return self

    def set_output(self, *, transform=None):
        """Say what `transform` returns, here and in every step.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            The container; None changes nothing.

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

    def get_feature_names_out(self, input_features=None):
        """Return the names of the latents of the last step.

        Parameters
        ----------
        input_features : array-like of str, default=None
            The names of the features; None takes those seen in `fit`.

        Returns
        -------
        ndarray of str
            A name for each column that `transform` returns.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        for step in self._flat_steps():
            names = step.get_feature_names_out(names)
        return names

    def get_metadata_routing(self):
        """Return how metadata are routed to the steps.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
            As of a scikit-learn pipeline of the same steps.
        """
        return Pipeline(self.steps).get_metadata_routing()

    def _sk_visual_block_(self):
        return Pipeline(self._served)._sk_visual_block_()

    # Whether the density that is fitted last is one of continuous rows.
    @property
    def _is_continuous(self):
        return is_continuous(self.steps[-1][1])

    @property
    def _n_fit_tasks(self):
        return len(self.steps)

    @property
    def _n_latent(self):
        return len(self.get_feature_names_out())


def flat(steps):
    """Yield steps, those of scikit-learn's pipelines among them one by one."""
    for step in steps:
        if isinstance(step, Pipeline):
            yield from flat(inner for _, inner in step.steps)
        elif not passes(step):
            yield step


def passes(step):
    """Tell whether a step stands for no transformer."""
    return step is None or (isinstance(step, str) and step == "passthrough")
