"use strict";
// The page is whole without this: it adds a list of sections, sorting, names of columns on a phone, and saving of figures.

const made = (tag, text, also = {}) => Object.assign(document.createElement(tag), { textContent: text }, also);

const sections = document.querySelector("nav");
document.querySelectorAll("h2").forEach((heading, number) => {
  heading.id = `section-${number}`;
  sections.append(made("a", heading.textContent, { href: `#${heading.id}` }));
});

function value(row, column) {
  const cell = row.cells[column], text = cell.textContent.trim(), plain = text.replace(/,/g, "").replace(/ ?%$/, "");
  const exact = cell.dataset.value ?? (plain !== "" && !isNaN(plain) ? plain : undefined);
  return exact === undefined ? text : Number(exact);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // what has no number comes last
  return a.localeCompare(b, "en", { numeric: true });
}

function sort(head, column) {
  const table = head.closest("table"), body = table.tBodies[0];
  const descending = head.ariaSort === "ascending";
  table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column)));
  body.append(...(descending ? rows.reverse() : rows));
}

for (const table of document.querySelectorAll("table.rows")) {
  const heads = [...(table.tHead?.rows[0].cells ?? [])];
  heads.forEach((head, column) => {
    const name = head.textContent, button = made("button", name, { type: "button", title: `sort by ${name}` });
    button.addEventListener("click", () => sort(head, column));
    head.replaceChildren(button);
    for (const row of table.tBodies[0].rows) {
      if (row.cells[column]?.tagName === "TD") row.cells[column].dataset.label = name;
    }
  });
}

// A file of its own knows no variables of the page: colours and fonts are written out.
function standalone(svg) {
  const style = getComputedStyle(document.documentElement), copy = svg.cloneNode(true);
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("font-family", "sans-serif");
  copy.setAttribute("style", "background: var(--card)");
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\((--[a-z0-9]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg");
  if (!svg) continue;
  const button = made("button", "SVG", { type: "button", className: "save", title: "save this figure as SVG" });
  button.addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([standalone(svg)], { type: "image/svg+xml" }));
    made("a", "", { href: address, download: `${figure.id}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
  figure.append(button);
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
