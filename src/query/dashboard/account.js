// The page of an account: a bar for each window, balances with their grants in burn order, the month, the last notices.

import { every, get, Refused } from "./api.js";
import { meter, stacked } from "./chart.js";
import { h, panel, show, table } from "./dom.js";
import { amount, count, date, duration, inTime, moment, percent, plural, until } from "./format.js";
import { feed } from "./notices.js";

/** Limits of users shown before one asks for all. */
const USERS_SHOWN = 8;

export function page(main, { id, query, signal, failed }) {
  const head = h("div.account-head");
  const limits = h("div.stack");
  const balances = h("div.stack");
  const month = h("div.stack");
  const choice = { month: query.get("month") ?? "", all: false };
  let view = null;
  const draw = () => {
    show(head, heading(view));
    show(limits, limitPanels(view, choice, draw));
    show(balances, balancePanels(view), sessionPanel(view));
  };
  show(main, head,
    h("div.columns.even", {},
      h("div.stack", {}, limits, month),
      h("div.stack", {}, balances,
        feed({ title: "Notices", filter: { account: id }, shown: 40, signal,
          actions: h("a.small", { href: `#/notices?${new URLSearchParams({ account: id })}` }, "Filter") }))));
  const path = `/v1/accounts/${encodeURIComponent(id)}`;
  every(1_000, signal, async () => {
    try {
      view = await get(path, signal);
      draw();
    } catch (error) {
      if (error instanceof Refused && error.status === 404) show(head, unknown(id));
      else failed(error);
    }
  });
  const drawMonth = async () => {
    if (!view) return;
    const months = Object.keys(view.totals).sort().reverse();
    if (!months.includes(choice.month)) choice.month = months[0] ?? "";
    if (!choice.month) return show(month);
    const of = (by) => get(`${path}/usage?${new URLSearchParams({ month: choice.month, by })}`, signal).catch(() => null);
    const [models, users] = await Promise.all([of("model"), of("user")]);
    if (!signal.aborted) show(month, monthPanel(view, choice, months, models, users, drawMonth));
  };
  every(3_000, signal, drawMonth);
}

function unknown(id) {
  return [h("h1", {}, id), h("p.empty", {}, "No usage or command of this account has been processed yet. The page fills itself when one is.")];
}

function heading(view) {
  const start = view.period.start && Date.parse(view.period.start);
  const end = view.period.end && Date.parse(view.period.end);
  const done = end ? Math.min(1, Math.max(0, (Date.now() - start) / (end - start))) : 0;
  const pending = view.pending;
  return [
    h("div.title", {},
      h("h1", {}, view.account),
      h("span.pill.plan", {}, view.plan),
      h(`span.pill.${view.status === "active" ? "good" : "warn"}`, {}, view.status),
      view.overflow.length > 0 && h("span.pill.warn", { title: "usage past these is charged as pay as you go" }, `overflow: ${view.overflow.join(", ")}`)),
    h("dl.about", {},
      pair("Billing", view.billing === "year" ? "yearly" : "monthly"),
      pair("Seats", count(view.seats)),
      view.class !== "standard" && pair("Class", view.class),
      pair("Extra usage", view.extra_usage ? "on" : "off"),
      pair("Period", end ? `${date(view.period.start)} – ${date(view.period.end)}` : start ? `since ${date(view.period.start)}` : "–"),
      pair("Notices", count(view.sequence))),
    end && h("div.period", {},
      meter(`${Math.floor(done * 100)}% of the period is over`, done, 1, "calm"),
      h("span.note", {}, `${percent(done, 1)} of the period is over, ${duration(end - Date.now())} left`)),
    pending && h("p.banner", {}, "Moves to ", h("b", {}, pending.plan), ` with ${plural(pending.seats, "seat")}, billed by the ${pending.billing}, on ${date(pending.effective_at)}.`),
  ];
}

const pair = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

/* Limits */

const toneOf = (limit) => {
  const part = Number(limit.cap) > 0 ? Number(limit.used) / Number(limit.cap) : limit.exceeded ? 1 : 0;
  return limit.exceeded ? "bad" : part >= 0.8 ? "warn" : "ok";
};

/** When the cap is reached if usage goes on as in this window, if that is before the window ends. */
function pace(limit) {
  const { start, resets_at } = limit.window;
  const used = Number(limit.used);
  const passed = start ? Date.now() - Date.parse(start) : 0;
  if (limit.exceeded || used <= 0 || passed < 60_000) return null;
  const left = (Number(limit.remaining) / used) * passed;
  return !resets_at || left < until(resets_at) ? left : null;
}

function resets(window) {
  if (window.resets_at) return [`resets ${inTime(window.resets_at)}`, h("span.hidden", {}, ` at ${window.resets_at}`)];
  return { first_use: "starts with the next use", sliding: "slides", lifetime: "never resets", period: "with the period", calendar: "with the calendar" }[window.kind];
}

