"""The public names, and that their documentation says what they are."""

import inspect
import re

import numpy as np
import pytest
from estimators import (
    IMPUTERS,
    ONE_OF_EACH,
    SEMI_SUPERVISED,
    VARIANTS,
    WRAPPERS,
    WithLabels,
    over,
    rows,
)
from numpydoc.docscrape import ClassDoc, FunctionDoc
from sklearn.base import BaseEstimator, ClassifierMixin, clone

import skgen
from skgen._bayes import BayesClassifier
from skgen.autoencoder._labelled import LabelledAutoencoder
from skgen.base import GenerativeModel
from skgen.mixture._base import AbstractGaussianMixture

PUBLIC = [getattr(skgen, public) for public in skgen.__all__]
CLASSES = [public for public in PUBLIC if inspect.isclass(public)]
FUNCTIONS = [public for public in PUBLIC if inspect.isfunction(public)]
METHODS = [
    pytest.param(getattr(cls, method), id=f"{cls.__name__}.{method}")
    for cls in CLASSES
    for method, _ in inspect.getmembers(cls, inspect.isfunction)
    if not method.startswith("_")
    and getattr(cls, method).__module__.startswith("skgen")
]


def documented_parameters(doc):
    return [
        part.strip("* ")
        for entry in doc["Parameters"]
        for part in entry.name.split(",")
    ]


def test_all_equals_the_public_names():
    modules = {
        "autoencoder",
        "base",
        "compose",
        "diffusion",
        "display",
        "flow",
        "kde",
        "mixture",
        "neural",
    }
    public = {
        name for name in dir(skgen) if not name.startswith("_") and name not in modules
    }
    assert public == set(skgen.__all__)
    # Acronyms first, as the linter has it.
    assert skgen.__all__ == sorted(
        skgen.__all__, key=lambda public: (not public.isupper(), public)
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_classes_document_their_parameters_in_order(cls):
    signature = list(inspect.signature(cls).parameters)
    assert documented_parameters(ClassDoc(cls)) == signature


def test_every_estimator_is_in_the_table_of_one_of_each():
    estimators = [cls for cls in CLASSES if issubclass(cls, BaseEstimator)]
    assert sorted(map(str, estimators)) == sorted(str(type(m)) for m in ONE_OF_EACH)
    models = [model for model in VARIANTS if not isinstance(model, WithLabels)]
    models += WRAPPERS + IMPUTERS + SEMI_SUPERVISED
    assert {type(model) for model in models} == set(estimators)


@over(ONE_OF_EACH)
def test_classes_document_what_fit_leaves(model):
    documented = {entry.name for entry in ClassDoc(type(model))["Attributes"]}
    model = clone(model).fit(rows(60, 2), np.arange(60) % 2)
    left = {a for a in vars(model) if a.endswith("_") and not a.startswith("_")}
    computed = inspect.getmembers(type(model), lambda a: isinstance(a, property))
    left |= {a for a, _ in computed if a in documented and hasattr(model, a)}
    assert left == documented - {"feature_names_in_"}


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "section", ["Summary", "See Also", "Notes", "References", "Examples"]
)
def test_classes_have_every_section(cls, section):
    assert ClassDoc(cls)[section]


@pytest.mark.parametrize("cls", CLASSES)
def test_defaults_in_the_documentation_are_those_of_the_signature(cls):
    for entry in ClassDoc(cls)["Parameters"]:
        default = inspect.signature(cls).parameters[entry.name].default
        stated = re.search(r"default=(.+)$", entry.type)
        if default is inspect.Parameter.empty:
            assert stated is None, entry.name
        else:
            assert eval(stated.group(1)) in [default], entry.name  # also NaN


# Parameters with another default in one of the models, and the reason.
OTHER_DEFAULTS = {
    ("n_components", "AbstractAutoencoder"): "a plane can be plotted",
    ("adversarial_radius", "SemiSupervisedSWAE"): "needs it for rows without a label",
    ("estimator", "GenerativeImputer"): "imputation needs no choice of a density",
    ("covariance_type", "GaussianKDE"): "chosen by the rule of the bandwidth",
    ("lr", "SGDGaussianMixture"): "steps are in widths of a component",
    ("early_stopping", "SGDGaussianMixture"): "final epochs train on all rows",
    ("early_stopping", "NormalizingFlow"): "without it, a flow overfits",
    ("early_stopping", "DiffusionModel"): "without it, the model overfits",
    ("hidden_layer_sizes", "DiffusionModel"): "velocities of all features at once",
    ("hidden_layer_sizes", "NormalizingFlow"): "splines of all features at once",
    ("max_epochs", "NormalizingFlow"): "early stopping chooses the epoch",
    ("max_epochs", "DiffusionModel"): "noise makes every epoch different",
    ("n_iter_no_change", "SGDGaussianMixture"): "at each of three learning rates",
    ("n_iter_no_change", "NormalizingFlow"): "scores of noisy steps rise late",
    ("n_iter_no_change", "DiffusionModel"): "scores of noisy steps rise late",
    ("rtol", "DiffusionModel"): "each halving of the steps doubles the time",
}


