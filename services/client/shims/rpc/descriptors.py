"""Written when the wheel is built."""

FILES: tuple[bytes, ...] = ()
