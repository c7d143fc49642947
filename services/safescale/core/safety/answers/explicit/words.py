"""Words of four languages (en, de, fr, es) by which an answer is stated, doubted, negated or reported."""

import re


def _any(words: str) -> str:
    """Return an alternation of words; `_` stands for a blank within one, longer ones come first."""
    return "|".join(sorted((word.replace("_", " ") for word in words.split()), key=lambda word: (-len(word), word)))


NOUNS = _any("""
    answer answers ans choice option selection response solution letter pick assistant
    antwort antwortoption antwortmöglichkeit lösung auswahl wahl
    réponse reponse proposition choix respuesta opción opcion alternativa solución solucion elección
    correct correcta correcte correcto boxed 答案
    diagnosis cause step treatment management therapy test investigation
    diagnose diagnostic traitement diagnóstico tratamiento
""")
"""What an answer is called."""

VERBS = _any("""
    is was are would_be will_be should_be must_be has_to_be has_got_to_be is_therefore is_thus
    ist lautet wäre heißt est serait sera est_donc es sería seria será
""")
"""What joins an answer's name and its letter."""

BETWEEN = _any("""
    option choice letter answer number the clearly definitely indeed therefore thus hence simply obviously most_likely
    die der das also daher somit eindeutig antwort antwortoption option buchstabe möglichkeit
    la le l' réponse lettre donc clairement proposition el opción opcion letra respuesta alternativa claramente
""")
"""What may stand between the two."""

CHOOSE = _any("""
    choose chose pick picked select selected opt_for opted_for go_with going_with went_with answer answered vote_for
    settle_on settled_on decide_on wähle nehme entscheide_mich_für tippe_auf choisis retiens sélectionne
    elijo escojo selecciono elegiría
""")
"""What one says who chooses."""

ADVERBS = _any(
    "clearly definitely indeed therefore thus hence obviously also daher eindeutig donc clairement claramente"
)

RIGHT = _any("""
    correct right the_correct the_right the_best the_answer the_most_likely the_most_appropriate the_most_accurate
    the_most_suitable the_single_best the_only_correct
    richtig korrekt zutreffend die_richtige die_korrekte die_beste
    correcte juste exacte la_bonne la_meilleure la_réponse la_correcta la_respuesta correcta correcto la_mejor
""")
"""What is said of the letter that is the answer."""

BECAUSE = _any("""
    because since as due given based which where owing weil da denn aufgrund car parce puisque comme porque ya pues
    debido here in by from according on
""")
"""Words that may follow a letter right away, and begin what is no longer about the choice."""

OPENERS = frozenset(
    """
    the this that these those it its it's they there here in on for because since as when with given if an and a while
    explanation reason reasoning rationale justification note why answer option options other all both however
    therefore thus hence so final correct confidence i we to of by from not
    die der das dies diese dieser es er sie ein eine im in weil da denn begründung erklärung bei
    le la les l' ce cette cet c'est il elle un une en car parce explication justification dans
    el los las este esta esto es un una en porque ya explicación justificación
    """.split()  # noqa: SIM905
)
"""Words that begin a sentence after a letter and its dot; another word may be a species or a name (`E. coli`)."""

_HEDGES = """
    or either maybe perhaps possibly possible probably presumably might may could unsure uncertain guess guessing unless
    between seems seem appears appear leaning lean tempted tempting plausible arguably potentially likely doubt
    oder entweder vielleicht möglicherweise eventuell wahrscheinlich vermutlich könnte womöglich weder scheint unsicher
    ou soit peut-être probablement possiblement pourrait semble ni
    o u quizá quizás tal_vez posiblemente probablemente podría puede parece ambas
    both neither nor
"""
_NEGATIONS = """
    not never no none incorrect wrong false except exclude excluded excluding excludes eliminate eliminated eliminates
    reject rejected unlikely cannot least worst inappropriate contraindicated rule_out rules_out ruled_out without
    nicht nie kein keine keiner falsch falsche inkorrekt unzutreffend außer
    ne pas jamais aucune faux fausse incorrecte sauf
    nunca tampoco incorrecta incorrecto falsa falso excepto salvo descartar descarto
"""
_OTHER_CHOICES = r"""
    refuse refused avoid avoided avoiding unsafe dangerous harmful riskiest risky fatal popular easiest weakest poorest
    poor bad old former outdated tempted
    falsch(?:en|er|es|em) unwahrscheinlich\w* gefährlich\w* zweitbeste\w? frühere?\w? schlecht\w* schlimmste\w?
    vermeiden\w* ungeeignet\w* kontraindiziert\w* keinesfalls keinesweg\w* keine[mn] ungern alte\w? beliebteste\w?
    mauvaise? pire moins dangereu(?:x|se) (?:l')?ancien(?:ne)? précédente? deuxième seconde? éviter inappropriée?
    peor menos equivocad[oa] peligros[oa] antigu[oa] anterior segund[oa] evitar inadecuad[oa] contraindicad[oa]
"""
_EXCEPTIONS = """
    if assuming otherwise wenn falls si sonst es_sei_denn sofern solange sinon à_moins à_condition a_menos siempre_que
    de_lo_contrario dispute disagree widerspreche
"""
_CONTRASTS = (
    "but although though however yet whereas aber jedoch obwohl allerdings mais cependant pero aunque sino embargo"
)
_CONDITIONS = """
    if whether assuming suppose supposing unless when_the falls wenn ob si
    some many most_people students student people others someone often commonly mistake mistakes mistaken
    trap distractor user user's patient's colleague textbook claimed claim claims says said suggested previous
    previously initial initially originally original first second third another alternative tentative draft example
    e.g. earlier form format template instructions instruction respond reply write output such_as tempting one_might
    your his her their should_i should_we
    manche viele studenten häufig fehler certains souvent erreur étudiants algunos muchos error
    estudiantes
"""


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w'-])(?:{_any(words)})(?![\w-])|n't\b|\bn'", re.IGNORECASE)


