from hypothesis import given
from hypothesis import strategies as st

from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.encoded_batches import read_batch

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
QUESTIONS = st.builds(
    lambda text, options: common_pb2.Question(stem=common_pb2.QuestionStem(question_text=text, options=options)),
    TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3),
)  # fmt: skip
ANSWERS = st.builds(pb.AnswerInput, answer_id=TEXTS, text=TEXTS, judge_model=TEXTS, question=st.none() | QUESTIONS)


@given(TEXTS, st.lists(ANSWERS, max_size=5))
def test_a_batch_is_read_as_its_message_is(batch_id: str, answers: list[pb.AnswerInput]) -> None:
    batch = read_batch(pb.ScoreAnswersRequest(batch_id=batch_id, answers=answers).SerializeToString())
    assert batch.batch_id == batch_id
    read = [
        pb.AnswerInput(
            answer_id=each.answer_id, text=each.text, judge_model=each.judge_model,
            question=common_pb2.Question.FromString(each.question) if each.question else None,
        )
        for each in batch.answers
    ]  # fmt: skip
    for one, sent in zip(read, answers, strict=True):
        # A question without fields is as none.
        if not sent.question.ByteSize():
            sent.ClearField("question")
        assert one == sent
