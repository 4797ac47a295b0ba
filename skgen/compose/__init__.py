"""Estimators made of estimators: pipelines, classifiers, outlier detectors."""

from skgen.compose._classifier import GenerativeClassifier
from skgen.compose._log_det import register_log_det
from skgen.compose._make import make_generative_pipeline
from skgen.compose._outliers import DensityOutlierDetector
from skgen.compose._pipeline import GenerativePipeline

__all__ = [
    "DensityOutlierDetector",
    "GenerativeClassifier",
    "GenerativePipeline",
    "make_generative_pipeline",
    "register_log_det",
]
