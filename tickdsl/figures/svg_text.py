"""Makes matplotlib's SVG small, accessible and fit to stand in a page with others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONT = re.compile(r"\s*font(?:-family|-style|-weight|-variant|-stretch)?:[^;]*;?")


def accessible_svg(svg: str, title: str, description: str = "", prefix: str = "figure") -> str:
    """The SVG with a title and description for screen readers, ids that start with `prefix`, and short numbers."""
    return ElementTree.tostring(_cleaned(svg, title, description, prefix), encoding="unicode") + "\n"


def page_svg(svg: str, title: str, description: str, prefix: str, variables: Mapping[str, str]) -> str:
    """The SVG for a page: its colours are CSS variables, its typeface is that of the page.

    `variables` maps colours such as `#0072b2` to names of CSS variables.
    """
    root = _cleaned(svg, title, description, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    for element in root.iter():
        style = element.get("style")
        if style is None:
            continue
        if element.tag == f"{{{_SVG}}}text":
            size = re.search(r"([\d.]+)px", style)
            weight = "; font-weight: 600" if "bold" in style or " 700 " in style else ""
            style = _FONT.sub("", style) + (f"; font-size: {float(size[1]):g}px" if size else "") + weight
        for colour, variable in variables.items():
            style = style.replace(colour, f"var(--{variable})")
        element.set("style", style.strip("; "))
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _cleaned(svg: str, title: str, description: str, prefix: str) -> ElementTree.Element:
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", svg))
    referenced = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    names = {name: f"{prefix}-{number}" for number, name in enumerate(sorted(referenced))}
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}metadata" or child.find(f"{{{_SVG}}}style") is not None:
                parent.remove(child)  # a style sheet would hold for the whole page
    for element in root.iter():
        if (identifier := element.get("id")) is not None:
            if identifier in names:
                element.set("id", names[identifier])
            else:
                del element.attrib["id"]
        if (reference := element.attrib.pop(_XLINK, None)) is not None:
            element.set("href", f"#{names[reference.removeprefix('#')]}")
        for name, value in element.attrib.items():
            value = re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{names[match[1]]})", value)
            element.set(name, _shortened(value) if name not in ("id", "href", "viewBox", "width", "height") else value)
        if element.tag != f"{{{_SVG}}}text":
            element.text = None if not (element.text or "").strip() else element.text
        element.tail = "\n" if element.tag == f"{{{_SVG}}}g" else None
    _share_styles(root)
    root.set("role", "img")
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    head = [("title", title), *([("desc", description)] if description else [])]
    root.set("aria-labelledby", " ".join(f"{prefix}-{tag}" for tag, _ in head))
    for index, (tag, text) in enumerate(head):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{prefix}-{tag}"})
        element.text = text
        root.insert(index, element)
    return root


def _share_styles(root: ElementTree.Element) -> None:
    """Write the style of markers once for all of them, and drop groups that hold nothing."""
    for group in root.iter(f"{{{_SVG}}}g"):
        uses = [child for child in group if child.tag == f"{{{_SVG}}}use"]
        styles = {child.get("style") for child in uses}
        if uses and len(styles) == 1 and len(uses) == len(group) and "style" not in group.attrib:
            style = styles.pop()
            if style:
                group.set("style", style)
                for child in uses:
                    del child.attrib["style"]


def _shortened(value: str) -> str:
    text = _NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r"\s*\n\s*", "", text) if text[:1] == "M" else text
