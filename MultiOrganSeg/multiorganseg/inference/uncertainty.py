"""How uncertain a network is of each voxel, from the probabilities of its decoders."""

from __future__ import annotations

import math

from torch import Tensor

SMALLEST_PROBABILITY = 1e-12


def uncertainty(mean: Tensor, activation: str) -> Tensor:
    """Return the entropy of the decoders' mean probability in bits, at most 1.

    With m_c the mean of the decoders' probabilities for class c: u = min(1, −Σ_c m_c log₂ m_c) (Shannon). It
    is 0 where all decoders are certain of one class, and 1 where the mean is as open as a coin between two
    classes, be it because each decoder hesitates or because they contradict each other. So it holds both:
    for two decoders u is never less than their total-variation distance d = ½ Σ_c |p_1c − p_2c|. (Let A be
    the classes that p_1 holds for likelier, so that p_1(A) − p_2(A) = d. The entropy is at least that of A
    against the rest, which is at least 2 min(m(A), 1 − m(A)) ≥ d.)

    Mutual information, the entropy of the mean less the mean entropy, would be blind where both hesitate
    alike. Divided by the logarithm of the number of classes, the same uncertainty between two classes would
    count 1 in a network of one organ and 0.26 in one of thirteen. Under "sigmoid" each organ has two classes
    of its own, it or not it, and the organ that is least certain counts. A network with one decoder shows its
    own hesitation alone.

    Decoders that differ in how they enlarge, and entropy as the mark of what is reliable, are those of mutual
    learning (Su et al. 2024).

    Args:
        mean: Tensor (..., channels) in [0, 1]. Channel 0 is background; it does not count under "sigmoid".
        activation: "softmax" or "sigmoid".

    Returns:
        Tensor (...) in [0, 1].
    """
    if activation != "softmax":
        organs = mean[..., 1:]
        bits = (_entropy(organs) + _entropy(1 - organs)).amax(dim=-1)
    else:
        bits = _entropy(mean).sum(dim=-1)
    return bits.clamp_(0, 1)


def _entropy(probabilities: Tensor) -> Tensor:
    return probabilities * probabilities.clamp_min(SMALLEST_PROBABILITY).log_().mul_(-1 / math.log(2))


def describe(decoders: int) -> str:
    """Say for the provenance how a map was made."""
    if decoders == 1:
        return "entropy in bits, at most 1, of the probabilities; the network has one decoder"
    return f"entropy in bits, at most 1, of the mean probabilities of {decoders} decoders"
