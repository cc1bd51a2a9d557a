"use strict";
// What all pages share: language, theme, and the look of charts. A page says by `gradflow.changed` how it draws itself anew.
const gradflow = (() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a page without storage forgets */ } };

  const language = () => (root.lang === "en" ? "en" : "zh");
  const dark = () => root.dataset.theme === "dark";
  const page = { root, all, language, dark, look, speak, wear, changed: () => {} };
  let worn = remembered("gradflow-theme");

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

  function wear(theme) {
    worn = theme;
    colour(theme);
  }

  speak(root.dataset.language ?? remembered("gradflow-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  colour(worn ?? (system.matches ? "dark" : "light"));

  document.getElementById("language").addEventListener("click", () => {
    speak(language() === "en" ? "zh" : "en");
    remember("gradflow-language", language());
    page.changed();
  });
  document.getElementById("theme").addEventListener("click", () => {
    wear(dark() ? "light" : "dark");
    remember("gradflow-theme", root.dataset.theme);
    page.changed();
  });
  system.addEventListener("change", () => {
    if (worn) return;
    colour(system.matches ? "dark" : "light");
    page.changed();
  });

  function look(size) {
    const ink = getComputedStyle(root).getPropertyValue("--ink"), line = getComputedStyle(root).getPropertyValue("--line");
    const axis = { labelColor: ink, titleColor: ink, domainColor: ink, tickColor: ink, gridColor: line, gridOpacity: 0.5, labelOverlap: true, titleFontWeight: "normal", labelFontSize: size, titleFontSize: size + 1 };
    return {
      background: "transparent", customFormatTypes: true, font: getComputedStyle(document.body).fontFamily, axis, view: { stroke: null },
      legend: { labelColor: ink, titleColor: ink, titleFontWeight: "normal", titleLimit: 400 },
    };
  }

  return page;
})();
