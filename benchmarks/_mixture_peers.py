"""EM of pomegranate and of Spark, an iteration of each against ours."""

import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np

from benchmarks._iterations import (
    apart,
    clusters,
    counts,
    how,
    in_turn,
    ratios,
    seconds,
    start,
)
from benchmarks._sections import grid, paragraphs, say
from skgen import EMGaussianMixture

# Spark takes ten seconds to start: not for a smoke test.
_LEAST_SCALE_OF_SPARK = 0.1

_HEADS = ["peer", "skgen", "peer", "peer / skgen", "pairs"]
_HEADS += ["rest of skgen's fit", "rest of the peer's fit", "answers"]


def peers(options):
    """Compare an iteration with pomegranate and Spark.

    Parameters
    ----------
    options : argparse.Namespace
        Of the script: `pairs` and `scale`.

    Returns
    -------
    str
        The Markdown of the section.
    """
    d = K = 16
    n = max(int(200_000 * options.scale), 200 * K)
    X, means = clusters(n, d, K)

    def ours(max_iter):
        return EMGaussianMixture(K, max_iter=max_iter, **start(means)).fit(X)

    lines, notes = [], []
    for peer in (_pomegranate, _spark):
        line, note = peer(ours, X, means, options)
        lines += line
        notes.append(note)
    table = [grid(_HEADS, lines)] if lines else []
    return paragraphs(
        f"{n:,} x {d}, K={K}, full.",
        *table,
        how(*counts(options)),
        *notes,
        f"skgen computes in float64. Medians of {options.pairs} fits of each, in turn.",
    )


def _pomegranate(ours, X, means, options):
    """Return a line of the table, none without pomegranate, and a sentence."""
    if find_spec("pomegranate") is None:
        hint = "`pip install 'scikit-generative[benchmarks]'`"
        return [], f"pomegranate is not installed ({hint})."
    import torch

    rows = torch.from_numpy(X.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = f"pomegranate {version('pomegranate')}, float32"
        line = _line(name, ours, _pomegranate_fit(rows, means), options, apart)
    return [line], (
        "pomegranate: `GeneralMixtureModel` of `Normal`, on all threads of torch, "
        "with the same initial parameters."
    )


def _pomegranate_fit(rows, means):
    """Return a fit of pomegranate's from our start."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    first = start(means)
    weights, centres = (
        torch.tensor(first[name], dtype=torch.float32)
        for name in ("weights_init", "means_init")
    )

    def fit(max_iter):
        normals = [
            Normal(means=mean.clone(), covs=torch.eye(means.shape[1]))
            for mean in centres
        ]
        # It has no count of iterations, and ends early by `tol` alone.
        mixture = GeneralMixtureModel(
            normals, priors=weights.clone(), max_iter=max_iter, tol=-np.inf
        )
        mixture.fit(rows)
        found = np.array([normal.means.numpy() for normal in mixture.distributions])
        return SimpleNamespace(n_iter_=max_iter, means_=found)

    return fit


def _spark(ours, X, means, options):
    """Return a line of the table, none without Spark or Java, and a sentence."""
    if find_spec("pyspark") is None:
        return [], "pyspark, which no extra of skgen installs, is not installed."
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        return [], "Spark needs Java, which is not installed."
    if options.scale < _LEAST_SCALE_OF_SPARK:
        return [], f"Spark is left out below a scale of {_LEAST_SCALE_OF_SPARK:g}."
    with _session() as session:
        say("Spark has started")
        name = f"Spark {session.version}, local[2]"
        fit = _spark_fit(_spark_rows(session, X), means.shape[0])
        line = _line(
            name,
            ours,
            fit,
            options,
            lambda a, b: (
                f"{a.n_iter_} and {b.n_iter_} iterations, different initial parameters"
            ),
        )
    return [line], (
        "Spark: `pyspark.ml.clustering.GaussianMixture` on rows in memory, in two "
        "partitions and float64, as installed by pip: it uses Java's linear algebra "
        "if the system has no BLAS. It accepts no initial parameters and draws its "
        "own with one seed. No extra of skgen installs pyspark, which takes several "
        "hundred megabytes and needs Java: `pip install pyspark`."
    )


@contextmanager
def _session():
    """Give a session of Spark in this machine, which nothing outside can reach."""
    from pyspark.sql import SparkSession

    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "4g",
            "spark.local.dir": folder,
            "spark.log.level": "ERROR",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.sql.warehouse.dir": os.path.join(folder, "warehouse"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        builder = SparkSession.builder.master("local[2]").appName("skgen")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        try:
            yield session
        finally:
            session.stop()


def _spark_rows(session, X):
    """Return rows as a frame of Spark's in memory, with a column of vectors."""
    from pyspark.ml.feature import VectorAssembler

    # Names that are not numbers of positions, which a frame of pandas has.
    names = [f"x{j}" for j in range(X.shape[1])]
    frame = session.createDataFrame(X).toDF(*names)
    vectors = VectorAssembler(inputCols=names, outputCol="features").transform(frame)
    rows = vectors.select("features").repartition(2).persist()
    rows.count()
    return rows


def _spark_fit(rows, K):
    """Return a fit of Spark's."""
    from pyspark.ml.clustering import GaussianMixture

    def fit(max_iter):
        mixture = GaussianMixture(k=K, tol=0.0, maxIter=max_iter, seed=0)
        return SimpleNamespace(n_iter_=mixture.fit(rows).summary.numIter)

    return fit


def _line(name, ours, theirs, options, agreement):
    """Return the line of a peer."""
    mine, other = in_turn([ours, theirs], options.pairs, *counts(options))
    say(f"{name}: {ratios(mine.iteration, other.iteration)}")
    return [
        name,
        seconds(mine.iteration),
        seconds(other.iteration),
        *ratios(mine.iteration, other.iteration),
        seconds(mine.rest),
        seconds(other.rest),
        agreement(mine.fitted, other.fitted),
    ]
