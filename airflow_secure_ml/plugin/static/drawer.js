// Opens an event beside the list instead of loading the page again; the address follows.
import { say, showZones } from "./details.js";
import { showCheck } from "./proof.js";

let asked = 0;

function select(name) {
  for (const row of document.querySelectorAll("tr[data-event]")) {
    if (row.dataset.event === name) row.setAttribute("aria-selected", "true");
    else row.removeAttribute("aria-selected");
  }
}

async function show(href, { focus }) {
  const split = document.getElementById("split");
  const drawer = document.getElementById("drawer");
  const address = new URL(href, location.href);
  const name = address.searchParams.get("event");
  const mine = (asked += 1);
  select(name);
  if (!name) {
    split.classList.remove("open");
    drawer.replaceChildren();
    return;
  }
  split.classList.add("open");
  drawer.setAttribute("aria-busy", "true");
  const part = new URL("event", address);
  part.search = new URLSearchParams({ name, q: address.searchParams.get("q") ?? "", part: "1" });
  try {
    const answer = await fetch(part, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const text = await answer.text();
    if (mine !== asked) return;
    // Parsed, never run: scripts in it stay dead, and the page's policy forbids them anyway.
    const parsed = new DOMParser().parseFromString(text, "text/html");
    drawer.replaceChildren(...parsed.body.childNodes);
    const close = drawer.querySelector("a.close");
    address.searchParams.delete("event");
    close.href = address.href;
    showZones(drawer);
    showCheck(drawer);
    drawer.scrollTop = 0;
    if (focus) drawer.focus({ preventScroll: true });
    say("Event opened");
  } catch (error) {
    if (mine !== asked) return;
    const problem = document.createElement("p");
    problem.className = "problem";
    problem.textContent = `The event could not be loaded: ${error.message}. The list still works.`;
    drawer.replaceChildren(problem);
  } finally {
    if (mine === asked) drawer.removeAttribute("aria-busy");
  }
}

export function startDrawer() {
  const split = document.getElementById("split");
  const drawer = document.getElementById("drawer");
  if (drawer) showCheck(drawer);
  if (!split) return;
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const link = event.target.closest("a.open, .drawer a.close");
    const row = event.target.closest("tr[data-event]");
    const other = event.target.closest("a, button");
    const target = link ?? (other ? null : row?.querySelector("a.open"));
    if (!target || window.getSelection().toString()) return;
    event.preventDefault();
    const closing = target.classList.contains("close");
    const back = document.querySelector("tr[aria-selected=true] a.open");
    history.pushState(null, "", target.href);
    show(target.href, { focus: !closing });
    if (closing) back?.focus();
  });
  window.addEventListener("popstate", () => show(location.href, { focus: false }));
}
