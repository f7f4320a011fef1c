"""Subjects and bodies of messages."""

from companions.lamp.data.messages import Message, parse_message


def test_encoded_text_is_decoded():
    """Titles and e-mails of LaMP-6 in base64 teach the LM to write base64."""
    content = (
        b"Subject: =?utf-8?b?VGVlIMO8YmVyIGFsbGVt?=\n"
        b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n"
        b"caf=E9 =3D coffee\n"
    )
    assert parse_message(content) == Message("Tee über allem", "café = coffee")


def test_parts_are_joined_as_in_the_benchmark():
    """Without the line between the parts, plain text and HTML differ from the benchmark's."""
    content = (
        b'Subject: two\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary="b"\n\n'
        b"--b\nContent-Type: text/html\n\n<p>one</p>\n--b\nContent-Type: text/plain\n\none\n--b--\n"
    )
    assert parse_message(content).body == "one\n--- mail_boundary ---\n<p>one</p>"


def test_a_windows_path_stays_as_it_is():
    r"""A reader that takes \u for an escape fails on `C:\users`, or makes another character of it."""
    assert parse_message(b"Subject: s\n\nC:\\users \\u00e9\n").body == "C:\\users \\u00e9"


def test_line_ends_and_missing_subject():
    """Messages saved on Windows have bodies of their own, and one without a subject stops the builder."""
    assert parse_message(b"From: a@example.org\r\n\r\none\r\ntwo\r\n") == Message("", "one\ntwo")


def test_of_several_subjects_the_first_counts():
    """A list in the place of a text is refused by every reader of the file."""
    assert parse_message(b"Subject: first\nSubject: second\n\n").subject == "first"


def test_bytes_that_are_no_utf8_are_left_out():
    """One stray byte in a million messages stops the builder."""
    assert parse_message(b"Subject: s\n\nna\xefve caf\xc3\xa9\n").body == "nave café"
