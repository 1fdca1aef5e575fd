// Offers fields and values under the filter box; the server says what may stand where the caret is.
import { say } from "./details.js";

const WAIT_MS = 120;

// Places are counted in characters here and there, not in halves of them.
function before(text, units) {
  return [...text.slice(0, units)].length;
}

function units(text, characters) {
  return [...text].slice(0, characters).join("").length;
}

class Offers {
  constructor(box, list) {
    this.box = box;
    this.list = list;
    this.asked = null;
    this.found = null;
    this.at = -1;
  }

  close() {
    clearTimeout(this.waiting);
    this.asked?.abort();
    this.found = null;
    this.at = -1;
    this.list.hidden = true;
    this.list.replaceChildren();
    this.box.setAttribute("aria-expanded", "false");
    this.box.removeAttribute("aria-activedescendant");
  }

  later() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.ask(), WAIT_MS);
  }

  async ask() {
    this.asked?.abort();
    this.asked = new AbortController();
    const { value, selectionStart, selectionEnd } = this.box;
    if (selectionStart !== selectionEnd) return;
    const query = new URLSearchParams({ q: value, at: before(value, selectionStart) });
    try {
      const answer = await fetch(`complete?${query}`, {
        credentials: "same-origin",
        signal: this.asked.signal,
      });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const found = await answer.json();
      if (this.box.value === value && document.activeElement === this.box) this.show(found);
    } catch {
      // Typing goes on without offers.
      this.close();
    }
  }

  // Under the word it would replace: the box is in one width of character.
  place(start) {
    const box = getComputedStyle(this.box);
    const ruler = document.createElement("canvas").getContext("2d");
    ruler.font = box.font;
    const left = parseFloat(box.paddingLeft) + ruler.measureText("0").width * start;
    const room = this.box.offsetWidth - this.list.offsetWidth;
    this.list.style.left = `${Math.max(Math.min(left - this.box.scrollLeft - 14, room), 0)}px`;
  }

  show(found) {
    this.found = found;
    this.at = -1;
    this.list.replaceChildren(...found.offers.map((offer, at) => this.line(offer, at)));
    this.list.hidden = !found.offers.length;
    this.place(found.start);
    this.box.setAttribute("aria-expanded", String(Boolean(found.offers.length)));
    this.box.removeAttribute("aria-activedescendant");
    if (found.offers.length) say(`${found.offers.length} offers`);
  }

  line(offer, at) {
    const line = document.createElement("div");
    line.id = `offer-${at}`;
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", "false");
    const label = document.createElement("span");
    label.className = "code";
    label.textContent = offer.label;
    const hint = document.createElement("span");
    hint.className = "quiet";
    hint.textContent = offer.hint;
    line.append(label, hint);
    // Not click: the box would have lost the focus by then.
    line.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.take(at);
    });
    return line;
  }

  move(by) {
    const lines = [...this.list.children];
    if (!lines.length) return;
    lines[this.at]?.setAttribute("aria-selected", "false");
    this.at = (this.at + by + lines.length + (this.at < 0 && by < 0 ? 1 : 0)) % lines.length;
    lines[this.at].setAttribute("aria-selected", "true");
    lines[this.at].scrollIntoView({ block: "nearest" });
    this.box.setAttribute("aria-activedescendant", lines[this.at].id);
  }

  take(at) {
    const { value } = this.box;
    const { start, stop, offers } = this.found;
    const { insert } = offers[at];
    const head = value.slice(0, units(value, start)) + insert;
    const rest = value.slice(units(value, stop));
    this.box.value = head + (insert.endsWith(" ") ? rest.trimStart() : rest);
    this.box.setSelectionRange(head.length, head.length);
    this.close();
    this.later();
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    const isOpen = !this.list.hidden;
    if (event.key === "ArrowDown" && !isOpen) this.ask();
    else if (event.key === "ArrowDown") this.move(1);
    else if (event.key === "ArrowUp" && isOpen) this.move(-1);
    else if (event.key === "Enter" && isOpen && this.at >= 0) this.take(this.at);
    else if (event.key === "Tab" && isOpen && this.at >= 0 && !event.shiftKey) this.take(this.at);
    else if (event.key === "Escape" && isOpen) this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

export function startCompletion() {
  const box = document.getElementById("q");
  const list = document.getElementById("offers");
  if (!box || !list) return;
  for (const [name, value] of [
    ["role", "combobox"],
    ["aria-autocomplete", "list"],
    ["aria-controls", list.id],
    ["aria-expanded", "false"],
  ]) box.setAttribute(name, value);
  const offers = new Offers(box, list);
  box.addEventListener("input", () => offers.later());
  box.addEventListener("keydown", (event) => offers.key(event));
  box.addEventListener("blur", () => offers.close());
  if (box.dataset.start !== undefined) {
    box.focus();
    box.setSelectionRange(units(box.value, box.dataset.start), units(box.value, box.dataset.stop));
  }
}