def test_a_parameter_has_one_default_in_all_models():
    defaults = {}
    for cls in CLASSES:
        if not issubclass(cls, BaseEstimator):
            continue
        for parameter in inspect.signature(cls).parameters.values():
            bases = {base.__name__ for base in cls.__mro__}
            others = [k[0] for k in OTHER_DEFAULTS if not bases.isdisjoint(k[1:])]
            if parameter.name not in others:
                found = defaults.setdefault(parameter.name, {})
                found[cls.__name__] = parameter.default
    several = {name: found for name, found in defaults.items() if len(found) > 1}
    assert len(several) > 20
    for name, found in several.items():
        assert len({repr(value) for value in found.values()}) == 1, (name, found)


def test_help_has_the_shared_entries_and_those_of_the_class():
    doc = ClassDoc(skgen.VAE)
    entries = {entry.name: entry for entry in doc["Parameters"]}
    assert entries["lr"].type == "float, default=0.005"
    assert "log-variances" in " ".join(entries["encoder"].desc)  # of this class
    assert "half a cosine" in " ".join(entries["lr"].desc)  # of all autoencoders
    assert "score_samples" in " ".join(doc["Notes"])


@pytest.mark.parametrize("method", METHODS)
def test_methods_document_their_parameters(method):
    signature = list(inspect.signature(method).parameters)[1:]
    doc = FunctionDoc(method)
    assert documented_parameters(doc) == signature
    assert doc["Returns"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_document_their_parameters(function):
    signature = list(inspect.signature(function).parameters)
    doc = FunctionDoc(function)
    assert documented_parameters(doc) == signature
    for section in ("Summary", "Returns", "Raises", "Notes", "References", "Examples"):
        assert doc[section]


@pytest.mark.parametrize("cls", CLASSES)
def test_public_classes_are_final(cls):
    assert not [c for c in cls.__subclasses__() if c.__module__.startswith("skgen")]


@pytest.mark.parametrize("cls", CLASSES)
def test_random_state_closes_a_signature(cls):
    parameters = [p for p in inspect.signature(cls).parameters if p != "device"]
    assert "random_state" not in parameters[:-1]


@pytest.mark.parametrize("cls", [c for c in CLASSES if issubclass(c, GenerativeModel)])
def test_models_override_only_hooks(cls):
    abstract = GenerativeModel.__abstractmethods__
    concrete = {
        name
        for name, value in vars(GenerativeModel).items()
        if callable(value) and name not in abstract
    }
    dunder = {name for name in concrete if name.startswith("__")}
    assert not (set(vars(cls)) & concrete) - dunder
    for between in cls.__mro__[1 : cls.__mro__.index(GenerativeModel)]:
        public = {name for name in concrete if not name.startswith("_")}
        if between is AbstractGaussianMixture:  # whose samples have a component
            public.discard("sample")
        if between in (
            LabelledAutoencoder,
            BayesClassifier,
            ClassifierMixin,
        ):  # whose rows have a class
            public -= {"sample", "score", "inverse_transform"}
        assert not set(vars(between)) & public


def test_the_version_is_the_one_of_the_distribution():
    from importlib.metadata import version

    assert skgen.__version__ == version("scikit-generative")


def test_doctests_are_collected(request):
    # An empty pytest.ini would silence setup.cfg; then nothing here would be an error.
    assert "--doctest-modules" in request.config.getini("addopts")
    assert request.config.getini("filterwarnings")[0] == "error"


@pytest.mark.parametrize(
    "function", [*METHODS, *(pytest.param(f, id=f.__name__) for f in FUNCTIONS)]
)
def test_public_functions_are_annotated(function):
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    assert signature.return_annotation is not signature.empty
    assert not [p.name for p in parameters if p.annotation is p.empty]


@pytest.mark.parametrize("cls", CLASSES)
def test_constructors_and_class_methods_are_annotated(cls):
    methods = [
        method
        for _, method in inspect.getmembers(cls, inspect.ismethod)
        if method.__module__.startswith("skgen")
    ]
    for function in [cls.__init__, *methods]:
        signature = inspect.signature(function)
        assert signature.return_annotation is not signature.empty, function
        bare = [p for p in signature.parameters.values() if p.annotation is p.empty]
        assert [p.name for p in bare if p.name != "self"] == []
