"""Warnings point at the user's line, and a search shows each of them once."""

import subprocess
import sys
import threading
import warnings
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from estimators import CLASSIFIERS, ONE_OF_EACH, name, rows, thorough
from processes import warning_lines
from sklearn.base import clone

from skgen import (
    AutoEncoder,
    DensityOutlierDetector,
    EMGaussianMixture,
    GaussianKDE,
    GenerativeClassifier,
    _warnings,
)
from skgen._warnings import quiet, warn_user
from skgen.compose._constant import _without_warnings

SEARCH = """
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import GridSearchCV
from skgen import EMGaussianMixture, GaussianKDE
wine = load_wine().data
GridSearchCV(GaussianKDE(), {"bandwidth": ["scott", "silverman"]}, cv=5).fit(wine)
GridSearchCV(EMGaussianMixture(random_state=0), {"tol": [1e-3, 1e-4]}, cv=5).fit(wine)
digits = load_digits().data[:300]
GridSearchCV(GaussianKDE(), {"bandwidth": ["scott", "silverman"]}, cv=5).fit(digits)
"""


@pytest.mark.process
def test_a_search_shows_a_warning_once_at_the_users_line():
    lines = warning_lines(SEARCH)
    # Ties in three searches, and constant features in digits. Folds differ in both.
    assert len(lines) == 4
    assert all(line.startswith("<string>:") for line in lines)


TIED_AND_CONSTANT = np.column_stack([np.round(rows(90, 2)), np.ones(90)])


# A classifier fits a model to each class, which warns of the rows of the class.
ONE_FIT = [model for model in ONE_OF_EACH if model not in CLASSIFIERS]


@pytest.mark.parametrize("model", ONE_FIT, ids=name)
def test_a_fit_gives_each_warning_once(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clone(model).fit(TIED_AND_CONSTANT, np.arange(90) % 2)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(set(messages))


@pytest.fixture
def nothing_shown(monkeypatch):
    monkeypatch.setattr(_warnings, "_shown", set())


@pytest.mark.usefixtures("nothing_shown")
@pytest.mark.parametrize(
    ("action", "shown"), [("default", 2), ("module", 1), ("once", 1), ("always", 4)]
)
def test_a_warning_is_shown_as_its_filter_says(action, shown):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        for _ in range(2):
            warnings.filterwarnings("ignore", "a filter that changes", append=True)
            warn_user("of a model")
            warn_user("of a model")
    assert [str(warning.message) for warning in caught] == ["of a model"] * shown
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.usefixtures("nothing_shown")
def test_filters_of_a_text_a_category_and_a_module_are_found():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.filterwarnings("always", "of a MODEL", UserWarning, __name__)
        for _ in range(3):
            warn_user("of a model")
            warn_user("of another")
            warn_user("of a model", RuntimeWarning)
    shown = [str(warning.message) for warning in caught]
    assert shown.count("of another") == 1
    assert shown.count("of a model") == 3 + 1


@pytest.mark.usefixtures("nothing_shown")
def test_warnings_of_a_kind_are_one_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for n in range(3):
            warn_user(f"{n} components are empty", kind="empty components")
    assert [str(warning.message) for warning in caught] == ["0 components are empty"]


def test_an_error_is_raised_each_time():
    for _ in range(2):
        with pytest.raises(UserWarning, match="of a model"):  # as all tests have it
            warn_user("of a model")


def warned(n_records):
    """Return the number of warnings of one line in each of several records."""
    numbers = []
    for _ in range(n_records):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(3):
                warnings.filterwarnings("ignore", "a filter that changes", append=True)
                warn_user("of a model")
        numbers.append(len(caught))
    return numbers


@pytest.mark.usefixtures("nothing_shown")
def test_each_record_has_the_warning_once():
    assert warned(3) == [1, 1, 1]


CELLS = """
import warnings
from skgen._warnings import warn_user
cell = compile("for _ in range(3): warn_user('of a model')", "cell", "exec")
for run in range(2):
    globals().pop("__warningregistry__", None)  # as IPython does
    exec(cell)
    with warnings.catch_warnings():  # forgets what was shown
        warnings.simplefilter("default")
        exec(cell)
"""


def test_a_cell_of_a_notebook_shows_its_warnings_each_time_that_it_runs():
    done = subprocess.run(
        [sys.executable, "-c", CELLS], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("cell:1: UserWarning: of a model") == 2


@pytest.mark.usefixtures("nothing_shown")
def test_components_that_collapse_are_one_warning_in_a_search():
    points = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]], 20, axis=0)
    some = np.concatenate([points, 20 + rows(60, 2)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for n_components, X in ((3, points), (4, some)):  # all of them, and some
            EMGaussianMixture(n_components, random_state=0).fit(X)
    texts = [str(warning.message) for warning in caught]
    assert sum("collapsed" in text for text in texts) == 1


# -- filters of the process ------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        GaussianKDE("likelihood"),
        EMGaussianMixture(2, random_state=0),
        thorough(AutoEncoder(1, max_epochs=1, random_state=0)),
        DensityOutlierDetector(EMGaussianMixture(), "auto"),
        GenerativeClassifier(GaussianKDE()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_fits_do_not_change_the_filters_of_the_process(model, monkeypatch):
    # Threads that change and restore them at the same time leave "ignore" behind.
    callers, enter = [], warnings.catch_warnings.__enter__

    def noted(context):
        callers.append(Path(sys._getframe(1).f_code.co_filename).parts[-3:])
        return enter(context)

    monkeypatch.setattr(warnings.catch_warnings, "__enter__", noted)
    model.fit(rows(60, 2), np.arange(60) % 2)
    ours = [parts for parts in callers if "skgen" in parts]
    # PyTorch's forward mode is loaded once.
    assert [parts for parts in ours if parts[-1] != "_jacobian.py"] == []


def test_bodies_without_warnings_may_overlap():
    before, first, second = list(warnings.filters), ExitStack(), ExitStack()
    first.enter_context(_without_warnings())
    second.enter_context(_without_warnings())
    first.close()
    warnings.warn("of a transformer", stacklevel=1)
    second.close()
    assert list(warnings.filters) == before


def test_quiet_holds_for_words_and_for_its_thread():
    with quiet(UserWarning, "of a"):
        warn_user("of a model")
        with pytest.raises(UserWarning, match="of the"):
            warn_user("of the model")
        failed = []

        def body():
            try:
                warn_user("of a model")
            except UserWarning:
                failed.append(True)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        assert failed
    with pytest.raises(UserWarning, match="of a"):
        warn_user("of a model")
