// What the interactive figures share: drawing in SVG, dragging, arrow keys. No library.
window.stage = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  // An element below a parent; SVG unless the parent is HTML and the tag is not svg.
  const make = (parent, tag, attributes = {}, text = "") => {
    const vector = tag === "svg" || parent.namespaceURI === SVG;
    const element = vector ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const put = (element, attributes) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  };
  const picture = (parent, viewBox, label) =>
    make(parent, "svg", { viewBox: viewBox.join(" "), role: "group", "aria-label": label });
  const points = (list) => list.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
  const name = (letter, index) => letter + String.fromCharCode(0x2080 + index + 1); // x and x_1
  const number = (value, digits = 2) => (Math.round(value * 10 ** digits) / 10 ** digits + 0)
    .toFixed(digits).replace("-", "\u2212");

  // A point to drag or to move with the arrow keys. `at` turns a place in the picture into a value.
  const handle = (svg, { label, range: [low, high], step, get, set, at, reach = 22 }) => {
    const dot = make(svg, "g", {
      class: "handle", tabindex: 0, role: "slider", "aria-label": label,
      "aria-valuemin": low, "aria-valuemax": high,
    });
    make(dot, "circle", { r: reach, class: "reach" });
    make(dot, "circle", { r: 8, class: "dot" });
    const place = (event) => new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    dot.addEventListener("pointerdown", (event) => {
      dot.setPointerCapture(event.pointerId);
      dot.focus();
      event.preventDefault();
    });
    // Chromium ignores touch-action inside a picture: without this a finger scrolls the page as well.
    dot.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    dot.addEventListener("pointermove", (event) => {
      if (dot.hasPointerCapture(event.pointerId)) set(at(place(event)));
    });
    const moves = {
      ArrowRight: step, ArrowUp: step, ArrowLeft: -step, ArrowDown: -step,
      PageUp: 5 * step, PageDown: -5 * step, Home: -Infinity, End: Infinity,
    };
    dot.addEventListener("keydown", (event) => {
      if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const by = moves[event.key];
      set(Number.isFinite(by) ? get() + by : by < 0 ? low : high);
    });
    return (x, y, text) => put(dot, {
      transform: `translate(${x} ${y})`, "aria-valuenow": get(), "aria-valuetext": text,
    });
  };

  // Build every figure of this name; its sentence stays where building fails.
  const start = (figure, build) => {
    for (const found of document.querySelectorAll(`figure[data-figure="${figure}"]`)) {
      const content = document.createElement("div");
      build(content, JSON.parse(found.querySelector("script").textContent));
      found.querySelector(".stage").replaceChildren(content);
    }
  };
  return { handle, make, name, number, picture, points, put, start };
})();
