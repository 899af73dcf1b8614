"""XMP sidecars, which photo programs read: the caption as the description of the picture, its alt
text for those who do not see it, and its keywords.

What else is in a sidecar stays: ratings, edits, and titles in other languages. Written as
"XMP Specification Part 1" (Adobe, 2012) and the "IPTC Photo Metadata Standard" say; sidecars are
named as darktable and digiKam do (`a.jpg.xmp`) or as Adobe's programs do (`a.xmp`). Knows nothing
of which captions are left out.
"""

import logging
import re
from collections.abc import Iterable
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from captioner.export.place import Place
from captioner.output.results import Result
from captioner.text import printable

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XML = "http://www.w3.org/XML/1998/namespace"
XMLNS = "http://www.w3.org/2000/xmlns/"
DC = "http://purl.org/dc/elements/1.1/"
IPTC = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
PREFIXES = {RDF: "rdf", DC: "dc", IPTC: "Iptc4xmpCore"}
NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
EMPTY = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about="" xmlns:dc="{DC}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""

MAX_BYTES = 16_000_000  # of a sidecar

logger = logging.getLogger(__name__)


def write_xmp(results: Iterable[Result], place: Place) -> None:
    """A sidecar a caption; one that is no XMP is left as it is, with a warning.

    Raises:
        OutputError: one cannot be written.
    """
    for result in results:
        whole_name = place.options.xmp_name != "adobe"
        path = place.beside(result, ".xmp", whole_name=whole_name)
        if path is None:
            continue
        try:
            data = place.read(path)
            if data is not None and len(data) > MAX_BYTES:
                raise ValueError("it is too large")
            described = with_description(
                data, result.caption.strip(), result.alt_text, result.keywords
            )
        except (OSError, ValueError, ExpatError) as error:
            name = printable(str(path))
            logger.warning("%s is no sidecar that can be added to (%s): left", name, error)
            continue
        place.write(path, described, merged=True)


def with_description(
    sidecar: bytes | None, text: str, alt_text: str = "", keywords: Iterable[str] = ()
) -> bytes:
    """A sidecar with `text` as its description (`dc:description`, in the default language), and,
    where there are any, an alt text (`Iptc4xmpCore:AltTextAccessibility`) and keywords
    (`dc:subject`), which are added to those that are there.

    Raises:
        ValueError: `sidecar` is no XMP.
        ExpatError: it is no XML.
    """
    document = minidom.parseString(sidecar if sidecar is not None else EMPTY.encode())
    if document.doctype is not None:
        raise ValueError("it declares a document type")
    packets = document.getElementsByTagNameNS(RDF, "RDF")
    if not packets:
        raise ValueError("it has no rdf:RDF")
    description = _description(document, packets[0])
    _say_by_default(document, description, (DC, "description"), text)
    if alt_text:
        _say_by_default(document, description, (IPTC, "AltTextAccessibility"), alt_text)
    _add_keywords(document, description, keywords)
    return _written(document)


def _say_by_default(
    document: minidom.Document, description: minidom.Element, name: tuple[str, str], text: str
) -> None:
    """Set what a property says in the default language."""
    for old in _everywhere(description, name):
        items = old.getElementsByTagNameNS(RDF, "li")
        default = [i for i in items if i.getAttributeNS(XML, "lang") in ("x-default", "")]
        if default:
            return _say(document, default[0], text)
    alternatives = _made(document, (RDF, "Alt"))
    alternatives.appendChild(item := document.createElementNS(RDF, "rdf:li"))
    item.setAttributeNS(XML, "xml:lang", "x-default")
    _say(document, item, text)
    description.appendChild(element := _made(document, name))
    element.appendChild(alternatives)


def _add_keywords(
    document: minidom.Document, description: minidom.Element, keywords: Iterable[str]
) -> None:
    subjects = _everywhere(description, (DC, "subject"))
    bags = [bag for subject in subjects for bag in _children(subject, RDF, "Bag")]
    there = {_said(item) for bag in bags for item in _children(bag, RDF, "li")}
    words = (NOT_IN_XML.sub("\ufffd", word) for word in keywords)
    if not (missing := [word for word in words if word not in there]):
        return
    if not bags:
        if not subjects:
            description.appendChild(subject := _made(document, (DC, "subject")))
            subjects = [subject]
        subjects[0].appendChild(bag := _made(document, (RDF, "Bag")))
        bags = [bag]
    for word in missing:
        item = document.createElementNS(RDF, bags[0].prefix + ":li" if bags[0].prefix else "li")
        bags[0].appendChild(item)
        _say(document, item, word)


def _made(document: minidom.Document, name: tuple[str, str]) -> minidom.Element:
    """An element that declares its own prefix, whatever prefixes the file uses."""
    namespace, local = name
    prefix = PREFIXES[namespace]
    element = document.createElementNS(namespace, f"{prefix}:{local}")
    element.setAttributeNS(XMLNS, f"xmlns:{prefix}", namespace)
    return element


def _description(document: minidom.Document, packet: minidom.Element) -> minidom.Element:
    """The `rdf:Description` that holds a description, or the first, or a new one."""
    there = _children(packet, RDF, "Description")
    described = [element for element in there if _children(element, DC, "description")]
    if there:
        return (described or there)[0]
    made = document.createElementNS(RDF, "rdf:Description")
    made.setAttributeNS(XMLNS, "xmlns:rdf", RDF)
    made.setAttributeNS(RDF, "rdf:about", "")
    packet.appendChild(made)
    return made


def _everywhere(description: minidom.Element, name: tuple[str, str]) -> list[minidom.Element]:
    """A property in all the blocks that a sidecar may have."""
    packet = description.parentNode
    assert isinstance(packet, minidom.Element)
    blocks = _children(packet, RDF, "Description")
    return [found for block in blocks for found in _children(block, *name)]


def _children(node: minidom.Element, namespace: str, name: str) -> list[minidom.Element]:
    return [
        child
        for child in node.childNodes
        if isinstance(child, minidom.Element)
        and (child.namespaceURI, child.localName) == (namespace, name)
    ]


def _said(item: minidom.Element) -> str:
    texts = (child for child in item.childNodes if isinstance(child, minidom.Text))
    return "".join(text.data for text in texts).strip()


def _say(document: minidom.Document, item: minidom.Element, text: str) -> None:
    while item.firstChild:
        item.removeChild(item.firstChild)
    item.appendChild(document.createTextNode(NOT_IN_XML.sub("\ufffd", text)))


def _written(document: minidom.Document) -> bytes:
    return b"".join(node.toxml("utf-8") + b"\n" for node in document.childNodes)
