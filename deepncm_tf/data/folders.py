# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures: a folder for each class, or train/ and test/ with such folders."""

import dataclasses
import itertools
import pathlib
import sys

import numpy as np

from deepncm_tf.data import folder_splits, image_files, image_sources, scan_cache
from deepncm_tf.data.image_files import FolderError
from deepncm_tf.utils.arguments import check_choice

TEST_FRACTION = 0.2  # where there is no test/
SHOWN = 5  # files that a message names
REMOVE = " or remove them"  # what else can be done with pictures that cannot be read
SKIP = ", remove them, or give --on_bad_image=skip"


@dataclasses.dataclass(frozen=True)
class Listing:
    """The pictures of a split.

    Args:
        paths: List of `pathlib.Path`, class by class, by name within a class.
        labels: int32 `(n,)`, places in the list of class names.
    """

    paths: list
    labels: np.ndarray

    def __len__(self):
        return len(self.paths)

    def take(self, rows):
        """The listing of some rows, in their order."""
        return Listing([self.paths[row] for row in rows], self.labels[rows])


def class_names(root):
    """Names of the classes, in order: those of the folders.

    Args:
        root: Path of the folder.

    Returns:
        List of strings.

    Raises:
        FolderError: If it is no folder with folders of two classes or more.
    """
    return list(_class_folders(folder_splits.find(_as_folder(root))["train"]))


def load(root, image_size, on_bad_image="fail", seed=0, middle=1.0, way_out=REMOVE):
    """The pictures of a folder, each read once to see whether it can be.

    Args:
        root: Path of the folder, as for `scan`.
        image_size: Int, height and width of the middle square that is taken.
        on_bad_image: `"fail"`, or `"skip"` to leave out pictures that cannot be read.
        seed: Int >= 0, of the split of a folder without `train` and `test`; a fifth of
            each class is for testing.
        middle: Float in (0, 1], share of the middle square's side that is taken.
        way_out: String, what else can be done than to mend pictures that cannot be read.

    Returns:
        Dictionary of the splits, `"train"` and `"test"`, each a pair `(images, labels)`:
        an `ImageFiles`, which decodes what is asked of it, and int32 `(n,)`. An image's
        place is the same each time, as long as the files are.

    Raises:
        ValueError: If `on_bad_image` is neither.
        FolderError: What stands in the way, as for `scan`, `split` and `without`.
    """
    listings = read_listings(root, image_size, on_bad_image, way_out)
    if "test" not in listings:
        listings["train"], listings["test"] = split(listings["train"], TEST_FRACTION, seed)
    return {
        name: (image_sources.ImageFiles(listing.paths, image_size, middle), listing.labels)
        for name, listing in listings.items()
    }


def load_test(root, image_size, on_bad_image="fail", middle=1.0, way_out=REMOVE):
    """The pictures in `test` of a folder, or all where it has none.

    Args:
        root, image_size, on_bad_image, middle, way_out: As for `load`.

    Returns:
        Pair `(images, labels)` as in `load`.
    """
    listings = read_listings(root, image_size, on_bad_image, way_out)
    listing = listings.get("test", listings["train"])
    return image_sources.ImageFiles(listing.paths, image_size, middle), listing.labels


def load_unlabeled(root, image_size, on_bad_image="fail", middle=1.0):
    """The pictures of a folder that need not be of any class.

    Args:
        root: Path of a folder with pictures in it, or in folders within; where it has
            `train` and `test`, those of `test` are taken.
        image_size, on_bad_image, middle: As for `load`.

    Returns:
        `image_sources.ImageFiles`.

    Raises:
        ValueError: If `on_bad_image` is neither.
        FolderError: If there is no picture, or one cannot be read.
    """
    check_choice("on_bad_image", on_bad_image, ("fail", "skip"))
    root = _as_folder(root)
    folder = folder_splits.find_pair(root).get("test", root)
    paths = image_files.find_in(folder)
    listing = Listing(paths, np.zeros(len(paths), "int32"))
    reasons = _unreadable(folder, paths, image_size)
    listing = without(listing, reasons, on_bad_image)
    if not len(listing):
        raise FolderError(
            f"The folder must have a picture ({', '.join(image_files.SUFFIXES)}) that can "
            f"be read. Received: {folder}, which has none"
        )
    return image_sources.ImageFiles(listing.paths, image_size, middle)


def read_listings(root, image_size, on_bad_image="fail", way_out=REMOVE):
    """Lists a folder's pictures that can be read, by reading those that are new or changed.

    Args:
        root, image_size, on_bad_image, way_out: As for `load`.

    Returns:
        As `scan`: a folder without `test` is not split.

    Raises:
        ValueError, FolderError: As `load`, but for those of `split`.
    """
    check_choice("on_bad_image", on_bad_image, ("fail", "skip"))
    names, listings = class_names(root), scan(root)
    for doubt in folder_splits.doubts(pathlib.Path(root)):
        print(f"Warning: {doubt}", file=sys.stderr)
    paths = [path for listing in listings.values() for path in listing.paths]
    reasons = _unreadable(root, paths, image_size)
    return {
        name: without(
            listing,
            {path: reasons[path] for path in listing.paths if path in reasons},
            on_bad_image,
            names,
            way_out,
        )
        for name, listing in listings.items()
    }


