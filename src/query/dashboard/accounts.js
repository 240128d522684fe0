// The list of accounts, by id; the prefix and the page are in the address.

import { get } from "./api.js";
import { h, panel, show, table } from "./dom.js";
import { count } from "./format.js";

const PAGE = 50;

export const link = (account) => `#/account/${encodeURIComponent(account)}`;

export function page(main, { query, signal, failed }) {
  const prefix = query.get("prefix") ?? "";
  const after = query.get("after") ?? "";
  const list = h("div");
  const search = h("input", {
    type: "search", value: prefix, placeholder: "begins with", spellcheck: "false",
    onchange: (event) => { location.hash = `#/accounts?${new URLSearchParams({ prefix: event.target.value.trim() })}`; },
  });
  show(main, h("h1", {}, "Accounts"), h("div.filters", {}, h("label", {}, "Id ", search)), list);
  // Once, not again and again: the daemon looks through all ids for it.
  const asked = new URLSearchParams({ prefix, after, limit: String(PAGE) });
  get(`/v1/accounts?${asked}`, signal).then((found) => show(list, accountTable(found, prefix, after)), failed);
}

function accountTable(found, prefix, after) {
  const columns = [{ title: "Account" }, { title: "Plan" }, { title: "Status" }, { title: "Notices", number: true }];
  const rows = found.accounts.map((of) => ({
    key: of.account,
    cells: [
      h("a", { href: link(of.account) }, of.account),
      of.plan,
      h(`span.pill.${of.status === "active" ? "good" : "warn"}`, {}, of.status),
      count(of.sequence),
    ],
  }));
  const page = (text, next) => h("a.small", { href: `#/accounts?${new URLSearchParams({ prefix, after: next })}` }, text);
  return panel("Of this instance", { actions: [after && page("First page", ""), found.next && page("Next page", found.next)] },
    table("Accounts by id", columns, rows, prefix ? `No account begins with “${prefix}”.` : "No account yet."));
}
