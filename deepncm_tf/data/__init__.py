# SPDX-License-Identifier: Apache-2.0
"""Images, labels and features: where they come from, in what order, and how augmented.

What the flags need of a dataset, its name and sizes, needs neither Keras nor TensorFlow.
"""
