import pytest

from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.orchestration.kinds.safety_plan import make_plan


async def test_the_plan_counts_cells_and_measures_speed(spec, benchmark, models, corpora) -> None:
    spec.conditions.append("context_100k")
    spec.corpus_id = "c1"
    manifest = resolve(spec, Environment(benchmark, models, corpora))

    async def probe(_model: str) -> float | None:
        return 0.01

    plan = await make_plan(manifest, benchmark, models, probe)
    assert (plan.cell_count, plan.answer_count, len(plan.skips)) == (6, 24, 1)
    assert plan.estimated_s == pytest.approx(plan.prompt_tokens * 0.01 / 2)

    spec.conditions.append("deep_research")
    spec.agent_model = "other"
    researched = await make_plan(resolve(spec, Environment(benchmark, models, corpora)), benchmark, models, probe)
    assert researched.prompt_tokens > plan.prompt_tokens + 3 * 3000

    async def silent(_model: str) -> float | None:
        return None

    assert not (await make_plan(manifest, benchmark, models, silent)).HasField("estimated_s")


async def silence(_model: str) -> float | None:
    return None


async def test_the_plan_bounds_what_is_written_judged_and_paid(spec, benchmark, models, corpora) -> None:
    spec.formulation = "letter"
    spec.max_new_tokens = 10
    environment = Environment(benchmark, models, corpora)
    plain = await make_plan(resolve(spec, environment), benchmark, models, silence)
    # 6 cells of one greedy answer and 3 samples.
    assert (plain.judge_calls, plain.generated_tokens, plain.HasField("cost")) == (0, 24 * 10, False)

    spec.judge_model = "other"
    models["small"].price.prompt, models["small"].price.generated = 2.0, 6.0
    judged = await make_plan(resolve(spec, environment), benchmark, models, silence)
    assert (judged.judge_calls, judged.generated_tokens) == (24, 24 * 10 + 24 * 384)
    # The judge has no price yet.
    assert not judged.HasField("cost")

    models["other"].price.generated = 1.0
    priced = await make_plan(resolve(spec, environment), benchmark, models, silence)
    own = (plain.prompt_tokens * 4 * 2.0 + 24 * 10 * 6.0) / 1e6
    assert priced.cost == pytest.approx(own + 24 * 384 * 1.0 / 1e6)


async def test_cloze_writes_nothing_and_has_no_judge(spec, benchmark, models, corpora) -> None:
    spec.judge_model = "other"
    models["small"].price.prompt = 1.0
    plan = await make_plan(resolve(spec, Environment(benchmark, models, corpora)), benchmark, models, silence)
    assert (plan.judge_calls, plan.generated_tokens) == (0, 0)
    assert plan.cost == pytest.approx(plan.prompt_tokens / 1e6)
