// What Firefox plays, by hand: `npm install puppeteer-core`, a server with `--host 0.0.0.0 --api-key KEY` (Firefox
// uses no loopback), then `node firefox.mjs http://127.0.0.1:8080/ KEY`. Prints a line per codec: what WHEP brought
// (codec, frames decoded, width), then whether a clip of it opens (width, seconds played, error); then HLS.
import puppeteer from "puppeteer-core";

const [base, key] = process.argv.slice(2);
const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: "/usr/bin/firefox-esr",
  headless: true,
  extraPrefsFirefox: { "media.autoplay.default": 0 },
});
const page = await browser.newPage();
await page.goto(`${base}livez`);

async function codec(base, key, name) {
  const session = `${base}v1/sessions/main`;
  const add = () => Object.assign(document.body.appendChild(document.createElement("video")), { muted: true, autoplay: true });
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const pc = new RTCPeerConnection();
  const video = add();
  pc.ontrack = ({ track }) => (video.srcObject = new MediaStream([track]));
  const known = RTCRtpReceiver.getCapabilities("video").codecs;
  const first = known.filter((each) => each.mimeType === `video/${name}`);
  if (!first.length) return `${name}: this browser does not offer it`;
  const rest = known.filter((each) => !first.includes(each));
  pc.addTransceiver("video", { direction: "recvonly" }).setCodecPreferences([...first, ...rest]);
  await pc.setLocalDescription(await pc.createOffer());
  const headers = { "Content-Type": "application/sdp", Authorization: `Bearer ${key}` };
  const answer = await fetch(`${session}/whep`, { method: "POST", headers, body: pc.localDescription.sdp });
  if (answer.status !== 201) return `${name}: ${answer.status} ${await answer.text()}`;
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  let seen = [];
  for (let i = 0; i < 80 && !(seen[1] > 30); i += 1) {
    await pause(100);
    const stats = [...(await pc.getStats()).values()];
    const inbound = stats.find((each) => each.type === "inbound-rtp");
    seen = [stats.find((each) => each.id === inbound?.codecId)?.mimeType, inbound?.framesDecoded, video.videoWidth];
  }
  const clip = add();
  clip.src = `${session}/clip?seconds=5&token=${key}`;
  await pause(1500);
  pc.close();
  return `${name}: ${JSON.stringify(seen)}, clip ${JSON.stringify([clip.videoWidth, clip.currentTime, clip.error?.message])}`;
}

async function hls(base, key) {
  const url = `${base}v1/sessions/main/hls/index.m3u8?token=${key}`;
  const list = (await (await fetch(url)).text()).split("\n");
  const initial = list.find((line) => line.startsWith("#EXT-X-MAP")).match(/URI="([^"]+)"/)[1];
  const source = new MediaSource();
  const video = document.body.appendChild(document.createElement("video"));
  Object.assign(video, { muted: true, src: URL.createObjectURL(source) });
  await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
  const buffer = source.addSourceBuffer('video/mp4; codecs="avc1.42c014"');
  for (const part of [initial, list.find((line) => line.includes(".m4s"))]) {
    buffer.appendBuffer(await (await fetch(new URL(part, url))).arrayBuffer());
    await new Promise((done) => buffer.addEventListener("updateend", done, { once: true }));
  }
  video.currentTime = buffer.buffered.start(0);
  await video.play();
  await new Promise((done) => setTimeout(done, 1000));
  return `HLS: ${JSON.stringify([video.videoWidth, video.currentTime, video.error?.message])}`;
}

for (const name of ["VP8", "VP9", "AV1", "H264"]) console.log(await page.evaluate(codec, base, key, name));
console.log(await page.evaluate(hls, base, key));
await browser.close();
