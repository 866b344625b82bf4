"""Names of the networks that a bundle may ask for; importable without torch."""

ARCHITECTURES: tuple[str, ...] = ("strided_dynunet",)
