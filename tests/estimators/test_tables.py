"""Tables of text in place of numbers: refused in plain words."""

import io

import numpy as np
import pandas as pd
import pytest

import convexlib as cl
from convexlib.errors import InputError


def test_a_table_read_with_the_wrong_separator_is_refused_in_plain_words():
    X = np.random.default_rng(0).standard_normal((10, 2))
    y = X @ [1.0, -0.5]
    text = pd.DataFrame(X, columns=["a", "b"]).assign(y=y).to_csv(sep=";", index=False)
    wrong = pd.read_csv(io.StringIO(text))
    assert wrong.shape == (10, 1)
    fitted = cl.ConvexReLURegressor(beta=1.0).fit(X, y)
    message = r"the data hold the text '.*;.*'; expected numbers\..*compare the file's separator"
    for fit in (
        lambda: cl.ConvexReLURegressor().fit(wrong, y),
        lambda: cl.ConvexReLURegressor().fit(X, wrong["a;b;y"]),
        lambda: cl.ConvexReLUClassifier().fit(wrong, y > 0),
        lambda: cl.MirrorRegressor().fit(wrong, y),
        lambda: fitted.predict(wrong.to_numpy()),
    ):
        with pytest.raises(InputError, match=message):
            fit()
    with pytest.raises(InputError, match=r"X has 0 feature\(s\) \(shape=\(10, 0\)\).*separator"):
        cl.ConvexReLURegressor().fit(wrong.iloc[:, :-1], y)
    commas = pd.read_csv(io.StringIO(text.replace(".", ",")), sep=";")
    with pytest.raises(InputError, match="decimal sign"):
        cl.ConvexReLURegressor().fit(commas[["a", "b"]], y)
