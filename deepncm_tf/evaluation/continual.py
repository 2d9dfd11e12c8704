# SPDX-License-Identifier: Apache-2.0
"""Classes that arrive task after task: how well a head tells all of them so far apart.

A head learns the samples of a task when it comes, and never sees them again. Then it is
asked for the classes of all tasks so far, and is not told which task a sample is of.
"""

import numpy as np

from deepncm_tf.utils.arguments import as_positive_integer


def split_classes(num_classes, num_tasks, seed):
    """The classes of each task, in an order that is drawn by a seed.

    Args:
        num_classes: Int, number of classes C.
        num_tasks: Int that divides C, number of tasks T.
        seed: Int >= 0.

    Returns:
        `(T, C / T)` integers, each class once.

    Raises:
        ValueError: If there are no tasks of equal size.
    """
    if num_classes % as_positive_integer("num_tasks", num_tasks):
        raise ValueError(
            f"`num_tasks` must divide the number of classes, {num_classes}. "
            f"Received: num_tasks={num_tasks}"
        )
    return np.random.default_rng(seed).permutation(num_classes).reshape(num_tasks, -1)


def accuracy_matrix(head, tasks, train, test):
    """Teaches a head one task after the other, and asks for all of them so far.

    Args:
        head: One of `heads`, which has learnt nothing yet.
        tasks: `(T, C / T)` integers, as from `split_classes`.
        train, test: Pairs of features `(n, d)` and labels `(n,)`, integers from 0 to
            C - 1. Each class has samples in both.

    Returns:
        `(T, T)` float64: in row t and column i the accuracy on the samples of task i once
        tasks 0 to t are learnt, among all their classes; NaN for i > t.
    """
    task_of = np.empty(tasks.size, "int64")
    task_of[tasks] = np.arange(len(tasks))[:, None]
    (features, labels), (queries, truth) = train, test
    train_task, test_task = task_of[labels], task_of[truth]
    matrix = np.full((len(tasks), len(tasks)), np.nan)
    for task in range(len(tasks)):
        new = np.flatnonzero(train_task == task)
        head.learn(features[new], labels[new])
        so_far = np.flatnonzero(test_task <= task)
        is_right = head.predict(queries[so_far]) == truth[so_far]
        right = np.bincount(test_task[so_far], weights=is_right)
        matrix[task, : task + 1] = right / np.bincount(test_task[so_far])
    return matrix


def summarize(matrix, sizes):
    """What is said of an accuracy matrix.

    Args:
        matrix: `(T, T)` array, as from `accuracy_matrix`.
        sizes: `(T,)` integers, test samples of each task.

    Returns:
        Dictionary: `accuracy`, a list of T floats, that on all samples of the tasks so far;
        `average_incremental_accuracy`, their mean; `final_accuracy`, the last of them; and
        `forgetting`, by how much the best accuracy on a task before the end is above that
        at the end, the mean over all tasks but the last; 0 with one task.

    Reference:
        - [Rebuffi et al., 2017](https://arxiv.org/abs/1611.07725), average incremental
          accuracy
        - [Chaudhry et al., 2018](https://arxiv.org/abs/1801.10112), forgetting
    """
    sizes = np.asarray(sizes, "float64")
    # Whole numbers of samples, so that their order does not matter.
    right = np.rint(np.tril(matrix) * sizes).sum(axis=1)
    accuracy = (right / sizes.cumsum()).tolist()
    lost = [
        matrix[task:-1, task].max() - matrix[-1, task] for task in range(len(matrix) - 1)
    ]
    return {
        "accuracy": accuracy,
        "average_incremental_accuracy": float(np.mean(accuracy)),
        "final_accuracy": accuracy[-1],
        "forgetting": float(np.mean(lost)) if lost else 0.0,
    }


def number_classes(train_labels, test_labels):
    """Labels as numbers of classes from 0 on.

    Args:
        train_labels, test_labels: `(n,)` and `(m,)` integers.

    Returns:
        `(classes, train_numbers, test_numbers)`: `(C,)`, the labels, rising, and the
        places of the others among them.

    Raises:
        ValueError: If a class has samples on one side alone.
    """
    classes, numbers = np.unique(train_labels, return_inverse=True)
    test_classes, test_numbers = np.unique(test_labels, return_inverse=True)
    if not np.array_equal(classes, test_classes):
        others = np.setxor1d(classes, test_classes)
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise ValueError(
            "Training and test features must be of the same classes. Received: of one of "
            f"the two alone classes {', '.join(map(str, others[:5]))}{more}"
        )
    return classes, numbers, test_numbers


def run_protocol(make_head, train, test, num_tasks, seed):
    """Teaches a new head all tasks.

    Args:
        make_head: Function of the number of classes that gives a head.
        train, test: Pairs of features `(n, d)` and labels `(n,)`, integers.
        num_tasks: Int, number of tasks T.
        seed: Int >= 0, of the order of classes.

    Returns:
        Dictionary: `seed`; `tasks`, a list of the labels of each; `matrix`, that of
        `accuracy_matrix` as a list of rows, row t with t + 1 numbers; and the figures of
        `summarize`.

    Raises:
        ValueError: If the classes do not agree, or cannot be split into so many tasks.
    """
    classes, labels, truth = number_classes(train[1], test[1])
    tasks = split_classes(len(classes), num_tasks, seed)
    head = make_head(len(classes))
    matrix = accuracy_matrix(head, tasks, (train[0], labels), (test[0], truth))
    sizes = np.bincount(truth)[tasks].sum(axis=1)
    return {
        "seed": seed,
        "tasks": classes[tasks].tolist(),
        "matrix": [row[: task + 1].tolist() for task, row in enumerate(matrix)],
        **summarize(matrix, sizes),
    }