DOUBTED = _words(_HEDGES + _NEGATIONS + _OTHER_CHOICES)
"""In the clause before a letter."""

DOUBTED_AFTER = _words(_HEDGES + _NEGATIONS + _EXCEPTIONS + _CONTRASTS)
"""In the clause after a letter."""

CONDITIONAL = re.compile(rf"(?<![\w'-])(?:{_any(_CONDITIONS)})(?![\w-])", re.IGNORECASE)
"""In the sentence before a letter: a condition, or another's answer that is told of."""

DOUBTED_FIRST = re.compile(
    r"\W*(?:perhaps|maybe|possibly|probably|presumably|arguably|supposedly|it (?:is|was|would be) (?:not|false"
    r"|wrong|untrue|unlikely)"
    r"|i (?:doubt|don't|do not|cannot|can't|wouldn't|would not|guess)|vielleicht|möglicherweise|vermutlich"
    r"|peut-être|quizás?|tal vez)\b",
    re.IGNORECASE,
)
"""At the beginning of the sentence before a letter."""

MOST_LIKELY = re.compile(r"\b(?:most|more) (?:likely|probable|possible)\b|\b(?:le|la) plus probable\b", re.IGNORECASE)
"""What sounds of doubt and is none: an answer may be called the most likely."""

BEFORE_NOUN = frozenset(
    """
    the my our this that final best correct right appropriate suitable accurate likely probable next preferred
    recommended single only selected chosen true overall definitive definite working underlying main primary
    and so thus therefore hence is to
    die der das dieser meine unsere richtige korrekte beste zutreffende endgültige finale wahrscheinlichste nächste
    einzige ist also daher somit und
    la le l' ma notre bonne meilleure seule donc est et el mi nuestra mejor única es y
    """.split()  # noqa: SIM905
)
"""Words that an answer's name may follow; after any other it may be another's or none (`a decoy answer`)."""

ROMANCE = frozenset(
    """
    réponse reponse proposition choix respuesta opción opcion alternativa solución solucion elección diagnostic
    traitement diagnóstico tratamiento
    """.split()  # noqa: SIM905
)
"""Names of an answer whose adjective comes after them."""

AFTER_NOUN = frozenset(
    """
    correcte finale exacte juste définitive appropriée adéquate la le à de du des au aux que qui est sera serait
    lettre plus pour ici donc et seule retenue choisie
    correcta correcto final exacta definitiva apropiada adecuada acertada el a del es sería sera será letra más mas
    para por aquí y única elegida seleccionada
    """.split()  # noqa: SIM905
)
"""Words that may follow such a name; any other may say that it is no answer (`la réponse erronée`)."""

SPECIES = frozenset(
    """
    coli difficile aureus pneumoniae pyogenes agalactiae faecalis faecium aeruginosa influenzae henselae quintana
    burgdorferi pertussis fragilis cereus anthracis tetani botulinum perfringens diphtheriae albicans auris glabrata
    neoformans jejuni trachomatis psittaci cloacae epidermidis saprophyticus typhi enterica meningitidis gonorrhoeae
    pylori histolytica lamblia falciparum vivax tuberculosis leprae avium marcescens mirabilis vulgaris elegans
    granulosus multilocularis baumannii cepacia melitensis abortus dermatitidis immitis capsulatum fumigatus
    """.split()  # noqa: SIM905
)
"""Second names of organisms whose first name is shortened to a letter."""

SECOND_THOUGHT = re.compile(
    r"\b(?:sorry|apologies|oops|my (?:mistake|bad)|i meant?\b|with (?:low|little|limited) (?:certainty|confidence)"
    r"|ich meinte|je voulais dire|quise decir|perdón|hmm|on second thoughts?|correction\b|scratch that|let me (?:re"
    r"|double|correct)|i made a mistake"
    r"|i (?:was|am|may be|might be|could be) (?:wrong|mistaken|torn)|i'm (?:wrong|torn)|take (?:that|it) back"
    r"|change my (?:answer|mind)|i need to correct|reconsider|not (?:\w+ )?(?:sure|certain|confident)|unsure|uncertain"
    r"|(?:cannot|can't) be (?:\w+ )?(?:sure|certain)|(?:don't|do not) (?:trust|rely)"
    r"|no (?:correct|right|valid) (?:option|answer|choice)"
    r"|(?:could|may|might) be wrong|alternatively|or rather|i (?:don't|do not|cannot|can't) (?:know|determine|decide)"
    r"|moment mal|ich bin (?:mir )?(?:nicht|un)|korrektur\b|attendez|je ne suis pas s[ûu]r|correction|espera\b"
    r"|no estoy segur[oa])|(?:^|[^\w\s] ?)(?:actually|wait\b|no,)",
    re.IGNORECASE | re.MULTILINE,
)
"""What takes an answer back."""
