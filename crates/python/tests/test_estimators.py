"""The estimators of scikit-learn."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import fixnet


@parametrize_with_checks([fixnet.FixnetClassifier(epochs=40), fixnet.FixnetRegressor(epochs=40)])
def test_scikit_learn_takes_them(estimator, check):
    check(estimator)


def test_a_classifier_of_iris_is_good_and_the_same_again():
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    scores = cross_val_score(fixnet.FixnetClassifier(random_state=0), x, names, cv=3)
    assert scores.mean() > 0.9
    one, other = (fixnet.FixnetClassifier(random_state=3, epochs=5).fit(x, names) for _ in range(2))
    assert one.digest_ == other.digest_
    np.testing.assert_array_equal(one.predict_proba(x), pickle.loads(pickle.dumps(other)).predict_proba(x))


def test_a_regression_explains_more_than_the_mean():
    x, y = load_diabetes(return_X_y=True)
    assert fixnet.FixnetRegressor(hidden=(32,), epochs=40).fit(x[:300], y[:300]).score(x[300:], y[300:]) > 0.3


def test_settings_of_the_recipe():
    x, y = load_iris(return_X_y=True)
    estimator = fixnet.FixnetClassifier(epochs=2, settings={"weight_decay": 0.1, "momentumm": 0.5})
    with pytest.raises(fixnet.ConfigError, match="momentumm"):
        estimator.fit(x, y)
