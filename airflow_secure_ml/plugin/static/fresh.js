// Announces new events, and never moves what is being read.

const EVERY_MS = 10_000;

export function startFresh() {
  const place = document.querySelector(".fresh");
  const newest = place?.dataset.newest;
  if (!newest) return;
  const q = new URL(location.href).searchParams.get("q") ?? "";
  const ask = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(`newer?${new URLSearchParams({ q, name: newest })}`, {
        credentials: "same-origin",
      });
      if (!answer.ok) return;
      const { count } = await answer.json();
      place.hidden = !count;
      const link = document.createElement("a");
      link.href = `events?${new URLSearchParams({ q })}`;
      link.textContent = `${count} new`;
      place.replaceChildren(link);
    } catch {
      place.hidden = true;
    }
  };
  setInterval(ask, EVERY_MS);
}
