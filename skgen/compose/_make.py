"""A generative pipeline without names to think of."""

from sklearn.pipeline import make_pipeline

from skgen._parameters import InvalidParameterError
from skgen.compose._pipeline import GenerativePipeline


def make_generative_pipeline(*steps, memory=None):
    """Return a `GenerativePipeline` whose steps are named after their classes.

    Parameters
    ----------
    *steps : estimators
        Transformers, then a density.
    memory : str or object with the joblib.Memory interface, default=None
        Where fitted transformers are cached; None caches nothing.

    Returns
    -------
    GenerativePipeline
        The steps' names are those of :func:`sklearn.pipeline.make_pipeline`.

    Raises
    ------
    ValueError
        If there are no steps.

    Notes
    -----
    See `GenerativePipeline` for how scores come to be in the units of the data.

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
