// A click on a head sorts the table by that column; a second click turns the order round, a third one restores it.
// Numbers start with the largest, text with the first letter. Holes stay last, upper bounds below everything.
"use strict";

const NUMERIC = ["number", "count", "range"];

function compare(a, b, numeric, sign) {
  if (!numeric) return sign * a.localeCompare(b, "en", { numeric: true });
  const [x, y] = [parseFloat(a), parseFloat(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return sign * (x - y);
}

function next(state, numeric) {
  const order = numeric ? ["none", "descending", "ascending"] : ["none", "ascending", "descending"];
  return order[(order.indexOf(state) + 1) % order.length];
}

function sort(table, head) {
  const column = Number(head.dataset.column);
  const numeric = NUMERIC.includes(head.dataset.kind);
  const state = next(head.getAttribute("aria-sort"), numeric);
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", state);
  const text = (row) => row.cells[column].textContent.trim();
  for (const body of table.tBodies) {
    const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
    if (state !== "none") {
      rows.sort((a, b) => compare(text(a), text(b), numeric, state === "ascending" ? 1 : -1));
    }
    body.append(...rows);
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const body of table.tBodies) {
    [...body.rows].forEach((row, place) => { row.dataset.place = place; });
  }
  for (const head of table.querySelectorAll("th[data-column]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, head));
  }
}
