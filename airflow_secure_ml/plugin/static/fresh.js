// Announces new events, and never moves what is being read.

const EVERY_MS = 10_000;
const MOST = 1000;

export function startFresh() {
  const place = document.querySelector(".fresh");
  const newest = place?.dataset.newest;
  if (!newest) return;
  const known = Number(place.dataset.known);
  const q = document.getElementById("q").defaultValue;
  const link = document.createElement("a");
  link.href = `events?${new URLSearchParams({ q })}`;
  place.append(link);
  let told = 0;
  const ask = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(`newer?${new URLSearchParams({ q, name: newest })}`, {
        credentials: "same-origin",
      });
      if (!answer.ok) return;
      const { count } = await answer.json();
      const fresh = count - known;
      // Said once for each number: a screen reader would repeat it every ten seconds.
      if (fresh === told) return;
      told = fresh;
      link.textContent = count >= MOST ? "Many new events" : `${fresh} new ${fresh === 1 ? "event" : "events"}`;
      place.hidden = fresh <= 0;
    } catch {
      place.hidden = true;
    }
  };
  setInterval(ask, EVERY_MS);
  document.addEventListener("visibilitychange", ask);
}
