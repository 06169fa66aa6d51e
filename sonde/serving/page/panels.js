/** The settings beside the image: model, colours, camera, point cloud, downloads. */

import { getDepth } from "./api.js";
import { PALETTES, round, UNITS, viewOfCamera } from "./depth.js";
import { showDistance, showFitted, startMeasuring } from "./measure.js";
import { showDepth } from "./stage.js";
import { $, cameraQuery, findCamera, make, readNumber, state } from "./state.js";

const SOURCES = {
  given: "Your intrinsics.",
  fov: "Your field of view.",
  exif: "From the image's EXIF.",
  assumed: "Assumed: the image does not tell. Distances sideways and the cloud depend on it.",
};
const RUNTIMES = { torch: "PyTorch", onnx: "ONNX Runtime", openvino: "OpenVINO" };
const SUFFIXES = { png: ".depth.png", npy: ".npy", preview: ".preview.png", ply: ".ply", glb: ".glb" };
let tasks = null;
let cloud = null;

/** Fills the settings in and begins to listen; `given` has refresh, fit and run of the page. */
export function startPanels(given) {
  tasks = given;
  $("model").replaceChildren(...state.models.map(({ name }) => new Option(name)));
  $("palette").replaceChildren(...Object.keys(PALETTES).map((name) => new Option(name)));
  const { bytes, pixels } = state.limits;
  $("limits").textContent = `Up to ${Math.round(bytes / 1e6)} MB and ${Math.round(pixels / 1e6)} megapixels.`;
  $("model").onchange = () => {
    state.model = state.models[$("model").selectedIndex];
    state.unit = null;
    tasks.refresh();
  };
  $("palette").onchange = () => redraw({ palette: $("palette").value });
  $("unit").onchange = () => changeUnit($("unit").value);
  $("lock").onchange = () => redraw({ range: $("lock").checked ? roundRange() : null });
  for (const name of ["low", "high"]) $(name).onchange = readRange;
  for (const input of document.querySelectorAll("[name=view]")) input.onchange = () => setView(input.value);
  document.querySelector(`[value=${state.view}]`).checked = true;
  startMeasuring(given);
  $("fov").oninput = () => setCamera({ fov: Number($("fov").value) }, false);
  $("fov").onchange = () => setCamera({ fov: Number($("fov").value) });
  $("four").onchange = readFour;
  $("camera-reset").onclick = () => setCamera({});
  for (const name of ["edge", "cap", "tint"]) $(name).oninput = showCloud;
  $("home").onclick = () => cloud?.home();
  for (const button of $("downloads").children) button.onclick = () => download(button.dataset.format);
  showModel();
}

/** Shows every setting as it now stands. */
export function showPanels() {
  showModel();
  const { map } = state;
  $("stage").dataset.view = state.view;
  $("cloud-panel").hidden = state.view !== "cloud";
  $("legend").hidden = $("readout").hidden = !map || state.view === "cloud";
  $("unit-field").hidden = !map?.metric;
  for (const button of $("downloads").children) {
    button.disabled = !map || (["ply", "glb"].includes(button.dataset.format) && !map.metric);
  }
  $("download-note").textContent = map && !map.metric ? "PLY and GLB need metres: give one known length first." : "";
  $("scale").textContent = map?.metric ? ` of ${round(map.meta.scale * 1000, 3)} mm` : ", relative";
  if (map?.metric) $("unit").value = $("length-unit").value = map.unit;
  showRange();
  showDistance();
  showFitted();
  showCamera();
  if (state.view === "cloud") showCloud();
}

function showModel() {
  const { name, space, unit, licence, parameters, device, runtime } = state.model;
  const { max_depth: most, needs_intrinsics: camera } = state.model;
  const metric = space === "metric";
  const quantity = metric ? "metric depth" : `relative depth (${space})`;
  const facts = {
    Answers: space ? quantity : "known when it is loaded, with the first image",
    Unit: space && (metric ? unit : "none"),
    Farthest: metric && most ? `${most} m` : null,
    Licence: licence,
    Size: parameters ? `${(parameters / 1e6).toPrecision(2)} M parameters` : null,
    Runs: device && `on ${device} by ${RUNTIMES[runtime] ?? runtime}`,
    Needs: camera ? "the camera's intrinsics" : null,
  };
  $("model").value = name;
  const known = Object.entries(facts).filter(([, words]) => words);
  $("facts").replaceChildren(...known.flatMap(([term, words]) => [make("dt", term), make("dd", words)]));
}

