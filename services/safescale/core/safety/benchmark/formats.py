"""Benchmark files into a `Benchmark`: the two published layouts, our own JSONL and CSV, alone or together.

Reading is lenient in form (the content decides the layout) and strict in substance: every defect is collected with
file, line, question id, field, value and what was expected, and a benchmark with a defect is never handed out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safescale.core.errors import BenchmarkError, Defect
from safescale.core.inputs.records import DefectLog, Source, read_records, shown
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.safety.benchmark.parser import Draft, canonical_id, check_header, draft_of, shown_item
from safescale.core.safety.benchmark.question_rules import missing_cluster
from safescale.core.safety.conditions import condition


@dataclass(frozen=True, slots=True)
class Needs:
    """What the benchmark is wanted for.

    `conditions` are the ids of the conditions that are to be run (their evidence must be there). `texts`: every
    question needs its text, as for any run. `labels`: every option needs its safety labels, as for any safety metric.
    """

    conditions: tuple[str, ...] = ()
    texts: bool = False
    labels: bool = False


_NOTHING = Needs()


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of reading: a benchmark if and only if there are no defects; warnings stop nothing."""

    benchmark: Benchmark | None
    defects: tuple[Defect, ...]
    warnings: tuple[Defect, ...]


def check_benchmark(
    name: str,
    sources: Sequence[Source],
    *,
    labels: Source | None = None,
    needs: Needs = _NOTHING,
    validated: bool = False,
) -> Check:
    """Read a benchmark of one or more files, and the file of labels that belongs to it, and list all that is wrong.

    Files in the merged layout among `sources` are taken as labels wherever another file has the questions; alone they
    make a benchmark without question texts, which can be analysed but not run.
    """
    findings = DefectLog()
    drafts = [draft for source in sources for draft in _read(source, findings)]
    label_drafts = _read(labels, findings) if labels is not None else []
    if labels is not None or any(not draft.merged for draft in drafts):
        label_drafts = [draft for draft in drafts if draft.merged] + label_drafts
        drafts = [draft for draft in drafts if not draft.merged]
    if not drafts and not findings.defects:
        found = ", ".join(source.name for source in sources) or name
        findings.defects.append(Defect(found, None, None, None, "no questions", "at least one question"))
    elif drafts:
        _report_duplicates(drafts, findings)
        _report_duplicates(label_drafts, findings)
    if not findings.full:
        if drafts and label_drafts:
            drafts = _join(drafts, label_drafts, findings)
            needs = replace(needs, labels=True)
        _report_missing(drafts, needs, findings)
    if findings.unlisted_warnings:
        more = Defect(name, None, None, None, f"{findings.unlisted_warnings:,} more warnings", "fewer of them")
        findings.warnings.append(more)
    benchmark = None
    if not findings.defects:
        benchmark = Benchmark(name, tuple(draft.question for draft in drafts if draft.question), validated)
    return Check(benchmark, _sorted(findings.defects), _sorted(findings.warnings))


def _sorted(found: Sequence[Defect]) -> tuple[Defect, ...]:
    """By file in the order of appearance, then by line."""
    files = list(dict.fromkeys(defect.file for defect in found))
    return tuple(sorted(found, key=lambda defect: (files.index(defect.file), defect.line or 0)))


def load_benchmark(
    name: str,
    sources: Sequence[Source],
    *,
    labels: Source | None = None,
    needs: Needs = _NOTHING,
    validated: bool = False,
) -> Benchmark:
    """Read a benchmark as `check_benchmark` does.

    Raises BenchmarkError that lists every defect.
    """
    check = check_benchmark(name, sources, labels=labels, needs=needs, validated=validated)
    if check.benchmark is None:
        more = len(check.defects) - 1
        also = f" (and {more} more defect{'s' if more > 1 else ''})" if more else ""
        raise BenchmarkError(f"{check.defects[0]}{also}", defects=check.defects)
    return check.benchmark


def _read(source: Source, findings: DefectLog) -> list[Draft]:
    kind, records = read_records(source, findings)
    if kind == "csv":
        records = check_header(records, findings)
    drafts = []
    for record in records:
        if findings.full:
            findings.end_early(source.name, record.line)
            break
        drafts.append(draft_of(record, kind, findings))
    return drafts


def _at(draft: Draft, field: str, value: str, expected: str) -> Defect:
    item = draft.question_id and shown_item(draft.question_id)
    return Defect(draft.record.file, draft.record.line_of((field,)), item, field, value, expected)


