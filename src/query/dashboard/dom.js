// Drawing: pages build their tree anew at each update, and `show` changes only what differs in the one that is shown,
// so that focus, selection and scrolling stay where they are.

const HANDLERS = ["onclick", "oninput", "onchange", "onpointermove", "onpointerleave"];
const SVG = new Set(["svg", "path", "line", "rect", "circle", "g", "title", "text"]);

/** An element: `h("a.pill", { href }, "text", child, [children])`. Empty children are left out. */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element[key] = value;
    else if (key === "style") for (const [name, of] of Object.entries(value)) element.style.setProperty(name, of);
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== undefined && child !== null && child !== false) element.append(child);
  }
  return element;
}

/** Makes the children of `shown` like those given. */
export function show(shown, ...children) {
  const next = document.createElement("div");
  for (const child of children.flat(3)) {
    if (child !== undefined && child !== null && child !== false) next.append(child);
  }
  alignChildren(shown, next);
}

function alignChildren(shown, next) {
  const olds = [...shown.childNodes];
  const news = [...next.childNodes];
  const keyed = new Map(olds.filter((old) => old.dataset?.key).map((old) => [old.dataset.key, old]));
  news.forEach((wanted, place) => {
    const at = shown.childNodes[place];
    const key = wanted.dataset?.key;
    const known = key ? keyed.get(key) : at && !at.dataset?.key ? at : undefined;
    if (known && known.nodeName === wanted.nodeName) {
      if (known !== at) shown.insertBefore(known, at ?? null);
      align(known, wanted);
    } else {
      shown.insertBefore(wanted, at ?? null);
    }
  });
  while (shown.childNodes.length > news.length) shown.lastChild.remove();
}

function align(shown, next) {
  // What moves with the pointer moves by itself.
  if (shown.dataset?.live) return;
  if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== next.data) shown.data = next.data;
    return;
  }
  for (const { name } of [...shown.attributes]) {
    if (name !== "style" && !next.hasAttribute(name) && !(name === "open")) shown.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (name !== "style" && shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  if (shown.style.cssText !== next.style.cssText) shown.style.cssText = next.style.cssText;
  for (const handler of HANDLERS) if (shown[handler] !== next[handler]) shown[handler] = next[handler];
  // What a person is typing is theirs.
  if (shown.nodeName === "INPUT" || shown.nodeName === "SELECT") return;
  alignChildren(shown, next);
}

/** A panel with a heading. */
export function panel(title, properties, ...children) {
  const { note, actions, ...rest } = properties;
  return h("section.panel", rest,
    h("header", {}, h("h2", {}, title), note && h("span.note", {}, note), actions && h("div.actions", {}, actions)),
    ...children);
}

/** A table: columns of { title, number? }, rows of { key, cells }. */
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return h("p.empty", {}, empty);
  const cellClass = (column) => (column.number ? "td.number" : "td");
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption.hidden", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((column) =>
        h(column.number ? "th.number" : "th", { scope: "col" }, column.title)))),
      h("tbody", {}, rows.map((row) =>
        h("tr", { "data-key": row.key }, row.cells.map((cell, place) =>
          place === 0 ? h("th", { scope: "row" }, cell) : h(cellClass(columns[place]), {}, cell)))))));
}
