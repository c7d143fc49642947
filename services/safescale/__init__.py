"""SaFE-Scale: measures whether a clinical language model, as it will be deployed, is safe."""

__version__ = "0.2.0"
