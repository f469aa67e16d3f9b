// What scrolls sideways can be reached and moved by the keyboard: the theme sees to code and tables, this to figures,
// which are wider than a telephone's column.
window.addEventListener("load", () => {
  const mark = () => {
    for (const figure of document.querySelectorAll(".bd-article figure")) {
      const caption = figure.querySelector("figcaption");
      if (figure.scrollWidth > figure.clientWidth) {
        figure.tabIndex = 0;
        figure.setAttribute("role", "group");
        if (caption) figure.setAttribute("aria-label", caption.textContent.replace("#", "").trim());
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) figure.removeAttribute(name);
      }
    }
  };
  new ResizeObserver(mark).observe(document.body);
  mark();
});
