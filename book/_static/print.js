// Paper is white: a page is printed in the light colours whatever its mode. And nothing on it scrolls: formulas
// wider than its column, which has room for so many times the size of the type (book.css), are set smaller.
{
  const room = 44;
  let theme;
  let changed = [];

  window.addEventListener("beforeprint", () => {
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    for (const formula of document.querySelectorAll("mjx-container[display]")) {
      const type = parseFloat(getComputedStyle(formula.parentElement).fontSize);
      const wide = formula.firstElementChild.getBoundingClientRect().width / type;
      if (wide > room) {
        changed.push([formula, formula.style.fontSize]);
        formula.style.fontSize = `${(parseFloat(formula.style.fontSize) * room) / wide}%`;
      }
    }
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.dataset.theme = theme;
    for (const [formula, size] of changed) formula.style.fontSize = size;
    changed = [];
  });
}
