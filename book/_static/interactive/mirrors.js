// Drag a sample: the kinks of three-layer absolute values, mirrors and midpoints, move with it.
stage.start("mirrors", (box, { x: samples }) => {
  const { handle, make, name, number, picture, points, put } = stage;
  const x = [...samples];
  const [low, high, ground] = [-4.5, 7.5, 190];
  const across = (t) => 30 * (t - low);
  const pairs = x.flatMap((_, i) => x.map((_, j) => [i, j]));
  const called = (i) => name("x", i);

  // A feature folds at a first, then at the anchor x_j: ||x - a| - |x_j - a||.
  const features = [
    ...pairs.filter(([i, j]) => i !== j).map(([i, j]) => ({
      title: `reflect ${called(j)} about ${called(i)}`, a: () => x[i], j,
      formula: `| |x \u2212 ${called(i)}| \u2212 |${called(j)} \u2212 ${called(i)}| |`,
      kinks: () => [[called(i), x[i]], [called(j), x[j]],
        [`mirror 2${called(i)} \u2212 ${called(j)}`, 2 * x[i] - x[j]]],
    })),
    ...pairs.filter(([i, j]) => i < j).map(([i, j]) => ({
      title: `fold ${called(i)} onto ${called(j)}`, a: () => (x[i] + x[j]) / 2, j,
      formula: `| |x \u2212 m| \u2212 |${called(j)} \u2212 m| |`,
      kinks: () => [[called(i), x[i]], [called(j), x[j]],
        [`midpoint m = \u00bd(${called(i)} + ${called(j)})`, (x[i] + x[j]) / 2]],
    })),
    ...x.map((_, i) => ({
      title: `no second fold, at ${called(i)}`, a: () => x[i], j: i,
      formula: `|x \u2212 ${called(i)}|`, kinks: () => [[called(i), x[i]]],
    })),
  ];

  const svg = picture(box, [0, 0, 360, 260], "Three samples, all kinks, and one feature");
  const arc = make(svg, "path", { class: "chain" });
  make(svg, "line", { class: "axis", x1: 0, x2: 360, y1: ground, y2: ground });
  for (let t = -4; t <= 7; t++) {
    make(svg, "line", { class: "axis", x1: across(t), x2: across(t), y1: ground, y2: ground + 4 });
    make(svg, "text", { x: across(t), y: 254, class: "faint" }, String(t).replace("-", "\u2212"));
  }
  const shape = make(svg, "polyline", { class: "fit" });
  const others = make(svg, "g");
  const letters = x.map((_, i) => make(svg, "text", { class: "strong" }, called(i)));
  const label = make(box, "label", {}, "one feature of the dictionary");
  const choice = make(label, "select");
  features.forEach(({ title }, k) => make(choice, "option", { value: k }, title));
  const says = make(box, "output", { "aria-live": "polite" });

  const moves = x.map((_, i) => handle(svg, {
    label: `sample ${called(i)}`, range: [-1, 4], step: 0.1, reach: 15,
    get: () => x[i],
    set: (value) => { x[i] = Math.round(20 * Math.min(Math.max(value, -1), 4)) / 20; draw(); },
    at: (point) => point.x / 30 + low,
  }));
  const diamond = (t, used, kind) => make(others, "polygon", {
    class: `${kind}${used ? " used" : ""}`,
    points: points(kind === "mirror"
      ? [[0, -6], [6, 0], [0, 6], [-6, 0]].map(([p, q]) => [across(t) + p, ground + q])
      : [[-4, -4], [4, -4], [4, 4], [-4, 4]].map(([p, q]) => [across(t) + p, ground + q])),
  });
  const draw = () => {
    const feature = features[Number(choice.value)];
    const a = feature.a();
    const h = (t) => Math.abs(Math.abs(t - a) - Math.abs(x[feature.j] - a));
    const kinks = feature.kinks();
    const near = (s) => kinks.some(([, t]) => Math.abs(s - t) < 1e-9);
    const stops = [low, ...kinks.map(([, t]) => t), a, high]
      .filter((t) => t >= low && t <= high).sort((s, t) => s - t);
    const tall = (t) => ground - 22 * h(t);
    put(shape, { points: points(stops.map((t) => [across(t), tall(t)])) });

    others.replaceChildren();
    const mirrors = pairs.filter(([i, j]) => i !== j).map(([i, j]) => 2 * x[i] - x[j]);
    const middles = pairs.filter(([i, j]) => i < j).map(([i, j]) => (x[i] + x[j]) / 2);
    mirrors.forEach((t) => diamond(t, near(t), "mirror"));
    middles.forEach((t) => diamond(t, near(t), "midpoint"));
    // The arc leads from a sample over the fold to where it lands.
    const [from, to] = [across(x[feature.j]), across(2 * a - x[feature.j])];
    put(arc, { d: `M ${from} ${ground} Q ${across(a)} ${ground + 70} ${to} ${ground}` });
    x.forEach((t, i) => {
      put(letters[i], { x: across(t), y: ground + 24 });
      moves[i](across(t), ground, `${called(i)} = ${number(t)}`);
    });
    says.textContent = `${feature.formula}: `
      + kinks.map(([title, t]) => `${title}${title.includes("=") ? " = " : " at "}${number(t)}`).join(", ") + ".";
    const sorted = (list) => JSON.stringify([...list].sort((s, t) => s - t));
    says.dataset.kinks = sorted(kinks.map(([, t]) => t));
    says.dataset.places = sorted([...x, ...mirrors, ...middles]);
  };
  choice.addEventListener("change", draw);
  draw();
});
