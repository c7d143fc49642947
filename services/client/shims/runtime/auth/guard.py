"""Names of the metadata that servers look at."""

AUTHORIZATION = "authorization"
PEER = "x-safescale-peer"
