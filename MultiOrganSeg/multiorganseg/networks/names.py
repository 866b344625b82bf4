"""Names of the networks that a bundle may ask for; importable without torch."""

ARCHITECTURES: tuple[str, ...] = (
    "strided_dynunet",
    "slice_unet",
    "monai_segresnet",
    "monai_swin_unetr",
    "vnet",
    "nnunet",
    "monai_segresnet_ds",
    "monai_unet",
    "monai_dynunet",
)
