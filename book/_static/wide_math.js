// A formula inside a line cannot break. One that is wider than a telephone's column scrolls in itself;
// it is marked once, by its natural width, so that short formulas keep their baseline.
window.addEventListener("load", () => {
  const widest = 250; // px
  const mark = () => {
    for (const formula of document.querySelectorAll("mjx-container:not([display])")) {
      if (formula.getBoundingClientRect().width > widest) formula.classList.add("wide-math");
    }
  };
  const wait = () => {
    const startup = window.MathJax && window.MathJax.startup;
    if (startup && startup.promise) startup.promise.then(mark);
    else if (document.querySelector(".math")) setTimeout(wait, 50);
  };
  wait();
});
