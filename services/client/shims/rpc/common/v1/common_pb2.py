"""Messages of safescale/common/v1/common.proto."""

from safescale.rpc import messages

globals().update(messages.names_of("safescale/common/v1/common.proto"))
