"use strict";
// Filters and sorts the rows that the page already holds. Without it all runs are shown, newest first.
const body = document.querySelector("#runs tbody");
const fields = Object.fromEntries(["text", "recipe", "state", "benchmark"].map(id => [id, document.getElementById(id)]));
const rows = [...body.rows].map(element => ({
  element,
  text: element.textContent.toLowerCase(),
  scores: [...element.querySelectorAll(".score")],
}));
let order = { key: "started", sign: -1 };

function scoreOf(row) {
  const chosen = fields.benchmark.value;
  return row.scores.find(one => !chosen || one.dataset.benchmark === chosen);
}

function valueOf(row) {
  if (order.key === "score") return scoreOf(row)?.dataset.mean ?? "";
  return row.element.dataset[order.key];
}

function compare(one, other) {
  const [a, b] = [valueOf(one), valueOf(other)];
  if (a === "" || b === "") return (a === "") - (b === "");  // what has no value stands last, either way
  const isNumber = ["wall", "score", "difference"].includes(order.key);
  return order.sign * (isNumber ? a - b : a.localeCompare(b));
}

function filter() {
  const words = fields.text.value.toLowerCase().split(/\s+/);
  let number = 0;
  for (const row of rows) {
    const { recipe, state } = row.element.dataset;
    const fits = words.every(word => row.text.includes(word))
      && (!fields.recipe.value || recipe === fields.recipe.value)
      && (!fields.state.value || state === fields.state.value)
      && (!fields.benchmark.value || scoreOf(row) !== undefined);
    row.element.hidden = !fits;
    number += fits;
    for (const score of row.scores) {
      score.hidden = fields.benchmark.value !== "" && score.dataset.benchmark !== fields.benchmark.value;
    }
  }
  document.getElementById("number").textContent = `${number.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
  document.getElementById("nothing").hidden = number > 0;
}

function sort() {
  body.append(...rows.sort(compare).map(row => row.element));
  for (const button of document.querySelectorAll("thead button")) {
    const direction = order.sign > 0 ? "ascending" : "descending";
    if (button.dataset.key === order.key) button.closest("th").setAttribute("aria-sort", direction);
    else button.closest("th").removeAttribute("aria-sort");
  }
}

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const { key, first } = button.dataset;
    order = { key, sign: key === order.key ? -order.sign : first === "up" ? 1 : -1 };
    sort();
  });
}
const form = document.getElementById("filters");
form.hidden = false;
form.addEventListener("input", () => { filter(); if (order.key === "score") sort(); });
form.addEventListener("reset", () => setTimeout(() => { filter(); sort(); }));
form.addEventListener("submit", event => event.preventDefault());
filter();
