"use strict";
for (const stage of document.querySelectorAll(".stage")) {
  for (const image of stage.querySelectorAll("img")) {
    const shown = document.getElementById(image.dataset.of);
    image.src = shown.src;
    image.className += " " + shown.className;
  }
  const slider = stage.querySelector("input");
  const move = () => stage.style.setProperty("--at", slider.value + "%");
  slider.addEventListener("input", move);
  move();
  stage.closest(".compare").hidden = false;
}
