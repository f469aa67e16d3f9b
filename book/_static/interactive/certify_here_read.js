// What the page certify_here reads: a network as JSON, a table as CSV, beta. Each message says what was got,
// what was expected and what to do.
window.reading = (() => {
  const INSTEAD = "With more, use the command convexlib certify.";

  const fail = (text) => { throw new Error(text); };
  const show = (value) => {
    const text = typeof value === "string" ? `"${value}"` : typeof value === "number" ? String(value) : JSON.stringify(value);
    return text.length > 40 ? `${text.slice(0, 40)}\u2026` : text;
  };
  const numeric = (value, where) => {
    if (typeof value !== "number" || !Number.isFinite(value) || Math.abs(value) > 1e50) {
      fail(`${where} is ${show(value)}; expected a number of size at most 1e50. Correct it.`);
    }
    return value;
  };
  const list = (value, where) => {
    if (!Array.isArray(value)) fail(`${where} is ${show(value)}; expected a list of numbers, like [0.5, -1].`);
    return value.map((entry, j) => numeric(entry, `${where}[${j}]`));
  };
  const matrix = (value, where) => {
    if (!Array.isArray(value) || value.length === 0) {
      fail(`${where} is ${show(value)}; expected a list of rows, like [[0.5], [-1]]: a row for each neuron.`);
    }
    const rows = value.map((row, i) => list(row, `${where}[${i}]`));
    const odd = rows.findIndex((row) => row.length !== rows[0].length);
    if (odd > 0) {
      fail(`${where}[${odd}] has ${rows[odd].length} numbers; expected ${rows[0].length}, as ${where}[0]. Make all rows alike.`);
    }
    return rows;
  };
  const network = (text, most) => {
    let read;
    try {
      read = JSON.parse(text);
    } catch (error) {
      fail(`The network is not JSON (${error.message}); expected {"U": [[...]], "b": [...], "alpha": [...]}. Choose an example to see one.`);
    }
    const keys = read !== null && typeof read === "object" && !Array.isArray(read) ? Object.keys(read) : [];
    let names = ["U", "b", "alpha"];
    const layers = keys.filter((key) => key.endsWith("weight"));
    if (layers.length === 2) names = [layers[0], layers[0].replace(/weight$/, "bias"), layers[1]];
    if (!(names[0] in Object(read) && names[2] in Object(read))) {
      fail(`The network has ${keys.length ? `the keys ${show(keys.join(", "))}` : "no keys"}; expected U, b, alpha, or the two layers of a Linear-ReLU-Linear: 0.weight, 0.bias, 2.weight. Rename them.`);
    }
    const extra = keys.filter((key) => !names.includes(key));
    if (extra.length) {
      fail(`The network has the key ${show(extra[0])} too; expected ${names.join(", ")} only, and no output bias. Train without it, or use the command convexlib certify.`);
    }
    const U = matrix(read[names[0]], names[0]);
    const d = U[0].length;
    if (d < 1 || d > 2) fail(`The network reads ${d} features; expected 1 or 2. ${INSTEAD}`);
    if (U.length > most.neurons) fail(`The network has ${U.length} neurons; expected at most ${most.neurons}. ${INSTEAD}`);
    const output = read[names[2]];
    const alpha = list(layers.length === 2 && Array.isArray(output) && output.length === 1 ? output[0] : output, names[2]);
    const biased = names[1] in read;
    const b = biased ? list(read[names[1]], names[1]) : [];
    for (const [name, found] of [[names[2], alpha], ...(biased ? [[names[1], b]] : [])]) {
      if (found.length !== U.length) {
        fail(`${name} has ${found.length} numbers; expected ${U.length}, one for each row of ${names[0]}. Give one to each neuron.`);
      }
    }
    return { U: U.map((u, j) => (biased ? [...u, b[j]] : u)), alpha, biased, d };
  };
  const table = (text, d, most) => {
    const lines = text.split(/\r?\n/).map((line, i) => [line.trim(), i + 1]).filter(([line]) => line !== "");
    const mark = ["\t", ";", ","].find((one) => lines[0]?.[0].includes(one)) ?? ",";
    const cells = lines.map(([line]) => line.split(mark).map((cell) => cell.trim()));
    const header = cells.length > 0 && cells[0].every((cell) => cell === "" || Number.isNaN(Number(cell)));
    const rows = cells.slice(Number(header)).map((row, i) => {
      const line = lines[i + Number(header)][1];
      if (row.length !== d + 1) {
        fail(`Line ${line} of the table has ${row.length} column${row.length === 1 ? "" : "s"}; expected ${d + 1}: the ${d === 1 ? "feature" : "2 features"} that the network reads, and the target last. Correct the table or the network.`);
      }
      return row.map((cell, j) => {
        const where = `Line ${line}, column ${j + 1} of the table`;
        return numeric(cell === "" || Number.isNaN(Number(cell)) ? cell : Number(cell), where);
      });
    });
    if (rows.length < 1 || rows.length > most.rows) {
      fail(`The table has ${rows.length} rows; expected 1 to ${most.rows}. ${rows.length ? `Take a part of them, or use the command convexlib certify.` : "Paste lines of numbers."}`);
    }
    return { features: rows.map((row) => row.slice(0, d)), y: rows.map((row) => row[d]) };
  };
  const beta = (text) => {
    const value = text.trim() === "" ? NaN : Number(text);
    if (!(value >= 1e-20 && value <= 1e20)) {
      fail(`beta is ${show(text)}; expected a number from 1e-20 to 1e20. Take the weight decay of the training.`);
    }
    return value;
  };
  return { beta, fail, network, table };
})();
