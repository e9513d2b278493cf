// Joins the page's controls to brainsprite, which draws the slices.
"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const settings = JSON.parse(get("parameters").textContent);
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`);
  const axes = ["X", "Y", "Z"];
  const pixel = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  let brain = null;

  async function load(image, name, first = null) {
    const source = chosen(name)?.dataset.src ?? first?.dataset.src;
    if (source && image.src !== source) {
      image.src = source;
      await image.decode();
    }
  }

  // A thin cross in each plane, and the letters of the sagittal one, which brainsprite lacks.
  function cross() {
    const { context, numSlice: at, nbSlice: n, widthCanvas: w, heightCanvas: h } = brain;
    const planes = [
      [0, w.X, h.X, (at.Y + 0.5) / n.Y, (n.Z - at.Z - 0.5) / n.Z],
      [w.X, w.Y, h.Y, (at.X + 0.5) / n.X, (n.Z - at.Z - 0.5) / n.Z],
      [w.X + w.Y, w.Z, h.Z, (at.X + 0.5) / n.X, (n.Y - at.Y - 0.5) / n.Y],
    ];
    context.fillStyle = settings.colorCrosshair;
    for (const [left, width, height, x, y] of planes) {
      const top = Math.round((h.max - height) / 2);
      const [across, down] = [left + Math.round(x * width), top + Math.round(y * height)];
      context.fillRect(across, top, 1, height);
      context.fillRect(left, down, width, 1);
    }
    Object.assign(context, { fillStyle: settings.colorFont, textBaseline: "middle" });
    context.textAlign = "center";
    context.fillText("P", 0.05 * w.X, 0.22 * h.max);
    context.fillText("A", 0.95 * w.X, 0.22 * h.max);
    Object.assign(context, { textAlign: "start", textBaseline: "alphabetic" });
  }

  // What the label under the cross is called, read from the overlay's own colour there.
  function labelHere(items) {
    const { numSlice, nbSlice, nbCol, overlay } = brain;
    const column = (numSlice.X % nbCol) * nbSlice.Y + numSlice.Y;
    const row = Math.floor(numSlice.X / nbCol) * nbSlice.Z + nbSlice.Z - numSlice.Z - 1;
    pixel.clearRect(0, 0, 1, 1);
    pixel.drawImage(overlay.sprite, column, row, 1, 1, 0, 0, 1, 1);
    const [red, green, blue, alpha] = pixel.getImageData(0, 0, 1, 1).data;
    const hex = "#" + [red, green, blue].map((v) => v.toString(16).padStart(2, "0")).join("");
    return alpha ? items.find((item) => item.dataset.colour === hex)?.textContent ?? "" : "nothing";
  }

  function tell() {
    for (const axis of axes) {
      const slider = get(axis);
      slider.value = brain.numSlice[axis];
      const text = `${brain.numSlice[axis] + 1} / ${settings.nbSlice[axis]}`;
      slider.setAttribute("aria-valuetext", text);
      document.querySelector(`output[for="${axis}"]`).textContent = text;
    }
    const shown = chosen("overlay")?.dataset.legend;
    document.querySelectorAll(".legend").forEach((list) => { list.hidden = list.id !== shown; });
    const legend = shown && get(shown);
    const label = legend ? labelHere([...legend.children]) : "";
    get("here").textContent = label ? `At the cross: ${label}.` : "";
  }

  function draw() {
    for (const axis of axes) brain.numSlice[axis] = Number(get(axis).value);
    if (brain.overlay) {
      brain.overlay.opacity = chosen("overlay")?.dataset.src ? get("strength").value / 100 : 0;
    }
    brain.init();
    brain.drawAll();
    tell();
  }

  async function change() {
    await Promise.all([load(get("picture"), "picture"), load(get("overlay"), "overlay")]);
    draw();
  }

  async function start() {
    const first = document.querySelector('input[name="overlay"][data-src]');
    await Promise.all([load(get("picture"), "picture"), load(get("overlay"), "overlay", first)]);
    if (!first) delete settings.overlay;
    const numSlice = Object.fromEntries(axes.map((axis) => [axis, Number(get(axis).value)]));
    brain = brainsprite({ ...settings, numSlice, onclick: tell });
    const slices = brain.drawAll;
    brain.drawAll = () => { slices(); cross(); };
    addEventListener("mouseup", () => brain.canvas.removeEventListener("mousemove", brain.clickBrain));
    document.querySelector("form").addEventListener("input", change);
    draw();
    document.querySelector(".home").hidden = window.top !== window;
    document.body.dataset.ready = "yes";
  }
  start();
})();
