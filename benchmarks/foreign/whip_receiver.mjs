// A WHIP receiver that is not ours: werift, a WebRTC stack in TypeScript (`npm install werift@0.25`).
// `node whip_receiver.mjs PORT SECONDS`: answers one push after the other and prints what came, as JSON.
import { createServer } from "node:http";
import { RTCPeerConnection, RTCRtpCodecParameters } from "werift";

const [port, seconds] = process.argv.slice(2).map(Number);
const all = [];
const feedback = [{ type: "nack" }, { type: "nack", parameter: "pli" }, { type: "transport-cc" }];

async function answer(offer) {
  const pc = new RTCPeerConnection({
    codecs: { video: [new RTCRtpCodecParameters({ mimeType: "video/VP8", clockRate: 90000, rtcpFeedback: feedback })] },
  });
  const seen = { packets: 0, bytes: 0, frames: 0, keyframes: 0, lost: 0, state: "new" };
  all.push(seen);
  pc.connectionStateChange.subscribe((state) => (seen.state = state));
  pc.onRemoteTransceiverAdded.subscribe(async (transceiver) => {
    const [track] = await transceiver.onTrack.asPromise();
    let before = null;
    track.onReceiveRtp.subscribe(({ header, payload }) => {
      if (before !== null) seen.lost += ((header.sequenceNumber - before - 1) & 0xffff) % 0x8000;
      before = header.sequenceNumber;
      seen.packets += 1;
      seen.bytes += payload.length;
      seen.frames += header.marker ? 1 : 0;
      if (payload[0] & 0x10 && !(payload[4] & 1)) seen.keyframes += 1; // start of a partition; the P bit is 0
    });
    setInterval(() => track.rtcpBuffer ?? transceiver.receiver.sendRtcpPLI(track.ssrc), 3000).unref();
  });
  await pc.setRemoteDescription({ type: "offer", sdp: offer });
  await pc.setLocalDescription(await pc.createAnswer());
  return pc.localDescription.sdp;
}

const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", async () => {
    if (request.method !== "POST") return response.writeHead(200).end();
    const sdp = await answer(body);
    response.writeHead(201, { "Content-Type": "application/sdp", Location: "/whip/1" }).end(sdp);
  });
});
server.listen(port, "127.0.0.1", () => console.log("ready"));
setTimeout(() => { console.log(JSON.stringify(all)); process.exit(0); }, 1000 * seconds);
