"""Files of one small model of each class, and their answers: tests/saved.

``python tests/saved_models.py RAE`` writes the file of a new class; without names,
those of all classes. A release keeps them, and every later version must load them.
"""

import json
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import skops.io
from estimators import rows
from sklearn.preprocessing import StandardScaler

import skgen

TINY = {"hidden_layer_sizes": (3,), "max_epochs": 3, "random_state": 0}


def answers(model, table):
    """Return what a fitted model answers for rows, a dict of arrays."""
    found = {}
    if not hasattr(model, "score_samples"):  # an imputer
        table = np.where(np.arange(table.size).reshape(table.shape) % 3, table, np.nan)
    for method in ("score_samples", "transform", "predict", "predict_proba"):
        if hasattr(model, method):
            found[method] = getattr(model, method)(table)
    if hasattr(type(model), "sample"):  # a parameter of an imputer
        found["sample"] = model.sample(3, random_state=0)
    return found


def models():
    """Return an unfitted model of each class."""
    return [
        skgen.GaussianKDE(),
        skgen.EMGaussianMixture(2, random_state=0),
        skgen.SGDGaussianMixture(2, max_epochs=3, random_state=0),
        skgen.AutoEncoder(1, latent_density=skgen.EMGaussianMixture(), **TINY),
        skgen.VAE(1, **TINY),
        skgen.RAE(1, latent_density=skgen.EMGaussianMixture(), **TINY),
        skgen.SWAE(1, prior="uniform", **TINY),
        skgen.ClassSupervisedAutoEncoder(
            1, latent_density=skgen.EMGaussianMixture(), **TINY
        ),
        skgen.SemiSupervisedSWAE(1, **TINY),
        skgen.SemiSupervisedVAE(1, **TINY),
        skgen.NormalizingFlow(2, n_bins=3, **TINY),
        skgen.DiffusionModel(**TINY),
        skgen.GenerativePipeline(
            [("scale", StandardScaler()), ("mixture", skgen.EMGaussianMixture())]
        ),
        skgen.GenerativeClassifier(skgen.EMGaussianMixture(covariance_type="diag")),
        skgen.DensityOutlierDetector(skgen.GaussianKDE(covariance_type="diag")),
        skgen.GenerativeImputer(add_indicator=True),
    ]


def main():
    """Write the files of this version, which do not change once it is released."""
    folder = Path(__file__).parent / "saved" / skgen.__version__
    folder.mkdir(parents=True, exist_ok=True)
    X = rows(40, 2)
    y = np.where(X[:, 0] > 1, "far", "near")
    file = folder / "answers.json"
    expected = json.loads(file.read_text()) if file.exists() else {}
    expected["rows"] = X[:5].tolist()
    for model in models():
        if sys.argv[1:] and type(model).__name__ not in sys.argv[1:]:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        name = type(model).__name__
        saved = folder / f"{name}.skops"
        skops.io.dump(model, saved, compression=zipfile.ZIP_DEFLATED, compresslevel=9)
        found = answers(model, X[:5])
        expected[name] = {key: values.tolist() for key, values in found.items()}
        sys.stdout.write(f"{saved.name} {saved.stat().st_size}\n")
    file.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
