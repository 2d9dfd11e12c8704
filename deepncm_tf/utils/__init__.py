# SPDX-License-Identifier: Apache-2.0
"""What every room may use: checks of arguments, files, the environment.

Nothing here imports another room, Keras or TensorFlow.
"""
