# SPDX-License-Identifier: Apache-2.0
"""One run: from resolved flags to a folder with a model and its figures."""

import contextlib
import sys
import time

import keras

from deepncm_tf import classifiers, flags, runs
from deepncm_tf.data import datasets, device_images
from deepncm_tf.distribution import replicas, strategies
from deepncm_tf.flags import run as run_flags
from deepncm_tf.models.deep_ncm import DeepNCM
from deepncm_tf.models.precision import default_policy
from deepncm_tf.runs import backbone, fitting, lag, pictures, transfer
from deepncm_tf.runs.anchoring import Anchoring
from deepncm_tf.runs.callbacks import EpochReport, Record
from deepncm_tf.runs.checkpoints import Checkpoints
from deepncm_tf.runs.plan import TrainingPlan
from deepncm_tf.runs.tasks import Classification
from deepncm_tf.utils import files, signals
from official_resnet import cifar_resnet

JIT_COMPILE = {"auto": "auto", "on": True, "off": False}


def run(config):
    """Trains, or goes on training, or finds that the run is finished.

    Args:
        config: Dictionary of flags as from `flags.resolve`.

    Returns:
        The contents of `result.json`, a dictionary.

    Raises:
        RunError, DatasetNotFoundError, NotFiniteError, StoppedError: What stands in the
            way; files of earlier epochs stay as they are.
    """
    folder = runs.RunFolder(config)
    result = folder.result()
    if result is not None:
        print(_summary(_task(config), folder, result, "Finished before"))
        return result
    if not _goes_on(folder):  # checkpoints hold what the run began with
        transfer.check(config)
    try:
        if config.get("device_dataset"):
            device_images.check_backend()
        strategies.leave_devices()
        # First of all: a multi-worker strategy must find TensorFlow unused.
        strategy = strategies.get_strategy(
            config["distribution_strategy"], config["num_devices"]
        )
        task = _task(config)
        splits = task.load()
    except ValueError as error:  # what the flags alone cannot tell
        raise runs.RunError(str(error)) from error
    if replicas.is_chief(strategy):
        folder.open()
    with contextlib.closing(folder):
        if replicas.is_chief(strategy):
            pictures.keep(folder, splits)
        replicas.wait_for_all(strategy)  # the folder is ready
        return _run(task, folder, splits, strategy)


def _goes_on(folder):
    """Whether there are checkpoints that the run will go on from."""
    checkpoints = (folder.path / "checkpoints").glob("*.npz")
    return not folder.config["overwrite"] and any(checkpoints)


def _task(config):
    if flags.task_of(config) == flags.CLASSIFICATION:
        return Classification(config)
    from deepncm_tf.runs.segmentation import Segmentation

    return Segmentation(config)


def _run(task, folder, splits, strategy):
    config = task.config
    with (
        default_policy(run_flags.DTYPES[config["dtype"]]),
        strategy.scope() if strategy else contextlib.nullcontext(),
        signals.Signals().handled() as stop,
        _lost_workers(strategy),
        _lost_images(splits),
    ):
        keras.utils.set_random_seed(config["seed"])
        model, progress = _train(task, folder, splits, stop)
    result = _result(task, progress)
    if replicas.is_chief(strategy):
        with folder.writing():
            files.write_atomically(folder.path / "model.keras", model.save)
            task.finish(model, folder, splits)
        folder.finish(result)
        print(_summary(task, folder, result, "Finished"))
    replicas.wait_for_all(strategy)  # nobody leaves before it is written
    return result


