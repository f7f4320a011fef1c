"""E-mail messages as the benchmark has them: a subject and a body."""

import io
from dataclasses import dataclass

import mailparser
from mailparser.exceptions import MailParserError


@dataclass(frozen=True)
class Message:
    """What LaMP-6 takes of a message."""

    subject: str
    """decoded; folded over several lines as in the message; "" where it has none"""
    body: str
    """plain parts, then HTML parts, with lines `--- mail_boundary ---` between them; stripped"""


def parse_message(content: bytes) -> Message:
    """An RFC 822 message, parsed by the library that the benchmark's own builder uses.

    Args:
        content: the file; text that is not encoded is UTF-8, and bytes that are not are left out.

    Raises:
        ValueError: the library gives up on it.
    """
    text = io.StringIO(content.decode("utf-8", errors="ignore"), newline=None).read()
    try:
        mail = mailparser.parse_from_string(text)
    except MailParserError as error:
        raise ValueError(str(error)) from None
    subject = mail.subject
    return Message(subject[0] if isinstance(subject, list) else subject, mail.body.strip())
