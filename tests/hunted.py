"""Inputs that nobody wrote by hand, and the one judgement on all of them: what is read parses, or is refused in a line.

A file's content is either any bytes, or a good content that was damaged: cut, doubled, with bytes or words put into it
that readers stumble over.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from utils.errors import UserError

LONGEST_MESSAGE = 2000
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # one emoji of three, with joiners
STRANGE = (
    FAMILY,
    "\U0001f1e9\U0001f1ea",
    "e\u0301",
    "\u0301",
    "שלום",
    "\u202eabc\u202c",
    "\u200f",
    "\u2028",
    "\u2029",
    "\x85",
    "\ufeff",
    "\x00",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1b[31m",
    "\ufffd",
    "\ufffe",
    "\u00a0",
    "\u3000",
    "ǅ",
    "ß",
    "İ",
    "Ǆ",
    "\U0010ffff",
    "\U00020000",
    "١٢٣",
    "½",
    "a" * 3000,
    " " * 50,
    "</s>",
    "<|endoftext|>",
    "R:",
    "Q:",
    " R: ",
    "; context:",
    "{x}",
    "%s",
)
"""texts that are text: all but half characters"""
BROKEN = (
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
    b"\xe2\x80",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x00",
    b"\r",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"\t",
    b'"',
    b"'",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b": ",
    b"- ",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"0.5",
    b"9" * 5000,
    b"1" * 30,
    b'"a":1,',
    b"[" * 2000,
    b'{"a":' * 2000,
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!python/object/apply:os.system ",
    b"!!bool ",
    b"!!int ",
    b"!",
    b"%",
    b"#",
    b"|",
    b">",
    b"? ",
    b"---\n",
    b"...\n",
    b"1 ",
    b"2 ",
    b"0 ",
    b"your persona: ",
    b"partner's persona: ",
    b"<|",
    b"|>",
    b"<|sep|>",
    b"<|p1|>",
    b"<|endoftext|>",
    *(text.encode() for text in STRANGE),
)
"""what damaged contents get put into them"""

any_text = st.text(st.characters(codec=None), max_size=30)
"""any characters, halves of them included"""
texts = st.lists(
    st.one_of(
        st.sampled_from(STRANGE), st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), st.just(" ")
    ),
    max_size=4,
).map("".join)
"""what people and programs call text"""
spoken = texts.filter(lambda text: text.strip() and not set(text) & set("\n\t"))
"""what an utterance may be"""
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 30),
    st.just(10**400),
    st.floats(),
    texts,
    any_text,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
"""any value that JSON and YAML can hold, and some that they cannot"""


def damaged(*goods: str | bytes) -> st.SearchStrategy[bytes]:
    """Contents that were good, with one to four damages."""
    contents = [good.encode() if isinstance(good, str) else good for good in goods]
    return st.builds(_damage, st.sampled_from(contents), st.lists(_DAMAGE, min_size=1, max_size=4))


_PLACE = st.floats(0, 1)
_DAMAGE = st.tuples(
    st.sampled_from(("insert", "replace", "cut", "double", "end", "flip")),
    _PLACE,
    st.integers(1, 40),
    st.sampled_from(BROKEN),
)


def _damage(content: bytes, damages: Sequence[tuple[str, float, int, bytes]]) -> bytes:
    for kind, place, length, piece in damages:
        at = int(place * len(content))
        before, part, after = content[:at], content[at : at + length], content[at + length :]
        if kind == "flip":
            part = bytes(byte ^ (1 << length % 8) for byte in part[:1]) + part[1:]
        middle = {
            "insert": piece + part,
            "replace": piece,
            "cut": b"",
            "double": part + part,
            "end": part,
            "flip": part,
        }
        content = before + middle[kind] + (b"" if kind == "end" else after)
    return content


def files(*goods: str | bytes) -> st.SearchStrategy[bytes]:
    """Damaged contents, and now and then any bytes or any text."""
    return st.one_of(damaged(*goods), damaged(*goods), st.binary(max_size=300), texts.map(str.encode))


def with_a_part_replaced(good: Any, value: Any, random: Random) -> Any:
    """The content with `value` in the place of one of its parts, of the parts of its parts, and so on."""
    if not isinstance(good, dict | list) or not good or random.random() < 0.15:
        return value
    copy = good.copy()
    key = random.choice(list(good) if isinstance(good, dict) else range(len(good)))
    copy[key] = with_a_part_replaced(good[key], value, random)
    return copy


def refusal(read: Callable[[], Any], *named: object) -> str | None:
    """The message of the UserError with which `read` refuses, None where it does not.

    The message is one line that one can read, and names things. Any other exception goes on: it is what is hunted.
    """
    try:
        read()
    except UserError as error:
        message = str(error)
    else:
        return None
    assert not _UNSEEN.search(message), ascii(message)
    assert 0 < len(message) <= LONGEST_MESSAGE, message[:100]
    for name in named:
        assert str(name) in message, message
    return message


def judged(read: Callable[[], Any], *named: object) -> Any:
    """What `read` gives; None where it refuses as it should, see `refusal`."""
    found = []
    refusal(lambda: found.append(read()), *named)
    return found[0] if found else None


def judged_file(read: Callable[[Path], Any], path: Path, content: bytes, by_line: bool = True) -> Any:
    """`judged` of a file with this content; a refusal names the file, and where it has lines the line."""
    path.write_bytes(content)
    found = []
    message = refusal(lambda: found.append(read(path)), path)
    if message and by_line and content.decode("utf-8-sig", "replace").strip():
        line = re.search(rf"{re.escape(str(path))}(?::|, line )(\d+)", message)
        assert line, message
        assert 1 <= int(line[1]) <= content.count(b"\n") + 1, message
    return found[0] if found else None
