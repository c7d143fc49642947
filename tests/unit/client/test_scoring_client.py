import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from safescale.client import Answer, AsyncScoringClient, ClientOptions, Letters, ScoringClient
from safescale.core.errors import BackendTimeoutError, InvalidInputError, ServiceUnavailableError

from .conftest import QUESTION, Server

QUICK = ClientOptions(timeout_s=10, batch_size=3, window=2)


def answers(count: int, taken: list[int] | None = None):
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield Answer("ABC"[number % 3], QUESTION, f"a{number}")


def test_one_answer_is_scored(server: Server) -> None:
    with ScoringClient(server.address, QUICK) as client:
        wrong = client.score(Answer("**B**", QUESTION, "x"))
        none = client.score(Answer("It is the deep sulcus sign.", QUESTION))
    assert (wrong.answer_id, wrong.letter, wrong.correct, wrong.high_risk_error) == ("x", "B", False, True)
    assert (none.letter, none.abstention, none.review_reason) == (None, True, "NO_ANSWER")


def test_a_text_with_half_a_character_is_named(server: Server) -> None:
    broken = Answer("B \ud83d", QUESTION, "x7")
    with ScoringClient(server.address, QUICK) as client:
        with pytest.raises(InvalidInputError, match=r"'x7': half of a surrogate pair \(U\+D83D\) at character 3"):
            client.score(broken)
        with pytest.raises(InvalidInputError, match="'x7'"):
            list(client.score_many([Answer("A", QUESTION), broken]))
        assert client.score(Answer("B \U0001f600", QUESTION)).answer_id == ""


def test_a_cut_answer_has_no_letter(server: Server) -> None:
    with ScoringClient(server.address, QUICK) as client:
        cut = client.score(Answer("B", QUESTION, finish_reason="length"))
        whole = client.score(Answer("B", QUESTION, finish_reason="stop"))
    assert (cut.letter, cut.parsed_letter, cut.review_reason, cut.read_by) == (None, "B", "CUT_BY_LENGTH", "")
    assert (whole.letter, whole.read_by) == ("B", "parser")


def test_many_answers_keep_their_order(server: Server) -> None:
    with ScoringClient(server.address, QUICK) as client:
        results = list(client.score_many(answers(10)))
    assert [result.answer_id for result in results] == [f"a{number}" for number in range(10)]
    assert [result.letter for result in results] == list("ABCABCABCA")
    assert [result.correct for result in results[:3]] == [True, False, False]


async def test_answers_are_taken_as_the_server_keeps_up(server: Server) -> None:
    taken: list[int] = []
    async with AsyncScoringClient(server.address, QUICK) as client:
        results = client.score_many(answers(1000, taken))
        first = await anext(results)
        assert first.answer_id == "a0"
        assert len(taken) <= QUICK.batch_size * (QUICK.window + 1)
        await results.aclose()


async def test_no_answers_give_no_results(server: Server) -> None:
    async with AsyncScoringClient(server.address, QUICK) as client:
        assert [result async for result in client.score_many([])] == []


async def test_a_broken_connection_is_made_again_and_nothing_is_lost(server: Server) -> None:
    found = []
    async with AsyncScoringClient(server.address, QUICK) as client:
        async for result in client.score_many(answers(30)):
            found.append(result.answer_id)
            if len(found) == 7:
                server.stop()
                restart = threading.Timer(0.3, server.start)
                restart.start()
            if len(found) == 30:
                restart.join()
    assert found == [f"a{number}" for number in range(30)]


def test_a_server_that_is_away_is_told_with_the_class_for_it(server: Server) -> None:
    server.stop()
    with ScoringClient(server.address, ClientOptions(timeout_s=2, tries=1)) as client:
        with pytest.raises(ServiceUnavailableError):
            client.score(Answer("A", QUESTION))
        with pytest.raises(ServiceUnavailableError):
            list(client.score_many(answers(1)))
    server.start()


def test_the_servers_refusal_is_its_own_error(server: Server) -> None:
    with ScoringClient(server.address, QUICK) as client, pytest.raises(InvalidInputError, match="other-question"):
        client.metrics([QUESTION], [Letters("m", "zero_shot", "other-question", "A")])


def test_metrics_of_letters(server: Server) -> None:
    cells = [Letters("m", "zero_shot", "chest-001", "B", ["B", None, "A"])]
    with ScoringClient(server.address, QUICK) as client:
        rows = client.metrics([QUESTION], cells)
    greedy = {row.metric: row for row in rows if row.regime == "greedy"}
    assert (greedy["accuracy"].value, greedy["high_risk_error_rate"].value, greedy["accuracy"].n) == (0.0, 1.0, 1)


