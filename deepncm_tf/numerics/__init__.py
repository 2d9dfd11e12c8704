# SPDX-License-Identifier: Apache-2.0
"""What the classifiers compute with, in `keras.ops` alone: labels, clustering, banks.

What costs time in a step is here, and is what `benchmarks/` measures.
"""
