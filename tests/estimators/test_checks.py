"""scikit-learn's own checks of what an estimator is."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexlib.estimators import ConvexReLUClassifier, ConvexReLURegressor, MirrorRegressor

# The checks fit hundreds of small problems: one round each, and no attempt at a proof.
QUICK = {"max_iter": 1, "max_nodes": 0}


class FirstColumn(MirrorRegressor):
    """The checks draw several features, which `MirrorRegressor` refuses: this reads the first."""

    _two_axes = True

    @staticmethod
    def _column(X):
        return X[:, :1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, True
        tags.regressor_tags.poor_score = True  # the target depends on another column
        return tags


GATED = [
    ConvexReLURegressor(gated=True, n_patterns=20),
    ConvexReLUClassifier(gated=True, n_patterns=20, loss="squared_hinge"),
    FirstColumn(),
]
GENERATED = [ConvexReLURegressor(beta=20.0, **QUICK), ConvexReLUClassifier(**QUICK)]


@parametrize_with_checks(GATED)
def test_scikit_learn_accepts_gated_networks_and_mirrors(estimator, check):
    check(estimator)


@pytest.mark.slow
# Above rank 5 no fit reaches its tolerance, and says so.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(GENERATED)
def test_scikit_learn_accepts_generated_patterns(estimator, check):
    check(estimator)


def test_one_feature_is_declared_as_isotonic_regression_does():
    tags = MirrorRegressor().__sklearn_tags__().input_tags
    assert (tags.one_d_array, tags.two_d_array) == (True, False)