function limitPanels(view, choice, draw) {
  const own = view.limits.filter((limit) => limit.user === null);
  const byName = Map.groupBy(view.limits.filter((limit) => limit.user !== null), (limit) => limit.limit);
  const panels = [];
  if (own.length) panels.push(panel("Limits", {}, h("div.bars", {}, own.map(ownLimit))));
  for (const [name, users] of byName) panels.push(userLimit(name, users, choice, draw));
  if (panels.length === 0) panels.push(panel("Limits", {}, h("p.empty", {}, `The plan ${view.plan} limits nothing, or nobody used anything yet.`)));
  return panels;
}

function ownLimit(limit) {
  const tone = toneOf(limit);
  const end = pace(limit);
  return h("div.bar", { "data-key": limit.limit },
    h("div.bar-head", {}, h("b", {}, limit.limit), h(`span.big.${tone}`, {}, percent(Number(limit.used), Number(limit.cap)))),
    meter(`${limit.limit}: ${limit.used} of ${limit.cap}`, Number(limit.used), Number(limit.cap), tone),
    h("div.bar-foot", {},
      h("span", { title: `${limit.used} of ${limit.cap}` }, `${amount(limit.used)} of ${amount(limit.cap)}`),
      h("span", { title: limit.remaining }, limit.exceeded ? h("b.bad", {}, "exceeded") : `${amount(limit.remaining)} left`),
      h("span.end", { title: limit.window.resets_at ?? "" }, resets(limit.window))),
    end !== null && h("p.pace", {}, `At this pace it is used up in ${duration(end)}.`));
}

function userLimit(name, users, choice, draw) {
  const part = (limit) => (Number(limit.cap) > 0 ? Number(limit.used) / Number(limit.cap) : limit.exceeded ? 1 : 0);
  const sorted = users.toSorted((one, other) => part(other) - part(one));
  const shown = choice.all ? sorted : sorted.slice(0, USERS_SHOWN);
  const exceeded = users.filter((limit) => limit.exceeded).length;
  const columns = [{ title: "User" }, { title: "Used" }, { title: "", number: true }, { title: "Left", number: true }];
  const rows = shown.map((limit) => ({
    key: limit.user,
    cells: [
      limit.user,
      h("div.inline-bar", {},
        meter(`${limit.user}: ${limit.used} of ${limit.cap}`, Number(limit.used), Number(limit.cap), toneOf(limit)),
        h("span.note", { title: `${limit.used} of ${limit.cap}` }, `${amount(limit.used)} of ${amount(limit.cap)}`)),
      h(`b.${toneOf(limit)}`, {}, percent(Number(limit.used), Number(limit.cap))),
      h("span", { title: limit.remaining }, amount(limit.remaining)),
    ],
  }));
  const more = users.length > USERS_SHOWN && h("button.small", {
    type: "button", "aria-expanded": String(choice.all), onclick: () => { choice.all = !choice.all; draw(); },
  }, choice.all ? "Fewer" : `All ${count(users.length)}`);
  const note = [plural(users.length, "user"), " · ", exceeded > 0 && [h("b.bad", {}, `${count(exceeded)} exceeded`), " · "], resets(users[0].window)];
  return panel(`Limit ${name}, by user`, { "data-key": name, note: h("span", {}, note), actions: more },
    table(`Limit ${name} by user, most used first`, columns, rows, "No user yet."));
}

/* Balances */

function balancePanels(view) {
  return Object.entries(view.balances).map(([unit, balance]) => {
    const grants = balance.grants;
    const all = grants.reduce((sum, grant) => sum + Number(grant.amount), 0);
    const available = Number(balance.available);
    const debt = Number(balance.debt);
    return panel(`Balance in ${unit}`, { "data-key": unit },
      h("p.figure", {}, h(`strong${available <= 0 ? ".bad" : ""}`, { title: balance.available }, amount(balance.available)), h("span.unit", {}, `${unit} available`)),
      debt > 0 && h("p.detail.bad", { title: balance.debt }, `${amount(balance.debt)} ${unit} owed; the next grant pays it first`),
      lasts(view, grants),
      all > 0 && stacked(`${balance.available} ${unit} available in ${plural(grants.length, "grant")}`,
        [...grants.map((grant, place) => ({ tone: `grant-${place % 5}`, value: Number(grant.remaining), title: `${grant.name}: ${grant.remaining} of ${grant.amount}` })),
          { tone: "spent", value: grants.reduce((sum, grant) => sum + Number(grant.amount) - Number(grant.remaining), 0), title: "used" }], all),
      grantTable(unit, grants));
  });
}

function grantTable(unit, grants) {
  const columns = [{ title: "Grant" }, { title: "Left" }, { title: "Burns", number: true }, { title: "Ends", number: true }];
  const rows = grants.map((grant, place) => ({
    key: grant.grant,
    cells: [
      h("span", {}, h(`span.swatch.grant-${place % 5}`, { "aria-hidden": "true" }), grant.name,
        h("span.note", { title: grant.reference ? `by ${grant.reference}` : "" }, ` ${grant.grant}`), grant.group && h("span.tag", {}, `only ${grant.group}`)),
      h("span", { title: `${grant.remaining} of ${grant.amount}` }, h("b", {}, amount(grant.remaining)), h("span.note", {}, ` of ${amount(grant.amount)}`)),
      h("span", { title: `priority ${grant.priority}` }, place === 0 && Number(grant.remaining) > 0 ? "first" : `${place + 1}.`),
      grant.expires_at
        ? until(grant.expires_at) <= 0
          ? h("span.note", { title: `ended ${grant.expires_at}; late records still find it` }, "closing")
          : h("time", { datetime: grant.expires_at, title: grant.expires_at }, inTime(grant.expires_at))
        : "never",
    ],
  }));
  return table(`Grants of ${unit} in burn order`, columns, rows, "No grant: nothing was given or bought.");
}

