# SPDX-License-Identifier: Apache-2.0
"""How far batch normalization's averages lag behind in the first steps of training."""

import dataclasses

LITTLE = 0.05  # a share of the initial values that needs no mention


@dataclasses.dataclass(frozen=True)
class Lag:
    """What a step leaves of the averages' initial values.

    Args:
        momentum: Float in (0, 1), the largest of the layers'.
        updates: Int, how often a step moves the averages.
    """

    momentum: float
    updates: int = 1

    def note(self, step):
        """A line about an evaluation after some steps; None where nothing is amiss."""
        share = self.momentum ** (self.updates * step)
        if share <= LITTLE:
            return None
        return (
            f"Note: after {step} steps batch normalization's averages are still "
            f"{100 * share:.0f} % initial values (momentum {self.momentum:g}), which "
            "evaluations suffer from."
        )


def of(model):
    """The `Lag` of a model, None where it has no batch normalization that learns."""
    momenta = [
        layer.momentum
        for layer in model._flatten_layers()
        if hasattr(layer, "moving_mean") and layer.trainable
    ]
    return Lag(max(momenta), getattr(model, "accumulate_steps", 1)) if momenta else None
