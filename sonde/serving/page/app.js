/** The page: takes images, asks for their depth one after the other, and shows what comes back. */

import { calibrate, getDepth, getExamples, getFile, getModels, onKeyWanted } from "./api.js";
import { photograph } from "./camera.js";
import { DepthMap } from "./depth.js";
import { showPanels, startPanels } from "./panels.js";
import { showDepth, showPicture, startStage } from "./stage.js";
import { $, findPoints, Item, make, state } from "./state.js";

let atWork = null; // the request under way: { item, stop }

/** Takes image files; the first of them comes onto the stage. */
function addFiles(files) {
  const items = Array.from(files, (file) => new Item(file, file.name || "pasted.png"));
  if (!items.length) return;
  state.items.push(...items);
  $("start").hidden = true;
  $("work").hidden = $("add").hidden = false;
  select(items[0]);
}

/** Brings an image onto the stage, with its depth where that is known. */
async function select(item) {
  Object.assign(state, { item, map: null });
  hideError();
  $("name").textContent = item.name;
  showPicture(null);
  showAll();
  const bitmap = await createImageBitmap(item.file).catch(() => null);
  if (state.item !== item) return;
  state.bitmap?.close();
  state.bitmap = bitmap;
  showPicture(bitmap);
  await refresh();
}

/** Shows the image on the stage as it now stands, and asks for what is missing. */
async function refresh() {
  const { item } = state;
  if (!item || !state.model) return;
  if (item.isCurrent) {
    const map = await DepthMap.read(item.result.blob, item.result.meta);
    if (state.item !== item || !item.isCurrent) return;
    state.map = map;
    if (map.metric) map.unit = state.unit ?? state.model.unit?.replace("1", "m") ?? "m";
    if (state.range?.unit !== map.unit) state.range = null;
    showDepth(map);
    if (!item.thumb) drawThumb(item, map);
  } else {
    state.map = null;
    showPicture(state.bitmap);
    if (item.status === "done") item.status = "waiting";
  }
  if (item.error) showError(item.error, !item.isCurrent);
  showAll();
  work();
}

function showAll() {
  if (!state.model) return;
  showStrip();
  showPanels();
  $("busy").hidden = !(state.item.status === "running" || state.item.status === "waiting");
}

/** Runs what waits, one at a time so that others have their turn: the image on the stage first. */
async function work() {
  if (atWork) return;
  const item = [state.item, ...state.items].find(({ status }) => status === "waiting");
  if (!item) return;
  await run(item, async (options) => {
    const asked = JSON.stringify(item.query);
    const [size, most] = [item.file.size, state.limits.bytes].map((bytes) => `${(bytes / 1e6).toFixed(1)} MB`);
    if (item.file.size > state.limits.bytes) {
      throw new Error(`${item.name} has ${size}: this server takes ${most} at most.`);
    }
    item.result = { asked, ...(await getDepth(item.file, item.name, item.query, options)) };
    if (!item.fitted) item.plain = item.result;
    item.thumb = null; // `refresh` draws it for the image on the stage
    if (item !== state.item) drawThumb(item, await DepthMap.read(item.result.blob, item.result.meta));
  });
  work();
}

/** Does one piece of work for an image, with progress, cancel and the server's sentence where it fails. */
async function run(item, task) {
  while (atWork) await new Promise((resolve) => setTimeout(resolve, 50));
  const stop = new AbortController();
  atWork = { item, stop };
  Object.assign(item, { status: "running", error: null });
  if (item === state.item) hideError();
  showAll();
  try {
    await task({ signal: stop.signal, tell: (news) => showProgress(item, news) });
  } catch (error) {
    item.error = error.name === "AbortError" ? "Cancelled, before there was an answer." : error.message;
  }
  item.status = item.isCurrent || !item.error ? "done" : "failed";
  if (!state.model.loaded) await learnModels().catch(() => {});
  atWork = null;
  if (state.item === item) await refresh();
  else showStrip();
}

