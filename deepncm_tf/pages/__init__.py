# SPDX-License-Identifier: Apache-2.0
"""Web pages and pictures of what a model says: one file each, that opens without a network.

Nothing here imports Keras or TensorFlow.
"""
