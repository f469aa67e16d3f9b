// A word of the glossary shows what it means (_ext/terms.py) while the pointer or the keyboard's focus is on it, or the
// pointer on what is shown; Escape ends that.
{
  const gap = 4; // px, between the word and what is shown
  const patience = 200; // ms, for the pointer to cross the gap
  const note = document.createElement("div");
  Object.assign(note, { id: "term-note", popover: "manual", role: "tooltip" });
  document.body.append(note);
  let word = null;
  let timer;

  const place = () => {
    const at = word.getBoundingClientRect();
    const { width, height } = note.getBoundingClientRect();
    const room = document.documentElement.clientWidth - width - gap;
    const below = at.bottom + gap + height <= innerHeight || at.top < height + gap;
    note.style.left = `${scrollX + Math.max(gap, Math.min(at.left, room))}px`;
    note.style.top = `${scrollY + (below ? at.bottom + gap : at.top - height - gap)}px`;
  };
  const hide = () => {
    clearTimeout(timer);
    if (!word) return;
    word.removeAttribute("aria-describedby");
    word = null;
    note.hidePopover();
    if (window.MathJax?.typesetClear) MathJax.typesetClear([note]);
  };
  const show = async (link, template) => {
    clearTimeout(timer);
    if (link === word) return;
    hide();
    word = link;
    note.replaceChildren(template.content.cloneNode(true));
    note.showPopover();
    word.setAttribute("aria-describedby", note.id);
    place();
    if (!note.querySelector(".math")) return;
    await MathJax.startup.promise;
    if (link !== word) return;
    await MathJax.typesetPromise([note]);
    if (link === word) place();
  };
  const leave = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!note.matches(":hover") && !word?.matches(":hover, :focus")) hide();
    }, patience);
  };

  for (const link of document.querySelectorAll('a[href^="glossary.html#term-"]')) {
    const template = document.querySelector(`template[data-term="${link.hash.slice(1)}"]`);
    if (template) {
      for (const event of ["mouseenter", "focus"]) link.addEventListener(event, () => show(link, template));
      for (const event of ["mouseleave", "blur"]) link.addEventListener(event, leave);
    }
  }
  note.addEventListener("mouseleave", leave);
  window.addEventListener("keydown", (event) => event.key === "Escape" && hide());
}
