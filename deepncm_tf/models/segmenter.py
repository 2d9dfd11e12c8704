# SPDX-License-Identifier: Apache-2.0
"""Segmenter: feature maps of a backbone, a decoder and a classifier of pixels."""

import keras
from keras import ops

import official_resnet  # noqa: F401  registers the backbone's layers for `load_model`
from deepncm_tf import classifiers
from deepncm_tf.models import decoders, frozen, padding, prototype_losses
from deepncm_tf.models.class_names import as_names
from deepncm_tf.models.embedding import FeatureModel, check_features
from deepncm_tf.models.exporting import export_endpoints
from deepncm_tf.models.inputs import check_shapes, is_arrays, unpack_inputs
from deepncm_tf.models.pixel_model import RANK, PixelModel
from deepncm_tf.models.precision import default_policy
from deepncm_tf.utils.arguments import check_number

VOID = 255


@keras.saving.register_keras_serializable(package="deepncm_tf")
class Segmenter(PixelModel):
    """A class for each pixel, by any classifier of the library but `nca`.

    Feature maps of a backbone and a decoder give features of pixels, in a size smaller than
    the image's; a classifier turns these into logits, which are interpolated to the image's
    size. The loss is the cross-entropy there, averaged over all pixels of the batch that
    are not void. The classifier learns from the features as they are, with the label at the
    centre of each.

    Training is exact on replicas, as that of `DeepNCM`, but for `dropout`.

    Args:
        backbone: A functional `keras.Model` from images to a list of feature maps
            `(batch, height, width, channels)`, the finest first: see `backbones.get` with
            `output_stride`.
        classifier: A `deepncm_tf.classifiers.Classifier`.
        decoder: String, as in `decoders.get`; or a functional `keras.Model` from the
            backbone's maps to features `(batch, height, width, d)`.
        decoder_width, dropout, decoder_rates: `width`, `dropout` and `rates` of
            `decoders.get`.
        auxiliary_weight: Float >= 0, weight of the loss of another head, on the maps before
            the last, which training alone uses. 0 for none.
        contrast_weight, distance_weight: Floats >= 0, weights of the losses of
            `prototype_losses.prototype_losses`, for `SubCentroids`: means over pixels with
            a class and a sample weight above 0. Of `accumulate_steps` each part is
            clustered by itself: where classes have several sub-centroids, or
            `max_samples`, these losses are not quite those of the whole batch.
        ignore_class: Int, label of void pixels, which have no class and take no part in
            loss, metrics and state; or None for none.
        gradient_clip, l2, accumulate_steps: As in `DeepNCM`.
        class_names: Sequence of strings, a name for each class, or None.
        **kwargs: Those of `keras.Model`, such as `name`.

    Call arguments:
        inputs: Images `(batch, height, width, channels)`, or a dictionary with `"image"`.
        training: Bool.
        return_features: Bool, whether to return `(logits, features)`.

    Output shape:
        Logits, `(batch, height, width, num_classes)`, float32 or wider.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, section 4.2
        - [Zhou, Wang, Konukoglu, Van Gool, 2022](https://arxiv.org/abs/2203.15102), whose
          code has the same head on pixels

    Example:
        >>> from deepncm_tf import backbones
        >>> from deepncm_tf.classifiers import SubCentroids
        >>> maps = backbones.get("resnet8", (32, 48, 3), output_stride=8)
        >>> classifier = SubCentroids(num_classes=5, num_sub_centroids=10)
        >>> model = Segmenter(maps, classifier, decoder="fcn", decoder_width=16)
        >>> tuple(model(keras.ops.zeros((2, 32, 48, 3))).shape)
        (2, 32, 48, 5)
    """

    def __init__(
        self,
        backbone,
        classifier,
        decoder="deeplabv3",
        decoder_width=512,
        dropout=0.1,
        decoder_rates=decoders.RATES,
        auxiliary_weight=0.0,
        contrast_weight=0.0,
        distance_weight=0.0,
        ignore_class=VOID,
        gradient_clip=None,
        l2=0.0,
        accumulate_steps=1,
        class_names=None,
        **kwargs,
    ):
        super().__init__(gradient_clip, l2, accumulate_steps, ignore_class, **kwargs)
        self._check_parts(backbone, classifier)
        weights = {
            "auxiliary_weight": auxiliary_weight,
            "contrast_weight": contrast_weight,
            "distance_weight": distance_weight,
        }
        for name, weight in weights.items():
            check_number(name, weight, "a number >= 0", lambda x: x >= 0)
            setattr(self, name, float(weight))
        if self.contrast_weight or self.distance_weight:
            prototype_losses.check(classifier)
        self.backbone = backbone
        self.classifier = classifier
        self.decoder_name = decoder if isinstance(decoder, str) else None
        self.decoder_width, self.dropout = decoder_width, dropout
        self.decoder_rates = tuple(decoder_rates)
        self.class_names = as_names(class_names, classifier.num_classes)
        maps = backbone.outputs
        self.decoder = decoder
        self.auxiliary_head = None
        with default_policy(self.dtype_policy):
            if self.decoder_name is not None:
                self.decoder = decoders.get(
                    decoder, [x.shape for x in maps], decoder_width, dropout, decoder_rates
                )
            if self.auxiliary_weight:
                self.auxiliary_head = decoders.auxiliary_head(
                    maps[-2:][0].shape, classifier.num_classes, decoder_width, dropout
                )
        self.track_unseen()
        self.build(backbone.inputs[0].shape)

    def _check_parts(self, backbone, classifier):
        outputs = getattr(backbone, "outputs", None) or []
        if not outputs or any(len(x.shape) != RANK or None in x.shape[1:] for x in outputs):
            raise ValueError(
                "`backbone` must be a functional keras.Model from images of one size to a "
                'list of feature maps, such as deepncm_tf.backbones.get("resnet20", '
                f"(64, 64, 3), output_stride=8). Received: backbone={backbone!r}"
            )
        if not isinstance(classifier, classifiers.Classifier) or classifier.needs_index:
            raise ValueError(
                "`classifier` must be a deepncm_tf.classifiers.Classifier without a bank "
                "of samples, which pixels are not, such as SubCentroids(num_classes=10). "
                f"Received: classifier={classifier!r}"
            )

    def build(self, input_shape):
        if self.built:
            return
        self._image_shape = tuple(self.backbone.inputs[0].shape)
        maps = self.backbone.outputs
        features = self.decoder(maps)
        check_features(features, "decoder")
        outputs = {"features": features}
        if self.auxiliary_head is not None:
            outputs["auxiliary"] = self.auxiliary_head(maps[-2:][0])
        self._features_shape = tuple(features.shape)
        self._features_dtype = features.dtype
        if not self.classifier.built:
            self.classifier.build(self._features_shape)
        for part in self.trained_parts:
            padding.hide_padding(part)
        # Bound methods: attributes that are themselves models would be saved twice.
        self._run_network = keras.Model(self.backbone.inputs, outputs).__call__
        network = keras.Model(self.backbone.inputs, features)
        self._predict_features = FeatureModel(network, None).predict
        self.built = True

    @property
    def trained_parts(self):
        """The parts before the classifier, a list of `keras.Model`s."""
        parts = (self.backbone, self.decoder, self.auxiliary_head)
        return [part for part in parts if part is not None]

    @property
    def features_shape(self):
        """Shape of the features that the classifier gets, with its batch axis."""
        return self._features_shape

    @property
    def image_shape(self):
        """Shape of a batch of images, with None for the batch's size."""
        return self._image_shape

    @property
    def input_signature(self):
        """What the exported model takes, a list of a `keras.InputSpec`."""
        return [keras.InputSpec(shape=self._image_shape, dtype="float32")]

    def compute_output_shape(self, input_shape):
        return (None, *self._image_shape[1:3], self.classifier.num_classes)

    def call(self, inputs, training=False, return_features=False):
        logits, features, *_ = self.outputs(inputs, training)
        return (logits, features) if return_features else logits

    def outputs(self, x, training):
        """Logits of the image's size; features; their logits; those of the other head."""
        image, _ = unpack_inputs(x)
        check_shapes(image, self._image_shape)
        network = self._run_network
        parts = padding.features_of(network, image, training)
        features = parts["features"]
        scores = self.classifier(features, training=training)
        auxiliary = [parts["auxiliary"]] if "auxiliary" in parts else []
        return (self.enlarged(scores), features, scores, *auxiliary)

    def build_for(self, x):
        """All variables exist from the start."""

    def guarded_variables(self):
        variables = [v for part in self.trained_parts for v in part.variables]
        return [*variables, *self.classifier.trainable_variables]

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Exports the model for serving.

        A SavedModel has endpoints on float32 images: `serve` gives logits, `segment` the
        class of each pixel, int32 `(batch, height, width)`, and `embed` features.
        """
        if format != "tf_saved_model" or kwargs:
            return super().export(filepath, format=format, verbose=verbose, **kwargs)
        endpoints = {
            "serve": lambda image: self(image),
            "segment": lambda image: ops.cast(ops.argmax(self(image), axis=-1), "int32"),
            "embed": lambda image: self(image, return_features=True)[1],
        }
        export_endpoints(self, filepath, endpoints, verbose)
        return None

    def check_inputs(self, x):
        if is_arrays(x):
            check_shapes(unpack_inputs(x)[0], self._image_shape)

    def get_config(self):
        names = (
            "decoder_width",
            "dropout",
            "decoder_rates",
            "auxiliary_weight",
            "contrast_weight",
            "distance_weight",
            "ignore_class",
            "gradient_clip",
            "l2",
            "accumulate_steps",
            "class_names",
        )
        decoder = self.decoder_name or keras.saving.serialize_keras_object(self.decoder)
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "decoder": decoder,
            **{name: getattr(self, name) for name in names},
            **frozen.config(self, ("decoder", "auxiliary_head")),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        layers = config.pop(frozen.KEY, None)
        for part in ("backbone", "classifier", "decoder"):
            if not isinstance(config[part], str):
                config[part] = keras.saving.deserialize_keras_object(config[part])
        model = cls(**config)
        frozen.restore(model, layers)
        return model
