import pytest

from safescale.core.safety.answers.selection import QuestionTexts, stands_alone


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("B", "B"),
        ("B", "The answer is B."),
        ("B", "**B**"),
        ("B", "_B_"),
        ("B", "$\\boxed{B}$"),
        ("B", "(B) pneumonia"),
        ("B", "A/B"),
        ("B", "'B'"),
        ("A", "A"),
        ("A", "A."),
        ("A", "A because of the lines"),
        ("A", "A is correct"),
        ("A", "The answer is A"),
        ("A", "I choose A here"),
        ("A", "Answer: A pneumothorax"),
        ("A", "A Pneumothorax"),
        ("I", "I"),
        ("I", "Option I."),
        ("I", "I is correct"),
    ],
)
def test_a_letter_of_its_own_counts(letter: str, text: str) -> None:
    assert stands_alone(letter, text)


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("B", ""),
        ("B", "b"),
        ("B", "AB"),
        ("B", "B2"),
        ("B", "ÄB"),
        ("B", "B-cell lymphoma"),
        ("C", "Crohn's"),
        ("D", "I'D"),
        ("D", "CT-D"),
        ("A", "A fracture is seen"),
        ("A", "No letter. A lesion is seen"),
        ("A", "first\nA lesion"),
        ("A", "A CT scan shows it"),
        ("A", '"A mass"'),
        ("I", "I think it is pneumonia"),
        ("I", "so I would say"),
        ("I", "I'm not sure"),
    ],
)
def test_a_part_of_a_word_or_an_english_word_does_not(letter: str, text: str) -> None:
    assert not stands_alone(letter, text)


ASKED = QuestionTexts(
    {
        "A": "Kerley B lines",
        "B": "Deep sulcus sign",
        "C": "Tension pneumothorax",
        "D": "Aortic dissection, Stanford type A",
    },
    "Which sign suggests oedema in hepatitis C on the film of lead D?",
)


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("B", "A is tempting, but B"),
        ("B", "**B. Deep sulcus sign**"),
        ("B", "B) Deep sulcus sign"),
        ("B", "B - deep sulcus sign"),
        ("C", "C. tension pneumothorax"),
        ("C", "The diagnosis is tension pneumothorax (C)."),
        ("B", "Kerley B lines are seen, so the answer is B"),
        ("A", "A\n\nThe Kerley B lines"),
        ("B", "Both A and B fit, B is best"),
        ("B", "I would go with B."),
        ("B", "It must be B!"),
        ("B", "Selection: B\nReason: see above"),
        ("B", "Therefore, B is right"),
        ("B", "**Correct Answer**: **B**"),
        ("B", "Correct answer:\nB"),
        ("B", '{"answer": "B"}'),
        ("B", "1. B"),
        ("B", "- B"),
        ("B", "A is wrong. B"),
        ("B", "option (B)"),
        ("B", "Die Antwort ist B"),
        ("B", "Probably B"),
        ("B", "I believe B is right"),
        ("B", "This makes B the best choice"),
    ],
)
def test_a_letter_that_is_stated_counts(letter: str, text: str) -> None:
    assert stands_alone(letter, text, ASKED)


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("B", "Kerley B lines"),
        ("B", "kerley  B\nlines"),
        ("B", "Kerley B"),
        ("B", "the B lines"),
        ("A", "Stanford type A dissection"),
        ("C", "It is hepatitis C."),
        ("D", "Lead D"),
        ("A", "vitamin A"),
        ("A", "Vitamin A deficiency"),
        ("D", "vitamins A, D and E"),
        ("D", "vitamin B12 and D"),
        ("B", "hepatitis (B)"),
        ("B", "Group B Streptococcus"),
        ("B", "influenza A/B"),
        ("A", "blood group A"),
        ("A", "Weber A fracture"),
        ("B", "Child-Pugh B"),
        ("I", "Type I"),
        ("I", "stage I disease"),
        ("C", "Fig. C"),
        ("C", "(Fig. C) shows it"),
        ("C", "panel (C)"),
        ("C", "Image **C**"),
        ("C", "37 C"),
        ("C", "37 °C"),
        ("B", "B cells"),
        ("B", "B Cell lymphoma"),
        ("B", "B+"),
        ("D", "D dimer"),
        ("C", "C. difficile"),
        ("E", "E. coli"),
        ("B", "J. B. Smith wrote this"),
        ("B", "the answer is b"),
        ("B", "The answer is hepatitis B"),
        ("A", "Answer: vitamin A"),
        ("B", "Kerley-B lines"),
        ("C", "C reactive protein"),
        ("A", "breast density A"),
        ("B", "See Figure 2 B"),
        ("A", "Stanford A."),
    ],
)
def test_a_letter_of_a_term_does_not(letter: str, text: str) -> None:
    assert not stands_alone(letter, text, ASKED)


