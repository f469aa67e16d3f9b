// Drag samples: a mirror through two points, a line through a sample, its image, and the unit.
stage.start("looking_glass", (box, { X }) => {
  const { handle, make, name, number, picture, points, put } = stage;
  const samples = X.map((x) => [...x]);
  const [centre, size, scale] = [[1.5, 1.5], 4, 45]; // the square that is shown
  const across = ([p, q]) => [scale * (p - centre[0] + size), scale * (centre[1] + size - q)];
  const called = (k) => name("x", k);
  const middle = (k, i) => samples[k].map((value, j) => (value + samples[i][j]) / 2);

  // The anchor, and the two points that span the mirror.
  const sample = (k) => ({ at: () => samples[k], title: called(k) });
  const midpoint = (k, i) => ({ at: () => middle(k, i), title: `\u00bd(${called(k)} + ${called(i)})` });
  const choices = [
    { anchor: 0, pair: [sample(1), sample(2)] },
    { anchor: 3, pair: [sample(1), sample(2)] },
    { anchor: 0, pair: [sample(2), midpoint(1, 0)] },
    { anchor: 0, pair: [midpoint(3, 0), midpoint(1, 0)] },
    { anchor: 0, pair: [sample(0), sample(3)] },
  ];

  const full = 2 * size * scale;
  const svg = picture(box, [0, 0, full, full], "Four samples, a mirror, a line and its image");
  // The unit is constant along lines parallel to the mirror: stripes of one shade.
  const STRIPES = Array.from({ length: 40 }, (_, k) => 0.3 * (k - 19.5));
  const stripes = STRIPES.map(() => make(svg, "line", { class: "stripe" }));
  const lines = { mirror: make(svg, "line", { class: "fold" }) };
  for (const key of ["P", "Q"]) lines[key] = make(svg, "line", { class: "fit" });
  const marks = make(svg, "g");
  const ring = make(svg, "circle", { class: "ring", r: 12 });
  const letters = samples.map((_, k) => make(svg, "text", { class: "strong" }, called(k)));
  const label = make(box, "label", {}, "mirror and anchor");
  const choice = make(label, "select");
  choices.forEach(({ anchor, pair }, k) => make(choice, "option", { value: k },
    `mirror through ${pair[0].title} and ${pair[1].title}, anchor ${called(anchor)}`));
  const says = make(box, "output", { "aria-live": "polite" });

  const clamp = (value) => Math.round(10 * Math.min(Math.max(value, -1.5), 4.5)) / 10;
  const moves = samples.map((x, k) => {
    const dot = handle(svg, {
      label: `sample ${called(k)}, left and right, up and down`, range: [-1.5, 4.5], step: 0.1, reach: 16,
      get: () => x[0],
      set: (value) => {
        const [p, q] = Array.isArray(value) ? value : [value, x[1]];
        [x[0], x[1]] = [clamp(p), clamp(q)];
        draw();
      },
      at: ({ x: p, y: q }) => [p / scale + centre[0] - size, centre[1] + size - q / scale],
    });
    return dot;
  });
  // Up and down move the second coordinate; what stage.js does with them is stopped before it sees them.
  svg.querySelectorAll(".handle").forEach((dot, k) => dot.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 0.1, ArrowDown: -0.1 }[event.key];
    if (by === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    samples[k][1] = clamp(samples[k][1] + by);
    draw();
  }, { capture: true }));

  // The line at a distance from the centre along the unit normal n, as far as the square shows it.
  const line = (element, n, away) => {
    const foot = centre.map((value, j) => value + away * n[j]);
    const ends = [-6, 6].map((side) => across([foot[0] - side * n[1], foot[1] + side * n[0]]));
    const [[x1, y1], [x2, y2]] = ends.map((end) => end.map((value) => value.toFixed(2)));
    put(element, { x1, y1, x2, y2 });
  };
  const cross = (point, kind) => {
    const [p, q] = across(point);
    if (kind === "midpoint") {
      make(marks, "polygon", { class: "midpoint", points: points([[-4, -4], [4, -4], [4, 4], [-4, 4]].map(([a, b]) => [p + a, q + b])) });
    } else {
      make(marks, "path", { class: "chain", d: `M ${p - 5} ${q - 5} l 10 10 m -10 0 l 10 -10` });
    }
  };
  const draw = () => {
    const { anchor, pair } = choices[Number(choice.value)];
    const [a, b] = pair.map(({ at }) => at());
    const wide = Math.abs(b[0] - a[0]) + Math.abs(b[1] - a[1]);
    const valid = wide > 1e-9;
    // The dual of b - a, divided by its l1 norm, to the right.
    const way = b[1] < a[1] ? -wide : wide;
    const u = valid ? [(b[1] - a[1]) / way, (a[0] - b[0]) / way] : [0, 1];
    const c = -u[0] * a[0] - u[1] * a[1];
    const s = (x) => u[0] * x[0] + u[1] * x[1] + c;
    const t = s(samples[anchor]);
    const h = (x) => Math.abs(Math.abs(s(x)) - Math.abs(t));
    const length = Math.hypot(...u);
    const n = u.map((value) => value / length);
    const at = s(centre) / length; // of the centre, from the mirror
    STRIPES.forEach((away, k) => {
      const height = Math.abs(Math.abs(length * (at + away)) - Math.abs(t));
      line(stripes[k], n, away);
      put(stripes[k], { "stroke-opacity": (valid ? Math.min(0.2 * height, 0.7) : 0).toFixed(2) });
    });
    line(lines.mirror, n, -at);
    line(lines.P, n, t / length - at);
    line(lines.Q, n, -t / length - at);
    marks.replaceChildren();
    const images = pair.map(({ at }) => at().map((value, j) => 2 * value - samples[anchor][j]));
    images.forEach((image) => cross(image, "image"));
    pair.forEach(({ at, title }) => title.length > 2 && cross(at(), "midpoint"));
    const [p, q] = across(samples[anchor]);
    put(ring, { cx: p, cy: q });
    samples.forEach((x, k) => {
      const [e, f] = across(x);
      put(letters[k], { x: e + 18, y: f - 10 });
      moves[k](e, f, `${called(k)} = (${number(x[0], 1)}, ${number(x[1], 1)})`);
    });
    const values = samples.map(h);
    says.textContent = valid
      ? `u = (${number(u[0])}, ${number(u[1])}); the unit is `
        + samples.map((_, k) => `${number(values[k])} at ${called(k)}`).join(", ") + "."
      : "The two points are one: they span no mirror.";
    says.dataset.values = JSON.stringify(valid ? values : []);
    says.dataset.images = JSON.stringify(valid ? images.map(h) : []);
  };
  choice.addEventListener("change", draw);
  draw();
});
