"""What the demo's speakers say: strings of digits and short commands, with their pronunciations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asrkd.corpus.lexicon import Lexicon

_DIGITS = ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ROOMS = ("kitchen", "bedroom", "bathroom", "office", "garage")
# General American in ARPAbet; second spellings where the voices differ.
_PRONUNCIATIONS = """
zero Z IH R OW
oh OW
one W AH N
two T UW
three TH R IY
four F AO R
five F AY V
six S IH K S
seven S EH V AH N
eight EY T
nine N AY N
alarm AH L AA R M
bathroom B AE TH R UW M
bedroom B EH D R UW M
call K AO L
close K L OW Z
close K L OW S
door D AO R
down D AW N
fan F AE N
garage G AH R AA ZH
garage G AE R AA ZH
heater HH IY T ER
kitchen K IH CH AH N
light L AY T
music M Y UW Z IH K
number N AH M B ER
off AO F
office AO F AH S
on AA N
open OW P AH N
play P L EY
please P L IY Z
set S EH T
start S T AA R T
stop S T AA P
the DH AH
the DH IY
timer T AY M ER
turn T ER N
up AH P
volume V AA L Y UW M
window W IH N D OW
"""
# What other people talk about in the background.
BABBLE = (
    "We walked along the river until it began to rain and then we went back to the house",
    "She said that her brother would come on Thursday unless the train was late again",
    "Most of the bread was gone before anybody thought of asking where it came from",
    "I would rather stay here and read than drive all the way across the valley tonight",
    "The meeting was moved to another building because the roof had started to leak",
    "They bought apples and cheese and a large bag of rice at the market by the harbor",
    "Nobody remembers who painted this picture but everyone agrees that it is very old",
    "If the weather holds we could climb the hill and look at the ships in the bay",
)


def lexicon() -> Lexicon:
    """Every word that `draw_text` can give."""
    return Lexicon.from_pairs([(w, phones) for w, *phones in map(str.split, _PRONUNCIATIONS.strip().splitlines())])


def draw_text(rng: np.random.Generator) -> str:
    """A string of 3 to 6 digits, or (as often) a command."""
    if rng.random() < 0.5:
        return " ".join(_digits(rng, int(rng.integers(3, 7))))
    return _COMMANDS[int(rng.integers(len(_COMMANDS)))](rng)


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _digits(rng: np.random.Generator, count: int) -> list[str]:
    return [_pick(rng, _DIGITS) for _ in range(count)]


def _polite(rng: np.random.Generator, command: str) -> str:
    return f"{command} please" if rng.random() < 0.2 else command


_COMMANDS: tuple[Callable[[np.random.Generator], str], ...] = (
    lambda rng: _polite(
        rng, f"turn {_pick(rng, ('on', 'off'))} the {_pick(rng, _ROOMS)} {_pick(rng, ('light', 'fan', 'heater'))}"
    ),
    lambda rng: _polite(
        rng, f"{_pick(rng, ('open', 'close'))} the {_pick(rng, _ROOMS)} {_pick(rng, ('door', 'window'))}"
    ),
    lambda rng: _polite(rng, f"turn {_pick(rng, ('up', 'down'))} the {_pick(rng, ('volume', 'heater', 'music'))}"),
    lambda rng: _polite(rng, f"{_pick(rng, ('play', 'stop'))} the music"),
    lambda rng: " ".join([_pick(rng, ("play", "call")), "number", *_digits(rng, int(rng.integers(1, 4)))]),
    lambda rng: " ".join(
        [_pick(rng, ("set", "start", "stop")), _pick(rng, ("alarm", "timer")), "number", *_digits(rng, 1)]
    ),
)
