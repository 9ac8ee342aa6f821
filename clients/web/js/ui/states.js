/** The page's texts for each phase. Data only. */

export const STATES = {
  connecting: { pill: "Connecting", title: "Connecting", text: "Connecting to the video." },
  waiting: { pill: "Waiting for the picture", title: "Waiting for the first frame", text: "Connected. The first frame is on its way." },
  live: { pill: "Live" },
  reconnecting: { pill: "Reconnecting", title: "Reconnecting", text: "The connection was lost. The video continues as soon as the server answers.", retry: "Try now" },
  gone: { pill: "Server gone", title: "The server does not answer", text: "It may have been stopped. Start it with “psistream serve”. This page keeps trying.", retry: "Try now" },
  blocked: { pill: "Blocked", title: "The video does not get through", text: "The server answers, but its video does not arrive. A firewall may block UDP. Another network may help.", retry: "Try now" },
  restarting: { pill: "Starting", title: "The server is getting ready", text: "Its model is being loaded. The video continues as soon as that is done.", retry: "Try now" },
  full: { pill: "Full", title: "All places are taken", text: "The server already has as many viewers as it can serve.", retry: "Try now", main: "Watch the shared video" },
  unknown: { pill: "Not found", title: "This session does not exist", text: "It has ended, or the link is incomplete.", main: "Watch the shared video", create: "Start a new one", close: "Close this future" },
  lost: { pill: "Gone", title: "This session is gone", text: "The server was restarted, or nobody watched for a while. If you saved a moment of it, open that to continue from there.", main: "Watch the shared video", create: "Start a new one", close: "Close this future" },
  refused: { pill: "Not allowed", title: "This link does not open the session", text: "Its token is missing or no longer valid. Ask for a new link.", main: "Watch the shared video", close: "Close this future" },
  ended: { pill: "Ended", title: "This session has ended", text: "", main: "Watch the shared video", create: "Start a new one", close: "Close this future" },
  unsupported: { pill: "Cannot play", title: "This browser cannot play the video", text: "psistream needs WebRTC with VP8 or H.264.", retry: "Try again" },
};

export const HINT = "Enter blends your prompt into this scene, Shift + Enter starts a new one. Arrow keys walk and jump. Press ? for more.";
export const TOUCH_HINT = "Blend changes this scene into what you describe, Fade does it slowly, New scene starts another.";
export const WATCHING = "You are watching. Somebody else is steering.";
