# SPDX-License-Identifier: Apache-2.0
"""A run with the same seed, or resumed wherever it ended, is the same to the bit."""

import os
import signal
import subprocess

import pytest
from interrupting import (
    InterruptedRunError,
    batches_done,
    break_evaluation,
    interrupt,
    stop_at,
)
from methods import others_are_thorough
from same_run import assert_same_run, metrics, without_times
from small_runs import config, use_few_digits, use_small_network

from deepncm_tf import flags, runs
from deepncm_tf.runs import callbacks, training
from deepncm_tf.utils import signals

pytestmark = pytest.mark.usefixtures("few_digits")


def run_whole(tmp_path_factory, method):
    folder = tmp_path_factory.mktemp("whole") / method
    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        training.run(config(folder, ncm=method, seed=3))
    return method, folder


@pytest.fixture(scope="module", params=others_are_thorough(flags.METHODS))
def whole(request, tmp_path_factory):
    """A method and the folder of its run of three epochs with seed 3."""
    return run_whole(tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def one_whole(tmp_path_factory):
    """The same for the method with the most state."""
    return run_whole(tmp_path_factory, "condensation")


def test_a_seed_repeats_bit_for_bit(tmp_path, one_whole, small_network):
    """Of the other methods the resumed run below repeats the whole one, too."""
    method, folder = one_whole
    training.run(config(tmp_path / "again", ncm=method, seed=3))
    assert_same_run(folder, tmp_path / "again")


def test_another_seed_is_another_run(tmp_path, one_whole, small_network):
    method, folder = one_whole
    training.run(config(tmp_path / "other", ncm=method, seed=4))
    assert without_times(metrics(folder)) != without_times(metrics(tmp_path / "other"))


def test_a_resumed_run_ends_where_it_would_have(
    tmp_path, monkeypatch, whole, small_network
):
    method, folder = whole
    where = "between" if method == "nca" else "after"
    resumed = config(tmp_path / "resumed", ncm=method, seed=3)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt(patch, 1, where)
        training.run(resumed)
    assert not (tmp_path / "resumed" / "result.json").exists()
    training.run(resumed)
    assert_same_run(folder, tmp_path / "resumed")


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(s, marks=() if s == signal.SIGTERM else pytest.mark.slow)
        for s in signals.SIGNALS
    ],
)
def test_a_signal_stops_after_a_checkpoint(
    tmp_path, monkeypatch, one_whole, small_network, signum
):
    method, folder = one_whole
    stopped = config(tmp_path / "stopped", ncm=method, seed=3)
    batches = iter(range(100))

    def on_train_batch_begin(self, batch, logs=None):
        if next(batches) == 4:  # the second batch of the second epoch
            os.kill(os.getpid(), signum)

    before = [signal.getsignal(other) for other in signals.SIGNALS]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Record, "on_train_batch_begin", on_train_batch_begin)
        with pytest.raises(signals.StoppedError) as error:
            training.run(stopped)
    assert error.value.status == 128 + signum
    names = {path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()}
    assert "epoch-00001-batch-0000002.npz" in names
    assert [signal.getsignal(other) for other in signals.SIGNALS] == before
    training.run(stopped)
    assert_same_run(folder, tmp_path / "stopped")


@pytest.mark.slow
def test_no_step_is_trained_after_the_last_one(
    tmp_path, monkeypatch, one_whole, small_network
):
    """Checkpoints that hold all batches of an epoch, inside and at the end of a run."""
    method, folder = one_whole
    resumed = tmp_path / "resumed"
    with monkeypatch.context() as patch, pytest.raises(signals.StoppedError):
        stop_at(patch, 6)  # the last step of the second epoch
        training.run(config(resumed, ncm=method, seed=3))
    assert batches_done(resumed) == 3
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        break_evaluation(patch, 3)
        training.run(config(resumed, ncm=method, seed=3, checkpoint_every_steps=3))
    assert batches_done(resumed) == 3
    training.run(config(resumed, ncm=method, seed=3))
    assert_same_run(folder, resumed)


