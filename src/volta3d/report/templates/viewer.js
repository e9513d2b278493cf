// Three planes of a scan, cut from a sprite: its sagittal slices side by side in one picture, the
// patient's right first. The page's controls, the mouse and the planes move one another.
"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const settings = JSON.parse(get("parameters").textContent);
  const size = settings.slices;
  const axes = ["X", "Y", "Z"];
  const canvas = get("planes");
  const pen = canvas.getContext("2d");
  const at = Object.fromEntries(axes.map((axis) => [axis, Number(get(axis).value)]));
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`);
  let sheet = null; // the picture with what is laid over it, as pixels
  let labels = null; // the overlay alone

  async function load(image, name) {
    const source = chosen(name)?.dataset.src;
    if (source && image.src !== source) {
      image.src = source;
      await image.decode();
    }
    return source ? image : null;
  }

  function pixels(...layers) {
    const whole = document.createElement("canvas");
    const [{ width, height }] = layers.map(([image]) => ({ width: image.naturalWidth, height: image.naturalHeight }));
    Object.assign(whole, { width, height });
    const brush = whole.getContext("2d", { willReadFrequently: true });
    for (const [image, opacity] of layers) {
      brush.globalAlpha = opacity;
      brush.drawImage(image, 0, 0);
    }
    return brush.getImageData(0, 0, width, height);
  }

  // Where a voxel's colour starts in a sheet; x counts from the patient's right, z from below.
  function offset({ width }, x, y, z) {
    const columns = width / size.Y;
    const row = Math.floor(x / columns) * size.Z + size.Z - 1 - z;
    return 4 * (row * width + (x % columns) * size.Y + y);
  }

  // Width and height of each plane in voxels, its place on the canvas, and the voxel under a pixel.
  function layout() {
    const scale = canvas.width / (size.Y + 2 * size.X);
    const side = (column) => (settings.radiological ? column : size.X - 1 - column);
    const planes = [
      { wide: size.Y, high: size.Z, voxel: (c, r) => ({ ...at, Y: c, Z: size.Z - 1 - r }) },
      { wide: size.X, high: size.Z, voxel: (c, r) => ({ ...at, X: side(c), Z: size.Z - 1 - r }) },
      { wide: size.X, high: size.Y, voxel: (c, r) => ({ ...at, X: side(c), Y: size.Y - 1 - r }) },
    ];
    const height = Math.max(...planes.map((p) => p.high)) * scale;
    let left = 0;
    for (const plane of planes) {
      Object.assign(plane, { left, width: plane.wide * scale, height: plane.high * scale });
      plane.top = (height - plane.height) / 2;
      left += plane.width;
    }
    const column = (x) => (settings.radiological ? x : size.X - 1 - x);
    Object.assign(planes[0], { column: at.Y, row: size.Z - 1 - at.Z });
    Object.assign(planes[1], { column: column(at.X), row: size.Z - 1 - at.Z });
    Object.assign(planes[2], { column: column(at.X), row: size.Y - 1 - at.Y });
    return { planes, height };
  }

  function drawPlane({ wide, high, voxel, left, top, width, height, column, row }, letters) {
    const small = document.createElement("canvas");
    Object.assign(small, { width: wide, height: high });
    const image = new ImageData(wide, high);
    for (let r = 0; r < high; r++) {
      for (let c = 0; c < wide; c++) {
        const { X, Y, Z } = voxel(c, r);
        const from = offset(sheet, X, Y, Z);
        image.data.set(sheet.data.subarray(from, from + 4), 4 * (r * wide + c));
      }
    }
    small.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, left, top, width, height);
    pen.fillStyle = settings.colour;
    pen.fillRect(Math.round(left + ((column + 0.5) / wide) * width), top, 1, height);
    pen.fillRect(left, Math.round(top + ((row + 0.5) / high) * height), width, 1);
    const write = (text, x, y, align, baseline) => {
      Object.assign(pen, { textAlign: align, textBaseline: baseline });
      pen.fillText(text, x, y);
    };
    write(letters[0], left + 4, top + height / 2, "left", "middle");
    write(letters[1], left + width - 4, top + height / 2, "right", "middle");
    write(letters[2], left + width / 2, top + 3, "center", "top");
    write(letters[3], left + width / 2, top + height - 3, "center", "bottom");
  }

  function draw() {
    if (!sheet) return;
    canvas.width = Math.max(canvas.parentElement.clientWidth, 1);
    canvas.height = Math.round(layout().height);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.font = `${Math.max(Math.round(0.06 * canvas.height), 10)}px sans-serif`;
    layout().planes.forEach((plane, number) => drawPlane(plane, settings.edges[number]));
    report();
  }

  // What the label under the cross is called, read from the overlay's own colour there.
  function labelHere(items) {
    const from = offset(labels, at.X, at.Y, at.Z);
    const [red, green, blue, alpha] = labels.data.subarray(from, from + 4);
    const hex = "#" + [red, green, blue].map((v) => v.toString(16).padStart(2, "0")).join("");
    return alpha ? items.find((item) => item.dataset.colour === hex)?.textContent ?? "" : "nothing";
  }

  function report() {
    for (const axis of axes) {
      const slider = get(axis);
      slider.value = at[axis];
      const text = `${at[axis] + 1} / ${size[axis]}`;
      slider.setAttribute("aria-valuetext", text);
      document.querySelector(`output[for="${axis}"]`).textContent = text;
    }
    const shown = chosen("overlay")?.dataset.legend;
    document.querySelectorAll(".legend").forEach((list) => { list.hidden = list.id !== shown; });
    const legend = shown && get(shown);
    const label = legend && labels ? labelHere([...legend.children]) : "";
    get("here").textContent = label ? `At the cross: ${label}.` : "";
  }

  async function change() {
    const [picture, overlay] = await Promise.all([load(get("picture"), "picture"), load(get("overlay"), "overlay")]);
    labels = overlay && pixels([overlay, 1]);
    sheet = pixels([picture, 1], ...(overlay ? [[overlay, get("strength").value / 100]] : []));
    for (const axis of axes) at[axis] = Number(get(axis).value);
    draw();
  }

  function move(event) {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * canvas.width;
    const y = ((event.clientY - box.top) / box.height) * canvas.height;
    const plane = layout().planes.findLast((p) => x >= p.left) ?? layout().planes[0];
    const within = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    const column = within((x - plane.left) / plane.width, plane.wide);
    const row = within((y - plane.top) / plane.height, plane.high);
    Object.assign(at, plane.voxel(column, row));
    draw();
  }

  canvas.addEventListener("mousedown", (event) => {
    move(event);
    canvas.addEventListener("mousemove", move);
  });
  addEventListener("mouseup", () => canvas.removeEventListener("mousemove", move));
  addEventListener("resize", draw);
  document.querySelector("form").addEventListener("input", change);
  document.querySelector(".home").hidden = window.top !== window;
  change().then(() => { document.body.dataset.ready = "yes"; });
})();
