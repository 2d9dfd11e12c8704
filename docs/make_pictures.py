# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of the documentation, from its own guides where they make one.

    python docs/make_pictures.py [FOLDER]

writes them into docs/pictures, or another folder. The first colours are those of Okabe
and Ito (2008), which colour-blind readers tell apart, too.
"""

import os
import pathlib
import re
import sys
import tempfile

DOCS = pathlib.Path(__file__).parent
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7",
    "#56b4e9", "#8a7a00", "#666666", "#7f3c8d", "#3d3d8f",
)  # fmt: skip
KNOWN, UNKNOWN = PALETTE[0], PALETTE[3]


def guide(name):
    """Executes a guide's Python in a folder of its own.

    Returns:
        The names that it made, and the folder.
    """
    text = (DOCS / "guides" / f"{name}.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    names, before = {"__name__": "guide"}, pathlib.Path.cwd()
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    try:
        exec(compile(code, name, "exec"), names)
    finally:
        os.chdir(before)
    return names, pathlib.Path(folder)


def figure(width, height):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return drawn, axes


def draw_means(path):
    """Test digits and the class means, in a network's two features."""
    import keras
    import numpy as np

    from deepncm_tf import DeepNCM, datasets
    from deepncm_tf.classifiers import OnlineMean

    keras.utils.set_random_seed(1)
    data = datasets.load("digits")
    (images, labels), (test_images, test_labels) = data["train"], data["test"]
    backbone = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(2),
        ]
    )
    model = DeepNCM(backbone, OnlineMean(10))
    model.compile(keras.optimizers.Adam(0.002), metrics=["accuracy"])
    model.fit(images.astype("float32"), labels, batch_size=32, epochs=40, verbose=0)
    model.adapt(images.astype("float32"), labels, verbose=0)
    x = model.embed(test_images.astype("float32"), verbose=0)
    means = np.asarray(model.classifier.means)
    right = np.asarray(model.classifier(x)).argmax(axis=1) == test_labels
    print(f"means: {100 * right.mean():.1f} % of the test digits")

    drawn, axes = figure(8, 5)
    low, high = x.min(axis=0) - 1, x.max(axis=0) + 1
    wide = 0.8 * (high[1] - low[1])  # as the figure is
    middle = (low[0] + high[0]) / 2
    low[0], high[0] = middle - wide, middle + wide
    grid = np.stack(np.meshgrid(*(np.linspace(low[i], high[i], 400) for i in (0, 1))), -1)
    nearest = np.asarray(model.classifier(grid.reshape(-1, 2).astype("float32")))
    nearest = nearest.argmax(axis=1).reshape(400, 400)
    for c, colour in enumerate(PALETTE):
        axes.contour(grid[..., 0], grid[..., 1], nearest == c, [0.5], colors="#bbbbbb")
        axes.plot(*x[test_labels == c].T, ".", color=colour, markersize=5, alpha=0.7)
        axes.text(
            *means[c], c, color="white", ha="center", va="center", weight="bold",
            bbox={"boxstyle": "circle", "facecolor": colour, "edgecolor": "white"},
        )  # fmt: skip
    axes.set(xticks=[], yticks=[], aspect="equal", xlim=(low[0], high[0]))
    axes.spines[:].set_visible(False)
    drawn.savefig(path)


def draw_scores(path):
    """How strange known and unknown test digits are, by the guide on unknown inputs."""
    import numpy as np

    names, _ = guide("unknown")
    judged, is_known = names["judged"], names["test_known"]
    drawn, axes = figure(8, 3.2)
    bins = np.linspace(0, 1, 41)  # 0.05, alpha, is an edge
    for of, colour, what in (
        (is_known, KNOWN, "0 to 6, known"),
        (~is_known, UNKNOWN, "7, 8 and 9, unknown"),
    ):
        weights = np.full(of.sum(), 100 / of.sum())
        axes.hist(judged.p_values[of], bins, weights=weights, color=colour, alpha=0.7)
        axes.annotate(
            what, (0.3, 0.85 if colour == UNKNOWN else 0.65), color=colour,
            xycoords="axes fraction",
        )  # fmt: skip
    axes.axvline(0.05, color="black", linewidth=1)
    axes.annotate("rejected left of 0.05", (0.07, 0.45), xycoords=("data", "axes fraction"))
    axes.set(xlabel="p-value", ylabel="% of test digits", xlim=(0, 1))
    drawn.savefig(path)


def draw_exemplars(path):
    """The contact sheet that the guide on explanations writes."""
    _, folder = guide("why")
    path.write_bytes((folder / "exemplars.png").read_bytes())


def draw_pixels(path):
    """The contact sheet that the guide on pixels writes."""
    _, folder = guide("pixels")
    path.write_bytes((folder / "pixels.png").read_bytes())


def main(folder=DOCS / "pictures"):
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    for draw in (draw_means, draw_scores, draw_exemplars, draw_pixels):
        draw(folder.resolve() / f"{draw.__name__.removeprefix('draw_')}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