@pytest.mark.parametrize("every", [1, pytest.param(None, marks=pytest.mark.slow)])
def test_no_step_is_trained_after_max_train_steps(
    tmp_path, monkeypatch, small_network, every
):
    values = {"ncm": "condensation", "max_train_steps": 5, "epochs_between_evals": 3}
    training.run(config(tmp_path / "whole", **values))
    resumed = config(tmp_path / "resumed", checkpoint_every_steps=every, **values)
    with monkeypatch.context() as patch:
        if every:
            break_evaluation(patch, 2)
        else:
            stop_at(patch, 5)
        with pytest.raises((InterruptedRunError, signals.StoppedError)):
            training.run(resumed)
    assert batches_done(tmp_path / "resumed") == 2
    assert training.run(resumed)["steps"] == 5
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(
            {"ncm": "nca", "dtype": "fp16", "accumulate_steps": 2},
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            {"ncm": "dnc", "dtype": "fp16", "accumulate_steps": 2},
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            {
                "ncm": "nca",
                "distribution_strategy": "mirrored",
                "num_devices": 2,
                "bank_sharding": True,
            },
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            {"ncm": "dnc", "distribution_strategy": "mirrored", "num_devices": 2},
            marks=pytest.mark.thorough,
        ),
    ],
    ids=str,
)
def test_the_last_step_with_more_state(tmp_path, monkeypatch, small_network, values):
    values = {"train_epochs": 2, **values}
    training.run(config(tmp_path / "whole", **values))
    resumed = config(tmp_path / "resumed", **values)
    with monkeypatch.context() as patch, pytest.raises(signals.StoppedError):
        stop_at(patch, 3)
        training.run(resumed)
    assert batches_done(tmp_path / "resumed") == 3
    training.run(resumed)
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")


def test_a_signal_before_the_first_step(tmp_path, monkeypatch, small_network):
    """Nothing is traced any more, and there is nothing to be written."""
    build_model = training.build_model

    def build_and_stop(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return build_model(*args)

    monkeypatch.setattr(training, "build_model", build_and_stop)
    monkeypatch.setattr(callbacks.Record, "on_epoch_begin", None)  # would fail if called
    with pytest.raises(signals.StoppedError, match="Stopped by SIGINT"):
        training.run(config(tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_checkpoints_inside_epochs_on_replicas(tmp_path, monkeypatch, small_network):
    values = {"distribution_strategy": "mirrored", "num_devices": 2, "train_epochs": 2}
    training.run(config(tmp_path / "whole", **values))
    resumed = config(tmp_path / "resumed", checkpoint_every_steps=2, **values)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt(patch, 0, "batch")
        training.run(resumed)
    training.run(resumed)
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")


@pytest.mark.thorough
def test_a_damaged_log_comes_again(tmp_path, monkeypatch, capsys, one_whole, small_network):
    method, folder = one_whole
    resumed = config(tmp_path / "resumed", ncm=method, seed=3)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt(patch, 1, "after")
        training.run(resumed)
    path = tmp_path / "resumed" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:50] + b"\xff" + path.read_bytes()[51:])
    training.run(resumed)
    assert "metrics.jsonl in" in capsys.readouterr().err
    assert_same_run(folder, tmp_path / "resumed")
    # And of a finished run, whose result is checked as well.
    path.write_bytes(path.read_bytes()[:-5])
    training.run(resumed)
    assert "metrics.jsonl in" in capsys.readouterr().err
    assert_same_run(folder, tmp_path / "resumed")


@pytest.mark.slow
@pytest.mark.bad_input
def test_a_full_disk(tmp_path, small_network):
    """The run says so; with room for it, it ends where it would have."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        (disk / "ballast").write_bytes(bytes(340_000))
        with pytest.raises(runs.RunError, match=r"No space left"):
            training.run(config(disk / "run"))
        assert not (disk / "run" / "result.json").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        training.run(config(disk / "run"))
        training.run(config(tmp_path / "whole"))
        assert_same_run(disk / "run", tmp_path / "whole")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
