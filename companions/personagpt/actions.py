"""The action codes: goals by number and phrase, and when a reply follows one.

A goal is a phrase such as "ask about pets.", its full stop included. Eleven are PersonaGPT's own; a file with a phrase
per line gives others.

A reply follows a goal when it holds one of the goal's keywords. The reply is lower-cased and read as words, which are
runs of letters, digits and apostrophes; a keyword is a word that must stand there as it is ("pet"), the beginning of
one where a star ends it ("vegetaria*" for vegetarian and vegetarianism), or several words in a row ("how old"). The
keywords of the eleven goals are those of `_KEYWORDS`. Those of any other goal are its own words but for "ask", "talk",
"about", "favorite" and the like, each as the beginning of a word, without a final s: "talk about board games." has
board* and game*. The measure does not see a reply that keeps to the subject in other words, and counts one that names
it by chance.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from dataset.lines import text_lines
from utils.errors import UserError, nearest, shown

_KEYWORDS = {
    "ask about kids.": "kid kids child* son sons daughter* family families baby babies parent* mother* father* mom "
    "moms dad dads sibling* brother* sister*",
    "ask about pets.": "pet pets dog dogs puppy puppies cat cats kitten* kitty animal* horse* fish bird* hamster* "
    "bunny bunnies rabbit* turtle* parrot*",
    "talk about work.": "work works worked working worker* job jobs career* occupation* profession* employ* boss "
    "office* business* company companies retire* for_a_living",
    "ask about marital status.": "married marry marriage* marital wife wives husband* spouse* single divorce* widow* "
    "wedding* engaged dating date boyfriend* girlfriend* fiance* relationship* partner",
    "talk about travel.": "travel* trip trips vacation* abroad visit* country countries overseas flight* fly flying "
    "tour tours tourist* journey* holiday holidays airport* passport* cruise* been_to",
    "ask about age and gender.": "age ages aged how_old years_old year_old birthday* gender* male female man woman men "
    "women boy girl guy lady",
    "ask about hobbies.": "hobby hobbies fun free_time spare_time like_to_do enjoy* interest* sport* game games gaming "
    "read reading books hike hiking paint* draw drawing danc* garden* fishing collect* weekend*",
    "ask about favorite food.": "food* eat eats eating ate meal* dinner* lunch* breakfast* cook* bake baking dish* "
    "restaurant* pizza* pasta burger* steak* chicken taco* sushi vegan* vegetaria* dessert* hungry cuisine*",
    "talk about movies.": "movie* film films cinema* actor* actress* tv television netflix show shows series comedy "
    "comedies horror hollywood",
    "talk about music.": "music* song* sing sings singing singer* band bands album* concert* guitar* piano* drum* "
    "rap rapper* rock jazz hip_hop pop classical listen* instrument*",
    "talk about politics.": "politic* vote* voting voter* election* president* government* democrat* republican* "
    "congress senator* liberal* conservative* law laws tax taxes",
}
"""by goal, in the order of their numbers; an underscore is a space"""

GOALS = tuple(_KEYWORDS)
"""PersonaGPT's own, by number"""

_ALIASES = {
    "ask about family.": "ask about kids.",
    "talk about traveling.": "talk about travel.",
    "talk about hobbies.": "ask about hobbies.",
    "talk about food.": "ask about favorite food.",
}
"""other words that its documentation has for some of them"""

_NOT_CONTENT = frozenset(
    "a about and any are ask do favorite favourite for her his in is it like my of on or some talk tell that the their "
    "they this to what with you your".split()
)


def goals_in(path: str | Path | None) -> tuple[str, ...]:
    """The goals of a file with one phrase per line; PersonaGPT's own for None.

    Raises:
        UserError: the file is missing, empty or not UTF-8, or has an empty line or a phrase twice.
    """
    if path is None:
        return GOALS
    lines = text_lines(path, "file of goals")
    if not lines[-1]:
        lines.pop()  # what follows the last line's end
    goals: dict[str, str] = {}  # by what they are compared with
    for number, line in enumerate(lines, start=1):
        goal, where = line.strip(), f"{path}:{number}"
        if not goal:
            raise UserError(f"{where}: the line is empty; each line is a goal, and its number counts")
        if (plain := _plain(goal)) in goals:
            raise UserError(f"{where}: the goal {shown(goal)} is line {list(goals).index(plain) + 1} already")
        if "<|" in goal:
            raise UserError(f"{where}: a goal is plain text, without special tokens: {shown(goal)}")
        goals[plain] = goal
    return tuple(goals.values())


def goal_by_number(text: str, goals: Sequence[str] = GOALS) -> str | None:
    """The goal whose number a user typed; None where it is no number of one."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) >= len(goals):
        return None
    return goals[int(text)]


def goal_by_phrase(phrase: str, goals: Sequence[str] = GOALS) -> str:
    """The goal that a phrase names, whatever its capitals and whether or not it has the full stop.

    Raises:
        UserError: it is not in the list.
    """
    wanted = _plain(phrase)
    known = {_plain(alias): goal for alias, goal in _ALIASES.items() if goal in goals}
    known |= {_plain(goal): goal for goal in goals}
    if wanted not in known:
        raise UserError(f"the goal {shown(phrase)} is not in the list{nearest(phrase, goals)}")
    return known[wanted]


def keywords_of(goal: str) -> tuple[str, ...]:
    """The keywords of a goal, see above."""
    if goal in _KEYWORDS:
        return tuple(word.replace("_", " ") for word in _KEYWORDS[goal].split())
    content = [word for word in _words(goal) if word not in _NOT_CONTENT]
    # a goal of such words alone is held to all that it says
    return tuple(f"{word.removesuffix('s') or word}*" for word in content or _words(goal))


def follows(reply: str, goal: str) -> bool:
    """Whether a reply holds a keyword of a goal."""
    text = f" {' '.join(_words(reply))} "
    return any(
        f" {word.removesuffix('*')}{'' if word[-1] == '*' else ' '}" in text for word in keywords_of(goal)
    )


def _plain(phrase: str) -> str:
    return " ".join(phrase.lower().split()).removesuffix(".").rstrip()


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'"))
