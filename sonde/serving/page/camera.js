/** Takes a photograph: with the phone's own camera program, or with the camera of this computer. */

import { $ } from "./state.js";

/** Asks for a photograph; `took` is called with its file. */
export async function photograph(took, failed) {
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) return $("shot").click();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1920, facingMode: "environment" } });
  } catch {
    return failed("This browser gives no camera: allow it for this page, or choose a file.");
  }
  const dialog = $("camera-dialog");
  $("video").srcObject = stream;
  $("take").onclick = async () => {
    took(await snap($("video")));
    dialog.close();
  };
  $("put-away").onclick = () => dialog.close();
  dialog.onclose = () => stream.getTracks().forEach((track) => track.stop());
  dialog.showModal();
}

async function snap(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new File([await canvas.convertToBlob({ type: "image/png" })], "photograph.png", { type: "image/png" });
}
