// A result shows the passage of the page in which the word stands. Sphinx searches all that is in <main>, which
// begins with the menu of the header, and searches it for stems ("dualiti"), which are in no text.
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  const article = page.querySelector("article.bd-article");
  if (!article) return "";
  for (const part of article.querySelectorAll(".headerlink, script, style")) part.remove();
  const section = anchor && article.querySelector(`[id="${anchor.slice(1)}"]`);
  return (section || article).textContent.replace(/\s+/g, " ");
};

const summary = Search.makeSearchSummary;
Search.makeSearchSummary = (html, stems, anchor) => {
  const text = Search.htmlToText(html, anchor).toLowerCase();
  const written = [...stems].map((stem) => (text.includes(stem) ? stem : stem.slice(0, -1)));
  return summary(html, written.filter((word) => text.includes(word)), anchor);
};