@contextlib.contextmanager
def _lost_workers(strategy):
    """Says in one line what TensorFlow says when another worker is gone."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if not replicas.is_multi_worker(strategy):
            raise
        raise runs.RunError(
            f"Lost another worker ({type(error).__name__}: {error.message[:200]}). Start "
            "all workers again: they go on from the last checkpoint."
        ) from error


@contextlib.contextmanager
def _lost_images(splits):
    """Says in one line that a picture could not be read; TensorFlow takes many."""
    import tensorflow as tf

    sources = [part for split in splits.values() for part in split]  # before one is taken
    try:
        yield
    except tf.errors.OpError as error:
        failures = [getattr(source, "failure", None) for source in sources]
        for failure in filter(None, failures):
            raise runs.RunError(f"A picture is gone or has changed. {failure}") from error
        raise


def build_model(config, plan):
    """The model that a config describes, not yet compiled.

    Args:
        config: Dictionary of flags as from `flags.resolve`.
        plan: Its `TrainingPlan`.
    """
    if flags.task_of(config) == flags.SEGMENTATION:
        from deepncm_tf.runs import segmentation

        return segmentation.build_model(config, plan)
    if config["backbone"] is None:
        size = flags.image_size(config)
        network = cifar_resnet(
            config["resnet_size"],
            config["resnet_version"],
            (size, size, 3),
            bn_momentum=datasets.recipe(config["dataset"]).bn_momentum,
        )
    else:
        network = backbone.build(config)
    network.trainable = backbone.is_trained(config)
    method = classifiers.NAMES[config["ncm"]]
    return DeepNCM(
        network,
        method(**method.prepare(flags.classifier_arguments(config), plan)),
        embedding_dim=config["embedding_dim"],
        normalize=method.wants_unit_features,
        gradient_clip=config["gradient_clip"] or None,
        l2=config["weight_decay"],
        accumulate_steps=config["accumulate_steps"],
        decay_batch_norm=config["decay_batch_norm"],
    )


def _train(task, folder, splits, stop):
    config, train = task.config, splits.pop("train")
    plan = TrainingPlan.make(config, train[1])
    model = _compiled_model(task, plan, train, with_weights=not _goes_on(folder))
    anchoring = Anchoring.of_run(config, model, train)
    checkpoints = Checkpoints(
        folder.path / "checkpoints",
        model.variables + model.optimizer.variables + anchoring.variables,
        model.metrics_variables,
        writes=replicas.is_chief(replicas.strategy_of(model)),
    )
    progress = anchoring.progress = checkpoints.restore()
    if progress.history or progress.batches:
        epochs = f"{len(progress.history)} of {plan.epochs} epochs"
        print(f"Going on after {epochs} and {progress.batches} steps in {folder.path}")
    report = EpochReport(task, splits, config["epochs_between_evals"], plan, progress)
    if not (config.get("weights") or config.get("init_from")):  # they begin elsewhere
        report.lag = lag.of(model)
    record = Record(
        report, folder, checkpoints, progress, config["checkpoint_every_steps"], stop
    )
    callbacks = [anchoring, report, record]
    if config.get("init_from") and not (progress.history or progress.batches):
        transfer.begin(config, model, train)
        progress.initial = _initial_figures(model, report)
    if checkpoints.writes:
        _write_earlier_metrics(folder, record, progress)
        callbacks[2:2] = task.callbacks(folder, splits)
    started = time.perf_counter()
    fitting.fit(task, model, train, plan, progress, callbacks)
    print(f"Trained for {time.perf_counter() - started:.0f} s")
    if plan.max_steps < plan.total_steps:
        print(
            f"Cut short by --max_train_steps: {plan.max_steps} of the {plan.total_steps} "
            "steps of --train_epochs"
        )
    anchoring.finish(model)
    return model, progress


def _compiled_model(task, plan, train, with_weights):
    """The model; no weights of `--weights` where a checkpoint has what became of them."""
    config = task.config
    model = build_model(config if with_weights else {**config, "weights": None}, plan)
    if replicas.is_chief(replicas.strategy_of(model)):
        backbone.print_size(model)
    model.compile(
        plan.optimizer(),
        plan.loss(model.classifier),
        metrics=task.metrics(),
        jit_compile=JIT_COMPILE[config["jit_compile"]],
    )
    if config.get("device_dataset"):
        model.make_images = device_images.DeviceImages(
            train[0], config["augmentation"], flags.scaling(config)
        )
    model.build_training(*(keras.KerasTensor((None, *a.shape[1:]), a.dtype) for a in train))
    return model


def _initial_figures(model, report):
    """The figures of an evaluation before the first step."""
    figures = report.evaluate(model)
    if replicas.is_chief(replicas.strategy_of(model)):
        accuracy = figures["test_accuracy"]
        print(f"Before training: test accuracy {accuracy:.2%}", flush=True)
    return figures


def _write_earlier_metrics(folder, record, progress):
    """Writes the entries up to the checkpoint: what was logged after it will come again."""
    if progress.history and not record.metrics_are_whole():
        print(
            f"Warning: metrics.jsonl in {folder.path} is damaged; the last checkpoint "
            "gives it again.",
            file=sys.stderr,
        )
    with folder.writing():
        record.write_metrics()


def _result(task, progress):
    history = progress.history
    evaluated = [entry for entry in history if "test_accuracy" in entry]
    best = max(evaluated, key=lambda entry: entry[f"test_{task.metric}"])
    result = {}
    for name in dict.fromkeys(("test_accuracy", f"test_{task.metric}")):
        result |= {f"final_{name}": evaluated[-1][name], f"best_{name}": best[name]}
    result |= {
        "best_epoch": best["epoch"],
        "epochs": history[-1]["epoch"],
        "steps": history[-1]["step"],
        "identity": flags.identity(task.config),
    }
    ious = [name for name in evaluated[-1] if name.startswith("test_iou_")]
    for name in (*task.result_figures, *ious):
        if name in evaluated[-1]:
            result[f"final_{name}"] = evaluated[-1][name]
    if progress.initial:
        result["initial_test_accuracy"] = progress.initial["test_accuracy"]
    return result


def _summary(task, folder, result, verb):
    text = (
        f"{verb}: {task.summary(result)}. Everything is in {folder.path}: model.keras, "
        "metrics.jsonl, result.json"
    )
    if result.get("final_test_unseen"):
        text += (
            f"\nWarning: {result['final_test_unseen']:.0f} {task.counted} are of classes "
            "that training never showed; none of them can be right."
        )
    return text
