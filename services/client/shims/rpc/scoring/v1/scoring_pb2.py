"""Messages of safescale/scoring/v1/scoring.proto."""

from safescale.rpc import messages

globals().update(messages.names_of("safescale/scoring/v1/scoring.proto"))
