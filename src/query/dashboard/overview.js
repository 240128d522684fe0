// The overview: throughput, latency, lag, what became of the records, partitions, notices.

import { every, get } from "./api.js";
import { chart, stacked } from "./chart.js";
import { h, panel, show, table } from "./dom.js";
import { count, duration, percent, rate, timeOfDay } from "./format.js";
import { feed, toneOf } from "./notices.js";

const OUTCOMES = {
  applied: "priced, drawn and counted",
  duplicate: "seen before, ignored",
  failed: "marked failed by the sender; counted, not priced",
  rejected: "commands that could not be applied, told in a notice",
  quarantined: "could not be applied; kept in the dead-letter topic",
};

export function page(main, { signal, failed }) {
  const numbers = h("div.cards");
  const outcomes = h("div");
  const partitions = h("div");
  const strip = h("div.strip");
  const types = h("div");
  show(main,
    h("h1.hidden", {}, "Overview"),
    numbers, strip,
    h("div.columns", {},
      h("div.stack", {}, partitions, outcomes, types),
      feed({ title: "Notices", filter: {}, shown: 60, signal, actions: h("a.small", { href: "#/notices" }, "All") })));
  every(1_000, signal, async () => {
    try {
      const [overview, owned] = await Promise.all([get("/v1/overview", signal), get("/v1/partitions", signal)]);
      show(numbers, cards(overview));
      show(strip, facts(overview, owned.partitions));
      show(outcomes, dispositions(overview));
      show(partitions, partitionTable(owned.partitions));
      show(types, noticeTypes(overview.notices));
    } catch (error) {
      failed(error);
    }
  });
}

function card(title, value, unit, detail, drawing) {
  return h("section.panel.card", { "aria-label": title },
    h("h2", {}, title),
    h("p.figure", {}, h("strong", {}, value), unit && h("span.unit", {}, unit)),
    h("p.detail", {}, detail),
    drawing);
}

function cards(overview) {
  const history = overview.history;
  const of = (name) => history.map((sample) => sample[name]);
  const last = history.at(-1) ?? { records: 0, notices: 0, lag_records: 0 };
  const { latency, totals } = overview;
  const mean = (values) => values.slice(-60).reduce((sum, value) => sum + value, 0) / Math.max(1, Math.min(60, values.length));
  const peak = (values) => Math.max(0, ...values);
  return [
    card("Throughput", rate(last.records), "records/s",
      `${rate(mean(of("records")))} over a minute · peak ${rate(peak(of("records")))}`,
      chart({ label: `Records a second, ${rate(last.records)} now`, format: rate, floor: 10,
        series: [{ name: "", values: of("records"), kind: "area", tone: "accent" }] })),
    card("End to end", latency.count ? String(latency.p50_ms) : "–", latency.count ? "ms p50" : "",
      latency.count ? `p99 ${count(latency.p99_ms)} ms · record to committed notice` : "no notices in the last minute",
      chart({ label: `End-to-end milliseconds, p50 ${latency.p50_ms}, p99 ${latency.p99_ms}`, format: (value) => `${count(value)} ms`, floor: 10,
        series: [
          { name: "p99", values: of("p99_ms"), kind: "area", tone: "soft" },
          { name: "p50", values: of("p50_ms"), kind: "line", tone: "accent" },
        ] })),
    card("Lag", count(totals.lag_records), totals.lag_records === 1 ? "record" : "records",
      totals.lag_ms > 0 ? `${duration(totals.lag_ms)} behind` : "up to date",
      chart({ label: `Records not processed yet, ${count(totals.lag_records)} now`, format: count, floor: 10,
        series: [{ name: "", values: of("lag_records"), kind: "area", tone: "warn" }] })),
    card("Notices", rate(last.notices), "/s", `${count(totals.notices)} since the start`,
      chart({ label: `Notices a second, ${rate(last.notices)} now`, format: rate, floor: 5,
        series: [{ name: "", values: of("notices"), kind: "area", tone: "violet" }] })),
  ];
}

