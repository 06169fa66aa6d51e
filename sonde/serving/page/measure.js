/** Points on the image: depth at them, the distance between them, and metres from what a person knows of them. */

import { round, UNITS } from "./depth.js";
import { clearPoints } from "./stage.js";
import { $, findCamera, make, readNumber, state } from "./state.js";

let tasks = null;

/** Begins to listen; `given` has fit and refresh of the page. */
export function startMeasuring(given) {
  tasks = given;
  $("clear").onclick = clearPoints;
  $("known").onsubmit = addKnown;
}

/** Depth at the points, and their distance in space. */
export function showDistance() {
  const { map, item } = state;
  const points = item?.points ?? [];
  $("clear").hidden = !points.length;
  const lines = map ? points.map((place, i) => `${"AB"[i]} ${map.spell(map.at(...place))}`) : [];
  if (map?.metric && points.length === 2) {
    const { lens, source } = findCamera(map);
    const caution = source === "assumed" ? ", with an assumed camera" : "";
    lines.push(`A to B ${map.spell(map.distance(...points, lens))}${caution}`);
  } else if (map && points.length === 2) lines.push("A distance needs metres: give one known length.");
  if (!lines.length) lines.push("Click two points of the image.");
  $("distance").replaceChildren(...lines.map((line) => make("span", line)));
}

/** What is known of the image, and what was fitted to it. */
export function showFitted() {
  const { item } = state;
  const lines = [];
  if (item?.known.length) {
    lines.push(make("ul", ""));
    lines[0].append(...item.known.map(describeKnown));
  }
  if (item?.fitted) lines.push(...describeFit(item.fitted));
  else if (!lines.length) {
    lines.push(make("p", "Place a point, then type its depth. More points make a better fit.", { className: "note" }));
  }
  $("fitted").replaceChildren(...lines);
}

function addKnown(event) {
  event.preventDefault();
  const { item, map } = state;
  const wanted = $("quantity").value === "depth" ? 1 : 2;
  const metres = readNumber($("length")) * UNITS[$("length-unit").value];
  let complaint = metres > 0 ? "" : "Type a length above zero, such as 1.25.";
  const places = wanted === 1 ? "a point" : "two points";
  if (!map || item.points.length < wanted) complaint = `Click ${places} of the image first.`;
  $("length").setAttribute("aria-invalid", Boolean(complaint));
  if (complaint) return $("fitted").replaceChildren(make("p", complaint, { className: "complaint" }));
  item.known.push({ places: item.points.slice(0, wanted), metres });
  $("length").value = "";
  tasks.fit();
}

function describeKnown({ places, metres }, i) {
  const entry = make("li", `${places.map(([x, y]) => `(${x}, ${y})`).join(" to ")}: ${round(metres, 4)} m `);
  entry.append(makeLink("Remove", () => removeKnown(i)));
  return entry;
}

function describeFit({ kind, formula, points, error_m: error, warnings = [] }) {
  const found = state.item.fitted;
  const miss = error > 1e-6 ? `, mean error ${round(1000 * error, 3)} mm` : "";
  const short = formula.replace(/\d+\.\d+(?:e-?\d+)?/g, (number) => round(Number(number), 5));
  const share = make("label", " Use it for every image", { className: "check" });
  const box = make("input", "", { type: "checkbox", checked: state.shared === found });
  box.onchange = () => Object.assign(state, { shared: box.checked ? found : null });
  share.prepend(box);
  return [
    make("p", `Calibrated by ${kind}: ${points} point${points === 1 ? "" : "s"}${miss}.`),
    make("code", `metres = ${short}`),
    ...warnings.map((sentence) => make("p", sentence, { className: "complaint" })),
    share,
    makeLink("Remove the calibration", removeAll),
  ];
}

function makeLink(words, onclick) {
  return make("button", words, { type: "button", className: "quiet", onclick });
}

function removeKnown(i) {
  state.item.known.splice(i, 1);
  if (state.item.known.length) tasks.fit();
  else removeAll();
}

function removeAll() {
  Object.assign(state.item, { known: [], calibration: null });
  state.shared = null;
  tasks.refresh();
}
