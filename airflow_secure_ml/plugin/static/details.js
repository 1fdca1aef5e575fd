// Small help around values: the viewer's own time zone, and copying.

export function say(text) {
  document.getElementById("said").textContent = text;
}

export function showZones(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) {
      const here = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
      time.title = `${here} (your time)`;
    }
  }
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // The frame around may forbid it; the older way below still works.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

export function startCopy() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const done = await copyText(button.dataset.copy);
    button.classList.toggle("done", done);
    say(done ? "Copied" : "This browser does not allow copying; select the text instead.");
    button.focus();
  });
}
