// Filters kept in this browser. Whatever the storage holds is only ever shown as text.
import { copyText, say } from "./details.js";

const PLACE = "secure-ml.saved-filters";
const MOST = 50;

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    if (!Array.isArray(found)) return [];
    const isOne = (each) => typeof each?.name === "string" && typeof each?.q === "string";
    return found.filter(isOne).slice(0, MOST);
  } catch {
    return [];
  }
}

function store(filters) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(filters.slice(0, MOST)));
    return true;
  } catch {
    say("This browser does not let pages keep anything.");
    return false;
  }
}

function line(filter, forget) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `events?${new URLSearchParams({ q: filter.q })}`;
  link.textContent = filter.name;
  link.title = filter.q || "everything";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "✕";
  button.setAttribute("aria-label", `Forget ${filter.name}`);
  button.addEventListener("click", forget);
  item.append(link, button);
  return item;
}

export function startSaved() {
  const menu = document.querySelector("[data-saved]");
  if (!menu) return;
  const list = menu.querySelector("[data-saved-list]");
  const none = menu.querySelector("[data-saved-none]");
  const name = menu.querySelector("#save-as");
  const q = new URL(location.href).searchParams.get("q") ?? document.getElementById("q").value;
  const draw = () => {
    const filters = load();
    list.replaceChildren(...filters.map((filter) => line(filter, () => {
      store(load().filter((each) => each.name !== filter.name));
      draw();
      name.focus();
    })));
    none.hidden = filters.length > 0;
  };
  const save = () => {
    const called = name.value.trim() || q.slice(0, 60) || "everything";
    const others = load().filter((each) => each.name !== called);
    if (!store([{ name: called, q }, ...others])) return;
    name.value = "";
    draw();
    say(`Saved as ${called}`);
  };
  menu.hidden = false;
  menu.querySelector("[data-save]").addEventListener("click", save);
  menu.querySelector("[data-copy-address]").addEventListener("click", async () => {
    say((await copyText(location.href)) ? "Copied" : "This browser does not allow copying.");
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === name) {
      // The box around is a form, and this is no search.
      event.preventDefault();
      save();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("pointerdown", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
  draw();
}
