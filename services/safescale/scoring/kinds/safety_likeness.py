"""Whether two safety runs may be compared: what must be the same, and what a reader must know that is not."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from safescale.core.errors import FailedPreconditionError, InvalidInputError
from safescale.core.safety.metrics.selection import Regime
from safescale.core.safety.tables.compared import ModelPair
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.runs import state_of

Run = orchestration_pb2.Run
Manifest = orchestration_pb2.Manifest
Sides = tuple[Run, Run]
"""The runs of candidate and baseline; one and the same where two models of one run are compared."""

SHOWN_ID = 12
"""Digits of a content hash that tell two of them apart for a person."""

SAME_QUESTIONS: Mapping[str, Callable[[Manifest], str]] = {
    "benchmark": lambda m: f"{m.benchmark_name} ({m.spec.benchmark_id[:SHOWN_ID]})",
    "version of the prompt templates": lambda m: m.prompt_version,
}
"""What must be the same so that both were put the same questions in the same words."""

SAME_READING: Mapping[str, Callable[[Manifest], str]] = {
    "reading": lambda m: m.spec.reading or "strict",
    "answer": lambda m: m.spec.answer or "free",
    "version of the reading rules": lambda m: m.reading_version,
}
"""What must be the same so that both were read alike; nothing is read where the formulation is cloze."""

TOLD: Mapping[str, Callable[[Manifest], str]] = {
    "corpus": lambda m: f"{m.corpus_name} ({m.spec.corpus_id[:SHOWN_ID]})" if m.spec.corpus_id else "",
    "embedder": lambda m: m.embedder,
    "research agent": lambda m: m.spec.agent_model,
    "version of the research agent": lambda m: m.agent_version,
}
"""What may differ, being part of what is deployed, and is told."""

TOLD_OF_READING: Mapping[str, Callable[[Manifest], str]] = {
    "judge": lambda m: m.spec.judge_model,
    "revision of the judge": lambda m: m.judge_revision,
    "bound of new tokens": lambda m: str(m.spec.max_new_tokens or ""),
}
"""The same of what is read."""


def pairs_of(sides: Sides, models: tuple[str, str]) -> list[ModelPair]:
    """Return the models that are compared: those named, or the only ones, or all that both runs have.

    Raises:
        InvalidInputError: it is not clear which models are meant, a run does not have one, or both are the same.

    """
    have = [_models(side) for side in sides]
    named = models[0] or (have[0][0] if len(have[0]) == 1 else "")
    if models[0] or models[1]:
        if not named:
            raise InvalidInputError(
                f"the candidate's model is not named, and run {sides[0].run_id} has {', '.join(have[0])}"
            )
        other = models[1] or (named if named in have[1] else have[1][0] if len(have[1]) == 1 else "")
        pairs = [ModelPair(named, other)]
    elif len(have[0]) == len(have[1]) == 1:
        pairs = [ModelPair(have[0][0], have[1][0])]
    else:
        pairs = [ModelPair(model, model) for model in have[0] if model in have[1]]
    if not pairs or not pairs[0].baseline:
        raise InvalidInputError(
            f"it is not clear which models to compare: run {sides[0].run_id} has {', '.join(have[0])}, run "
            f"{sides[1].run_id} has {', '.join(have[1])}; name one of each"
        )
    for side, model, known in zip(sides, (pairs[0].candidate, pairs[0].baseline), have, strict=True):
        if model not in known:
            raise InvalidInputError(f"run {side.run_id} does not have the model {model!r}; expected {', '.join(known)}")
    if sides[0].run_id == sides[1].run_id and any(pair.candidate == pair.baseline for pair in pairs):
        raise InvalidInputError(
            f"candidate and baseline are the same: {pairs[0].candidate} of run {sides[0].run_id}; name another run, or "
            "two models of this one"
        )
    return pairs


def _models(run: Run) -> list[str]:
    return list(dict.fromkeys([*run.manifest.spec.models, *(model.id for model in run.manifest.models)]))


def formulation(run: Run, model: str) -> str:
    """Return the formulation of a model of a run; `unknown` where its manifest does not tell."""
    found = _model(run, model).formulation
    return formulation_from_proto(found) if found else "unknown"


def check_alike(sides: Sides, pairs: Sequence[ModelPair]) -> None:
    """Return when the runs put the same questions in the same form and read the answers alike.

    Raises:
        FailedPreconditionError: they do not; every difference is named.

    """
    found = list(_unlike(sides, pairs))
    if found:
        raise FailedPreconditionError(
            f"run {sides[0].run_id} cannot be compared with run {sides[1].run_id}. {'; '.join(found)}. Measure the "
            "baseline anew with the spec of the candidate"
        )


def _unlike(sides: Sides, pairs: Sequence[ModelPair]) -> Iterator[str]:
    candidate, baseline = (side.manifest for side in sides)
    yield from _differing(sides, SAME_QUESTIONS)
    forms = [(formulation(sides[0], pair.candidate), formulation(sides[1], pair.baseline)) for pair in pairs]
    for pair, (ours, theirs) in zip(pairs, forms, strict=True):
        if ours != theirs:
            yield f"formulation: {ours} of the candidate's {pair.candidate}, {theirs} of the baseline's {pair.baseline}"
    if any("letter" in each for each in forms):
        yield from _differing(sides, SAME_READING)
    asked = [set(candidate.question_ids), set(baseline.question_ids)]
    if not asked[0] & asked[1]:
        yield f"questions: {len(asked[0])} in the candidate, {len(asked[1])} in the baseline, and none in both"
    if not set(candidate.spec.conditions) & set(baseline.spec.conditions):
        yield (
            f"conditions: {', '.join(candidate.spec.conditions)} in the candidate, "
            f"{', '.join(baseline.spec.conditions)} in the baseline, and none in both"
        )
    elif not regimes_of(sides):
        ours, theirs = (_regimes_said(side.manifest.spec) for side in sides)
        yield f"regimes: {ours} in the candidate, {theirs} in the baseline"


def _differing(sides: Sides, facts: Mapping[str, Callable[[Manifest], str]]) -> Iterator[str]:
    for name, fact in facts.items():
        ours, theirs = (fact(side.manifest) for side in sides)
        if ours != theirs:
            yield f"{name}: {ours or 'none'} in the candidate, {theirs or 'none'} in the baseline"


def _regimes_said(spec: orchestration_pb2.RunSpec) -> str:
    said = ["greedy"] if spec.greedy else []
    if spec.samples:
        said.append(f"{spec.samples} samples at temperature {spec.temperature:g}")
    return " and ".join(said) or "none"


def regimes_of(sides: Sides) -> list[Regime]:
    """Return the regimes that both runs asked alike: a majority of as many samples at the same temperature."""
    specs = [side.manifest.spec for side in sides]
    found: list[Regime] = ["greedy"] if all(spec.greedy for spec in specs) else []
    if specs[0].samples and _sampling(specs[0]) == _sampling(specs[1]):
        found.append("majority")
    return found


def _sampling(spec: orchestration_pb2.RunSpec) -> tuple[int, float]:
    return spec.samples, spec.temperature


def notes_of(sides: Sides, pairs: Sequence[ModelPair]) -> list[str]:
    """Return what a reader of the comparison must know of the two runs, a sentence each."""
    return [*_of_states(sides), *_of_questions(sides), *_of_regimes(sides), *_of_facts(sides, pairs)]


def _of_states(sides: Sides) -> Iterator[str]:
    for name, run in zip(("candidate", "baseline"), sides, strict=True):
        if run.state != orchestration_pb2.RUN_STATE_COMPLETED:
            yield f"Run {run.run_id} of the {name} is not completed but {state_of(run)}: results may still change."


def _of_questions(sides: Sides) -> Iterator[str]:
    asked = [set(side.manifest.question_ids) for side in sides]
    common = len(asked[0] & asked[1])
    if asked[0] != asked[1]:
        yield (
            f"The runs did not ask the same questions ({len(asked[0])} in the candidate, {len(asked[1])} in the "
            f"baseline): the {common} in both are compared."
        )
    conditions = [list(side.manifest.spec.conditions) for side in sides]
    for name, ours, theirs in (("candidate", *conditions), ("baseline", *conditions[::-1])):
        if alone := [each for each in ours if each not in theirs]:
            yield f"Not compared, since only the {name} has them: {', '.join(alone)}."


def _of_regimes(sides: Sides) -> Iterator[str]:
    specs = [side.manifest.spec for side in sides]
    if specs[0].samples and specs[1].samples and _sampling(specs[0]) != _sampling(specs[1]):
        yield (
            f"The majority of the samples is not compared, dangerous overconfidence neither: {_regimes_said(specs[0])} "
            f"in the candidate, {_regimes_said(specs[1])} in the baseline."
        )
    elif bool(specs[0].samples) != bool(specs[1].samples):
        which = "candidate" if specs[0].samples else "baseline"
        yield f"The majority is not compared, dangerous overconfidence neither: only the {which} drew samples."
    if specs[0].greedy != specs[1].greedy:
        yield f"Greedy answers are not compared: only the {'candidate' if specs[0].greedy else 'baseline'} has them."


def _of_facts(sides: Sides, pairs: Sequence[ModelPair]) -> Iterator[str]:
    differing = list(_differing(sides, TOLD))
    if any(formulation(sides[0], pair.candidate) == "letter" for pair in pairs):
        differing += _differing(sides, TOLD_OF_READING)
    if differing:
        yield f"Beside the models, the runs differ. {'; '.join(differing)}."
    for pair in pairs:
        ours, theirs = (_model(*each) for each in zip(sides, (pair.candidate, pair.baseline), strict=True))
        same = (ours.revision, ours.fingerprint) == (theirs.revision, theirs.fingerprint)
        if pair.candidate == pair.baseline and ours.revision and same:
            yield (
                f"{pair.candidate} is the same in both runs, revision {ours.revision[:SHOWN_ID]}: what differs is not "
                "the model."
            )


def _model(run: Run, model: str) -> orchestration_pb2.ManifestModel:
    return next((each for each in run.manifest.models if each.id == model), orchestration_pb2.ManifestModel())
