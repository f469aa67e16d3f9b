// The best neuron, max |z'(Xu)+| over unit u, for rows of at most three numbers. The chapter certify_here proves
// what is done here and says what MARGIN and ROUNDING cover.
window.faces = (() => {
  const EPS = 2 ** -52;
  const PARALLEL = 1e-8; // rows whose angle is smaller share a hyperplane
  const MARGIN = 1e-8; // cells that are too small to be seen, relative
  const ROUNDING = (n) => 8 * (n + 8) * EPS; // of sums of n terms, relative to the sum of sizes
  const TURN = 2 * Math.PI;

  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [
    a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
  ];
  const length = (a) => Math.hypot(a[0], a[1], a[2]);
  const times = (s, a) => [s * a[0], s * a[1], s * a[2]];
  const within = (angle) => ((angle % TURN) + TURN) % TURN % TURN;

  // The places on the great circle of p and q where it crosses the others: `on` where an axis becomes positive.
  const around = (axes, p, q, own) => {
    const crossings = [];
    axes.forEach((axis, k) => {
      if (k === own) return;
      const middle = Math.atan2(dot(axis, q), dot(axis, p));
      crossings.push({ angle: within(middle - Math.PI / 2), k, on: true });
      crossings.push({ angle: within(middle + Math.PI / 2), k, on: false });
    });
    crossings.sort((a, b) => a.angle - b.angle);
    const active = new Uint8Array(axes.length); // before the first crossing: what is switched off first
    for (let j = crossings.length; j--;) active[crossings[j].k] = crossings[j].on ? 0 : 1;
    return {
      own, p, q, active,
      angles: Float64Array.from(crossings, ({ angle }) => angle),
      which: Int32Array.from(crossings, ({ k }) => k),
      on: Uint8Array.from(crossings, ({ on }) => on),
    };
  };

  // Everything that depends on the rows alone. Yields after each circle.
  const arrange = function* (rows) {
    const plane = rows.every((row) => row.length < 3);
    const X = rows.map(([a, b = 0, c = 0]) => [a, b, c]);
    const axes = [];
    const members = X.map((x) => {
      const size = length(x);
      if (size === 0) return { k: -1, along: 0, off: 0, size };
      const axis = times(1 / size, x);
      let k = axes.findIndex((other) => length(cross(other, axis)) < PARALLEL);
      if (k < 0) k = axes.push(axis) - 1;
      const along = dot(x, axes[k]);
      return { k, along, off: length(x.map((v, j) => v - along * axes[k][j])), size };
    });
    if (plane) return { X, axes, members, circles: [around(axes, [1, 0, 0], [0, 1, 0], -1)] };
    const circles = [];
    for (const [i, axis] of axes.entries()) {
      const least = [0, 1, 2].reduce((a, b) => (Math.abs(axis[b]) < Math.abs(axis[a]) ? b : a));
      const across = cross(axis, [0, 1, 2].map((j) => Number(j === least)));
      const p = times(1 / length(across), across);
      circles.push(around(axes, p, cross(axis, p), i));
      yield circles.length / axes.length;
    }
    return { X, axes, members, circles };
  };

  const reach = (X, z, u) => {
    let sum = 0;
    for (let i = 0; i < X.length; i++) sum += z[i] * Math.max(dot(X[i], u), 0);
    return sum;
  };

  // The maximum that is attained, where, with which sign, and a proven upper bound. Yields after each circle.
  const price = function* ({ X, axes, members, circles }, z) {
    const [plus, minus] = [new Float64Array(axes.length), new Float64Array(axes.length)];
    let [sizes, moved] = [0, 0];
    members.forEach(({ k, along, off, size }, i) => {
      sizes += Math.abs(z[i]) * size;
      moved += Math.abs(z[i]) * off;
      if (along > 0) plus[k] += z[i] * along;
      else if (along < 0) minus[k] -= z[i] * along;
    });
    const best = { value: 0, direction: [1, 0, 0], sign: 1 };
    const attempt = (u) => {
      const at = times(1 / length(u), u);
      const value = reach(X, z, at);
      if (Math.abs(value) > best.value) {
        Object.assign(best, { value: Math.abs(value), direction: at, sign: Math.sign(value) });
      }
    };
    for (const circle of circles) {
      const { own, p, q, angles, which, on } = circle;
      const active = circle.active.slice();
      let c = [0, 0, 0]; // on this arc the function is c'u
      const add = (s, k) => { c = [0, 1, 2].map((j) => c[j] + s * axes[k][j]); };
      axes.forEach((_, k) => { if (k !== own) add(active[k] ? plus[k] : -minus[k], k); });
      for (let j = 0; j < Math.max(angles.length, 1); j++) {
        const next = (j + 1) % angles.length;
        if (angles.length) {
          const k = which[j];
          add(on[j] ? plus[k] + minus[k] : -plus[k] - minus[k], k);
          active[k] = on[j];
        }
        const [cp, cq] = [dot(c, p), dot(c, q)];
        if (Math.hypot(cp, cq) > best.value) {
          const wide = angles.length < 2 ? TURN : within(angles[next] - angles[j]);
          const centre = Math.atan2(cq, cp);
          const inside = [centre, centre + Math.PI]
            .filter((angle) => within(angle - angles[j]) <= wide);
          for (const angle of [angles[j], angles[next], ...inside]) {
            const [a, b] = [Math.cos(angle), Math.sin(angle)];
            if (Math.abs(a * cp + b * cq) > best.value) {
              attempt([0, 1, 2].map((i) => a * p[i] + b * q[i]));
            }
          }
        }
        if (own < 0) continue;
        for (const side of [1, -1]) { // the two cells that meet in the arc
          const step = side > 0 ? plus[own] : -minus[own];
          const inner = [0, 1, 2].map((i) => c[i] + step * axes[own][i]);
          if (length(inner) <= best.value) continue;
          const way = Math.sign(dot(inner, axes[own])) * side; // the end of the line that is on this side
          const beyond = (k) => way * dot(inner, axes[k]) * (active[k] ? 1 : -1) < 0;
          if (way === 0 || (angles.length && (beyond(which[j]) || beyond(which[next])))) continue;
          attempt(times(way, inner));
        }
      }
      yield (own + 1) / axes.length;
    }
    // What the proof allows for; the sum over lines, one side of each, is a bound that needs no arrangement.
    const slip = ROUNDING(X.length) * sizes;
    const apart = axes.reduce((sum, _, k) => sum + Math.max(Math.abs(plus[k]), Math.abs(minus[k])), slip + moved);
    const close = (best.value + slip + 2 * moved) * (1 + MARGIN + 4 * (slip / best.value) ** 2);
    best.upper = best.value > 1e-6 * sizes ? Math.min(close, apart) : apart;
    return best;
  };

  // Run a generator to its end at once.
  const finish = (steps) => {
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
    }
  };
  return { EPS, arrange, cross, dot, finish, length, price, reach, times };
})();
