/** Picture and depth side by side or one over the other: drawing, the cross, the points, the legend. */

import { drawRamp, round } from "./depth.js";
import { $, state } from "./state.js";

const LONGEST = 2048; // a canvas is no larger; values are read from the map, at its own size
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HINT = "Point at the image for its depth. Click two points for a distance.";
const MARKS = `<svg aria-hidden="true"><line/></svg><i class="cross" hidden></i>
  <b class="mark" hidden>A</b><b class="mark" hidden>B</b><span class="tip" hidden></span>`;
const panes = [$("picture-pane"), $("depth-pane")];
let cross = null;
let onPoints = () => {};

/** Begins to listen; `told` is called when a person has placed or cleared points. */
export function startStage(told) {
  onPoints = told;
  for (const pane of panes) {
    pane.insertAdjacentHTML("beforeend", MARKS);
    for (const kind of ["pointermove", "pointerdown"]) {
      pane.addEventListener(kind, (event) => moveCross(findPixel(event)));
    }
    pane.addEventListener("pointerleave", () => moveCross(null));
    // A click has whole numbers only: the cross knows better where the pointer is.
    pane.addEventListener("click", (event) => placePoint(cross ?? findPixel(event)));
  }
  $("depth-pane").addEventListener("keydown", onKey);
  $("depth-pane").addEventListener("blur", () => moveCross(null));
  $("split").addEventListener("input", () => $("stage").style.setProperty("--split", `${$("split").value}%`));
}

/** Shows an image before its depth is known; `bitmap` is null where the browser cannot read the format. */
export function showPicture(bitmap) {
  for (const pane of panes) pane.classList.toggle("empty", pane === panes[1] || !bitmap);
  if (bitmap) size(bitmap.width, bitmap.height);
  const { width, height } = $("picture");
  if (bitmap) $("picture").getContext("2d").drawImage(bitmap, 0, 0, width, height);
  moveCross(null);
}

function size(width, height) {
  const factor = Math.min(1, LONGEST / Math.max(width, height));
  for (const canvas of [$("picture"), $("depth")]) {
    if (canvas.width === Math.round(width * factor) && canvas.height === Math.round(height * factor)) continue;
    [canvas.width, canvas.height] = [Math.round(width * factor), Math.round(height * factor)];
  }
  $("stage").style.setProperty("--ratio", width / height);
}

/** The ends of the colours in the map's values. */
export function findRange(map) {
  return state.range ? state.range.ends.map((end) => end * map.unitSize) : map.usualRange;
}

/** Draws the map in the colours of the moment, its legend and its points. */
export function showDepth(map) {
  size(map.width, map.height);
  const range = findRange(map);
  map.paint($("depth"), map.makeColours(state.palette, range));
  panes[1].classList.remove("empty");
  const ramp = $("ramp").getContext("2d");
  ramp.putImageData(new ImageData(new Uint8ClampedArray(drawRamp(state.palette).buffer), 256, 1), 0, 0);
  const [near, far] = map.nearIsLarge ? [range[1], range[0]] : range;
  $("near").textContent = `near ${brief(map, near)}`;
  $("far").textContent = `${brief(map, far)} far`;
  showMarks();
}

function brief(map, value) {
  const text = String(round(value / map.unitSize, 3));
  return map.metric ? `${text} ${map.unit}` : text;
}

function findPixel(event) {
  if (!state.map) return null;
  const box = event.currentTarget.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * state.map.width;
  const y = ((event.clientY - box.top) / box.height) * state.map.height;
  return clamp([x, y]);
}

/** The pixel of the map at a place, or the nearest. */
function clamp([x, y]) {
  const { width, height } = state.map;
  return [Math.min(width - 1, Math.max(0, Math.floor(x))), Math.min(height - 1, Math.max(0, Math.floor(y)))];
}

function onKey(event) {
  if (!state.map) return;
  const step = STEPS[event.key];
  const middle = [state.map.width / 2, state.map.height / 2];
  const far = event.shiftKey ? 10 : 1;
  if (step) moveCross(clamp(cross ? cross.map((at, axis) => at + far * step[axis]) : middle));
  else if (event.key === "Enter" || event.key === " ") placePoint(cross ?? clamp(middle));
  else if (event.key === "Escape") clearPoints();
  else return;
  event.preventDefault();
}

function moveCross(place) {
  cross = state.map && place;
  const words = cross ? state.map.spell(state.map.at(...cross)) : "";
  $("readout").textContent = cross ? `x ${cross[0]}, y ${cross[1]}: ${words}` : HINT;
  for (const pane of panes) {
    put(pane.querySelector(".cross"), cross);
    put(pane.querySelector(".tip"), cross);
    pane.querySelector(".tip").textContent = words;
    pane.querySelector(".tip").classList.toggle("left", Boolean(cross) && cross[0] > state.map.width * 0.6);
  }
}

function put(mark, place) {
  mark.hidden = !place;
  if (!place) return;
  mark.style.left = `${(100 * (place[0] + 0.5)) / state.map.width}%`;
  mark.style.top = `${(100 * (place[1] + 0.5)) / state.map.height}%`;
}

function placePoint(place) {
  if (!place || !state.map) return;
  state.item.points = state.item.points.length === 2 ? [place] : [...state.item.points, place];
  moveCross(place);
  showMarks();
  onPoints();
}

/** Takes the points off the image. */
export function clearPoints() {
  state.item.points = [];
  showMarks();
  onPoints();
}

function showMarks() {
  const { points } = state.item;
  for (const pane of panes) {
    pane.querySelectorAll(".mark").forEach((mark, i) => put(mark, points[i]));
    const line = pane.querySelector("line");
    line.toggleAttribute("hidden", points.length < 2);
    if (points.length < 2) continue;
    ["x1", "y1", "x2", "y2"].forEach((name, i) => {
      const whole = i % 2 ? state.map.height : state.map.width;
      line.setAttribute(name, `${(100 * (points[i >> 1][i % 2] + 0.5)) / whole}%`);
    });
  }
}