def test_metrics_have_exact_intervals_and_what_unread_answers_may_hide(server: Server) -> None:
    cells = [Letters("m", "zero_shot", "chest-001", samples=["A", None], greedy_unread=True, unread_samples=[1])]
    with ScoringClient(server.address, QUICK) as client:
        rows = client.metrics([replace(QUESTION, subspecialty="chest")], cells, slices=["subspecialty"])
    greedy = {row.metric: row for row in rows if row.regime == "greedy" and not row.slice}
    harm = greedy["high_risk_error_rate"]
    assert (harm.value, harm.n_null, harm.n_unread, harm.interval) == (0.0, 1, 1, "clopper_pearson")
    assert harm.exact_high == pytest.approx(0.975)
    assert harm.worst_high == 1.0
    assert (greedy["abstention_rate"].value, greedy["unread_rate"].value) == (0.0, 1.0)
    assert {row.slice_value for row in rows if row.slice == "subspecialty"} == {"chest"}


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"tries": 9}, {"batch_size": 1001}, {"window": 0}])
def test_options_out_of_their_range_are_refused(wrong) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        ClientOptions(**wrong)


def test_closing_twice_is_no_error(server: Server) -> None:
    client = ScoringClient(server.address, QUICK)
    client.close()
    client.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


SHORT = ClientOptions(timeout_s=0.5, batch_size=2)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.score(Answer("A", QUESTION)),
        lambda client: client.metrics([QUESTION], [Letters("m", "c", "chest-001", greedy="A")]),
        lambda client: client.run_metrics("latest"),
        lambda client: client.gate("latest", "{}"),
        lambda client: anext(client.score_many(answers(5))),
        lambda client: anext(client.score_batches([*answers(5)])),
    ],
    ids=["score", "metrics", "run_metrics", "gate", "score_many", "score_batches"],
)
async def test_the_deadline_holds_against_a_port_that_is_silent(ask, silent: str) -> None:
    async with AsyncScoringClient(silent, SHORT) as client:
        with pytest.raises((ServiceUnavailableError, BackendTimeoutError)):
            # Far more than the deadline; without one the connection is waited for 20 seconds, again and again.
            await asyncio.wait_for(ask(client), 8)


def test_the_deadline_of_the_blocking_client_holds_too(silent: str) -> None:
    with ScoringClient(silent, SHORT) as client:
        with pytest.raises((ServiceUnavailableError, BackendTimeoutError)):
            list(client.score_many(answers(5)))
        with pytest.raises((ServiceUnavailableError, BackendTimeoutError)):
            client.score(Answer("A", QUESTION))


async def test_answers_of_an_async_generator(server: Server) -> None:
    async def source():
        for answer in answers(7):
            await asyncio.sleep(0)
            yield answer

    async with AsyncScoringClient(server.address, QUICK) as client:
        assert [result.answer_id async for result in client.score_many(source())] == [f"a{n}" for n in range(7)]
    with ScoringClient(server.address, QUICK) as blocking:
        assert [result.answer_id for result in blocking.score_many(source())] == [f"a{n}" for n in range(7)]


async def test_a_slow_source_holds_up_neither_the_loop_nor_results(server: Server) -> None:
    go_on = threading.Event()

    def source():
        yield from answers(3)
        # Set by the loop when it has the first result: it must run meanwhile.
        assert go_on.wait(30)
        yield from answers(2)

    found = []
    async with AsyncScoringClient(server.address, QUICK) as client:
        async for result in client.score_many(source()):
            go_on.set()
            found.append(result.answer_id)
    assert found == ["a0", "a1", "a2", "a0", "a1"]


async def test_a_source_may_take_longer_than_the_deadline(server: Server) -> None:
    async def source():
        yield Answer("A", QUESTION, "first")
        await asyncio.sleep(1.5)
        yield Answer("B", QUESTION, "second")

    async with AsyncScoringClient(server.address, ClientOptions(timeout_s=1, batch_size=1)) as client:
        assert [result.answer_id async for result in client.score_many(source())] == ["first", "second"]


async def test_an_error_of_the_source_is_the_callers(server: Server) -> None:
    def source():
        yield from answers(1)
        raise KeyError("no more")

    async with AsyncScoringClient(server.address, QUICK) as client:
        with pytest.raises(KeyError, match="no more"):
            [result async for result in client.score_many(source())]


def test_files_may_be_named_by_texts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    with ScoringClient(server.address, ClientOptions(token_file=str(tmp_path / "token"))) as client:
        assert client.score(Answer("A", QUESTION)).correct
    with pytest.raises(InvalidInputError, match=r"ca_file .*nowhere\.pem cannot be read"):
        ScoringClient(server.address, ClientOptions(ca_file=str(tmp_path / "nowhere.pem")))
