"""What a model's text answers, and whether that is right, by the published rules of GSM8K and HotpotQA.

Extraction reads the answer's text only: the question may hold a `####` or a number of its own. It returns None where
there is no answer, and None is never right, whatever the gold says: two unreadable answers are not the same answer.
A gold that cannot be read is a fault of the data and raises.

Numbers are canonical, so that equal values are equal strings: "$1,018.00" and "1018" both give "1018".
"""

import re
import string
from collections import Counter
from decimal import Decimal

# Digits with thousands commas and decimals, as in GSM8K's task of lm-evaluation-harness (gsm8k.yaml, version 3:
# "strict-match", `[0-9\.\,]+`). Theirs also takes a lone full stop or comma for a number; here a digit is needed.
DIGITS = r"(?:(?<![0-9.])\.)?[0-9][0-9,.]*"
# The harness wants one space between the marker and the number and drops `$` only when it compares, so "####18" and
# "#### $18" are lost to it; here they count.
STRICT = re.compile(rf"####[ \t]*((?:-[ \t]*)?(?:\$[ \t]*)?-?{DIGITS})")
# A minus after a word, a bracket or a full stop is a subtraction or a dash: "16-3" ends in 3.
LAST = re.compile(rf"(?:(?<![\w).])-)?\$?(?:(?<=\$)-)?{DIGITS}")
MARKER = "####"
CLOSED = {"yes", "no", "noanswer"}  # answers of HotpotQA that share no words with any other


def extract_gsm8k(text: str) -> str | None:
    """The number after the first `####` that one follows on the same line, canonical; None where there is none.

    GSM8K's strict rule (lm-evaluation-harness, filter "strict-match"); how it differs is said beside `STRICT`.
    """
    found = STRICT.search(text)
    return canonical(found.group(1)) if found else None


def extract_flexible(text: str) -> str | None:
    """The strict answer, or in a text without `####` its last number; None where there is none.

    After filter "flexible-extract" of the same task, which takes the last number in any case.
    """
    if MARKER in text:
        return extract_gsm8k(text)
    numbers = LAST.findall(text)
    return canonical(numbers[-1]) if numbers else None


def extract_entity(text: str) -> str | None:
    """What stands after the first `####` up to the line's end, stripped; None where that is nothing."""
    _, _, rest = text.partition(MARKER)
    return rest.split("\n", 1)[0].strip() or None


def canonical(number: str) -> str | None:
    """A number as one string per value: no commas, dollar signs, spaces, closing full stops, idle zeros, or -0.

    None for what is no number, such as "210.0.0".
    """
    digits = re.sub(r"[,$\s]", "", number).rstrip(".")
    if not re.fullmatch(r"-?[0-9]*\.?[0-9]+", digits):
        return None
    text = format(Decimal(digits), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def same_number(predicted: str | None, gold: str) -> bool:
    """Whether an extracted number has the gold's value; None and what is no number are never right.

    Raises:
        ValueError: where the gold is no number.
    """
    wanted = canonical(gold)
    if wanted is None:
        raise ValueError(f"The gold answer {gold!r} is not a number: give the bare number, such as '1018'.")
    return predicted is not None and canonical(predicted) == wanted


def hotpotqa_em_f1(prediction: str | None, gold: str) -> tuple[float, float]:
    """Exact match and F1 over words of an extracted answer, each in [0, 1], as in hotpot_evaluate_v1.py.

    Both are judged after `normalise`. F1 is the harmonic mean of precision and recall over words with their
    multiplicities; where either side is yes, no or noanswer it is 0 unless both are the same (Yang et al. 2018,
    section 5.1, and the official script). An answer that is None or blank scores 0 on both.

    Raises:
        ValueError: where the gold is blank.
    """
    if not gold.strip():
        raise ValueError("The gold answer is blank: give a text to compare with.")
    if prediction is None or not prediction.strip():
        return 0.0, 0.0
    ours, theirs = normalise(prediction), normalise(gold)
    exact = float(ours == theirs)
    if {ours, theirs} & CLOSED:
        return exact, exact
    return exact, _word_f1(ours.split(), theirs.split())


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, then without the words a, an, the, with single spaces between words."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


def _word_f1(predicted: list[str], gold: list[str]) -> float:
    """2 x shared words / all words, which is the harmonic mean of precision and recall; 0 where none is shared."""
    shared = (Counter(predicted) & Counter(gold)).total()
    return 2 * shared / (len(predicted) + len(gold)) if shared else 0.0
