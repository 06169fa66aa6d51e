/** What the page knows: the models, the images with their results, and what a person has set. */

import { cameraOfView } from "./depth.js";

const ASSUMED_VIEW = 60;

export const state = {
  models: [],
  limits: {},
  /** The model that is asked, as /v1/models describes it. */
  model: null,
  items: [],
  /** The item on the stage, and its depth map. */
  item: null,
  map: null,
  view: matchMedia("(max-width: 48rem)").matches ? "over" : "side",
  palette: "Spectral",
  /** Locked ends of the colours { ends, unit }, or null for those that fit the image. */
  range: null,
  unit: null,
  /** A person's own camera: { fov }, { four } or neither. */
  camera: {},
  /** A calibration that holds for every image. */
  shared: null,
};

export const $ = (id) => document.getElementById(id);

/** An element with words in it. */
export function make(tag, words, properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: words, ...properties });
}

/** The number in a field, with a point or a comma; NaN where there is none. */
export function readNumber(input) {
  return Number(input.value.trim().replace(",", ".") || NaN);
}

/** One image: its file, its known lengths, and its result. */
export class Item {
  constructor(file, name) {
    Object.assign(this, { file, name, status: "waiting", points: [], known: [], calibration: null });
    /** The answer on hand, the one without a calibration, and the request that each answers. */
    Object.assign(this, { result: null, plain: null });
  }

  get fitted() {
    const found = this.calibration ?? state.shared;
    return found?.model === state.model.name ? found : null;
  }

  /** What the server is asked for this image. */
  get query() {
    const query = { model: state.model.name };
    if (this.fitted) query.calibration = this.fitted.calibration;
    return state.model.needs_intrinsics ? { ...query, ...cameraQuery() } : query;
  }

  get isCurrent() {
    return this.result?.asked === JSON.stringify(this.query);
  }
}

/** A person's own camera, as the server takes it. */
export function cameraQuery() {
  const { fov, four } = state.camera;
  if (four) return Object.fromEntries(["fx", "fy", "cx", "cy"].map((name, i) => [name, four[i]]));
  return fov ? { fov } : {};
}

/** fx, fy, cx, cy of the image on the stage, and where they come from: given, exif, fov or assumed. */
export function findCamera({ width, height, meta }) {
  const { fov, four } = state.camera;
  if (four) return { lens: four, source: "given" };
  if (fov) return { lens: cameraOfView(fov, width, height), source: "fov" };
  if (meta.intrinsics) return { lens: meta.intrinsics, source: meta.source };
  return { lens: cameraOfView(ASSUMED_VIEW, width, height), source: "assumed" };
}

/** Points of known depth [[x, y, metres], …], as /v1/calibrate takes them; `plain` is the map before calibration. */
export function findPoints(known, plain) {
  return known.flatMap(({ places: [one, other], metres }) => {
    if (!other) return [[...one, metres]];
    const factor = metres / plain.distance(one, other, findCamera(plain).lens);
    const points = [one, other].map((place) => [...place, factor * plain.depthAt(...place)]);
    if (!points.every(([, , depth]) => depth > 0 && Number.isFinite(depth))) {
      throw new Error("A distance needs two different points with depth: place A and B elsewhere.");
    }
    return points;
  });
}
