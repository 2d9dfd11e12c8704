# SPDX-License-Identifier: Apache-2.0
"""A classifier's state from all samples at once: one pass through the frozen backbone."""

import functools

import keras
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.models import padding
from deepncm_tf.models.backend_step import BackendStep
from deepncm_tf.models.embedding import extract_features
from deepncm_tf.models.finite import EVALUATION, FiniteGuard
from deepncm_tf.models.inputs import unpack_inputs
from deepncm_tf.models.no_samples import RefuseEmpty
from deepncm_tf.numerics import statistics
from deepncm_tf.numerics.samples import Samples, refuse_none

KERAS_BATCH_SIZE = 32  # of the batches that `evaluate` makes of arrays
FEW = 8  # samples: kernels have been seen to round otherwise in batches of one
# No input of a backbone has such a name, in which Keras allows no "/".
ARRAYS = ("adapt/inputs", "adapt/labels", "adapt/weights")


class Pass(BackendStep):
    """A pass over data that changes nothing: neither backbone nor classifier.

    `evaluate` adds up class statistics, so that features need not stay in memory, and
    `predict` gives features, labels, whether samples take part, and their rows in a bank.

    Args:
        model: `DeepNCM`.
        batch_size: Int, of which batches are but for the last, which is filled where it
            has few samples, so that a sample has the same features in each; or None.
    """

    def __init__(self, model, batch_size=None):
        super().__init__(name="adapt")
        # Functions: attributes that are layers or metrics would be reset with this model's.
        self._extract = lambda x: extract_features(
            model.backbone, model.embedding, model.normalize, x, training=False
        )
        if batch_size is not None:
            share = -(-batch_size // replicas.num_replicas())
            self._extract = padding.of_several(self._extract, min(share, FEW))
        self._samples_of = functools.partial(
            Samples,
            num_classes=model.num_classes,
            dtype=model.classifier.state_dtype,
        )
        self._targets = model.targets
        self._known_labels = model.known_labels
        self._batch_statistics = model.classifier.batch_statistics
        self._needs_index = model.classifier.needs_index
        self._rank = model.output_rank
        self.guard = FiniteGuard(model.num_classes)
        self._guard_variables = self.guard.variables  # part of the state of each step
        self.statistics = []
        if model.classifier.adapts_from == "statistics":
            self.statistics = model.classifier.new_statistics(
                self._add_state, model.features_shape[-1]
            )
        self.built = True
        # Nothing but JAX is slow without.
        self.compile(jit_compile=keras.backend.backend() == "jax")

    def _add_state(self, name, shape, dtype):
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing is left to be built."""

    _symbolic_build = _maybe_symbolic_build  # of other backends than TensorFlow

    def _samples(self, x, y, sample_weight):
        x, index = unpack_inputs(x)
        y, sample_weight, wrong = self._targets(y, sample_weight, self._rank)
        self.guard.passes(EVALUATION, {}, wrong)
        return self._samples_of(
            self._extract(x),
            self._known_labels(y),
            sample_weight=sample_weight,
            index=index,
        )

    def exact_test_step(self, data):
        samples = self._samples(*keras.utils.unpack_x_y_sample_weight(data))
        batch = self._batch_statistics(samples)
        for stored, sums in zip(self.statistics, batch, strict=True):
            stored.assign(statistics.add(stored.read(), sums))
        weights = [ops.sum(stored.read().counts) for stored in self.statistics]
        return replicas.reducible({"samples": sum(weights)})

    def exact_predict_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, dict) and set(x) <= set(ARRAYS):
            x, y, sample_weight = (x.get(name) for name in ARRAYS)
        samples = self._samples(x, y, sample_weight)
        index = samples.index if self._needs_index else None
        if index is None:
            index = ops.full_like(samples.labels, -1)
        is_finite = ops.all(ops.isfinite(samples.features), axis=-1)
        return {
            "features": samples.features,
            "labels": samples.labels,
            "index": ops.cast(ops.reshape(index, (-1,)), "int32"),
            "takes_part": ops.logical_and(samples.takes_part, is_finite),
        }


def adapt(model, x, y, sample_weight, reset, **options):
    """See `DeepNCM.adapt`; `options` are those of `evaluate`."""
    classifier = model.classifier
    classifier.check_adapts()
    if classifier.adapts_from == "features":
        _adapt_features(model, x, y, sample_weight, reset, **options)
        return
    folds = statistics_of(model, x, y, sample_weight, **options)
    for sums in folds:
        if sums.moment is None:  # with second moments `refresh` says it
            statistics.warn_where_rounded(sums, stacklevel=4)
    with replicas.scope_of(model):
        if not reset:
            folds = list(map(statistics.add, classifier.read_statistics(), folds))
        classifier.write_statistics(folds)
        classifier.refresh()


def statistics_of(model, x, y=None, sample_weight=None, **options):
    """Class statistics of samples.

    Args:
        model: `DeepNCM` whose classifier has them.
        x, y, sample_weight: As for `DeepNCM.adapt`.
        **options: Those of `keras.Model.evaluate`.

    Returns:
        List of `statistics.Sums`.

    Raises:
        ValueError: If no sample takes part.
    """
    batch_size = options.get("batch_size")
    if y is not None and batch_size is None:
        batch_size = KERAS_BATCH_SIZE
    with replicas.scope_of(model):
        data_pass = Pass(model, batch_size)
        data_pass.evaluate(
            x, y, sample_weight=sample_weight, callbacks=[RefuseEmpty()], **options
        )
        data_pass.guard.look()
        folds = [stored.read() for stored in data_pass.statistics]
    refuse_none(ops.concatenate([sums.counts for sums in folds]), "x")
    return folds


def _adapt_features(model, x, y, sample_weight, reset, **options):
    with replicas.scope_of(model):
        data_pass = Pass(model)
        if y is not None:
            arrays = zip(ARRAYS, (x, y, sample_weight), strict=True)
            x = {name: array for name, array in arrays if array is not None}
        found = data_pass.predict(x, callbacks=[RefuseEmpty()], **options)
        data_pass.guard.look()
        takes_part = found.pop("takes_part")
        refuse_none(takes_part, "x")
        arrays = {name: array[takes_part] for name, array in found.items()}
        model.classifier.adapt_features(**arrays, reset=reset)