function facts(overview, partitions) {
  const { totals } = overview;
  const live = partitions.filter((partition) => partition.state === "live").length;
  const fact = (name, value, tone, title) => h(`div.fact${tone ? `.${tone}` : ""}`, { title }, h("span", {}, name), h("b", {}, value));
  const violations = totals.conservation_violations;
  return [
    fact("Accounts", count(totals.accounts)),
    fact("Partitions live", `${live} of ${partitions.length}`, live < partitions.length ? "warn" : ""),
    fact("Records", count(totals.records), "", String(totals.records)),
    fact("Commits", count(totals.commits), "", String(totals.commits)),
    fact("Aborted", count(totals.aborts), totals.aborts > 0 ? "warn" : ""),
    fact("Conservation", violations === 0 ? "holds" : `${count(violations)} violated`, violations === 0 ? "good" : "bad",
      "granted = drawn + expired + voided + remaining, checked on the changes of every input"),
    fact("Up", duration(overview.uptime_s * 1_000)),
    fact("Version", overview.version),
  ];
}

function dispositions(overview) {
  const names = Object.keys(OUTCOMES);
  const all = names.reduce((sum, name) => sum + overview.outcomes[name], 0);
  const parts = names.map((name) => ({ name, tone: name, value: overview.outcomes[name], title: `${name}: ${overview.outcomes[name]}` }));
  const reasons = Object.entries(overview.quarantined).sort((one, other) => other[1] - one[1]);
  return panel("What became of the records", { note: `${count(all)} since the start` },
    stacked(names.map((name) => `${name} ${overview.outcomes[name]}`).join(", "), parts),
    h("ul.legend", {}, names.map((name) => h("li", { title: OUTCOMES[name] },
      h(`span.swatch.${name}`, { "aria-hidden": "true" }),
      h("span", {}, name), h("b", {}, count(overview.outcomes[name])),
      h("span.note", {}, percent(overview.outcomes[name], all))))),
    reasons.length > 0 && h("p.reasons", {}, "Quarantined for ", reasons.map(([reason, number]) =>
      h("span.tag", {}, reason, " ", h("b", {}, count(number))))));
}

function noticeTypes(counts) {
  const sorted = Object.entries(counts).sort((one, other) => other[1] - one[1]);
  if (sorted.length === 0) return null;
  return panel("Notices by type", { note: "since the start" },
    h("ul.legend.types", {}, sorted.map(([type, number]) => h("li", {},
      h(`span.swatch.${toneOf(type)}`, { "aria-hidden": "true" }),
      h("a", { href: `#/notices?${new URLSearchParams({ type })}` }, type),
      h("b", { title: String(number) }, count(number))))));
}

function partitionTable(partitions) {
  const columns = [
    { title: "Partition" }, { title: "State" }, { title: "Clock (UTC)" }, { title: "Offset", number: true },
    { title: "Lag", number: true }, { title: "Accounts", number: true }, { title: "Checkpoint", number: true },
  ];
  const tones = { live: "good", recovering: "warn", paused: "warn", revoked: "calm" };
  const rows = partitions.map((of) => ({
    key: `p${of.partition}`,
    cells: [
      String(of.partition),
      h(`span.pill.${tones[of.state] ?? "calm"}`, {}, of.state, of.replay_left > 0 && ` ${count(of.replay_left)}`),
      of.clock ? h("time", { datetime: of.clock, title: of.clock }, timeOfDay(of.clock)) : "–",
      h("span", { title: `usage ${of.usage.offset}, commands ${of.commands.offset}` }, of.usage.offset.toLocaleString("en")),
      lag(of), count(of.accounts),
      of.checkpoint_age_ms > 0 ? duration(of.checkpoint_age_ms) : "clean",
    ],
  }));
  return panel("Partitions", { note: "of this instance" },
    table("Partitions of this instance", columns, rows, "No partition is assigned to this instance yet."));
}

function lag(of) {
  const records = of.usage.lag + of.commands.lag;
  if (records === 0) return "0";
  return h("span", { title: `usage ${of.usage.lag}, commands ${of.commands.lag}` }, count(records),
    of.lag_ms > 0 && h("span.note", {}, ` ${duration(of.lag_ms)}`));
}
