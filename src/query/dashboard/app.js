// Which page is shown, by the address; search, theme, the state of the daemon.

import { every, get, Refused } from "./api.js";
import { h, show } from "./dom.js";
import * as account from "./account.js";
import * as accounts from "./accounts.js";
import * as notices from "./notices.js";
import * as overview from "./overview.js";

const main = document.getElementById("page");
const state = document.getElementById("state");
let leave = new AbortController();
let first = true;

function route() {
  leave.abort();
  leave = new AbortController();
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  const [, name = "", escaped = ""] = path.split("/");
  const id = unescaped(escaped);
  const pages = { "": overview, accounts, notices, account };
  const page = pages[name] ?? overview;
  const shown = name === "account" ? "accounts" : name || "overview";
  for (const one of document.querySelectorAll("nav a")) {
    if (one.dataset.page === shown) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
  }
  const title = name === "account" ? id : { accounts: "Accounts", notices: "Notices" }[name];
  document.title = title ? `${title} · meterd` : "meterd";
  main.replaceChildren();
  page.page(main, { id, query: new URLSearchParams(query), signal: leave.signal, failed });
  if (!first) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  first = false;
}

/** An address typed by hand may not be well formed. */
function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** A page could not be drawn: what the daemon said takes its place, or what is shown stays and the state says so. */
function failed(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refused) || error.status === 503) return tell(false);
  const box = h("section.panel.problem", { role: "alert" }, h("h2", {}, error.title), h("p", {}, error.message));
  if (error.status === 403) {
    box.append(h("p", {}, "A token for one account opens that account’s page: put its id into the search field above."));
  }
  leave.abort();
  show(main, box);
}

function tell(ready) {
  const [text, tone] = ready === undefined ? ["recovering", "warn"] : ready ? ["ready", "good"] : ["no answer", "bad"];
  if (state.textContent !== text) state.textContent = text;
  state.className = `pill ${tone}`;
}

async function watch() {
  try {
    const response = await fetch("/readyz");
    tell(response.ok ? true : undefined);
  } catch {
    tell(false);
  }
}

function startSearch() {
  const field = document.getElementById("search-account");
  const list = document.getElementById("search-list");
  let asked = 0;
  field.addEventListener("input", () => {
    const turn = ++asked;
    const prefix = field.value.trim();
    setTimeout(async () => {
      if (turn !== asked || prefix === "") return;
      // Suggestions are a convenience: a token for one account gets none.
      const found = await get(`/v1/accounts?${new URLSearchParams({ prefix, limit: "10" })}`).catch(() => ({ accounts: [] }));
      if (turn === asked) show(list, found.accounts.map((of) => h("option", { value: of.account })));
    }, 150);
  });
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim() === "") return;
    location.hash = accounts.link(field.value.trim());
    field.value = "";
    field.blur();
  });
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      field.focus();
    }
  });
}

function startTheme() {
  const button = document.getElementById("theme");
  const choices = ["system", "light", "dark"];
  const icons = { system: "◐", light: "☀", dark: "☾" };
  const apply = (choice) => {
    if (choice === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("theme");
    } else {
      document.documentElement.dataset.theme = choice;
      localStorage.setItem("theme", choice);
    }
    button.textContent = icons[choice];
    button.setAttribute("aria-label", `Theme: ${choice === "system" ? "as the system" : choice}`);
    button.title = button.getAttribute("aria-label");
  };
  let now = document.documentElement.dataset.theme ?? "system";
  apply(now);
  button.addEventListener("click", () => {
    now = choices[(choices.indexOf(now) + 1) % choices.length];
    apply(now);
  });
}

startTheme();
startSearch();
addEventListener("hashchange", route);
route();
every(3_000, new AbortController().signal, watch);
