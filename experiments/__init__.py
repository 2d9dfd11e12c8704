# SPDX-License-Identifier: Apache-2.0
"""The published experiments: grids, the sweep over them, its results and figures."""
