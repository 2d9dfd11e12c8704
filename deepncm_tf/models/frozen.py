# SPDX-License-Identifier: Apache-2.0
"""Which layers are frozen of the parts that a model makes of its arguments.

Their configs are not those of layers, so that a saved model would forget it.
"""

KEY = "frozen"


def config(model, names):
    """What `get_config` says of them: nothing where none is frozen.

    Args:
        model: A model.
        names: Names of its attributes with the parts, layers or None.

    Returns:
        Dictionary to be merged into the config: empty, or with the places of frozen layers
        among all of a part, by its name.
    """
    frozen = {}
    for name in names:
        layers = _layers(getattr(model, name))
        places = [place for place, layer in enumerate(layers) if not layer.trainable]
        if places:
            frozen[name] = places
    return {KEY: frozen} if frozen else {}


def restore(model, frozen):
    """Freezes what `config` has said, under its key, of a model that was made like it."""
    for name, places in (frozen or {}).items():
        for place, layer in enumerate(_layers(getattr(model, name))):
            layer.trainable = place not in places  # a model's layers come after it


def _layers(part):
    return [] if part is None else part._flatten_layers()