def _report_duplicates(drafts: Sequence[Draft], findings: DefectLog) -> None:
    first: dict[str, Draft] = {}
    for draft in drafts:
        if findings.full:
            return
        if draft.question_id is not None:
            before = first.setdefault(canonical_id(draft.question_id), draft)
            if before is not draft:
                place = f"{before.record.file}:{before.record.line}"
                expected = f"an id of its own, since {place} has this one"
                findings.defects.append(_at(draft, "question_id", shown(draft.question_id), expected))


def _join(questions: Sequence[Draft], labels: Sequence[Draft], findings: DefectLog) -> list[Draft]:
    """Merge questions with the labels of the same id; one without a counterpart is a defect."""
    by_id = {canonical_id(draft.question_id): draft for draft in reversed(labels) if draft.question_id is not None}
    known = {canonical_id(draft.question_id) for draft in questions if draft.question_id is not None}
    files = ", ".join(dict.fromkeys(draft.record.file for draft in labels))
    joined = []
    for draft in questions:
        if draft.question_id is None:
            continue
        partner = by_id.get(canonical_id(draft.question_id))
        if partner is None:
            findings.defects.append(_at(draft, "labels", "missing", f"a record of this id in {files}"))
        elif draft.question is not None and partner.question is not None:
            question = _labelled(draft, draft.question, partner, partner.question, findings)
            joined.append(replace(draft, question=question))
    for draft in labels:
        if draft.question_id is not None and canonical_id(draft.question_id) not in known:
            findings.defects.append(_at(draft, "question_id", shown(draft.question_id), "the id of a question"))
    return joined


def _labelled(draft: Draft, question: Question, partner: Draft, other: Question, findings: DefectLog) -> Question:
    """Return the question with the other record's labels, once both are known to have the same options."""
    if question.letters != other.letters:
        expected = f"labels for the options {', '.join(question.letters)}"
        findings.defects.append(_at(partner, "options", ", ".join(other.letters), expected))
    elif _folded(question) != _folded(other):
        # The same texts in another order would put labels on the wrong options; other texts may be another spelling.
        same_texts = sorted(_folded(question)) == sorted(_folded(other))
        expected = f"the options of {draft.record.file}:{draft.record.line} under the same letters"
        target = findings.defects if same_texts else findings.warnings
        target.append(
            _at(partner, "options", "the same texts in another order" if same_texts else "other texts", expected)
        )
    if question.correct_answer != other.correct_answer:
        expected = f"{shown(question.correct_answer)} as in {draft.record.file}:{draft.record.line}"
        field = "answer_idx" if partner.merged else "correct_answer"
        findings.defects.append(_at(partner, field, shown(other.correct_answer), expected))
    if question.labels and question.labels != other.labels:
        expected = f"the labels that {draft.record.file}:{draft.record.line} has, or none there"
        findings.defects.append(_at(partner, "labels", "other labels", expected))
    return replace(
        question,
        labels=other.labels,
        subspecialty=question.subspecialty or other.subspecialty,
        question_type=question.question_type or other.question_type,
        cluster=question.cluster or other.cluster,
        groups=other.groups | question.groups,
    )


def _folded(question: Question) -> list[str]:
    return [" ".join(text.casefold().split()) for text in question.options.values()]


def _report_missing(drafts: Sequence[Draft], needs: Needs, findings: DefectLog) -> None:
    """Return what the intended use needs and a question lacks; labels and clusters must be on all or on none."""
    labels_wanted = needs.labels or any(draft.question and draft.question.labels for draft in drafts)
    clustered = any(draft.question and draft.question.cluster for draft in drafts)
    rows = [condition(condition_id) for condition_id in needs.conditions]
    for draft in drafts:
        question = draft.question
        if findings.full:
            return
        if question is None:
            continue
        if needs.texts and not question.text:
            findings.defects.append(_at(draft, "question_text", "missing", "a non-empty text"))
        if labels_wanted and not question.labels:
            findings.defects.append(_at(draft, "labels", "missing", "the safety labels of every option"))
        if clustered and not question.cluster:
            fault = missing_cluster()
            findings.defects.append(_at(draft, ".".join(fault.path), fault.value, fault.expected))
        for row in rows:
            field = row.builder.text_field(agent=True)
            if field and not getattr(question, field):
                expected = f"a text, since the condition {row.id} puts it before the question"
                findings.defects.append(_at(draft, field, "empty", expected))
