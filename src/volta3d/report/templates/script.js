"use strict";
// A viewer's page is heavy: it loads when its frame is unfolded for the first time.
document.querySelectorAll("details.view").forEach((view) => {
  view.addEventListener("toggle", () => {
    const frame = view.querySelector("iframe");
    if (view.open && !frame.hasAttribute("src")) frame.src = frame.dataset.src;
  });
});
// A link to a folded section unfolds it.
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  const fold = target?.querySelector(":scope > details.fold");
  if (fold) fold.open = true;
}
addEventListener("hashchange", unfold);
unfold();
// Paper cannot unfold: open the other <details> for printing and close them again afterwards.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.view)")];
  opened.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => {
  opened.forEach((d) => { d.open = false; });
  opened = [];
});
