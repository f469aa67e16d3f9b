// A formula inside a line cannot break. One that is wider than a telephone's column scrolls in itself;
// it is marked once, by its natural width, so that short formulas keep their baseline. And no line begins
// with the full stop that follows a formula, or ends with the bracket before it. Formulas that scroll can be
// reached by the keyboard, and no others: they would be hundreds of stops.
window.addEventListener("load", () => {
  const widest = 250; // px
  const before = /[(\[]$/;
  const after = /^[.,;:!?)\]’”]+/;
  const text = (node) => (node && node.nodeType === Node.TEXT_NODE ? node.data : "");
  const keep = (math) => {
    const opened = before.exec(text(math.previousSibling));
    const closed = after.exec(text(math.nextSibling));
    if (!opened && !closed) return;
    const line = document.createElement("span");
    line.className = "math-line";
    math.before(line);
    line.append(math);
    if (opened) {
      line.previousSibling.data = line.previousSibling.data.slice(0, opened.index);
      line.prepend(opened[0]);
    }
    if (closed) {
      line.nextSibling.data = line.nextSibling.data.slice(closed[0].length);
      line.append(closed[0]);
    }
  };
  const reach = () => {
    for (const formula of document.querySelectorAll("mjx-container:is([display], .wide-math)")) {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
  };
  const mark = () => {
    const formulas = [...document.querySelectorAll("mjx-container:not([display])")];
    const wide = formulas.filter((formula) => formula.getBoundingClientRect().width > widest);
    for (const formula of wide) formula.classList.add("wide-math");
    for (const formula of formulas) {
      if (formula.parentElement.matches("span.math")) keep(formula.parentElement);
    }
    new ResizeObserver(reach).observe(document.body);
  };
  const wait = () => {
    const startup = window.MathJax && window.MathJax.startup;
    if (startup && startup.promise) startup.promise.then(mark);
    else if (document.querySelector(".math")) setTimeout(wait, 50);
  };
  wait();
});
