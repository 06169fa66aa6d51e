/** A depth map as points in space, drawn by WebGL. */

import {
  BufferAttribute, BufferGeometry, OrbitControls, PerspectiveCamera, Points, PointsMaterial, Scene,
  LinearSRGBColorSpace, WebGLRenderer,
} from "./three.js";

const FARTHEST = 8; // of a relative map, in medians: a disparity near zero would lie anywhere beyond

/** Draws clouds on a canvas; raises where there is no WebGL. */
export class Cloud {
  constructor(canvas) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, preserveDrawingBuffer: true });
    this.renderer.outputColorSpace = LinearSRGBColorSpace; // the colours are those of the file, not of a lamp
    this.camera = new PerspectiveCamera(50, 1, 0.01, 100);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.listenToKeyEvents(canvas);
    this.controls.addEventListener("change", () => this.draw());
    const material = new PointsMaterial({ vertexColors: true });
    // A point is as large as its pixel is at its depth: seen from the camera, the picture has no gaps.
    material.onBeforeCompile = (shader) => {
      shader.vertexShader = shader.vertexShader.replace("gl_PointSize = size;", "gl_PointSize = size * -position.z;");
    };
    this.points = new Points(new BufferGeometry(), material);
    this.points.frustumCulled = false;
    this.scene = new Scene();
    this.scene.add(this.points);
    new ResizeObserver(() => this.fit()).observe(canvas.parentElement);
  }

  /**
   * Shows a map. `colour(x, y)` gives the bytes of a pixel's colour; `edge` is the largest step between neighbours, as
   * a share of depth, Infinity for no filter. Answers { shown, whole }: how many points, of how many pixels.
   */
  show(map, lens, colour, { edge, cap }) {
    const cloud = gather(map, lens, colour, edge, cap);
    this.points.geometry.dispose();
    this.points.geometry = new BufferGeometry();
    this.points.geometry.setAttribute("position", new BufferAttribute(cloud.places, 3));
    this.points.geometry.setAttribute("color", new BufferAttribute(cloud.colours, 3, true));
    this.shown = { lens, width: map.width, height: map.height, spacing: cloud.step / lens[0] };
    this.fit();
    return cloud;
  }

  /** The view of the photograph's own camera, stepped aside a little. */
  home() {
    this.controls.target.set(0, 0, -1);
    this.camera.position.set(0.14, 0.07, 0.1);
    this.controls.update();
    this.draw();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.renderer.domElement;
    if (!width || !height || !this.shown) return;
    const { lens, spacing, ...size } = this.shown;
    const tangent = Math.max(size.height / lens[1], size.width / lens[0] / (width / height)) / 2;
    this.points.material.size = (1.4 * spacing) / tangent;
    this.camera.fov = (2 * Math.atan(tangent) * 180) / Math.PI;
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.draw();
  }

  draw() {
    this.renderer.render(this.scene, this.camera);
  }
}

/** Points in medians of depth, in WebGL's frame: y up, z backward. */
function gather(map, lens, colour, edge, cap) {
  const depths = findDepths(map);
  const middle = findMedian(depths);
  const farthest = map.metric ? Infinity : FARTHEST * middle;
  const step = Math.max(1, Math.sqrt(map.levels.length / cap));
  const [columns, rows] = [Math.floor(map.width / step), Math.floor(map.height / step)];
  const [places, colours] = [new Float32Array(3 * columns * rows), new Uint8Array(3 * columns * rows)];
  let shown = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [u, v] = [(column + 0.5) * step - 0.5, (row + 0.5) * step - 0.5]; // evenly, or gaps would show as a grid
      const [x, y] = [Math.round(u), Math.round(v)];
      const z = depths[y * map.width + x];
      if (!(z > 0 && z <= farthest) || isEdge(depths, map, x, y, z * edge)) continue;
      const scaled = z / middle;
      places.set([((u - lens[2]) / lens[0]) * scaled, ((lens[3] - v) / lens[1]) * scaled, -scaled], 3 * shown);
      const bytes = colour(x, y);
      colours.set([bytes & 255, (bytes >> 8) & 255, (bytes >> 16) & 255], 3 * shown++);
    }
  }
  const [some, whole] = [[places, colours].map((all) => all.slice(0, 3 * shown)), map.levels.length];
  return { places: some[0], colours: some[1], shown, step, whole };
}

function findDepths(map) {
  const table = new Float32Array(65536).map((_, level) => {
    const value = map.meta.scale * level + map.meta.offset;
    return level ? (map.nearIsLarge ? 1 / value : value) : NaN;
  });
  return Float32Array.from(map.levels, (level) => table[level]);
}

function findMedian(depths) {
  const some = depths.filter((z, i) => i % 7 === 0 && z > 0).sort();
  return some[some.length >> 1] || 1;
}

function isEdge(depths, { width, height }, x, y, most) {
  if (most === Infinity) return false;
  const at = y * width + x;
  const isFar = (other) => !(Math.abs(depths[other] - depths[at]) <= most);
  return (
    (x > 0 && isFar(at - 1)) || (x < width - 1 && isFar(at + 1)) ||
    (y > 0 && isFar(at - width)) || (y < height - 1 && isFar(at + width))
  );
}
