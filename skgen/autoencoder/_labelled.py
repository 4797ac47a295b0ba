"""Base class of the autoencoders that learn from rows of which some are labelled."""

from __future__ import annotations

import skgen._needs_torch  # noqa: F401

# isort: split

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from skgen._bayes import BayesClassifier, checked_labels
from skgen._checks import (
    Described,
    check_choice,
    check_nonnegative,
    generator,
    invalid_argument,
    rows_to_answer,
    validated_rows,
)
from skgen._interop import as_set_output
from skgen._torch import undisturbed
from skgen._typing import ArrayLike, FloatArray, MatrixLike
from skgen._warnings import warn_user
from skgen.autoencoder._base import _DRAWN_AT_ONCE, AbstractAutoencoder, _check_two_rows
from skgen.autoencoder._calibration import normal_density_of
from skgen.autoencoder._class_posteriors import ClassPosteriors
from skgen.autoencoder._labelled_module import log_of
from skgen.autoencoder._labels import UNLABELLED, split_labels
from skgen.autoencoder._latent_density import MOST_ROWS
from skgen.autoencoder._parts import AutoencoderParts
from skgen.base import GenerativeModel


class LabelledAutoencoder(BayesClassifier, AutoencoderParts, AbstractAutoencoder):
    """Abstract autoencoder that learns from rows of which some are labelled.

    Without labels, it is the unsupervised model with the same parameters.
    """

    priors: ArrayLike | None
    label_weight: float
    adversarial_radius: float
    classify_by: str
    priors_: FloatArray
    classes_: Any

    def _set_labelled(self, values):
        """Set the parameters of labels, given `locals()` of a constructor."""
        for name in ("label_weight", "adversarial_radius", "priors", "classify_by"):
            setattr(self, name, values[name])

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fixed = ("label_weight", "adversarial_radius", *cls._fixed)

    # -- hooks -----------------------------------------------------------------

    @abstractmethod
    def _unsupervised_module(self, *networks, **parameters):
        """Return the module of the model without labels."""

    @abstractmethod
    def _labelled_module(self, *networks, **parameters):
        """Return the `LabelledModule` to train."""

    def _class_priors(self):
        """Return the prior of codes of each class; None if it is fitted afterwards."""

    @abstractmethod
    def _fitted_posteriors(self, module, x, y, rng):
        """Return `ClassPosteriors` and the fitted densities of codes, or None.

        x: (n, d) scaled rows in random order; y: (n,) class codes.
        """

    # -- fitting ---------------------------------------------------------------

    def fit(self, X: MatrixLike, y: ArrayLike | None = None) -> Self:
        """Fit the model to rows, of which some or all have a class label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data. Without labels, also a Dask array, a Dask dataframe or a
            function that returns an iterator over blocks of rows.
        y : array-like of shape (n_samples,), default=None
            Class labels of any type that can be sorted. -1 marks a row without a
            label; strings need an object array for it. If None or all -1, the model is
            the unsupervised one, and `predict` raises an error.

        Returns
        -------
        self : object
            The fitted model. If fitting fails, the model of an earlier `fit` is kept.

        Raises
        ------
        ValueError
            If a parameter, `X` or `y` is invalid, if the only values of `y` are -1
            and 1, or if the model needs more rows.
        FloatingPointError
            If the loss becomes NaN. The model of the last complete epoch is kept, as
            it is after a KeyboardInterrupt.
        """
        return self._learn(X, y=y)

    def partial_fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Update the model with one more batch of a stream of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows. The first rows of an unfitted model determine the scaling of
            the features and the initial parameters, so there must be enough of them.
        y : array-like of shape (n_samples,), default=None
            Class labels, as in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All classes of the stream, for the first call. None takes the classes of
            the first labels.

        Returns
        -------
        self : object
            The model after one pass over `X`.

        Raises
        ------
        ValueError
            If a parameter, `X` or `y` is invalid, if a class is new after the first
            call, or if the model needs more rows.
        FloatingPointError
            If the loss becomes NaN. The model before the call is kept.
        """
        return self._learn_more(X, y=y, classes=classes)

    def score(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the mean log-density of the data, in nats per row.

        Use ``scoring="accuracy"`` in a search for the accuracy of `predict`.

        Parameters
        ----------
        X : array-like, Dask array or Dask dataframe of shape (n_samples, n_features)
            The data. Scores of training data are too high: use held-out data to
            compare models.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        sample_weight : array-like or Dask array of shape (n_samples,), default=None
            Weight of each row; only ratios matter. None gives every row a weight of 1.

        Returns
        -------
        float
            Weighted mean of ``score_samples(X)``, which is over all classes.
        """
        return GenerativeModel.score(self, X, None, sample_weight)

    def _fit(self, X, sample_weight, rng, task, y=None):
        continues = self.warm_start and hasattr(self, "net_")
        labels = self._class_codes(X, y, "fit", continues)
        super()._fit(X, sample_weight, rng, task, labels)

    def _fit_more(self, X, sample_weight, rng, y=None, classes=None):
        continues = hasattr(self, "net_")
        labels = self._class_codes(X, y, "partial_fit", continues, classes)
        super()._fit_more(X, sample_weight, rng, labels)

    def _class_codes(self, X, y, method, continues, classes=None):
        """Set the classes and their priors; return the labels for the net, or None.

        If the fit `continues`, the classes stay.
        """
        labels, labelled = split_labels(self, X, y, method)
        if not continues:
            self._set_classes(labels, classes)
        if not continues or (method == "fit" and labels.size):
            self._class_counts = np.zeros(self.classes_.size)
        n_classes = self.classes_.size
        if not n_classes:
            self.priors_ = np.empty(0)
            if labels.size:
                rule = "None or -1, as it was in the first call"
                raise invalid_argument(self, method, "y", rule, Described("labels"))
            return None
        if not isinstance(X, np.ndarray):
            rule = "an array in memory, because the model has classes"
            raise invalid_argument(self, method, "X", rule, Described("rows elsewhere"))
        codes = np.full(X.shape[0], UNLABELLED)
        if labels.size:
            found = self._codes_of(labels, labels.size, method)
            new = np.bincount(found, minlength=n_classes)
            self._class_counts = self._class_counts + new
            codes[labelled] = self._places[found]
        n = self._class_counts.sum()
        self.priors_ = (
            (self._class_counts + 1) / (n + n_classes)
            if self.priors is None
            else self._given_priors(n_classes)
        )
        if continues:
            self.net_.module_.log_priors.copy_(log_of(self._placed_priors))
        return codes

    def _set_classes(self, labels, classes):
        """Set the classes: `classes`, or the labels (m,) if None."""
        if classes is None:
            self.classes_ = np.unique(labels)
        else:
            self.classes_ = np.unique(checked_labels(self, classes, classes))
        # The networks have the classes in the order of their first rows, so that other
        # names of the classes change nothing.
        _, first = np.unique(np.append(labels, self.classes_), return_index=True)
        self._places = np.argsort(np.argsort(first))

    @property
    def _placed_priors(self):
        """Return the probabilities of the classes in the order of the networks."""
        return self.priors_[np.argsort(self._places)]

    def _check_own(self):
        super()._check_own()
        check_nonnegative(self, "label_weight")
        check_nonnegative(self, "adversarial_radius")
        check_choice(self, "classify_by", ("density", "encoder"))
        if self.priors is not None:
            self._given_priors()

    def _loss_module(self, *networks, **parameters):
        if not self.classes_.size:
            return self._unsupervised_module(*networks, **parameters)
        return self._labelled_module(
            *networks,
            priors=self._placed_priors,
            label_weight=self.label_weight,
            adversarial_radius=self.adversarial_radius,
            **parameters,
        )

    def _warn(self):
        super()._warn()
        if self.classes_.size == 1:
            label = self.classes_.tolist()[0]
            warn_user(
                f"All labels that {type(self).__name__}.fit received are {label!r}. "
                "The model predicts this class for every row."
            )

    # -- the density after training ----------------------------------------------

    def _adopted(self):
        answer, n_classes = super()._adopted(), self.classes_.size
        if n_classes:
            none = [None] * n_classes
            module = answer["_inference"].module
            answer["_inference"] = ClassPosteriors(module, none, none)
        return answer

    def _mid_fit(self):
        if not self.classes_.size:
            return super()._mid_fit()
        codes = np.random.RandomState(0).standard_normal((1000, self._n_latent))
        n_classes = self.classes_.size
        priors = self._class_priors() or [normal_density_of(codes)] * n_classes
        posteriors = ClassPosteriors(self._twin(), priors, [codes] * n_classes)
        return {**self._adopted(), "_inference": posteriors}

    def _with_density(self, rows, n_training, rng):
        if not self.classes_.size:
            return super()._with_density(rows, n_training, rng)
        order = torch.from_numpy(rng.permutation(n_training))
        few = rows[order[:MOST_ROWS]]
        with self._answering():
            x, y = few[:, :-1], few[:, -1].long()
            posteriors, density = self._fitted_posteriors(self._twin(), x, y, rng)
        answer = {"_inference": posteriors, "latent_density_": density}
        if self._coordinates.is_normal:
            variance = posteriors.module.likelihood.variance.numpy()
            answer["noise_variance_"] = self._coordinates.noise_variance(variance)
        return answer

    @undisturbed()
    def fit_latent_density(self, X: MatrixLike, y: ArrayLike | None = None) -> Self:
        """Refit the noise variances and the density of codes, with the same networks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode, usually the training rows. At least 2 are needed.
        y : array-like of shape (n_samples,), default=None
            Class labels, as in `fit`; None or -1 for rows without a label.

        Returns
        -------
        self : object
            The model with the new density.

        Raises
        ------
        ValueError
            If a parameter, `X` or `y` is invalid, or if the density cannot be fitted
            to the codes. The previous noise and density are then kept.
        NotFittedError
            If the model is not fitted.
        """
        if not getattr(self, "classes_", np.empty(0)).size:
            return super().fit_latent_density(X)
        check_is_fitted(self)
        self._check_parameters()
        X = validated_rows(self, X, incomplete=True).astype(np.float64)
        _check_two_rows(f"{type(self).__name__}.fit_latent_density", X)
        labels, labelled = split_labels(self, X, y, "fit_latent_density")
        codes = np.full(X.shape[0], float(UNLABELLED))
        if labels.size:
            found = self._codes_of(labels, labels.size, "fit_latent_density")
            codes[labelled] = self._places[found]
        rows = np.column_stack([self._coordinates.training_inputs(X), codes])
        rng = generator(self.random_state)
        self._adopt(self._with_density(torch.tensor(rows), X.shape[0], rng))
        return self

    # -- answers -----------------------------------------------------------------

    def _class_log_densities(self, X, method):
        self._check_classes(method)
        return self._by_chunks(self._log_given, rows_to_answer(self, X, method))

    def _log_posterior(self, X, method):
        self._check_classes(method)
        if self.classify_by == "density":
            return super()._log_posterior(X, method)
        X = rows_to_answer(self, X, method)
        answers = self._by_chunks(self._log_encoded, X)
        incomplete = np.isnan(X).any(axis=1)
        if incomplete.any():
            log_given = self._by_chunks(self._log_given, X[incomplete])
            answers[incomplete] = self._by_bayes_rule(log_given)
        return answers

    def _log_given(self, X):
        """Return log p(x | c): (n, C) of checked rows (n, d)."""
        missing = np.isnan(X)
        if missing.any():
            # Other rows keep their bits, and the sum over no features is exactly 0.
            answer = np.zeros((len(X), self.classes_.size))
            incomplete = missing.any(axis=1)
            for rows in (~incomplete, incomplete & ~missing.all(axis=1)):
                if rows.any():
                    answer[rows] = self._log_of_features(X[rows])
            return answer
        return self._log_of_features(X)

    def _log_of_features(self, X):
        """Return log p(x_o | c): (n, C) of rows (n, d) with observed features x_o."""
        posteriors = self._posterior_with_density()
        for prior in posteriors.priors:
            self._check_importance_samples(prior)
        U = torch.tensor(self._coordinates.standardized(X))
        with self._answering():
            answer = posteriors.log_densities(U, self.n_importance_samples).numpy()
        return (answer + self._coordinates.log_rest(X)[:, None])[:, self._places]

    def _log_encoded(self, X):
        """Return log q(c | x): (n, C) of checked rows (n, d)."""
        U = torch.tensor(self._coordinates.standardized(X))
        with self._answering():
            answer = self._inference.module.log_class_probabilities(U).numpy()
        return answer[:, self._places]

    def _log_density(self, X):
        if not self.classes_.size:
            return super()._log_density(X)
        return logsumexp(self._log_given(X) + self._log_priors(), axis=1)

    def _posteriors_given(self, X):
        if not self.classes_.size:
            return super()._posteriors_given(X)
        of_class = self._posterior_with_density().of_class
        log_weights = self._by_bayes_rule(self._log_given(X))
        return [of_class[place] for place in self._places], np.exp(log_weights)

    def _samples_of(self, codes, rng):
        if not self.classes_.size:
            return self._as_samples(super()._draw(codes.size, rng))
        return self._as_samples(self._draw_of(codes, rng))

    def _draw(self, n_samples, rng):
        if not self.classes_.size:
            return super()._draw(n_samples, rng)
        return self._draw_of(self._drawn_classes(n_samples, rng), rng)

    def _drawn_classes(self, n_samples, rng):
        if not self.classes_.size:
            return np.zeros(n_samples, dtype=np.intp)
        return super()._drawn_classes(n_samples, rng)

    def _draw_of(self, classes, rng):
        """Return draws (n, d) of class codes (n,)."""
        posteriors, classes = self._posterior_with_density(), self._places[classes]
        varying = np.empty((classes.size, self._coordinates.n_varying))
        with self._answering():
            z = posteriors.draw_codes(classes, rng)
            for rows in gen_batches(classes.size, _DRAWN_AT_ONCE):
                a = posteriors.decode(z[rows], classes[rows])
                varying[rows] = posteriors.module.likelihood.draw(a, rng)
        return self._with_constants(varying, rng)

    def _draw_codes(self, n_samples, rng):
        if not self.classes_.size:
            return super()._draw_codes(n_samples, rng)
        classes = self._drawn_classes(n_samples, rng)
        posteriors = self._posterior_with_density()
        return posteriors.draw_codes(self._places[classes], rng).numpy()

    def inverse_transform(
        self, Z: MatrixLike, y: ArrayLike | None = None
    ) -> FloatArray:
        r"""Return the conditional mean of the data given latents, and classes.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents, as returned by `transform`. Without `y`, also a Dask collection.
        y : label or array-like of shape (n_samples,), default=None
            Class of all latents, or the class of each latent, for a model whose
            decoder depends on the class, `SemiSupervisedVAE`. None averages over the
            classes with the probabilities `priors_`.

        Returns
        -------
        ndarray, dataframe or Dask array of shape (n_samples, n_features)
            Mean of :math:`p(x | z, c)`, or of :math:`p(x | z)` without `y`.
        """
        if y is None:
            return super().inverse_transform(Z)
        self._check_classes("inverse_transform")
        latents, Z = Z, self._validated_latents(Z)
        classes = self._codes_of(np.asarray(y), Z.shape[0], "inverse_transform")
        means = self._means_given(Z.astype(np.float64), classes)
        return as_set_output(self, means.astype(Z.dtype, copy=False), like=latents)

    def _means_given(self, Z, classes):
        """Return E[x | z, c]: (n, d) of latents Z (n, k) and class codes (n,)."""
        posteriors = self._inference
        with self._answering():
            a = posteriors.decode(torch.tensor(Z), self._places[classes])
            mean = posteriors.module.likelihood.mean(a).numpy()
        return self._coordinates.restored(mean)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags
