# SPDX-License-Identifier: Apache-2.0
"""The epochs of a run, from wherever it stands."""

import sys

import keras

from deepncm_tf.models.classifier_model import Refresh
from deepncm_tf.models.finite import NotFiniteError
from deepncm_tf.runs.callbacks import StopAfter


def fit(task, model, train, plan, progress, callbacks):
    """Fits to the plan's end; first the rest of an epoch, where one is under way.

    Args:
        task: The run's task, see `tasks`.
        model: A compiled `DeepNCM`.
        train: Pair of training images and labels.
        plan: The run's `TrainingPlan`.
        progress: The run's `checkpoints.Progress`.
        callbacks: List of Keras callbacks.
    """
    steps = plan.steps_per_epoch
    verbose = 1 if sys.stdout.isatty() else 2
    while (epoch := len(progress.history)) < plan.epochs:
        epochs = _freeze(task.config, model, plan, epoch)
        whole = plan.max_steps // steps  # the epochs that are not cut short
        alone = progress.batches or epoch == whole
        epochs = epoch + 1 if alone else min(epochs, whole)
        done = epoch * steps + progress.batches
        steps_of_epoch = min(steps, plan.max_steps - epoch * steps)
        if progress.batches == steps_of_epoch:
            _end_epoch(model, epoch, progress.batches, verbose, callbacks)
            continue
        dataset = task.training_dataset(train, plan, epochs, epoch, progress.batches)
        try:
            model.fit(
                dataset,
                epochs=epochs,
                initial_epoch=epoch,
                steps_per_epoch=steps_of_epoch - progress.batches,
                shuffle=False,  # shuffled already
                verbose=verbose,
                callbacks=[StopAfter(plan.max_steps - done), *callbacks],
            )
        except NotFiniteError as error:
            epoch = (error.step - 1) // steps + 1
            raise NotFiniteError(error.step, error.kinds, epoch) from None


def _freeze(config, model, plan, epoch):
    """Freezes the backbone or not, from an epoch on; returns the epoch of a change."""
    after = config.get("unfreeze_after")
    if after is None:
        return plan.epochs
    is_trained = epoch >= after
    if model.backbone.trainable != is_trained:
        model.backbone.trainable = is_trained
        model.make_train_function(force=True)
    return plan.epochs if is_trained else min(after, plan.epochs)


def _end_epoch(model, epoch, batches, verbose, callbacks):
    """What `fit` does after the last batch of an epoch; `fit` itself would train one."""
    callbacks = keras.callbacks.CallbackList(
        [Refresh(), *callbacks],
        add_progbar=True,
        model=model,
        verbose=verbose,
        epochs=epoch + 1,
        steps=batches,
    )
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(epoch)  # which restores the metrics
    callbacks.on_epoch_end(epoch, model.get_metrics_result())
    callbacks.on_train_end()
