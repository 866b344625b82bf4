"""Prototypes of labelled and of unlabelled voxels, and the classifiers made of them (LTUDA)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg_training.losses.known import require_choice

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
        """Return the cosines of pixels with all prototypes.

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


LABELLED = "labelled"
UNLABELLED = "unlabelled"


class ProjectionHead(nn.Module):
    """Two linear layers on each pixel with batch normalisation and ReLU between, then unit length.

    The same as 1×1 convolutions, in any number of dimensions.

    Args:
        channels: Of the network's features.
        width: Of the result.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Linear(channels, width),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Project (pixels, channels) to (pixels, width)."""
        projected: Tensor = self.layers(pixels)
        return functional.normalize(projected, dim=-1)


class PrototypeClassifier(nn.Module):
    """Projection head, normalisations and the two prototype classifiers of LTUDA (Jiang et al. 2024).

    Args:
        channels: Of the network's last features.
        organs: How many organs there are; background is added.
        per_class: Prototypes for each class.
        width: Of the projected features.
        momentum: Of the banks.
        copy_background: Whether the background of the labelled bank is a copy of the unlabelled one, as in
            the paper, or learns by itself, as in its published code.
        generator: Source of the first prototypes, on the CPU.

    Attributes:
        labelled: Bank of annotated voxels.
        unlabelled: Bank of pseudo-labelled voxels.
        copy_background: As given.
    """

    def __init__(
        self,
        channels: int,
        organs: int,
        per_class: int = 5,
        width: int = 64,
        momentum: float = 0.999,
        copy_background: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.projection = ProjectionHead(channels, width)
        self.pixel_norm = nn.LayerNorm(width)
        self.class_norm = nn.LayerNorm(organs + 1)
        self.labelled = PrototypeBank(organs + 1, per_class, width, momentum, generator)
        self.unlabelled = PrototypeBank(organs + 1, per_class, width, momentum, generator)
        self.copy_background = copy_background
        self.share_background()

    def share_background(self) -> None:
        """Copy the unlabelled background into the labelled bank, where the paper's way is chosen."""
        if self.copy_background:
            self.labelled.copy_class(self.unlabelled)

    def embed(self, features: Tensor) -> Tensor:
        """Return f = L2(LN(projection)) of every pixel.

        Args:
            features: (batch, channels, *space), any floating type.

        Returns:
            (batch · voxels, width), float32, of unit length, in the order of `labels.flatten()`.
        """
        pixels = features.movedim(1, -1).reshape(-1, features.shape[1])
        projected = self.projection(pixels)
        with torch.autocast(features.device.type, enabled=False):
            return functional.normalize(self.pixel_norm(projected.float()), dim=-1)

    def class_logits(self, similarities: Tensor) -> Tensor:
        """Return G = LN(max over the prototypes of a class).

        Args:
            similarities: (pixels, classes, per_class), as `PrototypeBank.similarities` gives them.

        Returns:
            (pixels, classes), float32; class 0 is background.
        """
        with torch.autocast(similarities.device.type, enabled=False):
            logits: Tensor = self.class_norm(similarities.max(dim=2).values)
        return logits

    def bank(self, name: str) -> PrototypeBank:
        """Return the "labelled" or the "unlabelled" bank.

        Raises:
            TrainingError: There is no bank of that name.
        """
        require_choice("prototype classifier", name, (LABELLED, UNLABELLED))
        return self.labelled if name == LABELLED else self.unlabelled

    def forward(self, features: Tensor, bank: str = UNLABELLED) -> Tensor:
        """Classify features with one of the banks; the argmax over the channels is its prediction.

        Args:
            features: (batch, channels, *space).
            bank: "labelled" or "unlabelled".

        Returns:
            (batch, organs + 1, *space), float32 logits; channel 0 is background.

        Raises:
            TrainingError: There is no bank of that name.
        """
        logits = self.class_logits(self.bank(bank).similarities(self.embed(features)))
        return logits.reshape(features.shape[0], *features.shape[2:], -1).movedim(-1, 1)
