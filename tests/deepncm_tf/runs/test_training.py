# SPDX-License-Identifier: Apache-2.0
"""Whole runs on a few digits: files, repetition, resumption, refusal."""

import json
import os
import signal
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import use_few_digits, use_small_network

from deepncm_tf import cifar_main, flags, runs
from deepncm_tf.data import datasets, pipeline
from deepncm_tf.models.finite import NotFiniteError
from deepncm_tf.runs import callbacks, training
from deepncm_tf.utils import signals

TIMES = {"seconds", "images_per_second"}


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    use_few_digits(monkeypatch)


@pytest.fixture
def small_network(monkeypatch):
    use_small_network(monkeypatch)


def config(folder, **values):
    values = {"dataset": "digits", "train_epochs": 3, **values}
    return flags.resolve({**values, "model_dir": str(folder)})


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_times(entries):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def weights(folder):
    return keras.models.load_model(folder / "model.keras").get_weights()


def summaries(folder):
    """TensorBoard's scalars: `{(split, name, epoch): value}`."""
    return {
        (path.parent.name, value.tag, event.step): float(tf.make_ndarray(value.tensor))
        for path in (folder / "summaries").glob("*/*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }


def test_files(tmp_path, capsys):
    folder = tmp_path / "run"
    result = training.run(config(folder, validation_fraction=0.2, epochs_between_evals=2))
    out = capsys.readouterr().out
    assert "Finished: test accuracy" in out
    assert str(folder) in out

    stored = json.loads((folder / "config.json").read_text())
    assert stored["flags"] == config(
        folder, validation_fraction=0.2, epochs_between_evals=2
    )
    assert {"keras", "tensorflow", "numpy", "deepncm_tf", "commit"} <= set(
        stored["versions"]
    )

    entries = metrics(folder)
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    assert [entry["step"] for entry in entries] == [3, 6, 9]
    train = {"loss", "accuracy", "rmd", "learning_rate", *TIMES}
    evaluation = {
        f"{split}_{name}"
        for split in ("val", "test")
        for name in ("loss", "accuracy", "rmd", "unseen")
    }
    for entry in entries:
        expected = evaluation if entry["epoch"] in (2, 3) else set()
        assert set(entry) == {"epoch", "step"} | train | expected
    np.testing.assert_allclose(
        [e["learning_rate"] for e in entries], [0.1, 0.01, 1e-4], rtol=1e-6
    )

    assert json.loads((folder / "result.json").read_text()) == result
    assert result["final_test_accuracy"] == entries[-1]["test_accuracy"]
    assert result["best_test_accuracy"] == max(e.get("test_accuracy", 0) for e in entries)

    model = keras.models.load_model(folder / "model.keras")
    images, labels = datasets.load("digits")["test"]
    images = keras.ops.convert_to_numpy(training.pipeline.standardize(images))
    accuracy = (model.predict(images, verbose=0).argmax(axis=-1) == labels).mean()
    np.testing.assert_allclose(accuracy, result["final_test_accuracy"], rtol=1e-6)

    scalars = summaries(folder)
    for entry in entries:
        np.testing.assert_allclose(scalars["train", "loss", entry["epoch"]], entry["loss"])
    np.testing.assert_allclose(scalars["test", "rmd", 3], entries[-1]["test_rmd"])


def run_whole(tmp_path_factory, method):
    folder = tmp_path_factory.mktemp("whole") / method
    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        training.run(config(folder, ncm=method, seed=3))
    return method, folder


@pytest.fixture(scope="module", params=flags.METHODS)
def whole(request, tmp_path_factory):
    """A method and the folder of its run of three epochs with seed 3."""
    return run_whole(tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def one_whole(tmp_path_factory):
    """The same for the method with the most state."""
    return run_whole(tmp_path_factory, "condensation")


def assert_same_run(one, other):
    assert without_times(metrics(one)) == without_times(metrics(other))
    assert (one / "result.json").read_bytes() == (other / "result.json").read_bytes()
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (
        {key: value for key, value in summaries(folder).items() if key[1] not in TIMES}
        for folder in (one, other)
    )
    assert one == other


def test_a_seed_repeats_bit_for_bit(tmp_path, whole, small_network):
    method, folder = whole
    training.run(config(tmp_path / "again", ncm=method, seed=3))
    assert_same_run(folder, tmp_path / "again")


def test_another_seed_is_another_run(tmp_path, one_whole, small_network):
    method, folder = one_whole
    training.run(config(tmp_path / "other", ncm=method, seed=4))
    assert without_times(metrics(folder)) != without_times(metrics(tmp_path / "other"))


class InterruptedRunError(Exception):
    pass


def interrupt(monkeypatch, epoch, where):
    """Ends the run in an epoch: in its third batch, before or after its checkpoint."""
    on_epoch_end = callbacks.Record.on_epoch_end

    def on_train_batch_begin(self, batch, logs=None):
        if where == "batch" and batch == 2:
            raise InterruptedRunError

    monkeypatch.setattr(callbacks.Record, "on_train_batch_begin", on_train_batch_begin)

    def interrupted(self, epoch_index, logs=None):
        if epoch_index == epoch and where == "between":
            self.progress.history.append(self.report.entry)
            self.write_metrics()  # logged, but not checkpointed
            raise InterruptedRunError
        on_epoch_end(self, epoch_index, logs)
        if epoch_index == epoch:
            raise InterruptedRunError

    monkeypatch.setattr(callbacks.Record, "on_epoch_end", interrupted)


def test_a_resumed_run_ends_where_it_would_have(
    tmp_path, monkeypatch, whole, small_network
):
    method, folder = whole
    where = "between" if method == "decay" else "after"
    resumed = config(tmp_path / "resumed", ncm=method, seed=3)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt(patch, 1, where)
        training.run(resumed)
    assert not (tmp_path / "resumed" / "result.json").exists()
    training.run(resumed)
    assert_same_run(folder, tmp_path / "resumed")


@pytest.mark.parametrize("signum", signals.SIGNALS)
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


def stop_at(patch, step, signum=signal.SIGTERM):
    """Sends a signal at the beginning of a step, counted from 1 in this process."""
    steps = iter(range(1, 100))

    def on_train_batch_begin(self, batch, logs=None):
        if next(steps) == step:
            os.kill(os.getpid(), signum)

    patch.setattr(callbacks.Record, "on_train_batch_begin", on_train_batch_begin)


def break_evaluation(patch, epoch):
    """Ends the run in the evaluation of an epoch, counted from 1."""
    evaluate = callbacks.EpochReport._evaluate

    def interrupted(self):
        if len(self.progress.history) + 1 == epoch:
            raise InterruptedRunError
        return evaluate(self)

    patch.setattr(callbacks.EpochReport, "_evaluate", interrupted)


def batches_done(folder):
    """Batches of the epoch under way that the newest checkpoint has done."""
    newest = max(path.stem for path in (folder / "checkpoints").iterdir())
    return int(newest.rpartition("-")[2])


def test_no_step_is_trained_after_the_last_one(tmp_path, monkeypatch, whole, small_network):
    """Checkpoints that hold all batches of an epoch, inside and at the end of a run."""
    method, folder = whole
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


@pytest.mark.parametrize("every", [1, None])
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
        {"ncm": "nca", "dtype": "fp16", "accumulate_steps": 2},
        {"ncm": "dnc", "dtype": "fp16", "accumulate_steps": 2},
        pytest.param(
            {
                "ncm": "nca",
                "distribution_strategy": "mirrored",
                "num_devices": 2,
                "bank_sharding": True,
            },
            marks=pytest.mark.slow,
        ),
        {"ncm": "dnc", "distribution_strategy": "mirrored", "num_devices": 2},
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


def test_checkpoints_inside_epochs_on_replicas(tmp_path, monkeypatch, small_network):
    values = {"distribution_strategy": "mirrored", "num_devices": 2, "train_epochs": 2}
    training.run(config(tmp_path / "whole", **values))
    resumed = config(tmp_path / "resumed", checkpoint_every_steps=2, **values)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt(patch, 0, "batch")
        training.run(resumed)
    training.run(resumed)
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")


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


def test_a_finished_run_is_not_repeated(tmp_path, small_network, capsys, monkeypatch):
    first = training.run(config(tmp_path / "run", train_epochs=1))
    monkeypatch.setattr(datasets, "load", None)  # would fail if it were called
    assert training.run(config(tmp_path / "run", train_epochs=1)) == first
    assert "Finished before" in capsys.readouterr().out


@pytest.mark.bad_input
def test_another_run_in_the_folder_is_refused(tmp_path, small_network):
    folder = tmp_path / "run"
    training.run(config(folder, train_epochs=1))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(runs.RunError, match=r"--seed: 0 there, 5 here.*--overwrite"):
        training.run(config(folder, train_epochs=1, seed=5))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    with pytest.raises(runs.RunError, match="--seed: 0 there, 5 here"):
        runs.RunFolder(config(folder, train_epochs=1, seed=5)).check()


def test_overwrite(tmp_path, small_network, monkeypatch):
    folder = tmp_path / "run"
    training.run(config(folder, train_epochs=1))
    before = (folder / "metrics.jsonl").read_bytes()
    anew = config(folder, train_epochs=1, seed=5, overwrite=True)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="no such"):
        patch.setattr(training, "build_model", lambda config, plan: int("no such"))
        training.run(anew)
    assert (tmp_path / "run.old1" / "metrics.jsonl").read_bytes() == before
    training.run(config(folder, train_epochs=1, seed=5))
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    training.run(anew)
    assert (folder / "result.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.bad_input
def test_a_folder_that_is_moved_stops_the_run(tmp_path, small_network, monkeypatch):
    """Another run takes its path meanwhile, and stays as it is."""
    folder, other = tmp_path / "run", config(tmp_path / "run", ncm="softmax")
    epoch_begin = callbacks.Record.on_epoch_begin

    def move(self, epoch, logs=None):
        epoch_begin(self, epoch, logs)
        if epoch == 1:
            os.rename(folder, tmp_path / "elsewhere")
            started = runs.RunFolder(other)
            started.open()
            started.close()

    monkeypatch.setattr(callbacks.Record, "on_epoch_begin", move)
    with pytest.raises(runs.RunError, match="no longer the folder that this run locked"):
        training.run(config(folder))
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "lock"]
    assert len(metrics(tmp_path / "elsewhere")) == 1


@pytest.mark.bad_input
@pytest.mark.parametrize("overwrite", [False, True])
def test_other_files_are_never_touched(tmp_path, overwrite):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    one = config(tmp_path / "run", overwrite=overwrite)
    for refused in (runs.RunFolder(one).check, lambda: training.run(one)):
        with pytest.raises(runs.RunError, match=r"other files, such as thesis\.tex"):
            refused()
    assert (tmp_path / "run" / "thesis.tex").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_another_version_is_told(tmp_path, small_network, capsys, monkeypatch):
    one = config(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt(patch, 0, "after")
        training.run(one)
    monkeypatch.setattr(runs.folder, "versions", lambda: {"keras": "99.0"})
    training.run(one)
    assert "begun with keras 3." in capsys.readouterr().err


def test_max_train_steps_stops_inside_an_epoch(tmp_path, small_network):
    result = training.run(config(tmp_path / "run", max_train_steps=4))
    assert (result["steps"], result["epochs"]) == (4, 2)
    assert "test_accuracy" in metrics(tmp_path / "run")[-1]
    assert metrics(tmp_path / "run")[-1]["learning_rate"] == pytest.approx(0.1)


@pytest.mark.bad_input
@pytest.mark.parametrize("every", [None, 1])
def test_images_that_are_not_finite_end_the_run(
    tmp_path, small_network, monkeypatch, every
):
    training_dataset = pipeline.training_dataset

    def poisoned(*args, **kwargs):
        def poison(step, batch):
            x, y = batch
            factor = tf.where(step == 4, float("inf"), 1.0)  # the second step of epoch 2
            return {**x, "image": x["image"] * factor}, y

        return training_dataset(*args, **kwargs).enumerate().map(poison)

    monkeypatch.setattr(pipeline, "training_dataset", poisoned)
    with pytest.raises(NotFiniteError, match="Not finite in step 5 of epoch 2: images"):
        training.run(config(tmp_path / "run", checkpoint_every_steps=every))
    assert [entry["epoch"] for entry in metrics(tmp_path / "run")] == [1]
    # The last checkpoint is of before the bad step, which a resumed run meets again.
    newest = max(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest == f"epoch-00001-batch-000000{every or 0}.npz"


@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "bf16"},
        {"dtype": "fp16"},
        {"embedding_dim": 10},
        {"resnet_version": 1, "gradient_clip": 0.0},
        {"label": "coarse", "jit_compile": "off"},
        {"distribution_strategy": "mirrored", "num_devices": 2},
    ],
    ids=str,
)
def test_other_flags_run(tmp_path, small_network, values):
    result = training.run(config(tmp_path / "run", train_epochs=1, **values))
    assert 0 <= result["final_test_accuracy"] <= 1
    assert np.isfinite(metrics(tmp_path / "run")[-1]["loss"])
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (datasets.DatasetNotFoundError("no data"), "no data"),
        (runs.RunError("in use"), "in use"),
        (NotFiniteError(5, ["loss"], 2), "Not finite in step 5 of epoch 2: loss"),
        (OSError(28, "No space left on device", "/data"), "No space left on device: /data"),
    ],
)
def test_known_errors_are_one_line(tmp_path, monkeypatch, capsys, error, message):
    def fail(config):
        raise error

    monkeypatch.setattr(training, "run", fail)
    monkeypatch.setattr(flags, "given", lambda _: {"model_dir": str(tmp_path)})
    with pytest.raises(SystemExit) as status:
        cifar_main.main(["cifar_main"])
    assert status.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"cifar_main: {message}")
