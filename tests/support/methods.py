# SPDX-License-Identifier: Apache-2.0
"""Every classifier, with arguments that are not the defaults: one line a method."""

from deepncm_tf.classifiers import (
    DecayMean,
    MeanCondensation,
    NeighborhoodComponents,
    OnlineMean,
    Softmax,
    SubCentroids,
)

TABLE = [
    (Softmax, {"use_bias": False, "kernel_initializer": "he_normal"}),
    (OnlineMean, {}),
    (MeanCondensation, {"condensation_steps": 2}),
    (DecayMean, {"decay": 0.5}),
    (
        SubCentroids,
        {
            "num_sub_centroids": 3,
            "momentum": 0.9,
            "memory_size": 12,
            "initializer": "samples",
        },
    ),
    (NeighborhoodComponents, {"bank_size": 40, "temperature": 0.5, "margin": 0.1}),
]
IDS = [cls.__name__ for cls, _ in TABLE]
