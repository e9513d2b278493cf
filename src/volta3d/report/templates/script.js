// Paper cannot unfold: open every <details> for printing and close them again afterwards.
"use strict";
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => {
  opened.forEach((d) => { d.open = false; });
  opened = [];
});
