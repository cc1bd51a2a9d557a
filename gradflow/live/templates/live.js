"use strict";
(() => {
  const { root, all, language, dark, look } = gradflow;
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const byId = (id) => document.getElementById(id);
  const say = (id) => facts.words[language()][id];
  const size = () => parseFloat(getComputedStyle(root).fontSize);
  const shade = (colour) => (dark() ? facts.night[colour] ?? colour : colour);
  const grey = "#6E6E6E";

  // The one question to gradflow: a panel and its settings; in a file without a server the answers are all there.

  const known = new Map();
  let waiting = 0;

  async function unpack() {
    try {
      const packed = Uint8Array.from(atob(byId("grid").textContent), (sign) => sign.charCodeAt(0));
      const whole = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
      for (const [key, table] of Object.entries(await whole.json())) known.set(key, table);
    } catch { throw new Error(say("page.damaged")); }
  }
  const unpacked = facts.runs ? unpack() : null;

  async function numbers(panel, settings) {
    const values = Object.fromEntries(facts.panels[panel].map((name) => [name, settings[name]]));
    const key = JSON.stringify([panel, ...Object.values(values)]);
    await unpacked;
    if (known.has(key)) return known.get(key);
    if (facts.runs) throw new Error(`not computed: ${key}`);
    root.classList.toggle("busy", ++waiting > 0);
    try {
      const body = JSON.stringify({ panel, values });
      const answer = await fetch("/numbers", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      const table = await answer.json();
      if (!answer.ok) throw new Error(table.error);
      known.set(key, table);
      return table;
    } catch (error) {
      throw error instanceof TypeError ? Object.assign(new Error(say("page.lost")), { gone: true }) : error;
    } finally {
      root.classList.toggle("busy", --waiting > 0);
    }
  }

  // Settings

  const state = { view: "gradients", cell: null, stops: {}, kept: [], runs: new Map(), playing: false };
  const KEPT = 4, sliders = ["start", "steps", "clip"];
  // A slider stops where there is something to show: in a file, of runs that were trained, at fewer places
  function stops(name, view = state.view) {
    const slider = name === "start" ? facts.sliders.start[state.cell] : facts.sliders[name];
    if (!facts.runs || view !== "training" || name === "steps") return slider;
    const values = name === "clip" ? facts.runs.clips : facts.runs.starts[state.cell];
    return { values, place: values.indexOf(nearest(name, values, slider.values[slider.place])) };
  }
  const apart = { start: (a, b) => Math.abs(a - b), clip: (a, b) => Math.abs(Math.log((a ?? 20) / (b ?? 20))) };
  const nearest = (name, values, wanted) => values.reduce((a, b) => (apart[name](b, wanted) < apart[name](a, wanted) ? b : a));
  const kind = (name, cell) => (name === "start" ? facts.kinds[cell] : name);
  function value(name, view = state.view) {
    const { values, place } = stops(name, view), set = state.stops[kind(name, state.cell)];
    if (set === undefined) return values[place];
    return values.includes(set) ? set : nearest(name, values, set);
  }
  const settings = () => ({ cell: state.cell, start: value("start"), steps: value("steps"), clip: value("clip") });
  const shown = (name) => (value(name) === null ? say("setting.off") : String(value(name)));
  const called = ({ cell, start }) => `${facts.labels[cell][language()]} ${{ gain: "g", forget_bias: "b_f", update_bias: "b_z" }[facts.kinds[cell]]}=${start}`;

  function showSettings() {
    byId("start-name").textContent = say(`setting.${facts.kinds[state.cell]}`);
    for (const name of sliders) {
      const slider = byId(name);
      slider.max = stops(name).values.length - 1;
      slider.value = stops(name).values.indexOf(value(name));
      slider.setAttribute("aria-valuetext", shown(name));
      byId(`${name}-value`).textContent = shown(name);
    }
    root.dataset.view = state.view;
    for (const name of Object.keys(charts)) {
      byId(name).hidden = name !== state.view;
      byId(`show-${name}`).setAttribute("aria-pressed", String(name === state.view));
    }
    document.querySelector(`[name=cell][value=${state.cell}]`).checked = true;
    for (const label of all(".cell")) label.style.setProperty("--shade", shade(facts.colours[label.querySelector("input").value]));
  }

  // Charts: rows by name, drawn anew where language, theme or size change, else only given new rows

  const charts = { gradients: ["gradient", "spectrum", "surface"], training: ["training", "answer"] };
  const views = {}, content = {};

  async function embed(name) {
    const spec = JSON.parse(JSON.stringify(facts.specs[name][language()]), (_, part) => (dark() && typeof part === "string" ? facts.night[part] ?? part : part));
    const { rows, path, params } = content[name];
    spec.datasets = { ...spec.datasets, rows, path: path ?? [] };
    spec.params = [...(spec.params ?? []), ...Object.entries({ ...params, size: size() }).map(([key, value]) => ({ name: key, value }))];
    views[name]?.finalize();
    const config = look(size());
    config.legend = { ...config.legend, labelFontSize: size(), titleFontSize: size(), gradientLength: 7 * size(), gradientThickness: size() };
    config.axis.titleFontSize = size();
    config.axis.labelOverlap = "greedy";
    views[name] = (await vegaEmbed(byId(`${name}-plot`), spec, { actions: false, logLevel: 1, renderer: facts.canvas.includes(name) ? "canvas" : "svg", config, expressionFunctions: { power } })).view;
    views[name].description(byId(`${name}-headline`).textContent);
    fit.observe(byId(`${name}-plot`));
  }

  const fit = new ResizeObserver((entries) => {
    for (const { target, contentRect: { width, height } } of entries) {
      const drawn = views[target.id.replace("-plot", "")];
      if (drawn && width && (drawn.width() !== width || drawn.height() !== height)) drawn.width(width).height(height).runAsync();
    }
  });
  const superscript = (text) => text.replace(/./g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]);
  const power = (value) => (value >= 0.1 && value <= 10 ? String(value) : `10${superscript(String(Math.round(Math.log10(value))))}`);

  const panel = (name) => byId(`${name}-plot`).closest(".panel");

  async function show(name, headline, rows, params, path, of) {
    content[name] = { rows, params, path, of };
    panel(name).classList.remove("lost");
    byId(`${name}-headline`).textContent = headline;
    if (!views[name]) return embed(name);
    const view = views[name].data("rows", rows);
    if (path) view.data("path", path);
    for (const [key, value] of Object.entries(params)) view.signal(key, value);
    view.description(headline);
    await view.runAsync();
  }

  function nameCurves(chart, curves) {
    byId(`${chart}-curves`).replaceChildren(...curves.map(({ name, colour, held }) => {
      const item = document.createElement("li");
      item.style.color = shade(colour);
      item.innerHTML = `<svg viewBox="0 0 48 10" aria-hidden="true"><line x1="0" y1="5" x2="48" y2="5" stroke-dasharray="${held ? "9 6" : "none"}"/></svg>`;
      item.append(name);
      return item;
    }));
  }

  const sameCurve = (a, b) => ["cell", "start", "steps"].every((name) => a[name] === b[name]);

  async function showGradient(flow) {
    const lang = language(), now = settings(), each = [...state.kept, now], T = each.some(({ steps }) => steps !== now.steps);
    const curves = await Promise.all(each.map(async (of) => ({
      name: called(of) + (T ? `, T=${of.steps}` : ""), colour: facts.colours[of.cell], held: of !== now, flow: of === now ? flow : await numbers("flow", of),
    })));
    const rows = curves.flatMap(({ name, colour, flow, held }, i) =>
      flow.lag.map((lag, k) => ({ curve: i, name, colour: shade(colour), held, lag, median: flow.median[k], lowest: flow.low[k], highest: flow.high[k] })));
    const values = curves.flatMap(({ flow }) => [...flow.low, ...flow.high]).filter((v) => v > 0);
    const bottom = Math.min(-3, Math.floor(Math.log10(Math.min(...values)))), top = Math.max(1, Math.ceil(Math.log10(Math.max(...values))));
    const apart = Math.ceil((top - bottom) / 8), decades = [];
    for (let n = Math.ceil(bottom / apart) * apart; n <= top; n += apart) decades.push(10 ** n);
    nameCurves("gradient", curves);
    return show("gradient", flow.headline[lang], rows, { low: 10 ** bottom, high: 10 ** top, decades, last: Math.max(...curves.map(({ flow }) => flow.lag.length - 1)) });
  }

  function showSpectrum(flow) {
    const kinds = [["weight", flow.weight, grey], ["jacobian", flow.jacobian, facts.colours[state.cell]]];
    const rows = kinds.flatMap(([kind, values, colour]) =>
      values.map((value, index) => ({ kind, value, index: index + 1, colour: shade(colour), name: say(`spectrum.${kind}`) })));
    const high = Math.max(1.25, 1.1 * Math.max(...rows.map((row) => row.value ?? 0)));
    nameCurves("spectrum", kinds.map(([kind, , colour]) => ({ name: say(`spectrum.${kind}`), colour, held: kind === "weight" })).reverse());
    return show("spectrum", flow.spectrum_headline[language()], rows, { high, last: flow.jacobian.length + 1 });
  }

  function showSurface(surface, descent) {
    if (views.surface && content.surface.of === descent && !panel("surface").matches(".lost")) return null;
    const { w, b, error } = surface, dw = (w[1] - w[0]) / 2, db = (b[1] - b[0]) / 2;
    const rows = error.map((value, i) => {
      const [x, y] = [w[Math.floor(i / b.length)], b[i % b.length]];
      return { w: x - dw, w2: x + 1.2 * dw, b: y - db, b2: y + 1.5 * db, error: value }; // a little over the next one, else the ground shines through
    });
    const path = descent.path.map(([x, y], order) => ({ order, w: x, b: y }));
    const { w: [wLow, wHigh], b: [bLow, bHigh] } = facts.window;
    return show("surface", descent.headline[language()], rows, { wLow, wHigh, bLow, bHigh }, path, descent);
  }

  // A run: the clipping of each of its steps, and what each of them gave

  function run() {
    const [start, clip] = ["start", "clip"].map((name) => value(name, "training"));
    const key = JSON.stringify([state.cell, start, ...(facts.runs ? [clip] : [])]); // a run of a file has one clipping
    if (!state.runs.has(key)) state.runs.set(key, { cell: state.cell, start, clips: [], wanted: [], steps: [] });
    return state.runs.get(key);
  }

  const owed = (own) => own.wanted.length > own.clips.length; // of an address, which names the clipping of every step

  async function step() {
    const own = run(), clips = owed(own) ? own.wanted.slice(0, own.clips.length + 1) : [...own.clips, value("clip", "training")];
    if (clips.length > facts.most) {
      pause();
      return show("training", say("training.end"), content.training.rows, content.training.params);
    }
    own.begun = true;
    if (!own.steps.length) byId("training-headline").textContent = say("training.begins");
    const table = await numbers("training", { ...own, clips });
    if (clips.length !== own.clips.length + 1) return;
    own.clips = clips;
    own.steps.push(table);
    if (state.view === "training" && own === run()) await showRun();
  }

  async function showRun() {
    const own = run(), last = own.steps.at(-1), what = byId("quantity").value;
    const columns = own.steps.flatMap((table) => table[what]), wide = what === "state" ? facts.updates : facts.recorded;
    const rows = columns.flatMap(({ iteration, values }) =>
      values.map((value, back) => ({ iteration, iteration2: iteration + 1.04 * wide, lag: back - 0.5, lag2: back + 0.53, back, value })));
    const values = rows.map((row) => row.value).filter((v) => v !== null);
    const [low, high] = what === "state" ? [0, Math.max(0.3, ...values)] : [Math.min(-2, Math.floor(Math.min(...values))), Math.max(1, Math.ceil(Math.max(...values)))];
    byId("training-setting").textContent = last ? last.setting[language()] : called(own);
    const most = Math.max(12, ...rows.map((row) => row.back)) + 0.5;
    await show("training", last ? last.headline[language()] : say(own.begun || owed(own) ? "training.begins" : "training.none"), rows, { low, high, most, last: Math.max(100, ...rows.map((row) => row.iteration + wide)) });
    await showAnswer();
  }

  let typed = 0;
  async function showAnswer() {
    const own = run(), name = byId("name").value.replace(/\s/g, ""), turn = ++typed;
    if (!own.clips.length || !name) return show("answer", say(name ? "training.none" : "answer.none"), [], {});
    const table = await numbers("answer", { ...own, name });
    if (turn !== typed) return;
    const rows = table.bars.map(({ place, character, score, own: named }) => ({ place: String(place).padStart(3, "0") + character, character, score, colour: shade(named ? facts.colours[own.cell] : grey) }));
    await show("answer", table.headline[language()], rows, {});
  }

  // What follows a change: the newest settings, one question at a time, so that a slider never waits for its past

  let asked = false, answering = null;

  async function answerAll() {
    while (asked) {
      asked = false;
      const began = performance.now();
      try {
        if (state.view === "gradients") {
          const [flow, surface, descent] = await Promise.all(["flow", "surface", "descent"].map((panel) => numbers(panel, settings())));
          await Promise.all([showGradient(flow), showSpectrum(flow), showSurface(surface, descent)]);
        } else {
          if (owed(run())) trained();
          await showRun();
        }
      } catch (error) { lost(error); }
      root.dataset.took = Math.round(performance.now() - began);
    }
    answering = null;
    root.dataset.drawn = "true";
    tell();
  }

  function changed() {
    clearTimeout(trying);
    asked = true;
    showSettings();
    answering ??= answerAll();
    return answering;
  }

  let trying;
  function lost(error) {
    pause();
    clearTimeout(trying);
    if (error.gone) trying = setTimeout(changed, 2000);
    charts[state.view].forEach((name, i) => { // what stays on the screen is of other settings: nothing says it any more
      byId(`${name}-headline`).textContent = i ? "" : error.message;
      panel(name).classList.add("lost");
    });
  }

  let telling;
  function tell() {
    clearTimeout(telling);
    telling = setTimeout(() => {
      const told = charts[state.view].map((name) => byId(`${name}-headline`).textContent).join(language() === "zh" ? "。" : ". ");
      if (told !== byId("told").textContent) byId("told").textContent = told;
    }, 500);
    noteSoon();
  }

  // The address: noted after a click at once, while a slider moves or a run plays now and then, for browsers count how often

  function noted() {
    const { cell } = state, own = run(), clips = owed(own) ? own.wanted : own.clips;
    const stops = Object.entries({ ...Object.fromEntries(sliders.map((name) => [kind(name, cell), value(name, "gradients")])), ...state.stops });
    return address.write([
      ["view", state.view], ["cell", cell], ...stops.map(([name, stop]) => [name, address.text(stop)]),
      ...state.kept.map((curve) => ["keep", address.curve(curve)]),
      ...(clips.length ? [["run", address.written(clips)]] : []),
      ["quantity", byId("quantity").value], ["name", byId("name").value], ["lang", language()], ["theme", dark() ? "dark" : "light"],
    ]);
  }

  let written, noting;
  function note() {
    clearTimeout(noting);
    noting = null;
    const now = noted();
    if (now === written) return;
    written = now;
    byId("notice").hidden = true;
    try { history.replaceState(null, "", now); } catch { written = null; /* too often, or not allowed: the next change tries again */ }
  }
  const noteSoon = () => { noting ??= setTimeout(note, 300); };

  const LISTED = 3, LONG = 40;
  function restore() {
    const { found, foreign } = address.read(location.hash, facts, KEPT);
    pause();
    Object.assign(state, { view: found.view ?? "gradients", cell: found.cell ?? facts.cell, kept: found.keep });
    state.stops = Object.fromEntries(["steps", "clip", ...Object.values(facts.kinds)].filter((name) => name in found).map((name) => [name, found[name]]));
    byId("quantity").value = found.quantity ?? "gradient";
    byId("name").value = found.name ?? facts.name;
    if (found.lang) gradflow.speak(found.lang);
    if (found.theme) gradflow.wear(found.theme);
    state.runs.clear();
    const wanted = found.run ?? [];
    if (facts.runs && wanted.some((clip) => clip !== value("clip", "training"))) foreign.push(`run=${address.written(wanted)}`);
    else run().wanted = wanted;
    const listed = foreign.slice(0, LISTED).map((part) => (part.length > LONG ? `${part.slice(0, LONG)}…` : part).replace(/\p{C}/gu, "�"));
    byId("notice").textContent = say("page.foreign").replace("{parts}", () => [...listed, ...(foreign.length > LISTED ? ["…"] : [])].join(", "));
    byId("notice").hidden = !foreign.length;
    written = noted();
  }

  async function redraw() {
    for (const name of Object.keys(views)) { views[name].finalize(); delete views[name]; byId(`${name}-plot`).replaceChildren(); }
    await answering;
    return changed();
  }

  // Training goes on by itself while it plays

  async function play() {
    byId("play").setAttribute("aria-pressed", "true");
    state.playing = true;
    while (state.playing) {
      await trained();
      await new Promise((done) => setTimeout(done, 60));
    }
  }
  function pause() {
    state.playing = false;
    byId("play").setAttribute("aria-pressed", "false");
  }
  let training = null;
  function trained() {
    training ??= stepped().catch(lost).finally(() => { training = null; tell(); root.dataset.steps = run().steps.length; });
    return training;
  }
  async function stepped() {
    do await step(); while (owed(run()));
  }

  // Hands

  for (const name of sliders) byId(name).addEventListener("input", (event) => { state.stops[kind(name, state.cell)] = stops(name).values[event.target.value]; changed(); });
  for (const radio of all("[name=cell]")) radio.addEventListener("change", () => { state.cell = radio.value; changed(); });
  function view(name) {
    state.view = name;
    if (name !== "training") pause();
    return redraw();
  }
  for (const name of Object.keys(charts)) byId(`show-${name}`).addEventListener("click", () => view(name));
  byId("keep").addEventListener("click", () => {
    const now = settings();
    if (!state.kept.some((curve) => sameCurve(curve, now))) state.kept = [...state.kept.slice(1 - KEPT), now];
    changed();
  });
  byId("forget").addEventListener("click", () => { state.kept = []; changed(); });
  byId("step").addEventListener("click", trained);
  byId("play").addEventListener("click", () => (state.playing ? pause() : play()));
  byId("restart").addEventListener("click", () => {
    pause();
    const own = run();
    Object.assign(own, { clips: [], wanted: [], steps: [], begun: false });
    changed();
  });
  byId("quantity").addEventListener("change", changed);
  const asks = () => (panel("training").matches(".lost") ? changed() : showAnswer().catch(lost).then(tell));
  byId("name").addEventListener("input", (event) => { if (!event.isComposing) asks(); });
  byId("name").addEventListener("compositionend", asks);

  const keys = { g: "show-gradients", t: "show-training", k: "keep", p: "play", d: "theme", l: "language", " ": "step" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input:not([type=range], [type=radio]), select")) return;
    if (event.key === " " && (event.target.matches("button, input, a") || state.view !== "training")) return;
    const radio = all("[name=cell]")[Number(event.key) - 1], button = byId(keys[event.key.toLowerCase()]);
    if (!radio && !button) return;
    event.preventDefault();
    (radio ?? button).click();
  });

  let resizing;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(redraw, 150); });
  gradflow.changed = redraw;
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); byId("content").focus(); });
  for (const [event, after] of Object.entries({ click: note, change: note, input: noteSoon })) document.addEventListener(event, after);
  addEventListener("hashchange", () => { restore(); redraw(); });
  restore();
  changed();
})();
