# SPDX-License-Identifier: Apache-2.0
"""DeepNCM: a backbone, an optional embedding and a classifier as one Keras model."""

import keras

import official_resnet  # noqa: F401  registers the backbone's layers for `load_model`
from deepncm_tf import classifiers
from deepncm_tf.models import frozen, padding
from deepncm_tf.models import inputs as model_inputs
from deepncm_tf.models.class_names import as_names
from deepncm_tf.models.embedding import (
    FeatureModel,
    batch_norm_variables,
    check_features,
    extract_features,
    warn_of_mask,
)
from deepncm_tf.models.predicting_model import PredictingModel
from deepncm_tf.utils.arguments import as_positive_integer


@keras.saving.register_keras_serializable(package="deepncm_tf")
class DeepNCM(PredictingModel):
    """Deep nearest-mean classifier.

    A backbone and an optional linear embedding turn inputs into features; a classifier
    turns features into logits, and its state (class means, for example) follows the
    features during `fit`. `predict` gives logits; `embed` gives features.

    Training is exact on replicas: loss, gradients, state and metrics are those of the
    global batch, also where replicas get unequal shares of it.

    Args:
        backbone: `keras.Model` (or layer) from inputs of any kind, one or several, to
            features `(batch, ..., d)`.
        classifier: A `deepncm_tf.classifiers.Classifier`.
        embedding_dim: Int, dimensions of a linear map between the two, or None for none.
            The number of classes gives the "equal parameters" variant of DeepNCM.
        normalize: Bool, whether features are scaled to unit length, as
            `NeighborhoodComponents` wants them.
        gradient_clip: Float > 0, limit of each gradient component, applied after the
            sum over replicas and without loss scale; or None.
        l2: Float >= 0, adds 1/2 * l2 * (sum of squares of all trainable variables) to
            the loss.
        accumulate_steps: Int >= 1, parts of a batch that are computed one after the other,
            for batches that memory does not hold at once. Gradients are summed, then
            applied once, and the classifier's state moves once: a step is that of the
            whole batch, but for batch normalization, which sees the parts.
        class_names: Sequence of strings, a name for each class, or None. They are saved
            with the model; labels in arrays may then be names.
        decay_batch_norm: Bool, whether `l2` holds for the scales and shifts of batch
            normalization, too.
        ignore_class: Int, a label that means none of the classes, such as 255 for void, or
            None. What has it takes no part in loss, metrics and state. A Keras mask is not
            followed: give positions that are padding this label.
        **kwargs: Those of `keras.Model`, such as `name`.

    Call arguments:
        inputs: What the backbone takes, or a dictionary of that by name. A dictionary may
            also hold `"index"`, the samples' rows in a bank; where the backbone takes one
            input, that is `"image"` in it, whatever it is.
        training: Bool.
        return_features: Bool, whether to return `(logits, features)`.

    Output shape:
        Logits, `(batch, ..., num_classes)`, float32 or wider.

    Raises:
        ValueError: If an argument is out of its range, or the backbone does not give one
            tensor of features; where it does not say, when the model is built.

    Example:
        >>> from official_resnet import cifar_resnet
        >>> from deepncm_tf.classifiers import DecayMean
        >>> model = DeepNCM(cifar_resnet(depth=8), DecayMean(num_classes=10))
        >>> model.compile(optimizer="sgd", metrics=["accuracy"])
        >>> images = keras.ops.zeros((2, 32, 32, 3))
        >>> tuple(model(images).shape)
        (2, 10)
    """

    _serialize = staticmethod(keras.saving.serialize_keras_object)

    def __init__(
        self,
        backbone,
        classifier,
        embedding_dim=None,
        normalize=False,
        gradient_clip=None,
        l2=0.0,
        accumulate_steps=1,
        class_names=None,
        decay_batch_norm=True,
        ignore_class=None,
        **kwargs,
    ):
        super().__init__(gradient_clip, l2, accumulate_steps, ignore_class, **kwargs)
        if not isinstance(backbone, keras.Layer):
            raise ValueError(
                "`backbone` must be a keras.Model or layer from inputs to features. "
                f"Received: backbone={backbone!r}"
            )
        if not isinstance(classifier, classifiers.Classifier):
            raise ValueError(
                "`classifier` must be a deepncm_tf.classifiers.Classifier, for example "
                f"DecayMean(num_classes=10). Received: classifier={classifier!r}"
            )
        self.backbone = backbone
        self.classifier = classifier
        self.embedding_dim = embedding_dim
        self.normalize = normalize
        self.decay_batch_norm = bool(decay_batch_norm)
        self.embedding = None
        if embedding_dim is not None:
            self.embedding_dim = as_positive_integer("embedding_dim", embedding_dim)
            self.embedding = keras.layers.Dense(
                self.embedding_dim, name="embedding", dtype=self.dtype_policy
            )
        self.class_names = as_names(class_names, classifier.num_classes)
        self.track_unseen()
        self._input_shapes = self._input_dtypes = None
        known = model_inputs.of_backbone(backbone)
        if known is not None:
            # Variables exist from here on, so that a strategy's scope, the optimizer
            # and `load_model` find them.
            shapes, dtypes = known
            self._input_dtypes = tuple(dtypes)
            self.build(shapes)

    def build(self, input_shape):
        if self.built:
            return
        shapes, _ = model_inputs.unpack_inputs(input_shape)
        self._input_shapes = keras.tree.map_shape_structure(tuple, shapes)
        feature_model = FeatureModel(self.backbone, self.embedding, self.normalize)
        symbols = model_inputs.symbols(self._input_shapes, self._input_dtypes)
        given = model_inputs.given_by(self.backbone, symbols)
        check_features(given, "backbone")
        if self.ignore_class is None:
            warn_of_mask(given)
        features = feature_model(symbols)
        if not self.classifier.built:
            self.classifier.build(features.shape)
        padding.hide_padding(self.backbone)
        # A bound method: an attribute that is itself a model would be saved twice.
        self._predict_features = feature_model.predict
        self._features_shape = tuple(features.shape)
        self._features_dtype = features.dtype
        self.built = True

    @property
    def input_shapes(self):
        """Shapes of what the backbone takes, with None for the batch: one, or by name.

        None where that is not known yet.
        """
        return self._input_shapes

    def compute_output_shape(self, input_shape):
        self.build(input_shape)
        shapes, _ = model_inputs.unpack_inputs(input_shape)
        batch = model_inputs.flat_shapes(shapes)[0][0]
        return (batch, *self._features_shape[1:-1], self.classifier.num_classes)

    def call(self, inputs, training=False, return_features=False):
        x, index = model_inputs.unpack_inputs(inputs)
        model_inputs.check_shapes(x, self._input_shapes)
        if self._input_dtypes is None:
            self._input_dtypes = tuple(model_inputs.of_batch(x)[1])
        features = extract_features(
            self.backbone, self.embedding, self.normalize, x, training
        )
        rows = {"index": index} if self.classifier.needs_index else {}
        logits = self.classifier(features, training=training, **rows)
        return (logits, features) if return_features else logits

    @property
    def trained_parts(self):
        """The parts before the classifier, a list of layers."""
        return [part for part in (self.backbone, self.embedding) if part is not None]

    @property
    def output_rank(self):
        return len(self._features_shape)

    def with_classifier(self, classifier, class_names=None):
        self._serialize = lambda part: part  # it is shared, and may have no config
        try:
            config = self.get_config()
        finally:
            del self._serialize
        del config["name"]
        config |= {"classifier": classifier, "class_names": class_names}
        model = type(self).from_config(config)
        if self.built:
            model._input_dtypes = self._input_dtypes
            model.build(self._input_shapes)
        if self.embedding is not None:
            model.embedding.set_weights(self.embedding.get_weights())
        return model

    def decayed_variables(self):
        spared = [] if self.decay_batch_norm else batch_norm_variables(self.backbone)
        spared = {id(variable) for variable in spared}
        return [v for v in self.trainable_variables if id(v) not in spared]

    @property
    def features_shape(self):
        return self._features_shape

    @property
    def input_signature(self):
        """What the exported model takes, a list with a structure of `keras.InputSpec`s."""
        return [model_inputs.specs(self._input_shapes, self._input_dtypes)]

    def build_for(self, x):
        if not self.built:
            x, _ = model_inputs.unpack_inputs(x)
            shapes, dtypes = model_inputs.of_batch(x)
            self._input_dtypes = tuple(dtypes)
            self.build(shapes)

    def built_for(self, x):
        """Builds the model for samples, and gives them.

        Args:
            x: Whatever `fit` takes. Of a generator, the first batch is looked at.
        """
        if self.built:
            return x
        if model_inputs.is_arrays(x):
            self.build_for(x)
            return x
        batch, x = model_inputs.peek(x)
        self.build_for(keras.utils.unpack_x_y_sample_weight(batch)[0])
        return x

    def outputs(self, x, training):
        return self(x, training=training, return_features=True)

    def guarded_variables(self):
        # The classifier's own state is guarded by `apply` in its `update`.
        variables = [v for part in self.trained_parts for v in part.variables]
        return [*variables, *self.classifier.trainable_variables]

    def __repr__(self):
        text = f"{type(self).__name__}({self.backbone.name}, {self.classifier!r}"
        if self.embedding_dim is not None:
            text += f", embedding_dim={self.embedding_dim}"
        return text + ")"

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": self._serialize(self.backbone),
            "classifier": self._serialize(self.classifier),
            "embedding_dim": self.embedding_dim,
            "normalize": self.normalize,
            "gradient_clip": self.gradient_clip,
            "l2": self.l2,
            "accumulate_steps": self.accumulate_steps,
            "class_names": self.class_names,
            "decay_batch_norm": self.decay_batch_norm,
            "ignore_class": self.ignore_class,
            **frozen.config(self, ["embedding"]),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("backbone", "classifier"):
            if isinstance(config[part], dict):
                config[part] = keras.saving.deserialize_keras_object(config[part])
        layers = config.pop(frozen.KEY, None)
        model = cls(**config)
        frozen.restore(model, layers)
        return model

    def get_build_config(self):
        return {**(super().get_build_config() or {}), "input_dtypes": self._input_dtypes}

    def build_from_config(self, config):
        config = dict(config)
        dtypes = config.pop("input_dtypes", None)
        if self._input_dtypes is None:
            self._input_dtypes = dtypes
        super().build_from_config(config)

    def check_inputs(self, x):
        """Checks inputs in arrays before Keras takes a single sample for a batch."""
        if self.built and model_inputs.is_arrays(x):
            x, _ = model_inputs.unpack_inputs(x)
            model_inputs.check_shapes(x, self._input_shapes)
