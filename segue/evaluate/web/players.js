"use strict";
const figures = [...document.querySelectorAll(".player")].filter(figure => figure.querySelector("audio"));
for (const figure of figures) {
  const sound = figure.querySelector("audio"), picture = figure.querySelector("svg");
  const { left, right, width } = picture.dataset, from = Number(left), span = Number(right) - from;
  const head = picture.querySelector(".head");
  const draw = () => {
    const x = from + span * (sound.currentTime / (sound.duration || 1));
    head.setAttribute("x1", x);
    head.setAttribute("x2", x);
    if (!sound.paused) requestAnimationFrame(draw);
  };
  sound.addEventListener("play", () => {
    for (const other of figures) {
      const playing = other.querySelector("audio");
      if (other === figure || playing.paused) continue;
      if (other.parentNode === figure.parentNode) sound.currentTime = playing.currentTime;
      playing.pause();
    }
    draw();
  });
  sound.addEventListener("seeked", draw);
  picture.addEventListener("click", event => {
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * Number(width);
    sound.currentTime = Math.min(1, Math.max(0, (x - from) / span)) * (sound.duration || 0);
  });
}
