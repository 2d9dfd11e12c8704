# SPDX-License-Identifier: Apache-2.0
"""A step of DNC's and of SNCA's head the way of their official code, in PyTorch.

Written anew from the papers and from what the official code computes: DNC compares all
samples with all sub-centroids and clusters one class after the other, here with the
paper's Sinkhorn; SNCA makes the similarities to all rows of its bank and keeps them.
"""

import torch
from torch.nn import functional


def dnc(turns, num_classes, size, dimensions, batch, samples):
    """A step of DNC's head in each turn; arguments as in `heads.CASES`."""
    torch.manual_seed(0)
    centroids = functional.normalize(torch.randn(num_classes, size, dimensions), dim=-1)
    memory = functional.normalize(torch.randn(samples - batch, dimensions), dim=-1)
    memory_labels = torch.randint(num_classes, (samples - batch,))
    norms = torch.nn.LayerNorm(dimensions), torch.nn.LayerNorm(num_classes)
    for _ in turns:
        features = torch.randn(batch, dimensions, requires_grad=True)
        labels = torch.randint(num_classes, (batch,))
        units = functional.normalize(norms[0](features), dim=-1)
        samples_now = torch.cat([memory, units])
        labels_now = torch.cat([memory_labels, labels])
        cosines = torch.einsum("nd,ckd->nck", samples_now, centroids)
        logits = norms[1](cosines.amax(-1))
        functional.cross_entropy(logits, labels_now).backward()
        with torch.no_grad():
            correct = logits.argmax(-1) == labels_now
            for c in range(num_classes):
                rows = torch.nonzero(labels_now == c)[:, 0]
                if len(rows):
                    _move(centroids, c, cosines[rows, c], samples_now[rows], correct[rows])


def _move(centroids, c, cosines, samples, correct):
    """Clusters the samples of a class and moves its sub-centroids."""
    count, size = cosines.shape
    weights = torch.exp(cosines / 0.05)
    for _ in range(3):
        weights = weights / weights.sum(0) / size
        weights = weights / weights.sum(1, keepdim=True) / count
    hot = functional.one_hot(weights.argmax(-1), size).to(samples.dtype)
    hot = hot * correct[:, None]
    means = functional.normalize(hot.T @ samples, dim=-1)
    moved = functional.normalize(0.999 * centroids[c] + 0.001 * means, dim=-1)
    centroids[c] = torch.where(hot.sum(0)[:, None] > 0, moved, centroids[c])


def nca(turns, num_rows, dimensions, batch, num_classes, temperature=0.05):
    """A step of SNCA's head in each turn: similarities, loss, gradient, bank."""
    torch.manual_seed(0)
    bank = functional.normalize(torch.randn(num_rows, dimensions), dim=-1)
    bank_labels = torch.randint(num_classes, (num_rows,))
    for _ in turns:
        index = torch.randperm(num_rows)[:batch]
        features = functional.normalize(torch.randn(batch, dimensions), dim=-1)
        features.requires_grad_()
        logits = features @ bank.T / temperature
        votes = torch.exp(logits)
        votes = votes.scatter(1, index[:, None], 0.0)  # a sample is not its own neighbour
        same = bank_labels[index][:, None] == bank_labels
        probability = (votes * same).sum(1) / votes.sum(1)
        loss = -torch.log(probability.clamp_min(1e-12)).mean()
        loss.backward()
        with torch.no_grad():
            bank[index] = functional.normalize(0.5 * bank[index] + 0.5 * features, dim=-1)