function showProgress(item, { state: where, place, waiting, seconds_each: each, seconds }) {
  if (state.item !== item) return;
  const wait = place && each ? `, about ${Math.max(1, Math.round((place + 1) * each))} s` : "";
  const words = {
    full: `The queue is full. Trying again in ${seconds} s.`,
    waiting: `Place ${place}${waiting ? ` of ${waiting}` : ""} in the queue${wait}.`,
    running: "Depth is being computed.",
  };
  $("busy").querySelector("p").textContent = words[where] ?? "Sending the image.";
}

function cancel() {
  if (atWork?.item === state.item) atWork.stop.abort();
  else Object.assign(state.item, { status: "failed", error: "Cancelled, before its turn came." }) && refresh();
}

/** Fits metres to all that is known of the image on the stage. */
async function fit() {
  const { item } = state;
  await run(item, async (options) => {
    const { model, calibration, ...query } = item.query;
    if (item.known.some(({ places }) => places[1])) query.kind = "scale";
    const plain = await DepthMap.read(item.plain.blob, item.plain.meta);
    const found = await calibrate(item.file, item.name, findPoints(item.known, plain), { model, ...query }, options);
    item.calibration = { ...found, model };
  });
  if (item.error) item.known.pop();
  showPanels();
}

function drawThumb(item, map) {
  item.thumb = document.createElement("canvas");
  const factor = 96 / Math.max(map.width, map.height);
  [item.thumb.width, item.thumb.height] = [map.width, map.height].map((side) => Math.max(1, Math.round(side * factor)));
  map.paint(item.thumb, map.makeColours(state.palette, map.usualRange));
}

const STATES = { waiting: "waits", running: "running", failed: "failed", done: "done" };

function showStrip() {
  $("strip").hidden = state.items.length < 2;
  $("strip").replaceChildren(...state.items.map((item) => {
    const button = make("button", "", { type: "button", onclick: () => select(item) });
    if (item === state.item) button.setAttribute("aria-current", "true");
    if (item.thumb) button.append(item.thumb);
    button.append(make("span", item.name), make("small", STATES[item.status]));
    const entry = make("li", "");
    entry.append(button);
    return entry;
  }));
}

function showError(sentence, again = true) {
  $("error").querySelector("p").textContent = sentence;
  $("again").hidden = !again;
  $("error").hidden = false;
}

function hideError() {
  $("error").hidden = true;
}

function askForKey(sentence) {
  const dialog = $("key-dialog");
  $("key-reason").textContent = sentence;
  $("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue && $("key").value), { once: true });
  });
}

function listen() {
  $("choose").onclick = $("add").onclick = () => $("files").click();
  $("photograph").onclick = () => photograph((file) => addFiles([file]), (sentence) => showError(sentence, false));
  for (const input of [$("files"), $("shot")]) {
    input.onchange = () => {
      addFiles([...input.files]);
      input.value = "";
    };
  }
  document.addEventListener("paste", (event) => addFiles(event.clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    addFiles(event.dataTransfer.files);
  });
  $("cancel").onclick = cancel;
  $("dismiss").onclick = hideError;
  $("again").onclick = () => {
    hideError();
    if (!state.model) return begin();
    Object.assign(state.item, { status: "waiting", error: null });
    refresh();
  };
}

async function showExamples() {
  for (const { title, url } of await getExamples()) {
    const button = make("button", title, { type: "button" });
    button.prepend(make("img", "", { src: url, alt: "", width: 640, height: 480 }));
    const name = url.split("/").pop();
    button.onclick = async () => addFiles([new File([await getFile(url)], name, { type: "image/jpeg" })]);
    const entry = make("li", "");
    entry.append(button);
    $("examples").append(entry);
  }
}

/** A model tells what it is once it is loaded. */
async function learnModels() {
  const { models, limits } = await getModels();
  const chosen = state.model ?? models[0];
  Object.assign(state, { models, limits, model: models.find(({ name }) => name === chosen.name) });
}

async function begin() {
  try {
    await learnModels();
    startPanels({ refresh, fit, run });
    refresh();
  } catch (error) {
    showError(error.message);
  }
}

onKeyWanted(askForKey);
startStage(showPanels);
listen();
showExamples();
begin();
