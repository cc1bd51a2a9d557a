"use strict";
(() => {
  const root = document.documentElement;
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a page without storage forgets */ } };

  const language = () => (root.lang === "en" ? "en" : "zh");
  const dark = () => root.dataset.theme === "dark";

  // Language and theme

  function speak(lang) {
    root.lang = lang === "zh" ? "zh-CN" : "en";
    const button = document.getElementById("language");
    button.textContent = lang === "zh" ? "English" : "中文";
    button.lang = lang === "zh" ? "en" : "zh-CN";
    for (const element of all("[data-en]")) {
      if (element.matches("option, title")) element.textContent = element.dataset[lang];
      else element.setAttribute("aria-label", element.dataset[lang]);
    }
  }

  function colour(theme) {
    root.dataset.theme = theme;
    document.getElementById("theme").setAttribute("aria-pressed", String(theme === "dark"));
  }

  speak(remembered("gradflow-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  colour(remembered("gradflow-theme") ?? (system.matches ? "dark" : "light"));

  document.getElementById("language").addEventListener("click", () => {
    speak(language() === "en" ? "zh" : "en");
    remember("gradflow-language", language());
    drawAll();
  });
  document.getElementById("theme").addEventListener("click", () => {
    colour(dark() ? "light" : "dark");
    remember("gradflow-theme", root.dataset.theme);
    drawAll();
  });
  system.addEventListener("change", () => {
    if (remembered("gradflow-theme")) return;
    colour(system.matches ? "dark" : "light");
    drawAll();
  });

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

  function look() {
    const ink = getComputedStyle(root).getPropertyValue("--ink"), line = getComputedStyle(root).getPropertyValue("--line");
    const axis = { labelColor: ink, titleColor: ink, domainColor: ink, tickColor: ink, gridColor: line, gridOpacity: 0.5, labelOverlap: true, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 12 };
    return {
      background: "transparent", customFormatTypes: true, font: getComputedStyle(document.body).fontFamily, axis, view: { stroke: null },
      legend: { labelColor: ink, titleColor: ink, titleFontWeight: "normal", titleLimit: 400 },
    };
  }

  async function draw(i) {
    const chart = facts.charts[i], holder = document.querySelector(`#chart-${i} .plot`);
    const spec = JSON.parse(JSON.stringify(chart.specs[language()]), (_, value) => (dark() ? facts.night[value] ?? value : value));
    spec.datasets = { ...spec.datasets, rows: facts.rows[chart.rows] };
    spec.params = [...(spec.params ?? []), ...Object.entries(states[i]).map(([name, value]) => ({ name, value }))];
    views[i]?.finalize();
    views[i] = (await vegaEmbed(holder, spec, { actions: false, logLevel: 1, renderer: chart.canvas ? "canvas" : "svg", config: look(), expressionFunctions: { words: String } })).view;
    views[i].description(chart.title[language()]);
  }

  let drawing = Promise.resolve();
  function drawAll() {
    drawing = drawing.then(async () => { for (const i of facts.charts.keys()) await draw(i); });
    return drawing;
  }

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
