"""Identity of a research: what decides the report of the agent, in one hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

AGENT_VERSION = "1"
"""Version of the agent: its prompts, rules and budgets. Whatever can change a report changes it."""


@dataclass(frozen=True, slots=True)
class ResearchSubject:
    """What is researched, where and by which model; `run_id` where a run has a research of its own."""

    question_id: str
    question_text: str
    options: Mapping[str, str]
    corpus_id: str
    agent_model: str
    agent_revision: str
    agent_fingerprint: str = ""
    run_id: str = ""


def research_id(subject: ResearchSubject) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of a subject and the agent's version."""
    body: dict[str, object] = {
        "question_id": subject.question_id,
        "question_text": subject.question_text,
        "options": dict(subject.options),
        "corpus_id": subject.corpus_id,
        "agent_model": subject.agent_model,
        "agent_revision": subject.agent_revision,
        "agent_version": AGENT_VERSION,
    }
    # Left out where they say nothing, so that researches that were stored without them are found.
    body |= {name: value for name in ("agent_fingerprint", "run_id") if (value := getattr(subject, name))}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
