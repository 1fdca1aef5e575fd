// Alt with a click, or with Enter, on a value leaves it out instead of asking for it.

export function startExcludes() {
  for (const link of document.querySelectorAll("a[data-but]")) {
    link.title = `${link.title ? `${link.title}\n` : ""}Alt-click leaves it out`;
  }
  document.addEventListener("click", (event) => {
    const link = event.altKey && event.button === 0 && event.target.closest("a[data-but]");
    if (!link) return;
    event.preventDefault();
    event.stopPropagation();
    location.assign(link.dataset.but);
  }, { capture: true });
}
