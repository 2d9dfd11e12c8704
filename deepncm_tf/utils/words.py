# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them."""


def percent(share):
    """A share in percent: `"98.9 %"` of 0.989."""
    return f"{100 * share:.1f} %"
