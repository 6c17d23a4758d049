"""Strangers' XML files, read so that none can make the reader fetch other files or fill the memory with entities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse, parse


class XmlError(ValueError):
    """An XML file that cannot be read, or that declares entities; the message says what a person does about it."""


def read_xml(path: Path) -> Element:
    """The root element of a file.

    Raises:
        XmlError: not XML, cut off, in an unknown encoding, unreadable, or with entities.
    """
    try:
        return parse(path).getroot()
    except _ERRORS as error:
        raise _told(error) from error


def walk_xml(path: Path) -> Iterator[tuple[str, Element]]:
    """("start" or "end", element) through a file, which is never in memory as a whole if its elements are cleared.

    Raises:
        XmlError: as `read_xml`, when the walk comes to the place.
    """
    try:
        yield from iterparse(path, events=("start", "end"))
    except _ERRORS as error:
        raise _told(error) from error


def first_tags(path: Path, count: int) -> list[str]:
    """The tags of the first `count` elements, the root's first; fewer where the file is short or not XML.

    Of a file that is refused the tags are guessed, so that its reader comes to tell what is wrong with it.
    """
    tags: list[str] = []
    try:
        for event, element in walk_xml(path):
            if event == "start":
                tags.append(element.tag)
                if len(tags) == count:
                    break
    except XmlError as error:
        if isinstance(error.__cause__, DefusedXmlException):
            with path.open("rb") as stream:
                start = stream.read(1 << 16)
            return [tag.decode() for tag in _TAG.findall(start)[:count]]
    return tags


_TAG = re.compile(rb"<([A-Za-z_][\w.-]*)")

# LookupError: an encoding that Python does not know.
_ERRORS = (ParseError, DefusedXmlException, LookupError, OSError, UnicodeError, ValueError)


def _told(error: Exception) -> XmlError:
    if isinstance(error, DefusedXmlException):
        return XmlError(f"it declares XML entities ({type(error).__name__}), which are refused; write it without them")
    return XmlError(f"it cannot be read as XML ({error}); export it again")