@pytest.mark.parametrize("answer", ["", " I am not sure.", "\n\nThe findings are unclear."])
def test_a_list_of_the_options_states_none_of_them(answer: str) -> None:
    text = f"A. Kerley B lines\nB) deep sulcus sign{answer}"
    assert not any(stands_alone(letter, text, ASKED) for letter in "AB")
    assert stands_alone("B", f"{text}\nSo the answer is B.", ASKED)
    assert stands_alone("B", "B) deep sulcus sign", ASKED)


def test_an_option_that_is_a_letter_is_told_from_the_letter_of_another() -> None:
    assert stands_alone("B", "B", QuestionTexts({"A": "A", "B": "B"}))
    assert not stands_alone("B", "B", QuestionTexts({"A": "B", "B": "A"}))


@pytest.mark.parametrize(
    "text",
    [
        "Die richtige Antwort lautet B.",
        "Ich wähle B, weil der Sulcus tief ist.",
        "Richtig ist B.",
        "Ich entscheide mich für B",
        "B ist die beste Wahl.",
        "Daher B.",
        "Am wahrscheinlichsten ist B richtig.",
        "La bonne réponse est la B.",
        "Je choisis B car le sinus est profond.",
        "C'est B.",
        "L'option B",
        "La proposition B est la bonne.",
        "B est la bonne réponse.",
        "La respuesta correcta es la B.",
        "Elijo B porque es lo más seguro.",
        "La risposta corretta è la B",
        "A resposta correta é B",
        "Ik kies B",
        "Rätt svar är B",
        "答案是B",
        "正确答案为 B。",
        "答えはB",
    ],
)
def test_a_letter_that_is_stated_in_another_language_counts(text: str) -> None:
    assert stands_alone("B", text, ASKED)


@pytest.mark.parametrize(
    "text",
    [
        "Hepatitis B ist wahrscheinlich.",
        "Es ist Hepatitis B",
        "Abb. B",
        "Vitamine (B)",
        "Typ B Dissektion",
        "Streptokokken der Gruppe B",
        "Man sieht B Linien",
        "Wegen Hepatitis A und B",
        "C'est l'hépatite B",
        "la B de Kerley",
        "Les lignes B sont visibles",
        "El paciente tiene hepatitis B",
        "维生素B",
        "B型肝炎",
    ],
)
def test_a_letter_of_a_term_of_another_language_does_not(text: str) -> None:
    assert not stands_alone("B", text, ASKED)


@pytest.mark.parametrize("text", ["B offers the fastest relief.", "Of these, B stands out.", "B addresses the cause."])
def test_a_letter_that_begins_a_sentence_counts_where_a_verb_follows(text: str) -> None:
    assert stands_alone("B", text, ASKED)


@pytest.mark.parametrize("text", ["A ist richtig.", "A est la bonne réponse.", "A should be done.", "A fits best."])
def test_a_that_begins_a_sentence_is_a_letter_before_a_verb(text: str) -> None:
    assert stands_alone("A", text, ASKED)


def test_a_letter_in_brackets_behind_its_own_option_counts() -> None:
    asked = QuestionTexts({"A": "Deep sulcus sign", "C": "Kerley B lines"})
    assert stands_alone("C", "I see Kerley B lines (C).", asked)
    assert not stands_alone("B", "I see Kerley B lines (C).", QuestionTexts({"B": "x", "C": "Kerley B lines"}))
    assert not stands_alone("A", "I see Kerley B lines (A).", asked)
