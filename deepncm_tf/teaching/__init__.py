# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures that become models without training, and what is asked of these."""
