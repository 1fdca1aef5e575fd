// Runs "Verify now" with progress: the answer is one JSON line a step, the verdict is the last.
import { say } from "./details.js";

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const whole = rest.split("\n");
    rest = whole.pop();
    for (const line of whole) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

export function startVerify() {
  const form = document.querySelector("form[data-verify]");
  if (!form) return;
  const meter = form.querySelector("progress");
  const verdict = document.querySelector("[data-verify-verdict]");
  const look = document.querySelector("[data-verify-look]");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    meter.hidden = false;
    meter.removeAttribute("value");
    verdict.className = "verdict";
    look.hidden = true;
    verdict.textContent = "Reading the log from its first event …";
    let ended = false;
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        headers: { accept: "application/x-ndjson" },
        credentials: "same-origin",
      });
      if (!answer.ok) throw new Error((await answer.text()).slice(0, 200) || `answer ${answer.status}`);
      for await (const step of lines(answer.body)) {
        if (step.done !== undefined) {
          meter.max = Math.max(step.of, 1);
          meter.value = step.done;
        } else {
          ended = true;
          verdict.classList.add(step.tone);
          verdict.textContent = `${step.sign} ${step.text}`;
          look.textContent = `! ${step.look}`;
          look.hidden = !step.look;
          say(`${step.text} ${step.look}`);
          document.querySelector("[data-unchecked]")?.remove();
        }
      }
      if (!ended) throw new Error("the answer broke off");
    } catch (error) {
      verdict.classList.add("look");
      verdict.textContent = `The check did not come to an end: ${error.message}. Nothing is known from it.`;
    } finally {
      button.disabled = false;
      meter.hidden = true;
    }
  });
}
