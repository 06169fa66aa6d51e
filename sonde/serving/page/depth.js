/** A depth map: its values, its colours, its camera, and distances in it. */

import { decodePng16 } from "./png16.js";

export const UNITS = { m: 1, cm: 0.01, mm: 0.001 };

/** Name → colours at equal steps from near to far; between them they are linear. */
export const PALETTES = {
  Spectral: "9e0142 d53e4f f46d43 fdae61 fee08b ffffbf e6f598 abdda4 66c2a5 3288bd 5e4fa2",
  Viridis: "fde724 bdde26 79d151 44be70 22a784 20908d 29788e 345e8d 404387 482475 440154",
  Grey: "ffffff 000000",
};
const LEVELS = 65536;
const NO_DEPTH = 0xff808080;

/** Depth of an image as the server's 16-bit PNG holds it: value = scale * level + offset, none where the level is 0. */
export class DepthMap {
  static async read(blob, meta) {
    return new DepthMap(await decodePng16(await blob.arrayBuffer()), meta);
  }

  constructor({ width, height, levels }, meta) {
    Object.assign(this, { width, height, levels, meta });
    this.metric = meta.space === "metric";
    this.nearIsLarge = meta.space === "disparity";
    this.unit = this.metric ? meta.unit : "1";
  }

  /** Metres, or the relative value; NaN where there is none. */
  at(x, y) {
    const level = this.levels[y * this.width + x];
    return level ? this.meta.scale * level + this.meta.offset : NaN;
  }

  /** Depth up to one factor, for relative models as well: metres where the map has them. */
  depthAt(x, y) {
    const value = this.at(x, y);
    return this.nearIsLarge ? 1 / value : value;
  }

  /** Metres per unit of what is shown. */
  get unitSize() {
    return this.metric ? UNITS[this.unit] : 1;
  }

  /** A value in words, exact to a level of the file: `1.2345 m`, `0.53201 relative`. */
  spell(value) {
    if (Number.isNaN(value)) return "no depth";
    const digits = Math.min(8, Math.max(0, Math.ceil(-Math.log10(this.meta.scale / this.unitSize) - 1e-9)));
    return `${(value / this.unitSize).toFixed(digits)} ${this.metric ? this.unit : "relative"}`;
  }

  /** The values below which 2 and 98 percent of the pixels lie. */
  get usualRange() {
    this.found ??= this.#findRange();
    return this.found;
  }

  #findRange() {
    const counts = new Uint32Array(LEVELS);
    for (const level of this.levels) counts[level]++;
    const known = this.levels.length - counts[0];
    return [0.02, 0.98].map((share) => {
      let level = 1;
      for (let left = share * (known - 1) - counts[1]; left >= 0 && level < LEVELS - 1; left -= counts[level]) level++;
      return this.meta.scale * level + this.meta.offset;
    });
  }

  /** Level → colour, as the bytes of a pixel. */
  makeColours(palette, [low, high]) {
    const ramp = drawRamp(palette);
    const table = new Uint32Array(LEVELS);
    for (let level = 1; level < LEVELS; level++) {
      const value = this.meta.scale * level + this.meta.offset;
      const share = high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0;
      table[level] = ramp[Math.floor((this.nearIsLarge ? 1 - share : share) * 255)];
    }
    table[0] = NO_DEPTH;
    return table;
  }

  /** Draws the map over the whole canvas. */
  paint(canvas, colours) {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(picture.data.buffer);
    const column = Uint32Array.from({ length: canvas.width }, (_, x) => ((x + 0.5) * this.width) / canvas.width);
    for (let y = 0, out = 0; y < canvas.height; y++) {
      const row = Math.floor(((y + 0.5) * this.height) / canvas.height) * this.width;
      for (let x = 0; x < canvas.width; x++) pixels[out++] = colours[this.levels[row + column[x]]];
    }
    context.putImageData(picture, 0, 0);
  }

  /** Metres between two pixels in space, or a relative length in a relative map. */
  distance([x0, y0], [x1, y1], camera) {
    const [one, other] = [this.unproject(x0, y0, camera), this.unproject(x1, y1, camera)];
    return Math.hypot(...one.map((number, axis) => number - other[axis]));
  }

  /** X, Y, Z of a pixel: x right, y down, z forward. */
  unproject(x, y, [fx, fy, cx, cy]) {
    const z = this.depthAt(x, y);
    return [((x - cx) / fx) * z, ((y - cy) / fy) * z, z];
  }
}

/** 256 colours of a palette, from near to far, as the bytes of pixels. */
export function drawRamp(palette) {
  const colours = PALETTES[palette].split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (colours.length - 1);
    const before = Math.min(Math.floor(place), colours.length - 2);
    const [r, g, b] = [0, 1, 2].map((band) => {
      const [from, to] = [colours[before][band], colours[before + 1][band]];
      return Math.floor(from + (to - from) * (place - before));
    });
    return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
  });
}

/** fx, fy, cx, cy of a horizontal field of view in degrees; the centre of the first pixel is (0, 0). */
export function cameraOfView(degrees, width, height) {
  const focal = width / 2 / Math.tan((degrees * Math.PI) / 360);
  return [focal, focal, (width - 1) / 2, (height - 1) / 2];
}

/** The horizontal field of view of a camera, in degrees. */
export function viewOfCamera([fx], width) {
  return (Math.atan(width / 2 / fx) * 360) / Math.PI;
}

/** A number to so many significant digits. */
export function round(value, digits) {
  return Number(value.toPrecision(digits));
}
