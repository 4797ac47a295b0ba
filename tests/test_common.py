"""scikit-learn's own checks of an estimator, all of them, none expected to fail."""

import pytest
from estimators import (
    AUTOENCODERS,
    DENSITIES,
    GRADIENT,
    GRADIENT_MIXTURES,
    LABELLED,
    MODELS,
    ONE_OF_EACH,
    QUICK_GRADIENT,
    SEMI_SUPERVISED,
    SIBLINGS,
    WRAPPERS,
    name,
    over,
)
from sklearn.base import clone
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator

# The checks fit to integers, constants and collinear rows on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning"),
    pytest.mark.filterwarnings("ignore:All labels that:UserWarning"),
]

# Checks that scikit-learn runs on its own estimators but does not yield to others.
NOT_YIELDED = [
    "check_dataframe_column_names_consistency",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_get_feature_names_out_error",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
]


# Checks whose result depends on the numbers of a fit, and with them on the parameters.
# The result of the others depends on the class alone.
NUMERICAL = [
    "check_dict_unchanged",
    "check_estimators_dtypes",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_readonly_memmap_input",
    "check_sample_weight_equivalence_on_dense_data",
    "check_transformer_preserve_dtypes",
]


# Checks that fit nothing.
WITHOUT_A_FIT = [
    "check_complex_data",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_empty_data_messages",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_transformers_unfitted",
    "check_valid_tag_types",
]
# A VAE stands for all models trained by gradient descent in the default selection: the
# mixture shares its fit with VAE and its answers with EM.
STOOD_FOR = [*SIBLINGS, QUICK_GRADIENT[0], *SEMI_SUPERVISED]
# These have more epochs than an instance of ONE_OF_EACH, and otherwise its parameters.
ALIKE = [GRADIENT_MIXTURES[0], AUTOENCODERS[0], AUTOENCODERS[4], *LABELLED]


def checks(models, names=None):
    """Return pairs of a model and a check of scikit-learn, of some names if given."""
    found = []
    for model in models:
        model_name = name(model)
        for _, check in estimator_checks_generator(model):
            function = check.func.__name__
            known = model not in STOOD_FOR or function in WITHOUT_A_FIT
            marks = () if known else pytest.mark.thorough
            if names is None or function in names:
                identifier = f"{model_name}-{function}"
                found.append(pytest.param(model, check, id=identifier, marks=marks))
    return found


@pytest.mark.parametrize(("model", "check"), checks(ONE_OF_EACH))
def test_scikit_learn_checks(model, check, monkeypatch):
    if model in SEMI_SUPERVISED:
        # scikit-learn passes -1 as a class, but not to its own models for which -1
        # marks rows without a label, which it knows by name.
        monkeypatch.setattr(
            estimator_checks,
            "_choose_check_classifiers_labels",
            lambda name, y, y_names: y,
        )
    check(model)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("model", "check"),
    checks([m for m in MODELS + WRAPPERS if m not in ONE_OF_EACH + ALIKE], NUMERICAL),
)
def test_scikit_learn_checks_of_variants(model, check):
    check(model)


# scikit-learn silences these for its own: names asked for after a fit without.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.parametrize("check", NOT_YIELDED)
@over(
    [model for model in DENSITIES if model not in SIBLINGS],
    default=[model for model in DENSITIES if model not in GRADIENT],
)
def test_scikit_learn_checks_of_its_own_estimators(model, check):
    getattr(estimator_checks, check)(type(model).__name__, clone(model))


@over(MODELS)
def test_tags_promise_what_the_models_keep(model):
    tags = get_tags(model)
    labelled = hasattr(model, "classify_by")
    assert tags.estimator_type == ("classifier" if labelled else "density_estimator")
    assert not tags.target_tags.required
    assert not tags.non_deterministic
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@over([model for model in WRAPPERS if model in ONE_OF_EACH])
def test_scikit_learn_check_of_the_names_of_columns(model):
    check = estimator_checks.check_dataframe_column_names_consistency
    check(type(model).__name__, clone(model))
