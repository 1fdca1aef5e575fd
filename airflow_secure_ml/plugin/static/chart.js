// The chart over time: drag over it to zoom in, arrow keys go from bar to bar. Without script each
// bar is a link that zooms into its own time.

function stamp(ms) {
  const text = new Date(ms).toISOString().slice(0, -1);
  if (ms % 86_400_000 === 0) return text.slice(0, 10);
  if (ms % 60_000 === 0) return text.slice(0, 16);
  return ms % 1000 === 0 ? text.slice(0, 19) : text;
}

function steps(chart) {
  const { from, step, steps: count } = chart.dataset;
  return { from: Number(from), step: Number(step), count: Number(count) };
}

function zoomed(chart, first, last) {
  const { from, step } = steps(chart);
  const after = stamp(from + first * step);
  const before = stamp(from + (last + 1) * step);
  const q = `${chart.dataset.rest} after:${after} before:${before}`.trim();
  return `events?${new URLSearchParams({ q })}`;
}

function moment(chart, number) {
  const { from, step } = steps(chart);
  return stamp(from + number * step).replace("T", " ");
}

function stepAt(chart, bars, x) {
  const { left, width } = bars.getBoundingClientRect();
  const { count } = steps(chart);
  return Math.min(Math.max(Math.floor(((x - left) / width) * count), 0), count - 1);
}

function startDrag(chart, bars) {
  const dragged = bars.querySelector("[data-dragged]");
  const readout = chart.querySelector("[data-readout]");
  const { count } = steps(chart);
  let first = null;
  let last = null;
  const draw = () => {
    const [low, high] = [Math.min(first, last), Math.max(first, last)];
    dragged.setAttribute("x", `${(100 * low) / count}%`);
    dragged.setAttribute("width", `${(100 * (high - low + 1)) / count}%`);
    dragged.setAttribute("visibility", first === last ? "hidden" : "visible");
    readout.textContent = `${moment(chart, low)} to ${moment(chart, high + 1)} UTC`;
  };
  const stop = () => {
    first = last = null;
    dragged.setAttribute("visibility", "hidden");
    readout.textContent = "";
  };
  // Neither drags the link itself nor marks text.
  bars.addEventListener("mousedown", (event) => event.preventDefault());
  bars.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    first = last = stepAt(chart, bars, event.clientX);
  });
  window.addEventListener("pointermove", (event) => {
    if (first === null) return;
    last = stepAt(chart, bars, event.clientX);
    draw();
  });
  window.addEventListener("pointerup", () => {
    if (first === null) return;
    const [low, high] = [Math.min(first, last), Math.max(first, last)];
    stop();
    if (low === high) return;
    // The click that ends a drag is not one on the bar below it.
    window.addEventListener("click", (event) => event.preventDefault(), { capture: true, once: true });
    location.assign(zoomed(chart, low, high));
  });
  window.addEventListener("keydown", (event) => event.key === "Escape" && stop());
}

function startArrows(links) {
  const only = (chosen) => {
    for (const link of links) link.tabIndex = link === chosen ? 0 : -1;
  };
  // One stop for the tab key, as a chart of ninety links would be a wall.
  only(links.at(-1));
  const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  for (const [at, link] of links.entries()) {
    link.addEventListener("focus", () => only(link));
    link.addEventListener("keydown", (event) => {
      if (!(event.key in moves)) return;
      event.preventDefault();
      links[Math.min(Math.max(at + moves[event.key], 0), links.length - 1)].focus();
    });
  }
}

export function startChart() {
  const chart = document.querySelector("[data-chart]");
  if (!chart) return;
  const bars = chart.querySelector("svg.bars");
  const readout = chart.querySelector("[data-readout]");
  const links = [...bars.querySelectorAll("a")];
  const tell = (event) => {
    if (event.buttons) return;
    readout.textContent = event.target.closest("a")?.getAttribute("aria-label") ?? "";
  };
  for (const name of ["pointerover", "focusin"]) bars.addEventListener(name, tell);
  for (const name of ["pointerleave", "focusout"]) {
    bars.addEventListener(name, () => (readout.textContent = ""));
  }
  startDrag(chart, bars);
  if (links.length) startArrows(links);
}
