"""Judgement of measurements by policies, as scoring answers calls for it."""
