/** What the page's point cloud uses of three.js. */
export {
  BufferAttribute, BufferGeometry, LinearSRGBColorSpace, PerspectiveCamera, Points, PointsMaterial, Scene, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
