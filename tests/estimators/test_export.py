"""Networks leave the library: torch.export, TorchScript, state dictionaries, ONNX."""

import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import convexlib as cl

BATCH = torch.export.Dim("batch")


def fitted(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    y = np.abs(X[:, 0]) - X[:, 1]
    if kind == "classes":
        return cl.ConvexReLUClassifier(gated=True, n_patterns=10).fit(X, np.digitize(y, [0, 1])), X
    if kind in ("abs", "sign"):
        return cl.MirrorRegressor(beta=0.1, depth=3, activation=kind).fit(X[:, 0], y), X[:, :1]
    estimator = cl.ConvexReLURegressor(gated=kind == "gated", n_patterns=10)
    return estimator.fit(X, y), X


@pytest.fixture(scope="module", params=["relu", "gated", "classes", "abs", "sign"])
def exported(request):
    """A network with data of another length than it is exported with, and its outputs there."""
    estimator, X = fitted(request.param)
    outputs = estimator.decision_function if request.param == "classes" else estimator.predict
    expected = outputs(X[:7])
    return estimator.network_, torch.from_numpy(X), expected.reshape(7, -1)


def agree(outputs, expected):
    outputs = outputs.detach().numpy() if isinstance(outputs, torch.Tensor) else outputs
    np.testing.assert_allclose(outputs.reshape(7, -1), expected, rtol=0, atol=1e-12)


# The layers of a mirror network are rows of one parameter, which torch saves as views of it.
@pytest.mark.filterwarnings("ignore:No complete tensor found in the group:UserWarning")
def test_torch_export_takes_any_number_of_rows(exported):
    network, X, expected = exported
    program = torch.export.export(network, (X,), dynamic_shapes=({0: BATCH},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    agree(torch.export.load(file).module()(X[:7]), expected)


# The layers of a mirror network are iterated over; their number is part of the network.
@pytest.mark.filterwarnings("ignore:Iterating over a tensor:torch.jit.TracerWarning")
def test_torchscript_still_works(exported):
    network, X, expected = exported
    with warnings.catch_warnings():
        # From torch 2.13 on it is deprecated, with one category or another.
        warnings.filterwarnings("ignore", message=r".torch\.jit\.\w+. is deprecated")
        # Without TorchScript's own comparison, which would trace a second time.
        traced = torch.jit.trace(network, X, check_trace=False)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        loaded = torch.jit.load(file)
    agree(loaded(X[:7]), expected)


def test_a_plain_torch_model_takes_the_weights():
    estimator, X = fitted("relu")
    state = estimator.network_.state_dict()
    width = len(state["0.bias"])
    plain = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1, bias=False)).double()
    plain.load_state_dict(state)
    agree(plain(torch.from_numpy(X[:7])), estimator.predict(X[:7]).reshape(7, 1))


@pytest.mark.slow
def test_onnx_computes_the_same(exported):
    pytest.importorskip("onnxscript", reason="needs the export extra: pip install .[export]")
    reference = pytest.importorskip("onnx.reference", reason="needs the export extra")
    network, X, expected = exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch has deprecated
        program = torch.onnx.export(
            network,
            (X,),
            input_names=["X"],
            dynamic_shapes=({0: BATCH},),
            dynamo=True,
            verbose=False,
        )
    model = reference.ReferenceEvaluator(program.model_proto)
    agree(model.run(None, {"X": X[:7].numpy()})[0], expected)
