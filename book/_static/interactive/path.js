// Slide beta along a solution path: the optimal network, its neurons, and the proof that it is optimal.
stage.start("path", (box, { x, y, beta, beta_max: largest, dual, neurons }) => {
  const { make, number, picture, points, put } = stage;
  const [low, high] = [-1.15, 1.15];
  const relu = (t) => Math.max(t, 0);
  const across = (t) => 180 + 150 * t;
  const up = (value) => 150 - 85 * value;
  const value = (net, t) => net.reduce((sum, [w, b, a]) => sum + a * relu(w * t + b), 0);
  const inside = (net) => net.map(([w, b]) => -b / w).filter((t) => t > low && t < high);
  const line = (net) => [low, ...inside(net).sort((s, t) => s - t), high]
    .map((t) => [across(t), up(value(net, t))]);
  const objective = (k) => x.reduce((sum, t, i) => sum + (value(neurons[k], t) - y[i]) ** 2 / 2, 0)
    + beta[k] / 2 * neurons[k].flat().reduce((sum, w) => sum + w * w, 0);

  const svg = picture(box, [0, 0, 360, 250], "The fitted function, its neurons and the data");
  make(svg, "line", { class: "axis", x1: 5, x2: 355, y1: up(0), y2: up(0) });
  const parts = make(svg, "g");
  const fit = make(svg, "polyline", { class: "fit" });
  x.forEach((t, i) => make(svg, "circle", { cx: across(t), cy: up(y[i]), r: 4, class: "datum" }));
  const kinks = make(svg, "g");

  // Below: how many neurons are alive at each beta, with the slider under it.
  const steps = picture(box, [0, 0, 360, 66], "The number of neurons for each beta");
  const along = (k) => 12 + 336 * k / (beta.length - 1);
  const height = (count) => 56 - 7 * count;
  make(steps, "polyline", {
    class: "chain",
    points: points(neurons.flatMap((net, k) => [-0.5, 0.5]
      .map((s) => [along(Math.min(Math.max(k + s, 0), beta.length - 1)), height(net.length)]))),
  });
  const count = make(steps, "text", { x: 352, y: 12, class: "end" });
  const alive = make(steps, "circle", { r: 6, class: "here" });
  const label = make(box, "label", {}, "weight decay \u03b2, logarithmic");
  const slider = make(label, "input", {
    type: "range", min: 0, max: beta.length - 1, step: 1,
    value: beta.findIndex((b) => b > 0.05),
  });
  const says = make(box, "output", { "aria-live": "polite" });

  const draw = () => {
    const k = Number(slider.value);
    const net = neurons[k];
    const [primal, bound] = [objective(k), dual[k]];
    const gap = Math.abs(primal - bound) / primal;
    put(fit, { points: points(line(net)) });
    parts.replaceChildren();
    kinks.replaceChildren();
    for (const neuron of net) {
      const [w, b, a] = neuron;
      const colour = a > 0 ? "plus" : "minus";
      make(parts, "polyline", { class: `neuron ${colour}`, points: points(line([neuron])) });
      const kink = -b / w;
      if (kink <= low || kink >= high) continue;
      const [p, s] = [across(kink), Math.sign(w)]; // a triangle points to where the neuron is on
      make(kinks, "polygon", {
        class: colour,
        points: points([[p + s, 228], [p + s, 242], [p + 12 * s, 235]]),
      });
    }
    put(alive, { cx: along(k), cy: height(net.length) });
    const many = net.length === 1 ? "1 neuron" : `${net.length} neurons`;
    count.textContent = many;
    const places = new Set(inside(net).map((t) => number(t)));
    const where = net.length === 0 ? "" : places.size
      ? `, kinks at ${[...places].sort((s, t) => s.replace("\u2212", "-") - t.replace("\u2212", "-")).join(", ")}`
      : ", no kink in the picture";
    says.textContent = `\u03b2 = ${beta[k].toPrecision(3)}`
      + `${beta[k] >= largest ? ` \u2265 \u03b2_max = ${largest.toPrecision(3)}` : ""}: ${many}${where}. `
      + `Objective ${number(primal, 5)}, dual bound ${number(bound, 5)}, `
      + `relative gap ${gap < 1e-6 ? "below 10\u207b\u2076" : gap.toExponential(1)}.`;
    Object.assign(says.dataset, { neurons: net.length, objective: primal, gap });
    put(slider, { "aria-valuetext": `beta ${beta[k].toPrecision(3)}, ${many}` });
  };
  slider.addEventListener("input", draw);
  draw();
});
