"""Prototypes that follow the features of their class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

INITIAL_DEVIATION = 0.02


class PrototypeBank(nn.Module):
    """Unit vectors, several for each class and background (prototype alignment of LTUDA).

    They carry no gradient; `update` moves them.

    Args:
        classes: Organs and background.
        per_class: Prototypes for each class.
        width: Length of a prototype.
        momentum: How much of a prototype an update keeps.
        generator: Source of the first prototypes, on the CPU; torch's own by default.

    Attributes:
        prototypes: Buffer (classes, per_class, width), float32, of unit length.
    """

    prototypes: Tensor

    def __init__(
        self,
        classes: int,
        per_class: int = 5,
        width: int = 64,
        momentum: float = 0.999,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        first = torch.empty((classes, per_class, width))
        nn.init.trunc_normal_(first, std=INITIAL_DEVIATION, generator=generator)
        self.register_buffer("prototypes", functional.normalize(first, dim=-1))

    def similarities(self, pixels: Tensor) -> Tensor:
        """Give the cosines of pixels with all prototypes.

        Args:
            pixels: (pixels, width), float32, of unit length.

        Returns:
            (pixels, classes, per_class), float32; the gradient goes to the pixels alone.
        """
        classes, per_class, width = self.prototypes.shape
        with torch.autocast(pixels.device.type, enabled=False):
            flat = self.prototypes.float().reshape(-1, width).T.clone()
            return (pixels.float() @ flat).reshape(-1, classes, per_class)

    @torch.no_grad()
    def update(self, pixels: Tensor, assigned: Tensor) -> None:
        """Move prototypes towards the sums of the pixels assigned to them.

        P ← L2(momentum · P + (1 − momentum) · L2(Σ f)); prototypes without a pixel stay.

        Args:
            pixels: (pixels, width), of unit length.
            assigned: (pixels,), int64: class · per_class + prototype.
        """
        prototypes = self.prototypes.shape[:-1]
        with torch.autocast(pixels.device.type, enabled=False):
            chosen = torch.zeros((len(assigned), prototypes.numel()), device=pixels.device)
            chosen.scatter_(1, assigned[:, None], 1.0)
            sums = (chosen.T @ pixels.float()).reshape(self.prototypes.shape)
            moved = self.momentum * self.prototypes + (1 - self.momentum) * functional.normalize(sums, dim=-1)
            has_pixels = chosen.any(dim=0).reshape(*prototypes, 1)
            self.prototypes.copy_(functional.normalize(moved, dim=-1).where(has_pixels, self.prototypes))

    @torch.no_grad()
    def copy_class(self, other: PrototypeBank, number: int = 0) -> None:
        """Take over the prototypes of one class, the background by default, from another bank."""
        self.prototypes[number].copy_(other.prototypes[number])

    @torch.no_grad()
    def follow(self, other: PrototypeBank, decay: float) -> None:
        """Move towards another bank as an averaged teacher does: P ← L2(decay · P + (1 − decay) · P')."""
        self.prototypes.copy_(functional.normalize(self.prototypes.lerp(other.prototypes, 1 - decay), dim=-1))
