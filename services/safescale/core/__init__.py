"""The measurement, pure: no input, no output. `Protocol section N` and `protocol §N` are those of docs/protocol.md."""
