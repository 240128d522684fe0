// Notices in words, and the feed that shows them as they come.

import { stream } from "./api.js";
import { h, panel, show } from "./dom.js";
import { amount, date, duration, moment, plural, timeOfDay } from "./format.js";

const KEPT = 250;
/** Drawing more often than this helps nobody. */
const REDRAW_MS = 250;

const TONES = {
  "cap.warning": "warn", "cap.exceeded": "bad", "cap.restored": "good",
  "balance.low": "warn", "balance.exhausted": "bad", "balance.restored": "good",
  "overflow.started": "warn", "overflow.ended": "good", "access.denied": "bad",
  "grant.issued": "good", "grant.expired": "calm",
  "subscription.changed": "calm", "subscription.pending": "calm", "period.closed": "calm",
  "autopay.requested": "warn", "session.closed": "calm", "refund.quoted": "calm",
  "grace.started": "warn", "grace.ended": "good", "command.rejected": "bad",
};
export const TYPES = Object.keys(TONES);
export const toneOf = (type) => TONES[type] ?? "calm";

const exact = (text, unit) => h("b", { title: unit ? `${text} ${unit}` : text }, amount(text), unit && ` ${unit}`);
const who = (data) => [data.user ? h("b", {}, data.user) : "the account", " "];
const DOES = { block: "block further use", overflow: "use goes on as pay as you go", notify: "nothing is blocked" };

const WORDS = {
  "cap.warning": (d) => [who(d), `passed ${d.threshold} of limit `, h("b", {}, d.limit), ": ", exact(d.used), " of ", exact(d.cap, d.measure)],
  "cap.exceeded": (d) => [who(d), "used up limit ", h("b", {}, d.limit), ": ", exact(d.used), " of ", exact(d.cap, d.measure), ` — ${DOES[d.action]}`],
  "cap.restored": (d) => [who(d), "is under limit ", h("b", {}, d.limit), " again: ", exact(d.used), " of ", exact(d.cap, d.measure),
    { time: "", cap: " — the cap was changed", plan: " — the plan was changed" }[d.reason] ?? ""],
  "balance.low": (d) => ["balance low: ", exact(d.available, d.unit), ` left, at or under ${d.threshold}`],
  "balance.exhausted": (d) => ["balance exhausted: ", exact(d.available, d.unit), " left",
    Number(d.debt) > 0 && [", ", exact(d.debt), " owed"]],
  "balance.restored": (d) => ["balance restored: ", exact(d.available, d.unit)],
  "overflow.started": (d) => ["usage past ", h("b", {}, d.limit), ` is charged in ${d.unit} from now on`],
  "overflow.ended": (d) => ["usage is within ", h("b", {}, d.limit), " again"],
  "access.denied": (d) => [who(d), "used ", h("b", {}, d.model ?? d.type), `, which ${d.rule === "seats" ? "needs a seat" : d.rule === "plan" ? "the plan does not include" : `is denied (${d.rule})`}`],
  "grant.issued": (d) => [exact(d.amount, d.unit), " granted as ", h("b", {}, d.name),
    d.expires_at && ` until ${date(d.expires_at)}`, Number(d.debt_paid) > 0 && [", of which ", exact(d.debt_paid), " paid debt"]],
  "grant.expired": (d) => ["grant ", h("b", {}, d.name), " closed with ", exact(d.unused, d.unit), " unused"],
  "subscription.changed": (d) => [d.from && d.from !== d.to ? [`${d.from} → `] : [], h("b", {}, d.to), ` ${d.reason}`,
    d.seats > 1 && `, ${d.seats} seats`, d.proration && Number(d.proration.amount) > 0 && [", prorated ", exact(d.proration.amount, d.proration.currency)]],
  "subscription.pending": (d) => (d.to ? ["moves to ", h("b", {}, d.to), d.effective_at && ` on ${date(d.effective_at)}`] : ["the pending change was dropped"]),
  "period.closed": (d) => ["period closed: ", plural(d.statement.records, "record"), d.period.end && ` until ${date(d.period.end)}`],
  "autopay.requested": (d) => ["asks for a top-up of ", exact(d.amount, d.unit), ": ", exact(d.available), " left"],
  "session.closed": (d) => ["session ", h("b", {}, d.session), ` closed after ${duration(Number(d.seconds) * 1_000)}: `, exact(d.charged, d.unit)],
  "refund.quoted": (d) => (d.eligible ? ["refund quoted: ", exact(d.amount, d.currency)] : [`no refund: ${d.reason}`]),
  "grace.started": (d) => [`a payment failed; grace until ${moment(d.until)}`],
  "grace.ended": () => ["grace ended"],
  "command.rejected": (d) => [h("b", {}, d.command.replace("meterd.", "")), ` rejected: ${d.message || d.reason}`],
};

