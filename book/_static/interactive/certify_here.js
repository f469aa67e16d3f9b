// Certify a small network in the page: shows what certify_here_rounds.js proves of what certify_here_read.js reads.
stage.start("certify_here", (box, { examples, most }) => {
  const { make, number, picture, points, put } = stage;
  // The page.
  const views = make(box, "div");
  const controls = make(box, "div", { class: "controls" });
  const field = (tag, text, attributes) => make(make(controls, "label", {}, text), tag, attributes);
  const choice = field("select", "example");
  examples.forEach(({ title }, k) => make(choice, "option", { value: k }, title));
  const dropped = (text, rows, types) => {
    const area = field("textarea", text, { rows, spellcheck: "false" });
    const file = field("input", `${text.split(",")[0]}, from a file`, { type: "file", accept: types });
    const take = async (found) => {
      if (found.size > most.bytes) {
        says.textContent = `The file ${found.name} has ${found.size} bytes; expected at most ${most.bytes}. Take a smaller one.`;
      } else area.value = await found.text();
    };
    file.addEventListener("change", () => { if (file.files.length) take(file.files[0]); });
    area.addEventListener("dragover", (event) => event.preventDefault());
    area.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files.length) return; // dropped text goes where it was dropped
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    });
    return area;
  };
  const network = dropped("network, as JSON: drop or paste it here", 4, ".json");
  const table = dropped("table, as CSV, the target last: drop or paste it here", 5, ".csv,.txt");
  const beta = field("input", "weight decay \u03b2", { type: "text", inputmode: "decimal" });
  const button = make(controls, "button", { type: "button" }, "Certify");
  const bar = make(controls, "progress", { max: 1, value: 0, "aria-label": "rounds of the search for a bound" });
  const says = make(box, "output", { "aria-live": "polite" });

  // Pictures.
  const scale = (values, low, high) => {
    const [least, largest] = [Math.min(...values), Math.max(...values)];
    const wide = largest - least || 1;
    return (value) => low + (high - low) * (0.08 + 0.84 * (value - least) / wide);
  };
  const drawLine = ({ U, alpha, biased }, { features, y }, { missing, size }) => {
    const x = features.map(([t]) => t);
    const wide = 0.08 * (Math.max(...x) - Math.min(...x) || 1);
    const [low, high] = [Math.min(...x) - wide, Math.max(...x) + wide];
    const neurons = U.map(([w, b = 0], j) => [w, b, alpha[j]]);
    const [w, b] = missing.direction;
    const own = [w, biased ? b : 0, missing.sign * size];
    const line = (net) => [low, ...net.map((one) => -one[1] / one[0]).filter((t) => t > low && t < high), high]
      .sort((s, t) => s - t)
      .map((t) => [t, net.reduce((sum, one) => sum + one[2] * Math.max(one[0] * t + one[1], 0), 0)]);
    const lines = [line(neurons), line([...neurons, own])];
    const [across, up] = [scale(x, 5, 355), scale([...y, ...lines[0].map(([, v]) => v)], 245, 5)];
    const svg = picture(views, [0, 0, 360, 250], "The network's function, the data, and the function with the missing neuron, dashed");
    const path = (list) => points(list.map(([t, v]) => [across(t), up(v)]));
    if (size > 0) make(svg, "polyline", { class: "neuron minus", points: path(lines[1]) });
    make(svg, "polyline", { class: "fit", points: path(lines[0]) });
    x.forEach((t, i) => make(svg, "circle", { cx: across(t).toFixed(2), cy: up(y[i]).toFixed(2), r: 3, class: "datum" }));
  };
  const drawPlane = ({ biased }, { features }, { missing, z }) => {
    const all = features.flat();
    const wide = Math.max(...[0, 1].map((j) => Math.max(...features.map((x) => x[j])) - Math.min(...features.map((x) => x[j])))) || 1;
    const middle = [0, 1].map((j) => (Math.max(...features.map((x) => x[j])) + Math.min(...features.map((x) => x[j]))) / 2);
    const at = ([p, q]) => [150 + 270 * (p - middle[0]) / wide, 150 - 270 * (q - middle[1]) / wide];
    const svg = picture(views, [0, 0, 300, 300], "The samples, their residuals, and the half-plane in which the missing neuron is positive");
    const [v, w] = missing.direction;
    const c = (biased ? missing.direction[2] : 0) + v * middle[0] + w * middle[1];
    const size = Math.hypot(v, w);
    if (size > 0) {
      const [n, away] = [[v / size, w / size], -c / size];
      const far = 3 * (wide + Math.abs(away));
      const to = (along, over) => at(middle.map((m, j) => m + (away + over) * n[j] + along * [-n[1], n[0]][j]));
      const [a, b] = [to(-far, 0), to(far, 0)];
      const corners = [a, b, to(far, 2 * far), to(-far, 2 * far)];
      make(svg, "path", { class: "half", d: `M ${corners.map((p) => p.map((q) => q.toFixed(2)).join(" ")).join(" L ")} Z` });
      const ends = [...a, ...b].map((q) => q.toFixed(2));
      make(svg, "line", { class: "fold", x1: ends[0], y1: ends[1], x2: ends[2], y2: ends[3] });
    }
    const largest = Math.max(...z.map(Math.abs)) || 1;
    features.forEach((x, i) => {
      const [[p, q], s] = [at(x), (3 + 6 * Math.abs(z[i]) / largest) * (z[i] < 0 ? -1 : 1)];
      make(svg, "polygon", { class: z[i] < 0 ? "minus" : "plus", points: points([[p - s, q + 0.6 * s], [p + s, q + 0.6 * s], [p, q - s]]) });
    });
  };
  // To so many digits; what is proven is rounded to the side on which it stays true.
  const digits = (value, many = 6, round = Math.round) => {
    if (value === 0) return "0";
    const unit = many - 1 - Math.floor(Math.log10(Math.abs(value)));
    return Number(`${round(Number(`${value}e${unit}`.replace(/e(.*)e(.*)/, (_, p, q) => `e${Number(p) + Number(q)}`)))}e${-unit}`).toString();
  };
  const report = (net, data, result) => {
    const { missing, value, lower, gap, found, rounds, gain } = result;
    views.replaceChildren();
    (net.d === 1 ? drawLine : drawPlane)(net, data, result);
    const worth = missing.value / data.beta;
    const u = missing.direction.slice(0, net.U[0].length).map((v) => number(v, 3)).join(", ");
    says.textContent = `Objective ${digits(value)}. No network of any width is below ${digits(lower, 6, Math.floor)}: relative gap `
      + `${gap < 1e-6 ? "below 10\u207b\u2076" : `at most ${digits(gap, 2, Math.ceil)}`}. The best network found here has ${digits(found)}, after ${rounds} round${rounds === 1 ? "" : "s"}. `
      + (missing.value > 0 ? `The neuron that is missing most: direction (${u}), output weight ${missing.sign > 0 ? "positive" : "negative"}, ${digits(worth)} \u03b2`
        + `${gain > 1e-9 * value ? `; added alone it lowers the objective by ${digits(gain)}.` : ": to add it does not pay."}`
        : "No neuron sees the residual.");
    Object.assign(says.dataset, { objective: value, lower, gap, found, violation: worth, gain });
  };

  let latest = 0; // a new run ends the one before
  const begin = () => {
    latest += 1;
    for (const key of Object.keys(says.dataset)) delete says.dataset[key];
    put(bar, { value: 0 });
    const net = reading.network(network.value, most);
    const data = { ...reading.table(table.value, net.d, most), beta: reading.beta(beta.value) };
    const rows = data.features.map((x) => (net.biased ? [...x, 1] : x));
    return { net, data, run: latest, steps: bounds.certify(net, rows, data.y, data.beta) };
  };
  const end = ({ net, data }, result) => {
    if (![result.value, result.lower, result.gap, result.gain].every(Number.isFinite)) {
      reading.fail("The objective or its bound is no finite number; expected numbers of moderate size. Scale the features and the target.");
    }
    put(bar, { value: 1 });
    report(net, data, result);
  };
  const refuse = (error) => { says.textContent = error.message; };
  // In slices, so that the page goes on.
  const slice = (task) => {
    if (task.run !== latest) return;
    const until = performance.now() + 15;
    try {
      for (;;) {
        const { done, value } = task.steps.next();
        if (done) return void end(task, value);
        if (performance.now() > until) {
          put(bar, { value });
          return void setTimeout(slice, 0, task);
        }
      }
    } catch (error) { refuse(error); }
  };
  button.addEventListener("click", () => {
    try {
      const task = begin();
      says.textContent = "Computing.";
      slice(task);
    } catch (error) { refuse(error); }
  });
  const choose = () => {
    const example = examples[Number(choice.value)];
    network.value = example.network;
    table.value = example.table;
    beta.value = example.beta;
    const task = begin();
    end(task, faces.finish(task.steps));
  };
  choice.addEventListener("change", choose);
  choose();
});
