// Words and bars of a turn belong together: pointing at one shows both, and the figures below; arrow keys do the same.
for (const turn of document.querySelectorAll(".turn")) {
  const readout = turn.querySelector(".readout");
  const film = turn.querySelector(".film");
  const words = [...turn.querySelectorAll(".word")];
  let shown = -1;
  const show = (place) => {
    for (const part of turn.querySelectorAll("[data-word]")) {
      part.classList.toggle("shown", Number(part.dataset.word) === place);
    }
    readout.textContent = place < 0 ? "" : words[place].title;
    shown = place;
  };
  turn.addEventListener("pointerover", (event) => {
    const part = event.target.closest("[data-word]");
    if (part) show(Number(part.dataset.word));
  });
  turn.addEventListener("pointerleave", () => show(-1));
  film.addEventListener("blur", () => show(-1));
  film.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !words.length) return;
    event.preventDefault();
    show(Math.max(0, Math.min(words.length - 1, shown + step)));
  });
}