/** How long the balance lasts at the pace of the present period's grants. */
function lasts(view, grants) {
  const start = view.period.start && Date.parse(view.period.start);
  if (!start) return null;
  const active = grants.filter((grant) => !grant.group && (!grant.expires_at || until(grant.expires_at) > 0));
  const since = Math.max(start, Math.min(...active.map((grant) => Date.parse(grant.effective_at))));
  const used = active.reduce((sum, grant) => sum + Number(grant.amount) - Number(grant.remaining), 0);
  const left = active.reduce((sum, grant) => sum + Number(grant.remaining), 0);
  const passed = Date.now() - since;
  if (used <= 0 || left <= 0 || passed < 60_000) return null;
  const ms = (left / used) * passed;
  const end = view.period.end ? Date.parse(view.period.end) : Infinity;
  return h("p.pace", {}, Date.now() + ms < end
    ? `At this pace it lasts ${duration(ms)}.`
    : "At this pace it lasts past the end of the period.");
}

function sessionPanel(view) {
  if (view.sessions.length === 0) return null;
  const rows = view.sessions.map((session) => ({
    key: session.session,
    cells: [session.session, session.user ?? "–", moment(session.started_at), inTime(session.closes_at)],
  }));
  return panel("Open sessions", { note: count(view.sessions.length) },
    table("Open sessions", [{ title: "Session" }, { title: "User" }, { title: "Since" }, { title: "Closes", number: true }], rows, ""));
}

/* The month */

function monthPanel(view, choice, months, models, users, changed) {
  const totals = view.totals[choice.month];
  if (!totals) return null;
  const name = (month) => new Intl.DateTimeFormat("en", { month: "long", year: "numeric", timeZone: "UTC" }).format(new Date(`${month}-01T00:00:00Z`));
  const select = h("select", { "aria-label": "Month", onchange: (event) => { choice.month = event.target.value; changed(); } },
    months.map((month) => h("option", { value: month, selected: month === choice.month }, name(month))));
  const charged = Object.entries(totals.charged).flatMap(([route, units]) =>
    Object.entries(units).map(([unit, of]) => ({ route, unit, of })));
  return panel(months.length > 1 ? "Month" : name(choice.month), { actions: months.length > 1 && select },
    h("dl.about", {},
      pair("Records", count(totals.records)),
      totals.failed > 0 && pair("Failed", count(totals.failed)),
      charged.map(({ route, unit, of }) => pair(route === "plan" ? `${unit} charged` : `${unit} by ${route}`, h("span", { title: of }, amount(of))))),
    breakdown("By model", models), breakdown("By user", users), quantities(totals.quantities));
}

function breakdown(title, usage) {
  if (!usage?.values?.length) return null;
  const charge = (value) => Object.values(value.charged).flatMap((units) => Object.entries(units)).map(([unit, of]) => ({ unit, of: Number(of) }));
  const units = usage.values.flatMap(charge).map((one) => one.unit);
  const unit = units.find((one) => one !== undefined);
  const rows = usage.values
    .map((value) => ({ name: value.value, records: value.records, of: charge(value).filter((one) => one.unit === unit).reduce((sum, one) => sum + one.of, 0) }))
    .sort((one, other) => other.of - one.of || other.records - one.records);
  const most = Math.max(...rows.map((row) => row.of), 0);
  const shown = rows.slice(0, 8);
  return h("div.breakdown", {}, h("h3", {}, title),
    table(`${title}, charged in ${unit ?? "nothing"}`, [{ title: title.slice(3) }, { title: unit ?? "" }, { title: "Records", number: true }],
      shown.map((row) => ({
        key: `${title}/${row.name}`,
        cells: [row.name === "*" ? "others" : row.name,
          h("div.inline-bar", {}, meter(`${row.name}: ${row.of}`, row.of, most, "ok"), h("span.note", { title: String(row.of) }, amount(String(row.of)))),
          count(row.records)],
      })), ""),
    rows.length > shown.length && h("p.note", {}, `and ${count(rows.length - shown.length)} more`));
}

function quantities(byType) {
  const rows = Object.entries(byType).flatMap(([type, of]) => Object.entries(of).map(([name, value]) => ({
    key: `${type}/${name}`, cells: [h("span", {}, name, h("span.note", {}, ` ${type}`)), h("span", { title: value }, amount(value))],
  })));
  if (rows.length === 0) return null;
  return h("details", {}, h("summary", {}, "Quantities"),
    table("Quantities of the month", [{ title: "Quantity" }, { title: "Sum", number: true }], rows, ""));
}
