// The lower bound over all networks that certify_here_faces.js leads to, and a search for good dual points.
window.bounds = (() => {
  const { EPS, arrange, cross, dot, length, price, reach, times } = faces;

  // The lower bound that z proves, rounded down; its best multiple is taken.
  const bound = (z, y, beta, upper) => {
    let [yz, zz, sizes] = [0, 0, 0];
    z.forEach((v, i) => { yz += y[i] * v; zz += v * v; sizes += Math.abs(y[i] * v); });
    if (!(zz > 0)) return 0;
    const limit = upper > 0 ? beta / upper * (1 - 8 * EPS) : Infinity;
    const s = Math.min(Math.max(yz / zz, 0), limit);
    const slack = 2 * (z.length + 8) * EPS * (s * sizes + s * s * zz / 2);
    return Math.max(s * yz - s * s * zz / 2 - slack, 0);
  };

  // Climb from u to a neuron that no face next to it beats: on a cell the best direction is c.
  const climb = (X, z, u, sign) => {
    let value = sign * reach(X, z, u);
    for (let step = 0; step < 20; step++) {
      const c = [0, 0, 0];
      X.forEach((x, i) => { if (dot(x, u) > 0) c.forEach((_, j) => { c[j] += sign * z[i] * x[j]; }); });
      const size = length(c);
      if (!(size > 0)) break;
      const to = times(1 / size, c);
      const there = sign * reach(X, z, to);
      if (!(there > value)) break;
      [u, value] = [to, there];
    }
    return { direction: u, sign, value };
  };

  // Lower 1/2 t'Gt - q't over t >= 0, changing t in place: to the minimiser over those t_k > 0 that stay so.
  const settle = (G, q, t) => {
    for (;;) {
      const on = [...t.keys()].filter((k) => t[k] > 0);
      const L = [];
      const back = (x) => { // solves L'x = x
        for (let i = x.length; i--;) {
          for (let m = i + 1; m < x.length; m++) x[i] -= L[m][i] * x[m];
          x[i] /= L[i][i];
        }
        return x;
      };
      let way = null; // on which G vanishes: one of the neurons does what others do together
      for (let i = 0; i < on.length && !way; i++) {
        const row = new Float64Array(i + 1);
        for (let j = 0; j <= i; j++) {
          row[j] = G[on[i]][on[j]];
          for (let m = 0; m < j; m++) row[j] -= row[m] * (L[j] ?? row)[m];
          if (j < i) row[j] /= L[j][j];
        }
        if (row[i] > 1e-10 * G[on[i]][on[i]]) {
          row[i] = Math.sqrt(row[i]);
          L.push(row);
        } else {
          way = [...back(row.slice(0, i)).map((v) => -v), 1];
          const gain = way.reduce((sum, v, m) => sum + v * q[on[m]], 0);
          if (gain < 0) way = way.map((v) => -v);
        }
      }
      const newton = way === null;
      if (newton) {
        const s = [];
        on.forEach((k, i) => s.push(s.reduce((left, v, m) => left - L[i][m] * v, q[k]) / L[i][i]));
        way = back(s).map((v, i) => v - t[on[i]]);
      }
      let [step, last] = [newton ? 1 : Infinity, -1];
      way.forEach((v, i) => {
        if (v < 0 && t[on[i]] + step * v <= 0) [step, last] = [-t[on[i]] / v, on[i]];
      });
      if (step === Infinity) return;
      way.forEach((v, i) => { t[on[i]] = Math.max(t[on[i]] + step * v, 0); });
      if (last < 0) return;
      t[last] = 0;
    }
  };

  // The minimiser of 1/2 |sum t a - y|^2 + beta sum t over t >= 0, nearly; returns the residual.
  // Yields after each pass.
  const fit = function* (neurons, y, beta) {
    const product = (a, b) => {
      let sum = 0;
      for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
      return sum;
    };
    const G = neurons.map(({ image }) => Float64Array.from(neurons, (n) => product(image, n.image)));
    const q = neurons.map(({ image }) => product(image, y) - beta);
    const t = Float64Array.from(neurons, (neuron) => neuron.t);
    for (let pass = 0; pass < 10; pass++) {
      const slope = q.map((v, k) => v - product(G[k], t));
      for (let sweep = 0; sweep < 20; sweep++) { // coordinate descent
        for (let k = 0; k < t.length; k++) {
          const by = Math.max(slope[k] / G[k][k], -t[k]);
          if (by === 0) continue;
          t[k] += by;
          for (let j = 0; j < t.length; j++) slope[j] -= by * G[k][j];
        }
      }
      settle(G, q, t);
      yield 0;
      if (q.every((v, k) => v - product(G[k], t) <= 1e-9 * beta)) break;
    }
    neurons.forEach((neuron, k) => { neuron.t = t[k]; });
    return y.map((v, i) => neurons.reduce((left, { image }, k) => left - t[k] * image[i], v));
  };

  const objective = ({ U, alpha }, rows, y, beta) => {
    const f = rows.map((x) => U.reduce((sum, u, j) =>
      sum + alpha[j] * Math.max(u.reduce((s, w, a) => s + w * x[a], 0), 0), 0));
    const z = y.map((v, i) => v - f[i]);
    const square = (list) => list.reduce((sum, v) => sum + v * v, 0);
    const value = square(z) / 2 + beta / 2 * (square(U.flat()) + square(alpha));
    return { f, z, value };
  };

  // A network {U, alpha} on rows (a bias is a last column of ones) with targets y, against all networks.
  // Yields how much of its rounds is done, from 0 to 1; returns what the page shows.
  const certify = function* ({ U, alpha }, rows, y, beta, { rounds = 50, tol = 1e-3 } = {}) {
    const part = function* (steps, round) {
      for (;;) {
        const { done, value } = steps.next();
        if (done) return value;
        yield (round + value) / (rounds + 1);
      }
    };
    const start = objective({ U, alpha }, rows, y, beta);
    const arrangement = yield* part(arrange(rows), 0);
    const { X } = arrangement;
    const missing = yield* part(price(arrangement, start.z), 0);
    let [lower, found, used] = [bound(start.z, y, beta, missing.upper), start.value, 0];
    let neurons = [];
    const add = ({ direction, sign }) => {
      const known = (other) => other.sign === sign && length(cross(other.direction, direction)) < 1e-9
        && dot(other.direction, direction) > 0;
      if (neurons.some(known)) return;
      const image = Float64Array.from(X, (x) => sign * Math.max(dot(x, direction), 0));
      if (image.some((v) => v !== 0)) neurons.push({ direction, sign, image, t: 0 });
    };
    U.forEach(([a, b = 0, c = 0], j) => {
      const size = Math.hypot(a, b, c);
      if (size === 0 || alpha[j] === 0) return;
      add({ direction: times(1 / size, [a, b, c]), sign: Math.sign(alpha[j]) });
    });
    add(missing);
    const gap = () => (found > 0 ? (found - lower) / found : 0);
    while (gap() > tol && used < rounds) {
      used += 1;
      const z = yield* part(fit(neurons, y, beta), used);
      const penalty = neurons.reduce((sum, { t }) => sum + t, 0);
      found = Math.min(found, z.reduce((sum, v) => sum + v * v, 0) / 2 + beta * penalty);
      const priced = yield* part(price(arrangement, z), used);
      lower = Math.max(lower, bound(z, y, beta, priced.upper));
      const climbs = neurons.filter(({ t }) => t > 0)
        .map(({ direction, sign }) => climb(X, z, direction, sign));
      neurons = neurons.filter(({ t }) => t > 0);
      add(priced);
      climbs.filter(({ value }) => value > beta * (1 + 1e-9)).forEach(add);
    }
    const square = X.reduce((sum, x) => sum + Math.max(dot(x, missing.direction), 0) ** 2, 0);
    const excess = Math.max(missing.value - beta, 0);
    return {
      ...start, lower, gap: start.value > 0 ? Math.max(start.value - lower, 0) / start.value : 0,
      found, rounds: used, missing,
      size: square > 0 ? excess / square : 0, gain: square > 0 ? excess * excess / (2 * square) : 0,
    };
  };
  return { certify };
})();