/** A notice as an item of a list. */
export function item(notice, withAccount) {
  const kind = notice.type.replace("meterd.", "");
  const words = WORDS[kind]?.(notice.data) ?? [kind];
  const account = notice.subject;
  return h(`li.notice.${toneOf(kind)}`, { "data-key": notice.id },
    h("span.mark", { "aria-hidden": "true" }),
    h("time", { datetime: notice.time, title: notice.time }, timeOfDay(notice.time)),
    withAccount && h("a.account", { href: `#/account/${encodeURIComponent(account)}`, title: account }, account),
    h("span.kind", {}, kind),
    h("span.words", {}, words));
}

/**
 * A panel that follows `/v1/notices`. `filter` is { account, type }; `shown` how many are listed.
 * Returns the panel; it lives until the signal.
 */
export function feed({ title, filter, shown, signal, actions }) {
  const query = new URLSearchParams({ recent: String(shown) });
  for (const [name, value] of Object.entries(filter)) if (value) query.set(name, value);
  const list = h("ol.notices", { role: "log", "aria-live": "off", "aria-label": title });
  const note = h("span.note", { role: "status" });
  const hold = h("button.small", { type: "button", "aria-pressed": "false" }, "Pause");
  let notices = [];
  let held = false;
  let due = null;

  const draw = () => {
    due = null;
    if (held) return;
    const items = notices.slice(0, shown).map((notice) => item(notice, !filter.account));
    show(list, items.length ? items : h("li.empty", {}, "No notices yet. They appear here the moment they are committed."));
  };
  const soon = () => { due ??= setTimeout(draw, REDRAW_MS); };
  hold.onclick = () => {
    held = !held;
    hold.setAttribute("aria-pressed", String(held));
    hold.textContent = held ? "Go on" : "Pause";
    draw();
  };
  draw();
  stream(`/v1/notices?${query}`, signal, (notice) => {
    if (notices.some((known) => known.id === notice.id)) return;
    notices.unshift(notice);
    if (notices.length > KEPT) notices = notices.slice(0, KEPT);
    soon();
  }, (connected) => { note.textContent = connected ? "" : "connecting…"; });
  signal.addEventListener("abort", () => clearTimeout(due));
  const box = panel(title, { class: "panel feed", actions: [note, actions, hold] }, list);
  return box;
}

/** `#/notices?account=&type=`: everything, filtered by what the address says. */
export function page(main, { query, signal }) {
  const account = query.get("account") ?? "";
  const type = query.get("type") ?? "";
  const go = (name, value) => {
    const next = new URLSearchParams(query);
    if (value) next.set(name, value); else next.delete(name);
    location.hash = `#/notices${next.size ? `?${next}` : ""}`;
  };
  const groups = [...new Set(TYPES.map((kind) => `${kind.split(".")[0]}.*`))];
  const option = (value, text) => h("option", { value, selected: value === type }, text);
  const filters = h("div.filters", {},
    h("label", {}, "Account ", h("input", { type: "search", value: account, placeholder: "all", spellcheck: "false", onchange: (event) => go("account", event.target.value.trim()) })),
    h("label", {}, "Type ", h("select", { onchange: (event) => go("type", event.target.value) },
      option("", "all"),
      h("optgroup", { label: "Groups" }, groups.map((kind) => option(kind, kind))),
      h("optgroup", { label: "Types" }, TYPES.map((kind) => option(kind, kind))))));
  show(main, h("h1", {}, "Notices"), filters, feed({ title: "As they are committed", filter: { account, type }, shown: 200, signal }));
}
