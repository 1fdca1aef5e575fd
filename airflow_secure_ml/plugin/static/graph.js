// Shows a wide picture from where it starts; the rest is a scroll away.

export function startGraph() {
  for (const graph of document.querySelectorAll(".graph")) {
    const start = graph.querySelector(".start .box");
    if (!start || graph.scrollWidth <= graph.clientWidth) continue;
    const frame = graph.getBoundingClientRect();
    const box = start.getBoundingClientRect();
    graph.scrollLeft = box.left - frame.left - (frame.width - box.width) / 2;
  }
}
