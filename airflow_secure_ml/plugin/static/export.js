// Shows how far an export is, and keeps the file only if it came whole. What is too large to pass
// through a page, or of a number nobody counted, is left to the browser's own download.
import { say } from "./details.js";

const MAX_EVENTS = 100_000;
const FOLD_BYTES = 4 << 20;
const NEWLINE = 10;

const number = (value) => value.toLocaleString("en");

function size(bytes) {
  return bytes < 1e6 ? `${number(Math.ceil(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function linesIn(bytes) {
  let found = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) found += 1;
  return found;
}

async function received(answer, tell) {
  const reader = answer.body.getReader();
  const folded = [];
  let parts = [];
  let waiting = 0;
  let bytes = 0;
  let lines = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return new Blob([...folded, ...parts], { type: answer.headers.get("content-type") });
    parts.push(value);
    bytes += value.length;
    waiting += value.length;
    lines += linesIn(value);
    // A blob lies with the browser, on disk if it is large; the pieces would stay in memory here.
    if (waiting > FOLD_BYTES) {
      folded.push(new Blob(parts));
      parts = [];
      waiting = 0;
    }
    tell(lines, bytes);
  }
}

function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function startExport() {
  const form = document.querySelector("form[data-export]");
  if (!form) return;
  const [button, stop] = form.querySelectorAll("button");
  const meter = form.querySelector("progress");
  const verdict = form.querySelector("[data-export-verdict]");
  form.addEventListener("submit", async (event) => {
    const chosen = new FormData(form).get("form");
    const count = form.dataset.count === "" ? Infinity : Number(form.dataset.count);
    verdict.className = "verdict";
    if (chosen === "whole" || count > MAX_EVENTS) {
      verdict.textContent = "The browser receives the file, and shows how far it is.";
      return;
    }
    event.preventDefault();
    const head = chosen === "csv" ? 1 : 0;
    const isCounted = chosen === "csv" || chosen === "jsonl";
    const abort = new AbortController();
    const onStop = () => abort.abort();
    stop.addEventListener("click", onStop);
    button.disabled = true;
    stop.hidden = meter.hidden = false;
    meter.removeAttribute("value");
    verdict.textContent = isCounted ? "Reading the log …" : "Packing the events and their proofs …";
    let hasBegun = false;
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        credentials: "same-origin",
        signal: abort.signal,
      });
      if (!answer.ok) throw new Error(await why(answer));
      hasBegun = true;
      const blob = await received(answer, (lines, bytes) => {
        const events = Math.max(lines - head, 0);
        if (isCounted) {
          meter.max = Math.max(count, events, 1);
          meter.value = events;
        }
        verdict.textContent = isCounted
          ? `${number(events)} of ${number(Math.max(count, events))} events, ${size(bytes)}`
          : size(bytes);
      });
      const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition"))[1];
      keep(blob, name);
      verdict.classList.add("good");
      verdict.textContent = `✓ Whole: ${verdict.textContent}, as ${name}.`;
      say("Exported");
    } catch (error) {
      verdict.classList.add("look");
      const said = error.name === "AbortError" ? "you stopped it" : error.message;
      const recorded = hasBegun ? " That it did not end is recorded." : "";
      verdict.textContent = `Nothing was kept: ${said.replace(/\.$/, "")}.${recorded}`;
    } finally {
      stop.removeEventListener("click", onStop);
      button.disabled = false;
      stop.hidden = meter.hidden = true;
    }
  });
}

async function why(answer) {
  const said = new DOMParser().parseFromString(await answer.text(), "text/html");
  return said.querySelector(".problem p + p")?.textContent.trim() || `answer ${answer.status}`;
}
