from dataclasses import replace

from safescale.retrieval.clients import ModelTokenizers, ModelWindow

WORDS = ModelWindow("words-1", "r1", 4096)


async def test_counts_are_asked_once_for_each_revision(inference) -> None:
    models = ModelTokenizers(lambda: inference.channel)
    texts = {"a": "one", "b": "one two"}
    assert [await models.counts(WORDS, texts) for _ in range(2)] == [[1, 2]] * 2
    assert inference.texts_counted == 2
    await models.counts(replace(WORDS, revision="r2"), texts)
    await models.counts(replace(WORDS, id="quarters-1"), texts)
    assert inference.texts_counted == 6


async def test_counts_used_longest_ago_go_beyond_the_bound(inference) -> None:
    models = ModelTokenizers(lambda: inference.channel, kept=3)
    for key in "abc":
        await models.counts(WORDS, {key: "one two"})
    await models.counts(WORDS, {"a": "one two"})
    await models.counts(replace(WORDS, revision="r2"), {"d": "one"})
    asked = inference.texts_counted
    assert await models.counts(WORDS, {"a": "one two", "c": "one two"}) == [2, 2]
    assert inference.texts_counted == asked
    await models.counts(WORDS, {"b": "one two"})
    assert inference.texts_counted == asked + 1


async def test_more_texts_than_are_kept_are_counted_all_the_same(inference) -> None:
    models = ModelTokenizers(lambda: inference.channel, kept=2)
    texts = {str(number): "word " * number for number in range(1, 20)}
    assert await models.counts(WORDS, texts) == list(range(1, 20))
