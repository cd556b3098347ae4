"""Int8 models: what is one is run as its file says, anything else is an InferenceError."""

import numpy as np
import pytest

from qepa_gateway.inference.contract import load_model
from qepa_gateway.inference.runtime import InferenceError, Int8Model, interpreter_class
from qepa_gateway.inference.shelf import SHIPPED
from qepa_uplink.bedside_models import CONTRACTS, ECG_BEATS, ECG_QUALITY, MAX_BLOB


def blob_of(name):
    return (SHIPPED / f"{name}.tflite").read_bytes()


def inputs_of(name, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in CONTRACTS[name].input_shapes]


@pytest.mark.parametrize("name", [ECG_BEATS, ECG_QUALITY])
def test_a_shipped_model_takes_and_gives_what_its_name_promises(name):
    model, contract = load_model(name, blob_of(name)), CONTRACTS[name]
    assert model.input_shapes == contract.input_shapes
    answer = model.run(*inputs_of(name))
    assert answer.shape == model.output_shape == contract.output_shape
    assert answer.dtype == np.float32
    assert float(answer.sum()) == pytest.approx(1, abs=2 * model.output_step)
    np.testing.assert_array_equal(answer, model.run(*inputs_of(name)))
    assert model.output_step == pytest.approx(1 / 256)


def test_inputs_beyond_the_scale_are_clipped_to_it():
    model = Int8Model(blob_of(ECG_QUALITY))
    (window,) = inputs_of(ECG_QUALITY)
    np.testing.assert_array_equal(model.run(np.sign(window) * 1e9), model.run(np.sign(window) * 1e30))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda *both: both[:1],
        lambda leads, rhythm: (rhythm, leads),
        lambda leads, rhythm: (leads[0], rhythm),
        lambda leads, rhythm: (leads, np.full_like(rhythm, np.nan)),
        lambda leads, rhythm: (np.full_like(leads, np.inf), rhythm),
        lambda leads, rhythm: (leads, rhythm, rhythm),
    ],
)
def test_inputs_of_another_shape_or_not_finite_are_refused(spoil):
    with pytest.raises(InferenceError):
        Int8Model(blob_of(ECG_BEATS)).run(*spoil(*inputs_of(ECG_BEATS)))


@pytest.mark.parametrize("blob", [b"", b"TFL3", b"\x1c\0\0\0TFL3", b"x" * 5000, b"\x1c\0\0\0TFL3" + bytes(MAX_BLOB)])
def test_what_is_no_model_is_refused(blob):
    with pytest.raises(InferenceError):
        Int8Model(blob)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_model_cut_short_is_refused(kept):
    blob = blob_of(ECG_BEATS)
    with pytest.raises(InferenceError):
        Int8Model(blob[: int(kept * len(blob))])


def test_a_model_of_another_name_is_refused():
    with pytest.raises(InferenceError, match="takes"):
        load_model(ECG_QUALITY, blob_of(ECG_BEATS))
    with pytest.raises(InferenceError, match="no model is called"):
        load_model("beats", blob_of(ECG_BEATS))


def test_tflite_runtime_stands_in_for_litert(tmp_path, monkeypatch):
    package = tmp_path / "tflite_stand_in"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text("class Interpreter: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = interpreter_class(("no_such_runtime.interpreter", "tflite_stand_in.interpreter"))
    assert found.__module__ == "tflite_stand_in.interpreter"
    with pytest.raises(InferenceError, match="neither"):
        interpreter_class(("no_such_runtime.interpreter",))
