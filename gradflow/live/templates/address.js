"use strict";
// What is set, in the address behind its #: a reload, a bookmark and a link give the same page. A part of it that this page
// does not offer is told, and stays as it is without it.
const address = (() => {
  const text = (stop) => (stop === null ? "off" : String(stop));
  const stopOf = (values, written) => values.find((stop) => text(stop) === written);
  const one = (values) => (written) => stopOf(values, written);

  // The text of a run: "off*3,0.5*2" is three steps without clipping and two with it

  function written(clips) {
    const groups = [];
    for (const clip of clips) {
      if (groups.length && groups.at(-1)[0] === clip) groups.at(-1)[1] += 1;
      else groups.push([clip, 1]);
    }
    return groups.map(([clip, count]) => `${text(clip)}*${count}`).join(",");
  }

  function clipsOf(written, offered, most) {
    const clips = [];
    for (const group of written.split(",")) {
      const [, stop, count] = group.match(/^([^*]+)\*(\d{1,3})$/) ?? [];
      const clip = stopOf(offered, stop);
      if (clip === undefined || clips.length + Number(count) > most) return undefined;
      clips.push(...Array(Number(count)).fill(clip));
    }
    return clips;
  }

  function curveOf(written, { start, steps }) {
    const [cell, from, back, ...more] = written.split(",");
    if (more.length || !Object.hasOwn(start, cell)) return undefined;
    const curve = { cell, start: stopOf(start[cell].values, from), steps: stopOf(steps.values, back) };
    return Object.values(curve).includes(undefined) ? undefined : curve;
  }

  const startsOf = (kind, { start }, kinds) => Object.keys(kinds).flatMap((cell) => (kinds[cell] === kind ? start[cell].values : []));

  // Each part by its name: from its text to what it says, undefined if that is nothing

  const parts = ({ sliders, kinds, runs, most, names, longest }) => ({
    view: one(["gradients", "training"]),
    cell: one(Object.keys(kinds)),
    ...Object.fromEntries(Object.values(kinds).map((kind) => [kind, one(startsOf(kind, sliders, kinds))])),
    steps: one(sliders.steps.values),
    clip: one(sliders.clip.values),
    keep: (written) => curveOf(written, sliders),
    quantity: one(["gradient", "state"]),
    run: (written) => clipsOf(written, runs?.clips ?? sliders.clip.values, most),
    name: names ? one(names) : (written) => ([...written].length <= longest ? written : undefined),
    lang: one(["en", "zh"]),
    theme: one(["light", "dark"]),
  });

  // What an address says, the curves in a list, and the parts of it that say nothing here

  function read(fragment, facts, curves) {
    const offered = parts(facts), found = { keep: [] }, foreign = [];
    for (const [name, written] of new URLSearchParams(fragment.replace(/^#/, ""))) {
      const value = Object.hasOwn(offered, name) ? offered[name](written) : undefined;
      if (value === undefined || (name === "keep" ? found.keep.length === curves : Object.hasOwn(found, name))) foreign.push(written ? `${name}=${written}` : name);
      else if (name === "keep") found.keep.push(value);
      else found[name] = value;
    }
    return { found, foreign };
  }

  // The other way: pairs of a name and a stop, a text, a curve, or the clipping of a run

  const encoded = (value) => encodeURIComponent(value).replaceAll("%2C", ",");
  const write = (pairs) => `#${pairs.map(([name, value]) => `${name}=${encoded(value)}`).join("&")}`;
  const curve = ({ cell, start, steps }) => [cell, start, steps].map(text).join(",");

  return { read, write, text, written, curve };
})();
