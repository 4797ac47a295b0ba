"""The link from the HTML representation of an estimator to its documentation."""

import re

import pytest
from estimators import IMPUTERS, MODELS, SEMI_SUPERVISED, WRAPPERS, WithLabels
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from skgen import GaussianKDE, make_generative_pipeline
from skgen.base import GenerativeModel

ADDRESS = "https://scikit-generative.readthedocs.io/en/stable/reference/skgen."
PUBLIC = [model for model in MODELS if not isinstance(model, WithLabels)]
PUBLIC += WRAPPERS + IMPUTERS + SEMI_SUPERVISED
ONE_OF_EACH = list({type(model): model for model in PUBLIC}.values())


def pages(estimator):
    """Return the pages that the representation links to."""
    links = re.findall(r'href="([^"#]*)', estimator_html_repr(estimator))
    return {link for link in links if link}


@pytest.mark.parametrize("model", ONE_OF_EACH, ids=lambda model: type(model).__name__)
def test_estimators_link_to_their_page(model):
    assert f"{ADDRESS}{type(model).__name__}.html" in pages(clone(model))


def test_nested_estimators_keep_their_own_links():
    pipeline = make_generative_pipeline(StandardScaler(), GaussianKDE())
    names = ("GenerativePipeline", "GaussianKDE")
    own = {f"{ADDRESS}{name}.html" for name in names}
    (other,) = pages(pipeline) - own
    assert own < pages(pipeline)
    assert re.fullmatch(
        r"https://scikit-learn.org/.*/sklearn.preprocessing.StandardScaler.html", other
    )


def test_a_class_of_the_users_has_no_page():
    class Own(GenerativeModel):
        pass

    Own.__abstractmethods__ = frozenset()
    assert Own()._get_doc_link() == ""
