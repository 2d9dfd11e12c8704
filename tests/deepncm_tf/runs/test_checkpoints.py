# SPDX-License-Identifier: Apache-2.0
import keras
import numpy as np
import pytest

from deepncm_tf import runs
from deepncm_tf.runs.checkpoints import Checkpoints, Progress
from deepncm_tf.utils import files


def variables(value=0.0):
    return [
        keras.Variable(np.full((2, 3), value), name="kernel"),
        keras.Variable(np.int32(value), name="steps", dtype="int32"),
        keras.Variable(np.full(4, value), name="memory", dtype="bfloat16"),
    ]


def saved(folder, epochs=3):
    state = variables()
    checkpoints = Checkpoints(folder, state)
    history = []
    for epoch in range(1, epochs + 1):
        for variable in state:
            variable.assign(variable + 1)
        history.append({"epoch": epoch, "loss": 1 / epoch})
        checkpoints.save(Progress(history))
    return history


def restored(folder):
    state = variables()
    progress = Checkpoints(folder, state).restore()
    assert progress.batches == 0
    return progress.history, state


def test_nothing_to_restore(tmp_path):
    assert restored(tmp_path)[0] == []


def test_the_newest_is_restored_and_two_are_kept(tmp_path):
    history = saved(tmp_path)
    found, state = restored(tmp_path)
    assert found == history
    np.testing.assert_array_equal(state[0].numpy(), np.full((2, 3), 3.0))
    assert state[1].numpy() == 3
    assert state[2].dtype == "bfloat16"
    np.testing.assert_array_equal(state[2].numpy().astype("float32"), np.full(4, 3.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "epoch-00002-batch-0000000.npz",
        "epoch-00003-batch-0000000.npz",
    ]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_one_is_passed_over(tmp_path, damage, capsys):
    history = saved(tmp_path)
    path = tmp_path / "epoch-00003-batch-0000000.npz"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 4] ^= 1
    else:
        content = b""
    path.write_bytes(content)
    found, state = restored(tmp_path)
    assert found == history[:2]
    assert state[1].numpy() == 2
    assert "epoch-00003-batch-0000000.npz is damaged" in capsys.readouterr().err


def test_any_flipped_bit(tmp_path):
    """Each byte of the newest in turn: it is passed over, or the flip changed nothing."""
    history = saved(tmp_path)
    path = tmp_path / "epoch-00003-batch-0000000.npz"
    content = path.read_bytes()
    passed_over = 0
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        found, state = restored(tmp_path)
        assert (found, state[1].numpy()) in ((history, 3), (history[:2], 2))
        passed_over += len(found) == 2
    assert passed_over > len(content) / 6


def test_inside_an_epoch(tmp_path):
    state, metric = variables(1.0), keras.metrics.Mean()
    metric.update_state([1.0, 2.0])
    checkpoints = Checkpoints(tmp_path, state, metric.variables)
    checkpoints.save(Progress([{"epoch": 1}]))
    checkpoints.save(Progress([{"epoch": 1}], batches=7, seconds=2.5))
    metric.reset_state()
    resumed = Checkpoints(tmp_path, variables(), metric.variables)
    assert resumed.restore() == Progress([{"epoch": 1}], batches=7, seconds=2.5)
    resumed.restore_metrics()
    assert float(metric.result()) == 1.5
    metric.reset_state()
    resumed.restore_metrics()  # only once
    assert float(metric.result()) == 0


@pytest.mark.bad_input
def test_all_damaged(tmp_path):
    saved(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"no archive")
    with pytest.raises(runs.RunError, match=r"All checkpoints in .* are damaged"):
        restored(tmp_path)


@pytest.mark.bad_input
def test_another_model(tmp_path):
    saved(tmp_path)
    state = [keras.Variable(np.zeros((2, 4)), name="kernel")]
    with pytest.raises(runs.RunError, match="checkpoint of another model"):
        Checkpoints(tmp_path, state).restore()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("number", "value", "dtype"),
    [(0, np.zeros((3, 2)), "float32"), (1, 0, "int64"), (2, np.zeros(4), "int32")],
    ids=["shape", "dtype", "dtype of bfloat16"],
)
def test_one_variable_of_another_model(tmp_path, number, value, dtype):
    """As many variables, with the same names, but one has another shape or dtype."""
    saved(tmp_path)
    state = variables(9.0)
    state[number] = keras.Variable(value, dtype=dtype)
    before = [variable.numpy() for variable in state]
    with pytest.raises(runs.RunError, match="checkpoint of another model"):
        Checkpoints(tmp_path, state).restore()
    for variable, values in zip(state, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)


def test_a_write_that_fails_leaves_the_file_before(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, fail)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_a_checkpoint_in_float32_of_what_is_of_another_dtype_now(tmp_path, dtype):
    """Sums and memories that were float32; anything else is another model."""
    old = keras.Variable(np.full(3, 7.0), name="count", dtype="float32")
    Checkpoints(tmp_path, [old]).save(Progress([{"epoch": 1}]))
    new = keras.Variable(np.zeros(3), name="count", dtype=dtype)
    assert Checkpoints(tmp_path, [new]).restore().history == [{"epoch": 1}]
    np.testing.assert_array_equal(new.numpy().astype("float32"), np.full(3, 7.0))
    other = keras.Variable(np.zeros(3), name="count", dtype="int32")
    with pytest.raises(runs.RunError, match="another model"):
        Checkpoints(tmp_path, [other]).restore()
