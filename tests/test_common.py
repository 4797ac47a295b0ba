"""scikit-learn's own checks of an estimator, all of them, none expected to fail."""

import pytest
from estimators import MODELS, WRAPPERS, name
from sklearn.base import clone
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

# The checks fit to integers, constants and collinear rows on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning"),
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


@parametrize_with_checks(MODELS + WRAPPERS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# scikit-learn silences these for its own: names asked for after a fit without.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.parametrize("check", NOT_YIELDED)
@pytest.mark.parametrize("model", MODELS, ids=name)
def test_scikit_learn_checks_of_its_own_estimators(model, check):
    getattr(estimator_checks, check)(type(model).__name__, clone(model))


@pytest.mark.parametrize("model", MODELS, ids=name)
def test_tags_promise_what_the_models_keep(model):
    tags = get_tags(model)
    assert tags.estimator_type == "density_estimator"
    assert not tags.non_deterministic
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.parametrize("model", WRAPPERS, ids=name)
def test_scikit_learn_check_of_the_names_of_columns(model):
    check = estimator_checks.check_dataframe_column_names_consistency
    check(type(model).__name__, clone(model))
