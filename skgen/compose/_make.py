"""Construction of generative pipelines with generated step names."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import make_pipeline

from skgen._checks import InvalidParameterError
from skgen.compose._pipeline import GenerativePipeline


def make_generative_pipeline(*steps: Any, memory: Any = None) -> GenerativePipeline:
    """Construct a `GenerativePipeline` from steps without names.

    Parameters
    ----------
    *steps : estimators
        Transformers, followed by a density.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of fitted transformers. None disables caching.

    Returns
    -------
    GenerativePipeline
        The pipeline. Its steps are named after their classes in lower case, as by
        :func:`sklearn.pipeline.make_pipeline`.

    Raises
    ------
    ValueError
        If no steps are given.

    Notes
    -----
    See `GenerativePipeline` for how scores are computed in the units of the data [1]_.

    References
    ----------
    .. [1] Papamakarios, G., Nalisnick, E., Rezende, D. J., Mohamed, S. and
       Lakshminarayanan, B. (2021). Normalizing flows for probabilistic modeling and
       inference. JMLR 22.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skgen import GaussianKDE, make_generative_pipeline
    >>> [name for name, _ in make_generative_pipeline(PCA(2), GaussianKDE()).steps]
    ['pca', 'gaussiankde']
    """
    if not steps:
        raise InvalidParameterError(
            "make_generative_pipeline must be given at least a density. Got no steps."
        )
    return GenerativePipeline(make_pipeline(*steps).steps, memory=memory)
