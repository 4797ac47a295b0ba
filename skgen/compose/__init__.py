"""Estimators made of estimators: pipelines, classifiers, outlier detectors."""

from typing import TYPE_CHECKING

from skgen._lazy import lazy_names

if TYPE_CHECKING:
    from skgen.compose._changes import register_log_det
    from skgen.compose._classifier import GenerativeClassifier
    from skgen.compose._outliers import DensityOutlierDetector
    from skgen.compose._pipeline import GenerativePipeline, make_generative_pipeline

__all__ = [
    "DensityOutlierDetector",
    "GenerativeClassifier",
    "GenerativePipeline",
    "make_generative_pipeline",
    "register_log_det",
]

# Hidden from type checkers, for which a module with `__getattr__` has every name.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "DensityOutlierDetector": "skgen.compose._outliers",
            "GenerativeClassifier": "skgen.compose._classifier",
            "GenerativePipeline": "skgen.compose._pipeline",
            "make_generative_pipeline": "skgen.compose._pipeline",
            "register_log_det": "skgen.compose._changes",
        },
    )