def _unreadable(root, paths, image_size):
    """What is amiss with pictures that cannot be read, a dictionary from their paths."""
    unread = scan_cache.unread(root, paths)
    reasons = image_sources.find_bad(unread, image_size)
    if unread:
        scan_cache.keep(root, [path for path in paths if path not in reasons])
    return reasons


def scan(root):
    """Lists the pictures of a folder; files are looked for, not opened.

    Args:
        root: Path of a folder with a folder for each class, or with `train` and `test`
            that have, called just so. Pictures may lie deeper within a class. What begins
            with a dot, and files whose name has no ending of `image_files.SUFFIXES`, are
            passed over.

    Returns:
        Dictionary from `"train"`, and `"test"` where there is one, to a `Listing`.

    Raises:
        FolderError: If there are fewer than two classes, a class is without pictures or
            not among those for training, links lead back, or splits are called otherwise.
    """
    root = _as_folder(root)
    names = class_names(root)
    listings = {}
    for split, folder in folder_splits.find(root).items():
        paths, labels = [], []
        for name, class_folder in _class_folders(folder).items():
            if name not in names:
                raise FolderError(
                    f"A test/ must have the classes of its train/. Received: {class_folder}"
                )
            found = image_files.find_in(class_folder, within=folder)
            if not found:
                raise FolderError(
                    f"Each class must have a picture ({', '.join(image_files.SUFFIXES)}). "
                    f"Received: {class_folder}, which has none"
                )
            paths += found
            labels += [names.index(name)] * len(found)
        listings[split] = Listing(paths, np.array(labels, "int32"))
    return listings


def split(listing, fraction, seed=0):
    """Splits off a share of each class; a class of one picture stays whole.

    Which pictures these are depends on the seed and on the class's place and number of
    pictures alone.

    Args:
        listing: `Listing`.
        fraction: Float in (0, 1), share of a class that is split off: at least one picture
            where there are two.
        seed: Int >= 0.

    Returns:
        A pair of `Listing`s: what stays, what is split off.

    Raises:
        FolderError: If no class has two pictures.
    """
    taken = np.zeros(len(listing), bool)
    for label in np.unique(listing.labels):
        rows = np.flatnonzero(listing.labels == label)
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        order = np.random.default_rng([seed, int(label)]).permutation(len(rows))
        taken[rows[order[:count]]] = True
    if not taken.any():
        raise FolderError(
            "A folder without train/ and test/ must have a class of two pictures or more, "
            f"to test on one of them. Received: {len(listing)} classes of one picture, "
            f"such as {listing.paths[0].parent}"
        )
    return listing.take(np.flatnonzero(~taken)), listing.take(np.flatnonzero(taken))


def without(listing, reasons, on_bad_image, names=None, way_out=REMOVE):
    """A listing without the pictures that cannot be read, which a warning names.

    Args:
        listing: `Listing`.
        reasons: Dictionary from the paths of such pictures to what is amiss.
        on_bad_image: `"skip"`, or `"fail"` to refuse them.
        names: List of the classes' names, each of which must keep a picture; or None.
        way_out: As for `load`.

    Raises:
        FolderError: If they are refused, or nothing is left of a class.
    """
    if not reasons:
        return listing
    if on_bad_image == "fail":
        shown = "; ".join(itertools.islice(reasons.values(), SHOWN))
        raise FolderError(
            f"{len(reasons)} of {len(listing)} pictures cannot be read: {shown}"
            f"{'; ...' if len(reasons) > SHOWN else ''}. Mend them{way_out}"
        )
    for reason in reasons.values():
        print(f"Warning: a picture is left out. {reason}", file=sys.stderr)
    rows = [row for row, path in enumerate(listing.paths) if path not in reasons]
    left = listing.take(rows)
    empty = np.setdiff1d(listing.labels, left.labels)
    if names is not None and len(empty):
        raise FolderError(
            f"Each class must have a picture that can be read. Received: "
            f"{names[empty[0]]!r}, which has none"
        )
    return left


def _as_folder(root):
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FolderError(f"The images must be in a folder, folder:PATH. Received: {root}")
    return root


def _class_folders(folder):
    """Folders of the classes by name, in the order of their names."""
    entries = [path for path in image_files.entries(folder) if path.is_dir()]
    names = [path.name for path in entries]
    for name in names:
        if not name.isprintable():  # a lone surrogate, of a name that is no UTF-8, neither
            raise FolderError(
                f"The name of a class must be printable text. Received: {name!r}, in "
                f"{folder}"
            )
    if len(names) < 2:
        received = f"{len(names)} ({names[0]})" if names else "none"
        raise FolderError(
            f"A folder of pictures must have folders of two classes or more. Received: "
            f"{received} in {folder}"
        )
    return dict(zip(names, entries, strict=True))
