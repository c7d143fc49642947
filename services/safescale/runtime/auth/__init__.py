"""Who calls, and what they may do: tokens of a file, tokens of an OIDC issuer, roles, and the audit log."""
