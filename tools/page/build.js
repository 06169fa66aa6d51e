/** Bundles three.js and puts its licence beside it. */
import { copyFileSync, readFileSync } from "node:fs";
import { build } from "esbuild";

const page = "../../sonde/serving/page";
const { version, license } = JSON.parse(readFileSync("node_modules/three/package.json"));

await build({
  entryPoints: ["three.js"],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  banner: { js: `/*! three.js ${version}, ${license}: three.LICENSE.txt. Made by: make page */` },
  outfile: `${page}/three.js`,
});
copyFileSync("node_modules/three/LICENSE", `${page}/three.LICENSE.txt`);
