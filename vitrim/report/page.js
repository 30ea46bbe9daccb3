"use strict";
// Sort a table by the column whose heading is pressed; numbers by what data-value says.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const heading = button.parentElement;
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[column];
        const number = parseFloat(cell.dataset.value ?? "");
        return Number.isNaN(number) ? cell.textContent.trim().toLowerCase() : number;
      };
      const rows = [...body.rows].sort((a, b) => {
        const [one, other] = [value(a), value(b)];
        if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1; // words stay last
        const order = one < other ? -1 : one > other ? 1 : 0;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}
// Show only the rows that contain what is typed.
for (const field of document.querySelectorAll("input[data-filters]")) {
  const rows = document.getElementById(field.dataset.filters).tBodies[0].rows;
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
// Move all token maps to the block of the slider.
const slider = document.getElementById("block");
if (slider) {
  const show = () => {
    const step = slider.value;
    let words = "";
    for (const map of document.querySelectorAll("[data-step]")) {
      map.hidden = map.dataset.step !== step;
      if (!map.hidden && !words) words = map.dataset.block;
    }
    document.getElementById("block-words").textContent = words;
    slider.setAttribute("aria-valuetext", words);
  };
  slider.addEventListener("input", show);
  show();
}
