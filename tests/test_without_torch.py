"""What is imported when, and what works where torch and skorch are not installed."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.process

BLOCK_TORCH = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "skorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""

CLASSICAL = """
import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
import skgen

X = np.random.RandomState(0).standard_normal((90, 3))
y = np.arange(90) % 2
kde, em = skgen.GaussianKDE(), skgen.EMGaussianMixture(2, random_state=0)
models = [
    kde,
    skgen.GaussianKDE("likelihood"),
    em,
    skgen.GenerativePipeline([("pca", PCA(2)), ("density", kde)]),
    skgen.make_generative_pipeline(PCA(2), em),
]
for model in models:
    scores = model.fit(X).score_samples(X)
    assert np.isfinite(scores).all()
    assert model.sample(3, random_state=0).shape == (3, 3)
    model.inverse_transform(model.transform(X))
assert skgen.GenerativeClassifier(em).fit(X, y).predict(X).shape == (90,)
assert set(skgen.DensityOutlierDetector(kde).fit_predict(X)) == {-1, 1}
assert np.isfinite(skgen.sliced_wasserstein_distance(X, X + 1))
search = GridSearchCV(em, {"n_components": [1, 2]}).fit(X)
assert np.isfinite(search.best_score_)
print("torch" in sys.modules)
"""


def run(script):
    """Run a script in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_skgen_loads_nothing_but_itself():
    printed = run(
        """
        import sys
        before = set(sys.modules)
        import skgen
        dir(skgen)
        print(*{name.partition(".")[0] for name in set(sys.modules) - before})
        """
    )
    standard = set(sys.stdlib_module_names)
    assert set(printed.split()) - standard == {"skgen"}


def test_the_help_of_the_command_loads_nothing_else():
    printed = run(
        """
        import sys
        from skgen.__main__ import main
        try:
            main(["--help"])
        except SystemExit:
            pass
        print("loaded", *{name.partition(".")[0] for name in set(sys.modules)})
        """
    )
    loaded = set(printed.rpartition("loaded")[2].split())
    assert not loaded & {"numpy", "scipy", "sklearn", "pandas", "matplotlib", "torch"}


def test_classical_models_load_no_optional_package():
    # scikit-learn loads pandas and rich by itself.
    names = ("torch", "skorch", "polars", "matplotlib", "dask", "finufft")
    loaded = f"print([name for name in {names} if name in sys.modules])"
    fit = "skgen.EMGaussianMixture(2).fit([[0.0], [1.0], [2.5], [2.7]]).sample()"
    printed = run(
        f"""
        import sys
        import skgen
        from skgen import GaussianKDE, EMGaussianMixture, dequantize
        {loaded}
        from skgen import GenerativePipeline, make_generative_pipeline
        from skgen import GenerativeClassifier, DensityOutlierDetector
        {loaded}
        from skgen import DensityDisplay, SampleDisplay, sliced_wasserstein_distance
        {loaded}
        {fit}
        {loaded}
        """
    )
    assert printed == 4 * "[]\n"


def test_classical_models_work_without_torch():
    printed = run(BLOCK_TORCH + CLASSICAL)
    assert printed == "False\n"


def test_a_neural_model_names_what_to_install():
    names = ("SGDGaussianMixture", "AutoEncoder", "VAE", "SWAE", "RAE")
    printed = run(
        BLOCK_TORCH
        + f"""
import skgen
for name in {names}:
    try:
        getattr(skgen, name)
    except ImportError as error:
        print(error)
"""
    )
    hint = "Install with: pip install torch skorch"
    expected = [f"{name} needs PyTorch and skorch. {hint}" for name in names]
    assert printed.splitlines() == expected


def test_a_device_names_what_to_install():
    printed = run(
        BLOCK_TORCH
        + """
import skgen
for model in (skgen.GaussianKDE(device="cuda"), skgen.EMGaussianMixture(device="auto")):
    try:
        model.fit([[0.0], [1.0], [2.5], [2.7]])
    except ImportError as error:
        print(error)
"""
    )
    assert printed.count("pip install torch skorch") == 2
    assert printed.count("\n") == 2


def test_introspection_leaves_out_what_is_missing():
    printed = run(
        BLOCK_TORCH
        + """
import inspect, pydoc
import skgen, skgen.autoencoder, skgen.mixture, skgen.neural
for package in (skgen, skgen.autoencoder, skgen.mixture, skgen.neural):
    names = [name for name, _ in inspect.getmembers(package) if name[0] != "_"]
    assert set(package.__all__) <= set(names)
    print(*set(names) & {"AutoEncoder", "GradientModel", "SGDGaussianMixture", "VAE"})
    pydoc.render_doc(package)
from skgen import *
print(GaussianKDE.__name__, "VAE" in globals())
"""
    )
    assert printed == 4 * "\n" + "GaussianKDE False\n"
