"""What a page may hold, whatever the events on it say: our own elements, and no more."""

from __future__ import annotations

import html.parser
import urllib.parse

# Elements through which a text could run, load or draw something.
_NEVER = {
    *("base", "embed", "frame", "frameset", "iframe", "img", "image", "object", "style", "video"),
    *("audio", "source", "track", "foreignobject", "animate", "set", "marquee", "math", "portal"),
}
_ADDRESSES = {"href", "src", "action", "formaction", "xlink:href", "data", "poster", "cite"}


class _Faults(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found = []
        self.in_script = False

    def handle_starttag(self, tag, attributes):
        if tag in _NEVER:
            self.found.append(f"element {tag}")
        held = dict(attributes)
        if tag == "script":
            self.in_script = True
            if not held.get("src", "").startswith("static/"):
                self.found.append(f"script of {held}")
        if tag == "meta" and "http-equiv" in held:
            self.found.append("meta http-equiv")
        for name, value in attributes:
            if name.startswith("on") or name in ("style", "srcdoc"):
                self.found.append(f"attribute {name} of {tag}")
            if name in _ADDRESSES and not (tag == "link" and value == "data:,"):
                self._check_address(tag, value or "")

    def handle_endtag(self, tag):
        if tag == "script":
            self.in_script = False

    def handle_data(self, data):
        if self.in_script and data.strip():
            self.found.append("script in the page")

    def _check_address(self, tag, value):
        # As a browser does: what is left and right of it, and line ends in it, do not count.
        bare = "".join(char for char in value.strip() if char > " ")
        if urllib.parse.urlsplit(bare).scheme or bare.startswith(("//", "\\\\", "/\\")):
            self.found.append(f"address {value!r} of {tag}")


def faults(page):
    """What of a page's HTML is not ours."""
    parser = _Faults()
    parser.feed(page)
    parser.close()
    return parser.found


def hidden_characters(text, hiding):
    """Characters that hide or reorder text and stand in it as they are."""
    control = {char for char in text if char < " " and char not in "\n\t"}
    return sorted({hex(ord(char)) for char in control | (set(text) & set(hiding))})
