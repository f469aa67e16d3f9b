// Rotate a gate: which samples it activates, and the vertex of the zonotope that it supports.
stage.start("gate", (box, { X }) => {
  const { handle, make, name, number, picture, points, put } = stage;
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const unit = (angle) => [Math.cos(angle), Math.sin(angle)];
  const pattern = (h) => X.map((x) => dot(x, h) >= 0);
  const bits = (active) => active.map(Number).join("");
  const sum = (active) => X.reduce(
    (total, x, j) => (active[j] ? [total[0] + x[0], total[1] + x[1]] : total), [0, 0]);
  const label = "Samples and the gate h";
  const row = make(box, "div", { class: "row" });

  // Left: the samples, the gate, and its half-plane.
  const left = picture(row, [-150, -150, 300, 300], label);
  const inLeft = ([x, y], scale = 105) => [scale * x, -scale * y];
  const half = make(left, "path", { class: "half" });
  const wall = make(left, "line", { class: "wall" });
  const gate = make(left, "line", { class: "gate" });
  const arrows = X.map((x, j) => {
    const [a, b] = inLeft(x);
    const [c, d] = inLeft(x, 105 + 15 / Math.hypot(...x));
    const group = make(left, "g");
    make(group, "line", { x2: a, y2: b });
    make(group, "circle", { cx: a, cy: b, r: 4.5 });
    make(group, "text", { x: c, y: d + 4 }, name("x", j));
    return group;
  });
  const letter = make(left, "text", { class: "strong" }, "h");

  // Right: one vertex for each cell between neighbouring walls.
  const walls = X.flatMap((x) => [1, -1].map((s) => Math.atan2(s * x[0], -s * x[1])))
    .sort((a, b) => a - b);
  const cells = walls.map((low, k) => {
    const high = k + 1 < walls.length ? walls[k + 1] : walls[0] + 2 * Math.PI;
    const h = unit((low + high) / 2);
    const active = pattern(h);
    return { h, key: bits(active), vertex: sum(active) };
  });
  const middle = sum(X.map(() => true)).map((value) => value / 2);
  const radius = Math.max(...cells.map(({ vertex: v }) => Math.hypot(v[0] - middle[0], v[1] - middle[1])));
  const inRight = (p) => [88 * (p[0] - middle[0]) / radius, -88 * (p[1] - middle[1]) / radius];
  const right = picture(row, [-150, -150, 300, 300], "The zonotope and the vertex that h supports");
  make(right, "polygon", { class: "zonotope", points: points(cells.map((c) => inRight(c.vertex))) });
  const tangent = make(right, "line", { class: "wall" });
  const chain = make(right, "polyline", { class: "chain" });
  const normal = make(right, "line", { class: "gate" });
  for (const cell of cells) {
    const [a, b] = inRight(cell.vertex);
    make(right, "circle", { cx: a, cy: b, r: 3, class: "vertex" });
    cell.text = make(right, "text", {}, cell.key);
  }
  const [originX, originY] = inRight([0, 0]);
  make(right, "text", { x: originX - 8, y: originY + 4, class: "strong" }, "0");
  const supported = make(right, "circle", { r: 6, class: "here" });
  const says = make(box, "output", { "aria-live": "polite" });

  let angle = 40; // degrees
  const move = handle(left, {
    label: "direction of the gate h, in degrees", range: [0, 359], step: 3,
    get: () => angle,
    set: (value) => { angle = ((Math.round(value) % 360) + 360) % 360; draw(); },
    at: ({ x, y }) => Math.atan2(-y, x) * 180 / Math.PI,
  });
  const draw = () => {
    const h = unit(angle * Math.PI / 180);
    const active = pattern(h);
    const key = bits(active);
    const vertex = sum(active);
    const [a, b] = [140 * h[1], 140 * h[0]]; // the wall is orthogonal to h
    put(half, { d: `M ${-a} ${-b} A 140 140 0 0 1 ${a} ${b} Z` });
    put(wall, { x1: -a, y1: -b, x2: a, y2: b });
    put(gate, { x2: 122 * h[0], y2: -122 * h[1] });
    put(letter, { x: 141 * h[0], y: 4 - 141 * h[1] });
    arrows.forEach((group, j) => put(group, { class: active[j] ? "sample on" : "sample" }));

    const [p, q] = inRight(vertex);
    put(supported, { cx: p, cy: q });
    put(tangent, { x1: p - 0.5 * a, y1: q - 0.5 * b, x2: p + 0.5 * a, y2: q + 0.5 * b });
    put(normal, { x1: p, y1: q, x2: p + 28 * h[0], y2: q - 28 * h[1] });
    const stops = X.map((_, j) => sum(active.map((on, i) => on && i <= j)));
    put(chain, { points: points([[0, 0], ...stops].map(inRight)) });
    for (const cell of cells) { // the pattern of h stands at the tip of its arrow
      const here = cell.key === key;
      const [c, d] = here ? [p + 44 * h[0], q - 38 * h[1]] : inRight(cell.vertex);
      put(cell.text, {
        class: here ? "strong" : "faint",
        x: here ? c : c + 26 * cell.h[0], y: 4 + (here ? d : d - 18 * cell.h[1]),
      });
    }

    const names = X.map((_, j) => name("x", j)).filter((_, j) => active[j]);
    const place = `(${number(vertex[0])}, ${number(vertex[1])})`;
    says.textContent = `Pattern ${key}. ` + (names.length
      ? `Active: ${names.join(", ")}. Vertex ${names.join(" + ")} = ${place}; `
      : "No sample is active: the vertex is 0; ")
      + `its product with h is the sum of the outputs, ${number(dot(h, vertex))}.`;
    Object.assign(says.dataset, { pattern: key, vertex: JSON.stringify(vertex) });
    move(122 * h[0], -122 * h[1], `${angle} degrees, pattern ${key}`);
  };
  draw();
});
