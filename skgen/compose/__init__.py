"""Estimators made of estimators: pipelines, classifiers, detectors, imputers."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.compose._changes import register_log_det as register_log_det
    from skgen.compose._classifier import GenerativeClassifier as GenerativeClassifier
    from skgen.compose._imputer import GenerativeImputer as GenerativeImputer
    from skgen.compose._outliers import DensityOutlierDetector as DensityOutlierDetector
    from skgen.compose._pipeline import GenerativePipeline as GenerativePipeline
    from skgen.compose._pipeline import (
        make_generative_pipeline as make_generative_pipeline,
    )

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __all__, __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "DensityOutlierDetector": "_outliers",
            "GenerativeClassifier": "_classifier",
            "GenerativeImputer": "_imputer",
            "GenerativePipeline": "_pipeline",
            "make_generative_pipeline": "_pipeline",
            "register_log_det": "_changes",
        },
    )
