"""The research agent: agentic retrieval as a small state machine (protocol section 2)."""
