"""Stub of the scoring service."""

from safescale.rpc import messages

ScoringServiceStub = messages.stub_of("safescale/scoring/v1/scoring.proto", "ScoringService")
