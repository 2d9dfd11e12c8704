# SPDX-License-Identifier: Apache-2.0
"""`tf.distribute`, hidden: sums and gathers over replicas, and the strategies.

Without TensorFlow, and with one replica, everything here is what it is for one device.
"""
