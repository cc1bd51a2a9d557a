"use strict";
(() => {
  const { root, all, language, dark, look } = gradflow;
  const facts = JSON.parse(document.getElementById("facts").textContent);

  // Tables in the order of a column

  for (const button of all("table.sortable th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), body = button.closest("table").tBodies[0];
      const down = head.getAttribute("aria-sort") === "ascending";
      const cell = (row) => row.cells[head.cellIndex];
      const value = (row) => cell(row).dataset.value ?? cell(row).innerText.trim();
      const order = (a, b) => {
        const [x, y] = [Number(a), Number(b)];
        if (Number.isNaN(x) && Number.isNaN(y)) return a.localeCompare(b);
        return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : x - y;
      };
      const rows = [...body.rows].sort((a, b) => order(value(a), value(b)));
      body.append(...(down ? rows.reverse() : rows));
      for (const other of all("th", head.parentElement)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  }

  // Charts

  const states = facts.charts.map((chart) => ({
    shown: Array.from({ length: chart.curves }, (_, i) => i), record: Math.max(0, chart.iterations.length - 1), chosen: 0, iterations: chart.iterations,
  }));
  const views = [];

  async function draw(i) {
    const chart = facts.charts[i], holder = document.querySelector(`#chart-${i} .plot`);
    const spec = JSON.parse(JSON.stringify(chart.specs[language()]), (_, value) => (dark() ? facts.night[value] ?? value : value));
    spec.datasets = { ...spec.datasets, rows: facts.rows[chart.rows] };
    spec.params = [...(spec.params ?? []), ...Object.entries(states[i]).map(([name, value]) => ({ name, value }))];
    views[i]?.finalize();
    views[i] = (await vegaEmbed(holder, spec, { actions: false, logLevel: 1, renderer: chart.canvas ? "canvas" : "svg", config: look(11), expressionFunctions: { words: String } })).view;
    views[i].description(chart.title[language()]);
  }

  let drawing = Promise.resolve();
  function drawAll() {
    drawing = drawing.then(async () => { for (const i of facts.charts.keys()) await draw(i); });
    return drawing;
  }

  gradflow.changed = drawAll;

  function set(i, name, value) {
    states[i][name] = value;
    views[i]?.signal(name, value).runAsync();
  }

  for (const slider of all("input[type=range]")) {
    const i = Number(slider.dataset.chart), output = slider.parentElement.querySelector("output");
    const move = () => {
      output.value = facts.charts[i].iterations[slider.value];
      slider.setAttribute("aria-valuetext", output.value);
      set(i, "record", Number(slider.value));
    };
    slider.addEventListener("input", move);
    move();
  }
  for (const choice of all("select[data-chart]")) {
    const choose = () => set(Number(choice.dataset.chart), "chosen", Number(choice.value));
    choice.addEventListener("change", choose);
    choose();
  }
  for (const field of all("fieldset.curves")) {
    const boxes = all("input", field);
    const charts = all(".chart", field.closest(".task")).map((figure) => Number(figure.id.split("-")[1]));
    const show = () => {
      const shown = boxes.filter((box) => box.checked).map((box) => Number(box.value));
      for (const i of charts) set(i, "shown", shown);
    };
    field.addEventListener("change", show);
    for (const button of all("[data-all]", field)) {
      button.addEventListener("click", () => { for (const box of boxes) box.checked = Boolean(button.dataset.all); show(); });
    }
    show();
  }

  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      document.getElementById("told").textContent = "✓";
    });
  }

  drawAll().then(() => { root.dataset.drawn = "true"; });
})();
