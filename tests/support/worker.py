# SPDX-License-Identifier: Apache-2.0
"""One worker of a small job in float64, which saves its weights at the end.

    python worker.py OUTPUT DIE_AT FLAG...

DIE_AT is the training step in which this worker kills itself; 0 for none.
"""

import os
import random
import signal
import sys


def main():
    output, die_at, *arguments = sys.argv[1:]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import killing
    import numpy as np
    from absl import app

    from deepncm_tf import DeepNCM, cifar_main
    from deepncm_tf.flags import run as run_flags
    from deepncm_tf.models import finite
    from deepncm_tf.numerics import bank

    keras.config.set_floatx("float64")
    run_flags.DTYPES["fp32"] = "float64"
    killing.patch(killing.Points(killing.Plan()))
    killing.use_small_network()
    bank.random = random.Random(os.getpid())  # as where a user sets no seed
    steps = iter(range(1, 10**9))

    def on_train_batch_begin(self, batch, logs=None):
        if next(steps) == int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    finite.LookForFinite.on_train_batch_begin = on_train_batch_begin
    fit = DeepNCM.fit

    def fit_and_save(self, *args, **kwargs):
        history = fit(self, *args, **kwargs)
        np.savez(output, *self.get_weights())
        return history

    DeepNCM.fit = fit_and_save
    sys.argv[1:] = arguments
    app.run(cifar_main.main, flags_parser=cifar_main.parse)


if __name__ == "__main__":
    main()
