# SPDX-License-Identifier: Apache-2.0
"""Says of pictures of which class they are, by a model that teach has made.

    python -m deepncm_tf.classify --model=my.keras PICTURES
    python -m deepncm_tf.classify --model=my.keras --json photos/

PICTURES are image files, or folders of them, which may lie in folders within. Of each: its
class, or unknown; its p-value, the share of pictures of known classes that are as unlike
them; and the picture that the model was taught that is nearest to it. A picture that cannot
be read, such as a link that leads nowhere, is named, and the exit status is then 1.
"""

from deepncm_tf.utils import quiet, signals

if __name__ == "__main__":
    signals.end_program("classify")  # also while the rest is imported

import json
import sys

from absl import flags as absl_flags

from deepncm_tf.data import image_files
from deepncm_tf.runs.command_line import USAGE_STATUS, CommandLine, quiet_tensorflow
from deepncm_tf.teaching import taught_model

PICTURES_AT_ONCE = 64

FLAGS = absl_flags.FlagValues()  # several command lines can be imported together
absl_flags.DEFINE_string(
    "model", None, "File that python -m deepncm_tf.teach wrote.", flag_values=FLAGS
)
absl_flags.DEFINE_bool(
    "json", False, "Writes an object of JSON for each picture, a line each.", FLAGS
)

command_line = CommandLine("classify", __doc__, FLAGS)


def main(argv):
    if not FLAGS.model:
        command_line.fail("--model=FILE is needed: see teach", USAGE_STATUS)
    if not argv[1:]:
        command_line.fail("Pictures are needed: files, or folders of them", USAGE_STATUS)
    quiet_tensorflow()
    with command_line.errors():
        taught_model.check_file("model", FLAGS.model)
        paths = image_files.find(argv[1:], flag="PICTURES")
        quiet.start_tensorflow()
        unread = classify(FLAGS.model, paths, FLAGS.json)
        if unread:
            command_line.fail(f"{unread} of {len(paths)} pictures cannot be read")


def classify(model, paths, as_json=False):
    """Classifies pictures, and prints what is found.

    Args:
        model: Path of a file of `teach`.
        paths: List of paths of pictures.
        as_json: Bool, whether to print JSON.

    Returns:
        Int, number of pictures that cannot be read; each is named on stderr.

    Raises:
        RunError: If the model cannot be read.
    """
    taught, unread = taught_model.TaughtModel(model), 0
    for start in range(0, len(paths), PICTURES_AT_ONCE):
        images, read, errors = taught.read(paths[start : start + PICTURES_AT_ONCE])
        for error in errors:
            print(f"classify: {error}", file=sys.stderr)
        unread += len(errors)
        for path, found in zip(read, taught.classify(images), strict=True):
            found = {"picture": str(path), **found}
            print(json.dumps(found) if as_json else in_words(found), flush=True)
    return unread


def in_words(found):
    """What was found of a picture, as a line."""
    from deepncm_tf.models import rejection

    nearest, name = found["nearest"], found["class"]
    if found["known"] and name == rejection.UNKNOWN:
        name += ", a class of that name"
    return (
        f"{found['picture']}: {name} (p = {found['p_value']:.3f}), nearest "
        f"{nearest['picture']} (similarity {nearest['similarity']:.2f})"
    )


if __name__ == "__main__":
    main(command_line.parse(sys.argv))