function redraw(changes) {
  Object.assign(state, changes);
  if (state.map) showDepth(state.map);
  showPanels();
}

function changeUnit(unit) {
  const factor = state.map.unitSize / UNITS[unit];
  const ends = state.range?.ends.map((end) => round(end * factor, 6));
  state.map.unit = unit;
  redraw({ unit, range: ends ? { ends, unit } : null });
}

function roundRange() {
  const { map } = state;
  return map && { ends: map.usualRange.map((end) => round(end / map.unitSize, 3)), unit: map.unit };
}

function readRange() {
  const ends = [readNumber($("low")), readNumber($("high"))];
  const good = ends[0] < ends[1];
  for (const name of ["low", "high"]) $(name).setAttribute("aria-invalid", !good);
  if (good) redraw({ range: { ends, unit: state.map.unit } });
}

function showRange() {
  $("lock").checked = Boolean(state.range);
  $("range").hidden = !state.range;
  if (state.range) [$("low").value, $("high").value] = state.range.ends;
}

function setView(view) {
  state.view = view;
  showPanels();
}

function setCamera(camera, settled = true) {
  state.camera = camera;
  if (state.model.needs_intrinsics && settled && state.item) tasks.refresh();
  else showPanels();
}

function readFour() {
  const numbers = $("four").value.split(/[\s,;]+/).filter(Boolean).map(Number);
  const good = numbers.length === 4 && numbers.every(Number.isFinite) && numbers[0] > 0 && numbers[1] > 0;
  $("four").setAttribute("aria-invalid", !good && numbers.length > 0);
  if (good || !numbers.length) setCamera(good ? { four: numbers } : {});
  else $("camera-source").textContent = "Type four numbers: fx, fy, cx, cy in pixels, both focal lengths above zero.";
}

function showCamera() {
  if (!state.map) return;
  const { lens, source } = findCamera(state.map);
  const degrees = viewOfCamera(lens, state.map.width);
  $("fov").value = degrees;
  $("fov-shown").textContent = `${degrees.toFixed(degrees % 1 ? 1 : 0)}°`;
  $("four").value = ["given", "exif"].includes(source) ? lens.map((number) => round(number, 7)).join(", ") : "";
  $("camera-source").textContent = SOURCES[source] ?? "";
  $("camera-reset").hidden = !Object.keys(state.camera).length;
}

async function showCloud() {
  const { map } = state;
  const share = Number($("edge").value);
  $("edge-shown").textContent = share < 10 ? `steps above ${share} %` : "off";
  if (!map) return;
  try {
    const { Cloud } = await import("./cloud.js");
    const isNew = !cloud;
    cloud ??= new Cloud($("cloud"));
    const options = { edge: share < 10 ? share / 100 : Infinity, cap: Number($("cap").value) };
    const { shown, whole } = cloud.show(map, findCamera(map).lens, makeTint(map), options);
    if (isNew) cloud.home();
    const caution = map.metric ? "" : " Relative depth: how far things lie apart is a guess.";
    const [points, pixels] = [shown, whole].map((count) => count.toLocaleString("en"));
    $("cloud-note").textContent = `${points} points of ${pixels} pixels.${caution}`;
  } catch (error) {
    $("cloud-note").textContent = `This browser draws no WebGL here (${error.message}); PLY and GLB can be downloaded.`;
  }
}

/** (x, y) → the bytes of a pixel's colour, from the image or from its depth. */
function makeTint(map) {
  const canvas = $("tint").value === "picture" && state.bitmap ? $("picture") : $("depth");
  const { width, height } = canvas;
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer);
  return (x, y) => pixels[Math.floor((y * height) / map.height) * width + Math.floor((x * width) / map.width)];
}

async function download(format) {
  const { item, map } = state;
  if (format === "png") return save(item.result.blob, item, format);
  const query = { ...item.query, format };
  if (["ply", "glb"].includes(format)) Object.assign(query, cameraQuery());
  if (map.metric && state.unit && format !== "glb") query.unit = state.unit;
  if (format === "preview" && state.range) [query.low, query.high] = state.range.ends;
  await tasks.run(item, async (options) => {
    const { blob } = await getDepth(item.file, item.name, query, options);
    save(blob, item, format);
  });
}

function save(blob, item, format) {
  const name = item.name.replace(/\.[^.]*$/, "") + SUFFIXES[format];
  const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
