/** Reads 16-bit grey PNG files without loss; a canvas would cut them to 8 bits. */

const GREY = 0;

/** The levels of a 16-bit grey PNG, row by row: { width, height, levels }. */
export async function decodePng16(buffer) {
  const view = new DataView(buffer);
  const parts = [];
  let width = 0;
  let height = 0;
  for (let at = 8; at + 12 <= buffer.byteLength; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...new Uint8Array(buffer, at + 4, 4));
    const start = at + 8;
    if (kind === "IHDR") {
      [width, height] = [view.getUint32(start), view.getUint32(start + 4)];
      const [bits, colour, , , interlaced] = new Uint8Array(buffer, start + 8, 5);
      if (bits !== 16 || colour !== GREY || interlaced) throw new Error("Expected a 16-bit grey PNG.");
    }
    if (kind === "IDAT") parts.push(new Uint8Array(buffer, start, length));
    at = start + length + 4;
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return { width, height, levels: unfilter(bytes, width, height) };
}

function unfilter(bytes, width, height) {
  const stride = 2 * width;
  const levels = new Uint16Array(width * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const start = y * (stride + 1) + 1;
    const row = bytes.subarray(start, start + stride);
    undo(bytes[start - 1], row, above);
    for (let x = 0, out = y * width; x < stride; x += 2) levels[out++] = (row[x] << 8) | row[x + 1];
    above = row;
  }
  return levels;
}

/** Turns a filtered row into its bytes, in place; `above` is the row before it. */
function undo(filter, row, above) {
  const back = (i) => (i < 2 ? 0 : row[i - 2]);
  if (filter === 1) for (let i = 2; i < row.length; i++) row[i] += row[i - 2];
  if (filter === 2) for (let i = 0; i < row.length; i++) row[i] += above[i];
  if (filter === 3) for (let i = 0; i < row.length; i++) row[i] += (back(i) + above[i]) >> 1;
  if (filter === 4) for (let i = 0; i < row.length; i++) row[i] += paeth(back(i), above[i], i < 2 ? 0 : above[i - 2]);
}

function paeth(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
