
"use strict";

// Tables: a click on a column's button sorts by it, a second one the other way round.
const order = new Intl.Collator("en", { numeric: true });

function compare(a, b) {
  const [x, y] = [a, b].map(Number);
  return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what is missing comes last
        return sign * compare(x, y);
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// Overlays: one picture at a time, of all arms or of one.
for (const browser of document.querySelectorAll(".browser")) {
  const figures = [...browser.querySelectorAll("figure")];
  const select = browser.querySelector("select");
  let shown = figures;
  let place = 0;

  function show(to) {
    place = Math.min(Math.max(to, 0), shown.length - 1);
    figures.forEach((figure) => (figure.hidden = figure !== shown[place]));
    browser.querySelector("output").textContent = `${place + 1} of ${shown.length}`;
    const [back, forth] = browser.querySelectorAll("button");
    back.disabled = place === 0;
    forth.disabled = place === shown.length - 1;
  }

  select.addEventListener("change", () => {
    shown = figures.filter((f) => !select.value || f.dataset.arm === select.value);
    show(0);
  });
  browser.addEventListener("click", (event) => {
    const step = event.target.dataset.step;
    if (step) show(place + Number(step));
  });
  browser.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: shown.length - 1 };
    if (event.target === select || !(event.key in to)) return;
    event.preventDefault();
    show(to[event.key]);
  });
  show(0);
}

// On paper nothing can be unfolded.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => (details.open = true));
});
