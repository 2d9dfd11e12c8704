# SPDX-License-Identifier: Apache-2.0
"""DeepNCM: a backbone, an optional embedding and a classifier as one Keras model."""

import keras
from keras import ops

import official_resnet  # noqa: F401  registers the backbone's layers for `load_model`
from deepncm_tf import classifiers, replicas
from deepncm_tf.losses import LogitCrossEntropy

INTEGER_LOSSES = ("sparse_categorical_crossentropy", "categorical_crossentropy")


@keras.saving.register_keras_serializable(package="deepncm_tf")
class DeepNCM(keras.Model):
    """Deep nearest-mean classifier.

    A backbone and an optional linear embedding turn images into features; a classifier
    turns features into logits, and its state (class means, for example) follows the
    features during `fit`. `predict` gives logits; `embed` gives features.

    Training is exact on replicas: loss, gradients, state and metrics are those of the
    global batch, also where replicas get unequal shares of it.

    Args:
        backbone: `keras.Model` (or layer) from images to features `(batch, ..., d)`.
        classifier: A `deepncm_tf.classifiers.Classifier`.
        embedding_dim: Int, dimensions of a linear map between the two, or None for none.
            The number of classes gives the "equal parameters" variant of DeepNCM.
        gradient_clip: Float > 0, limit of each gradient component, applied after the
            sum over replicas and without loss scale; or None.
        l2: Float >= 0, adds 1/2 * l2 * (sum of squares of all trainable variables) to
            the loss.
        **kwargs: Those of `keras.Model`, such as `name`.

    Call arguments:
        inputs: Images, or a dictionary `{"image": images}` that may also hold `"index"`,
            the samples' rows in a bank.
        training: Bool.
        return_features: Bool, whether to return `(logits, features)`.

    Output shape:
        Logits, `(batch, ..., num_classes)`, float32 or wider.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from official_resnet import cifar_resnet
        >>> from deepncm_tf.classifiers import DecayMean
        >>> model = DeepNCM(cifar_resnet(depth=8), DecayMean(num_classes=10))
        >>> model.compile(optimizer="sgd", metrics=["accuracy"])
        >>> images = keras.ops.zeros((2, 32, 32, 3))
        >>> tuple(model(images).shape)
        (2, 10)
    """

    def __init__(
        self,
        backbone,
        classifier,
        embedding_dim=None,
        gradient_clip=None,
        l2=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(classifier, classifiers.Classifier):
            raise ValueError(
                "`classifier` must be a deepncm_tf.classifiers.Classifier, for example "
                f"DecayMean(num_classes=10). Received: classifier={classifier!r}"
            )
        if embedding_dim is not None and (
            not isinstance(embedding_dim, int) or embedding_dim < 1
        ):
            raise ValueError(
                "`embedding_dim` must be a positive integer or None. "
                f"Received: embedding_dim={embedding_dim!r}"
            )
        if gradient_clip is not None and not gradient_clip > 0:
            raise ValueError(
                "`gradient_clip` must be a positive number or None. "
                f"Received: gradient_clip={gradient_clip!r}"
            )
        if not l2 >= 0:
            raise ValueError(f"`l2` must be a number >= 0. Received: l2={l2!r}")
        self.backbone = backbone
        self.classifier = classifier
        self.embedding_dim = embedding_dim
        self.gradient_clip = gradient_clip
        self.l2 = l2
        self.embedding = None
        if embedding_dim is not None:
            self.embedding = keras.layers.Dense(embedding_dim, name="embedding")
        self._unseen = keras.metrics.Sum(name="unseen")
        self._evaluating = False
        if backbone.built:
            # Variables exist from here on, so that a strategy's scope, the optimizer
            # and `load_model` find them.
            self.build(backbone.input_shape)

    def build(self, input_shape):
        if self.built:
            return
        if isinstance(input_shape, dict):
            input_shape = input_shape["image"]
        feature_model = _FeatureModel(self.backbone, self.embedding)
        feature_model.build(input_shape)
        if not self.classifier.built:
            self.classifier.build(feature_model.compute_output_shape(input_shape))
        # A bound method: an attribute that is itself a model would be saved twice.
        self._predict_features = feature_model.predict
        self._image_shape = tuple(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape):
        if isinstance(input_shape, dict):
            input_shape = input_shape["image"]
        features_shape = self.backbone.compute_output_shape(input_shape)
        return (*features_shape[:-1], self.classifier.num_classes)

    def call(self, inputs, training=False, return_features=False):
        image, index = unpack_inputs(inputs)
        features = extract_features(self.backbone, self.embedding, image, training)
        logits = self.classifier(features, index=index, training=training)
        return (logits, features) if return_features else logits

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        """Configures the model for training, as `keras.Model.compile` does.

        Args:
            optimizer: As in Keras. Do not let it clip gradients where there are
                replicas (it would clip before their sum): see `gradient_clip`.
            loss: None for softmax cross-entropy on the logits, with integer or one-hot
                labels; or any Keras loss that takes logits.
            **kwargs: Those of `keras.Model.compile`, such as `metrics`.

        Raises:
            ValueError: If the loss expects probabilities, or cannot be averaged over
                replicas.
        """
        if loss is None:
            loss = LogitCrossEntropy()
        if (
            loss in INTEGER_LOSSES
            or getattr(loss, "_fn_kwargs", {}).get("from_logits") is False
        ):
            raise ValueError(
                "`loss` must take logits, which is what DeepNCM gives. Leave it out for "
                "cross-entropy, or pass for example "
                "keras.losses.SparseCategoricalCrossentropy(from_logits=True). "
                f"Received: loss={loss!r}"
            )
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if replicas.num_replicas() > 1 and reduction != "sum_over_batch_size":
            raise ValueError(
                "`loss` must have reduction='sum_over_batch_size' where there is more "
                f"than one replica. Received: reduction={reduction!r}"
            )
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """This replica's share of the global batch's loss: the shares add up to it."""
        count = ops.cast(ops.shape(y_pred)[0], self.classifier.state_dtype)
        loss = self._compile_loss(y, y_pred, sample_weight)
        if replicas.num_replicas() > 1:
            # Keras divides by the number of replicas, as if each had the same number of
            # samples; a last partial batch, or none, must weigh by its size.
            (total,) = replicas.all_reduce_sum([count])
            loss *= ops.cast(replicas.num_replicas() * count / total, loss.dtype)
        extra = list(self.losses)
        if self.l2:
            squares = [ops.sum(ops.square(v)) for v in self.trainable_variables]
            extra.append(0.5 * self.l2 * sum(squares))
        return loss + sum(self._aggregate_additional_loss(term) for term in extra)

    def train_step(self, data):
        if keras.backend.backend() != "tensorflow":
            raise NotImplementedError(
                "DeepNCM trains on Keras's TensorFlow backend; its classifiers work on "
                f"any. Received: KERAS_BACKEND={keras.backend.backend()!r}"
            )
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _, index = unpack_inputs(x)
        with tf.GradientTape() as tape:
            logits, features = self(x, training=True, return_features=True)
            loss = self.compute_loss(x, y, logits, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.trainable_variables)
        loss, *gradients = replicas.all_reduce_sum([loss, *gradients])

        self.classifier.update_metrics(features, y, sample_weight)
        self.classifier.update(
            features, y, index, sample_weight, where=self._apply_step(gradients)
        )
        return self._step_logs(x, y, logits, loss, sample_weight)

    def test_step(self, data):
        if keras.backend.backend() != "tensorflow":
            return super().test_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logits, features = self(x, training=False, return_features=True)
        loss = self.compute_loss(x, y, logits, sample_weight, training=False)
        (loss,) = replicas.all_reduce_sum([loss])
        self.classifier.update_metrics(features, y, sample_weight)
        seen = self.classifier.seen()
        if seen is not None:
            weights = self.classifier.class_weights(y, len(logits.shape))
            self._unseen.update_state(weights * ops.cast(~seen, weights.dtype))
        return self._step_logs(x, y, logits, loss, sample_weight)

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`; for methods where a class can be without a sample,
        `unseen` counts the evaluated samples of such classes: none of them can be right.
        """
        self._evaluating = True
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._evaluating = False

    @property
    def metrics(self):
        metrics = super().metrics
        if self._evaluating and self.classifier.seen() is not None:
            return metrics
        return [metric for metric in metrics if metric is not self._unseen]

    def embed(self, x, batch_size=None, verbose="auto", steps=None):
        """Features of images, as the classifier gets them.

        Args:
            x, batch_size, verbose, steps: As in `keras.Model.predict`.

        Returns:
            NumPy array, `(samples, ..., d)`.
        """
        if not self.built:
            raise ValueError(
                "Call the model on a batch of images, or `fit` it, before `embed`."
            )
        return self._predict_features(
            x, batch_size=batch_size, verbose=verbose, steps=steps
        )

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Exports the model for serving.

        A SavedModel has two endpoints on float32 images `(batch, ...)`: `serve` gives
        logits and `embed` features. Other formats are those of `keras.Model.export`.
        """
        if format != "tf_saved_model" or kwargs:
            return super().export(filepath, format=format, verbose=verbose, **kwargs)
        archive = keras.export.ExportArchive()
        archive.track(self)
        signature = [keras.InputSpec(shape=self._image_shape, dtype="float32")]
        archive.add_endpoint("serve", lambda image: self(image), signature)
        archive.add_endpoint(
            "embed", lambda image: self(image, return_features=True)[1], signature
        )
        archive.write_out(filepath, verbose=verbose if verbose is not None else True)
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "embedding_dim": self.embedding_dim,
            "gradient_clip": self.gradient_clip,
            "l2": self.l2,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("backbone", "classifier"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds what is not built yet from the shapes of one replica's share of a batch.

        Keras takes the mean of the shares, which fails where they are unequal, and takes
        it in every `evaluate`, which fails where the iterator has come to its end.
        """
        if self._distribute_strategy is None:
            return
        parts = (self, self._compile_metrics, self._compile_loss, self.optimizer)
        if all(part is None or part.built for part in parts):
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = keras.tree.map_structure(
                    lambda x: self.distribute_strategy.experimental_local_results(x)[0],
                    next(batches),
                )
                break
        super()._maybe_symbolic_build(data_batch=data_batch)

    def _apply_step(self, gradients):
        """Clips the summed gradients and applies them once.

        Returns whether the optimizer takes the step: a scalar bool tensor under loss
        scaling, else None for always.
        """
        optimizer, num_replicas = self.optimizer, replicas.num_replicas()
        scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        inner = optimizer.inner_optimizer if scaling else optimizer
        if num_replicas > 1 and (
            inner.clipvalue or inner.clipnorm or inner.global_clipnorm
        ):
            raise ValueError(
                "The optimizer would clip each replica's gradients before their sum. "
                "Use DeepNCM(gradient_clip=...) instead of the optimizer's `clipvalue`, "
                "`clipnorm` or `global_clipnorm`."
            )
        if self.gradient_clip is not None:
            scale = optimizer.dynamic_scale if scaling and optimizer.built else 1.0
            if scaling and not optimizer.built:
                scale = optimizer.initial_scale
            limit = ops.cast(self.gradient_clip * scale, "float32")
            # Clipping would hide an overflow from the loss scale: let it through.
            gradients = [
                ops.where(ops.isfinite(g), ops.clip(g, -limit, limit), g)
                if scaling
                else ops.clip(g, -self.gradient_clip, self.gradient_clip)
                for g in gradients
            ]
        finite = optimizer.check_finite(gradients) if scaling else None
        # `apply` sums over the replicas once more.
        gradients = [gradient / num_replicas for gradient in gradients]
        optimizer.apply(gradients, self.trainable_variables)
        return finite

    def _step_logs(self, x, y, logits, loss, sample_weight):
        # Every replica reports the global loss with its own number of samples.
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(logits)[0])
        return self.compute_metrics(x, y, logits, sample_weight=sample_weight)


class _FeatureModel(keras.Model):
    """Backbone and embedding of a DeepNCM, without its classifier."""

    def __init__(self, backbone, embedding):
        super().__init__(name="feature_model")
        self.backbone = backbone
        self.embedding = embedding

    def build(self, input_shape):
        if not self.backbone.built:
            self.backbone.build(input_shape)
        if self.embedding is not None and not self.embedding.built:
            self.embedding.build(self.backbone.compute_output_shape(input_shape))
        self.built = True

    def compute_output_shape(self, input_shape):
        shape = self.backbone.compute_output_shape(input_shape)
        return (
            shape if self.embedding is None else self.embedding.compute_output_shape(shape)
        )

    def call(self, inputs, training=False):
        image, _ = unpack_inputs(inputs)
        return extract_features(self.backbone, self.embedding, image, training)


def extract_features(backbone, embedding, image, training):
    features = backbone(image, training=training)
    return features if embedding is None else embedding(features)


def unpack_inputs(inputs):
    """Splits what the data pipeline gives into images and indices (or None)."""
    if isinstance(inputs, dict):
        return inputs["image"], inputs.get("index")
    return inputs, None
