# SPDX-License-Identifier: Apache-2.0
"""HTML in which text is text: whatever is not `Html` already is escaped."""

import html

VOID = {"input", "link", "meta"}


class Html(str):
    """Markup that goes into a page as it is."""


def tag(name, /, *children, **attributes):
    """An element.

    Args:
        name: String, the element's name.
        *children: `Html`, which is kept, or anything else, which is escaped.
        **attributes: Escaped. An underscore stands for a hyphen (`aria_label`), one at the
            end for nothing (`class_`). True gives the bare name; None and False nothing.

    Returns:
        `Html`.

    Example:
        >>> tag("p", "1 < 2", tag("b", "!"), class_="sum")
        '<p class="sum">1 &lt; 2<b>!</b></p>'
    """
    opening = name
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            opening += f" {key}"
        elif value is not None and value is not False:  # 0 is a value
            opening += f' {key}="{escaped(value)}"'
    closing = "" if name in VOID else f"</{name}>"
    return Html(f"<{opening}>{joined(children)}{closing}")


def joined(children):
    return Html("".join(map(escaped, children)))


def escaped(value):
    if isinstance(value, Html):
        return value
    # A lone surrogate, as file names can have, could not be written as UTF-8.
    text = str(value).encode("utf-8", "replace").decode()
    return Html(html.escape(text, quote=True))


def number(value):
    """A number with three decimals and a true minus sign."""
    return f"{round(float(value), 3) + 0.0:.3f}".replace("-", "−")
