// Asking the daemon. Where it wants a token, it is asked for once and kept in this tab.

const dialog = () => document.getElementById("token");
let asking = null;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `the daemon answered ${status}`);
    this.status = status;
    this.title = problem?.title ?? "The daemon did not answer as expected";
  }
}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
}

function askForToken() {
  asking ??= new Promise((resolve) => {
    const box = dialog();
    box.addEventListener("close", () => {
      sessionStorage.setItem("token", document.getElementById("token-text").value.trim());
      asking = null;
      resolve();
    }, { once: true });
    box.showModal();
  });
  return asking;
}

async function ask(path, signal) {
  for (;;) {
    const response = await fetch(path, { headers: headers(), signal });
    if (response.status !== 401) return response;
    await askForToken();
  }
}

/** The JSON at a path; throws [`Refused`] with what the daemon said. */
export async function get(path, signal) {
  const response = await ask(path, signal);
  if (response.ok) return response.json();
  throw new Refused(response.status, await response.json().catch(() => null));
}

/** Calls `each(notice)` for the notices of a path as they come, until the signal; connects again when cut off. */
export async function stream(path, signal, each, connected) {
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 10_000)) {
    try {
      const response = await ask(path, signal);
      if (response.ok) {
        wait = 500;
        connected(true);
        await read(response.body, each);
      }
    } catch {
      // The daemon is gone or the page was left; the next turn finds out which.
    }
    connected(false);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function read(body, each) {
  let text = "";
  for await (const part of body.pipeThrough(new TextDecoderStream())) {
    text += part;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const fields = event.split("\n");
      const data = fields.filter((field) => field.startsWith("data: ")).map((field) => field.slice(6)).join("\n");
      if (fields.includes("event: notice")) each(JSON.parse(data));
    }
  }
}

/** Calls `update` now and every so often while the page is looked at. */
export function every(ms, signal, update) {
  let timer;
  const turn = async () => {
    if (!document.hidden) await update();
    if (!signal.aborted) timer = setTimeout(turn, ms);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  turn();
}
