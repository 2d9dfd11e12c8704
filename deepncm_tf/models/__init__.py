# SPDX-License-Identifier: Apache-2.0
"""Keras models with a nearest-mean classifier, and how they train.

A step is exact: the same on one device, on many, and on parts of a batch.
"""
