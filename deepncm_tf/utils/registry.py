# SPDX-License-Identifier: Apache-2.0
"""The methods of classification: what flags, classifiers and tests know of them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Method:
    """A method.

    Args:
        module: String, its module in `deepncm_tf.classifiers`.
        class_name: String, its class there, a `Classifier`.
        embedding_dim: Int, default of `--embedding_dim`, or None for no embedding.
    """

    module: str
    class_name: str
    embedding_dim: int | None = None


METHODS = {
    "softmax": Method("softmax", "Softmax"),
    "online": Method("online_mean", "OnlineMean"),
    "condensation": Method("mean_condensation", "MeanCondensation"),
    "decay": Method("decay_mean", "DecayMean"),
    "dnc": Method("sub_centroids", "SubCentroids", embedding_dim=128),
    "nca": Method("neighborhood_components", "NeighborhoodComponents", embedding_dim=128),
    "lda": Method("linear_discriminant", "LinearDiscriminant"),
    "ranpac": Method("random_features", "RandomFeatures"),
}
