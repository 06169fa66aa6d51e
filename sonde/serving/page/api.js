/** The server's routes. Every refusal becomes an ApiError that holds the server's sentence. */

const POLL = 400;
const MOST_TRIES = 30;

let key = "";
let askForKey = async () => "";

/** What the server, or the browser, says when a request fails. */
export class ApiError extends Error {
  constructor(sentence, status = 0, retryAfter = 0) {
    super(sentence);
    Object.assign(this, { status, retryAfter });
  }
}

/** Gives the function that asks a person for the server's key: sentence → key, or "" to give up. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer: check that `sonde serve` still runs, then try again.");
  }
  if (response.ok) return response;
  const sentence = await readSentence(response);
  if (response.status === 401) {
    key = await askForKey(sentence);
    if (key) return send(path, options);
  }
  throw new ApiError(sentence, response.status, Number(response.headers.get("Retry-After")) || 1);
}

async function readSentence(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answers ${response.status} ${response.statusText}.`;
  }
}

export async function getModels() {
  return (await send("v1/models")).json();
}

export async function getExamples() {
  return (await send("page/examples.json")).json();
}

export async function getFile(url) {
  return (await send(url)).blob();
}

/**
 * The depth of an image: { blob, meta }. Waits for a place where the queue is full.
 *
 * `tell` hears { state, place, waiting, seconds_each } of the queue while the request is under way.
 */
export async function getDepth(image, name, query, { signal, tell }) {
  const response = await sendImage("v1/depth", image, name, query, {}, { signal, tell });
  return { blob: await response.blob(), meta: readMeta(response.headers) };
}

/** Fits metres to points [[x, y, metres], …]; answers what was fitted. */
export async function calibrate(image, name, points, query, { signal, tell }) {
  const fields = { points: JSON.stringify(points) };
  return (await sendImage("v1/calibrate", image, name, query, fields, { signal, tell })).json();
}

async function sendImage(route, image, name, query, fields, { signal, tell }) {
  const path = `${route}?${new URLSearchParams(query)}`;
  for (let tries = 1; ; tries++) {
    const id = makeId();
    const body = new FormData();
    body.append("image", image, name);
    for (const [field, text] of Object.entries(fields)) body.append(field, text);
    const stop = follow(id, tell);
    try {
      return await send(path, { method: "POST", body, signal, headers: { "X-Request-Id": id } });
    } catch (error) {
      if (error.status !== 429 || tries === MOST_TRIES) throw error;
      tell({ state: "full", seconds: error.retryAfter });
      await sleep(1000 * error.retryAfter, signal);
    } finally {
      stop();
    }
  }
}

function follow(id, tell) {
  tell({ state: "sent" });
  const timer = setInterval(async () => {
    try {
      tell(await (await send(`v1/queue?id=${id}`)).json());
    } catch {
      clearInterval(timer);
    }
  }, POLL);
  return () => clearInterval(timer);
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("Cancelled", "AbortError"));
    });
  });
}

/** A random UUID; `crypto.randomUUID` exists on https and localhost only. */
function makeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

function readMeta(headers) {
  const text = (name) => headers.get(`X-Sonde-${name}`);
  const intrinsics = text("Intrinsics");
  return {
    space: text("Space"),
    unit: text("Unit"),
    scale: Number(text("Scale")),
    offset: Number(text("Offset") ?? 0),
    intrinsics: intrinsics ? intrinsics.split(",").map(Number) : null,
    source: text("Intrinsics-Source"),
    seconds: text("Seconds"),
  };
}
