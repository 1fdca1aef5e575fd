// Checks a proof in this browser: the event's bytes, hashed up to the root that the log key signed.
// Source: RFC 9162, 2.1.3.2 (path), C2SP signed-note (signature).

const text = new TextEncoder();

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

function fromHex(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

function joined(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function same(left, right) {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
}

const node = (left, right) => sha256(Uint8Array.of(1), left, right);

async function rootFromPath(leaf, index, size, path) {
  let here = BigInt(index);
  let last = BigInt(size) - 1n;
  let found = await sha256(Uint8Array.of(0), leaf);
  for (const sibling of path) {
    if (last === 0n) throw new Error("the path is too long");
    if (here & 1n || here === last) {
      found = await node(sibling, found);
      while (!(here & 1n) && here) {
        here >>= 1n;
        last >>= 1n;
      }
    } else {
      found = await node(found, sibling);
    }
    here >>= 1n;
    last >>= 1n;
  }
  if (last !== 0n) throw new Error("the path is too short");
  return found;
}

async function signatureHolds(note, vkeys) {
  const split = note.lastIndexOf("\n\n");
  const body = note.slice(0, split + 1);
  const lines = note.slice(split + 2).trim().split("\n").map((line) => line.split(" "));
  for (const vkey of vkeys) {
    const first = vkey.indexOf("+");
    const name = vkey.slice(0, first);
    const packed = bytesOf(vkey.slice(vkey.indexOf("+", first + 1) + 1));
    const id = (await sha256(text.encode(`${name}\n`), packed)).slice(0, 4);
    for (const [, signer, base64] of lines) {
      const signature = bytesOf(base64);
      if (signer !== name || !same(signature.slice(0, 4), id)) continue;
      const key = await crypto.subtle.importKey("raw", packed.slice(1), "Ed25519", false, ["verify"]);
      if (await crypto.subtle.verify("Ed25519", key, signature.slice(4), text.encode(body))) return true;
      throw new Error("the checkpoint’s signature does not hold");
    }
  }
  throw new Error("the checkpoint is signed by no key that this server names");
}

async function check(box) {
  const { leaf, index, size, path, note, vkeys } = box.dataset;
  const [, signedSize, signedRoot] = note.split("\n");
  if (signedSize !== size) throw new Error("the checkpoint is of another size than the proof");
  const hashes = path ? path.split(" ").map(fromHex) : [];
  const root = await rootFromPath(bytesOf(leaf), index, size, hashes);
  if (!same(root, bytesOf(signedRoot))) throw new Error("the event’s bytes lead to another root");
  await signatureHolds(note, vkeys.split(" "));
}

export function showCheck(root) {
  const button = root.querySelector("[data-check]");
  if (button) button.hidden = false;
}

export function startProof() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-check]");
    if (!button) return;
    const box = button.closest("[data-leaf]");
    const verdict = box.parentElement.querySelector("[data-verdict]");
    verdict.className = "verdict";
    box.parentElement.querySelector(".tree")?.classList.remove("holds");
    if (!globalThis.crypto?.subtle) {
      verdict.textContent =
        "This browser checks nothing on plain http from another machine. Download the proof, or open the page over https.";
      return;
    }
    try {
      await check(box);
      verdict.classList.add("good");
      box.parentElement.querySelector(".tree")?.classList.add("holds");
      verdict.textContent = "✓ Valid: these bytes are in the log that the checkpoint signs.";
    } catch (error) {
      const unable = error.name === "NotSupportedError";
      verdict.classList.add(unable ? "look" : "bad");
      verdict.textContent = unable
        ? "The bytes lead to the root, but this browser cannot check Ed25519 signatures. Download the proof."
        : `✗ Not valid: ${error.message}.`;
    }
  });
}
