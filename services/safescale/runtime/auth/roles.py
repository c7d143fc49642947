"""Roles, and the one that each gRPC method needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["viewer", "reviewer", "runner", "admin"]
Kind = Literal["token", "oidc", "process", "anonymous", "unknown"]

HELD: Mapping[Role, frozenset[Role]] = {
    "viewer": frozenset({"viewer"}),
    "reviewer": frozenset({"viewer", "reviewer"}),
    "runner": frozenset({"viewer", "runner"}),
    "admin": frozenset({"viewer", "reviewer", "runner", "admin"}),
}
"""Roles that each role holds. A reviewer cannot start runs, and who runs cannot settle reviews: both can only admin."""

_INFERENCE = "/safescale.inference.v1.InferenceService/"
_RETRIEVAL = "/safescale.retrieval.v1.RetrievalService/"
_ORCHESTRATION = "/safescale.orchestration.v1.OrchestrationService/"
_SCORING = "/safescale.scoring.v1.ScoringService/"

METHODS: Mapping[str, Role] = {
    _INFERENCE + "Generate": "runner",
    _INFERENCE + "GenerateStream": "runner",
    _INFERENCE + "Tokenize": "runner",
    _INFERENCE + "ListModels": "viewer",
    _INFERENCE + "GetModel": "viewer",
    _INFERENCE + "GetCache": "viewer",
    _INFERENCE + "TrimCache": "admin",
    _RETRIEVAL + "IngestCorpus": "runner",
    _RETRIEVAL + "Search": "viewer",
    _RETRIEVAL + "BuildContext": "runner",
    _RETRIEVAL + "PutContext": "runner",
    _RETRIEVAL + "GetContext": "viewer",
    _RETRIEVAL + "ListCorpora": "viewer",
    _ORCHESTRATION + "ImportBenchmark": "runner",
    _ORCHESTRATION + "GetBenchmark": "viewer",
    _ORCHESTRATION + "ListBenchmarks": "viewer",
    _ORCHESTRATION + "CreateRun": "runner",
    _ORCHESTRATION + "GetRun": "viewer",
    _ORCHESTRATION + "ListRuns": "viewer",
    _ORCHESTRATION + "ListSeries": "viewer",
    _ORCHESTRATION + "WatchRun": "viewer",
    _ORCHESTRATION + "CancelRun": "runner",
    _ORCHESTRATION + "RetryFailed": "runner",
    _ORCHESTRATION + "Research": "runner",
    _ORCHESTRATION + "GetResearch": "viewer",
    _SCORING + "ScoreAnswer": "viewer",
    _SCORING + "ScoreAnswers": "viewer",
    _SCORING + "ComputeMetrics": "viewer",
    _SCORING + "GetRunMetrics": "viewer",
    _SCORING + "GetRunTables": "viewer",
    _SCORING + "EvaluatePolicy": "viewer",
    _SCORING + "PlanPolicy": "viewer",
    _SCORING + "CompareRuns": "viewer",
    _SCORING + "ListVerdicts": "viewer",
    _SCORING + "ExportVerdicts": "viewer",
    _SCORING + "GetSeries": "viewer",
    _SCORING + "StartAudit": "runner",
    _SCORING + "GetAudit": "viewer",
    _SCORING + "ListReviews": "viewer",
    _SCORING + "ResolveReview": "reviewer",
}
"""Role that each method needs. A method that is not here is refused to everybody."""

OPEN = ("/grpc.health.", "/grpc.reflection.")
"""Begins of methods that need no token: whether a server is ready, and the protos, which are public anyway."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: the name of a token or the subject of an issuer's token, and the roles that they hold."""

    name: str
    roles: frozenset[Role]
    kind: Kind


ANONYMOUS = Identity("anonymous", HELD["admin"], "anonymous")
"""Everybody, where no credentials are required."""


UNKNOWN = Identity("unknown", frozenset(), "unknown")
"""Who gave no token, or one that nobody here knows."""


def held(roles: Iterable[str]) -> frozenset[Role]:
    """All roles that some hold; names that are no roles count for nothing."""
    return frozenset[Role]().union(*(HELD[role] for role in HELD if role in set(roles)))
