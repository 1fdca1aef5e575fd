// The keyboard: / search, j and k rows, Enter opens, Esc goes back, e exports, ? lists the keys.

function rows() {
  return [...document.querySelectorAll("tr[data-event] a.open")];
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const selected = document.querySelector("tr[aria-selected=true] a.open");
  const here = all.indexOf(document.activeElement);
  const from = here >= 0 ? here : all.indexOf(selected);
  const next = Math.min(Math.max(from + by, 0), all.length - 1);
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

const ACTIONS = {
  "/": () => {
    const box = document.getElementById("q");
    box?.focus();
    box?.select();
  },
  j: () => step(1),
  k: () => step(-1),
  e: () => document.querySelector("[data-export-link]")?.click(),
  "?": () => document.getElementById("keys").showModal(),
  Escape: () => document.querySelector(".drawer a.close")?.click(),
};

export function startKeys() {
  const button = document.querySelector("[data-keys]");
  button.hidden = false;
  button.addEventListener("click", ACTIONS["?"]);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, textarea, select, dialog");
    if (typing) {
      if (event.key === "Escape" && typing.id === "q") typing.blur();
      return;
    }
    const action = ACTIONS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
