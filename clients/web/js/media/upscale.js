/**
 * Enlarges a small video and keeps it sharp, in four WebGL 2 passes.
 *
 * 0. Shrink, where the server drew each of the model's pixels as a square of several, so that the codec's halved
 *    colour resolution is the model's: the mean of each square is the pixel, with less of the codec's noise.
 * 1. Clean, at that size: each pixel becomes the mean of neighbours of similar brightness. This
 *    removes codec noise and pulls the chroma, which is sent at half the resolution, back to the edges.
 * 2. Catmull-Rom bicubic to the size of the screen, clamped to the neighbours' values (no halos).
 * 3. Edge warp: each pixel samples a little further from the nearest edge, along ∇g / g with g the
 *    strength of the colour gradient. For a blurred edge that ratio grows linearly with the distance, so
 *    the edge gets narrower by a fixed factor at any contrast, and soft gradients stay as they are.
 *
 * Knows no network and no clock: the caller decides when to draw.
 */

const STRENGTH = 0.6; // of the warp; close to 1, edges wobble and corners round off

const CORNERS = `#version 300 es
out vec2 uv;
void main() {
  vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  uv = corner;
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}`;

const SHRINK = `#version 300 es
precision highp float;
uniform sampler2D source;
uniform int side; // of a square, in pixels of the video
in vec2 uv;
out vec4 colour;

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy) * side;
  vec3 sum = vec3(0.0);
  for (int j = 0; j < side; j++)
    for (int i = 0; i < side; i++) sum += texelFetch(source, at + ivec2(i, j), 0).rgb;
  colour = vec4(sum / float(side * side), 1.0);
}`;

const CLEAN = `#version 300 es
precision highp float;
uniform sampler2D source;
in vec2 uv;
out vec4 colour;

float bright(vec3 c) { return dot(c, vec3(0.299, 0.587, 0.114)); }

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy), last = textureSize(source, 0) - 1;
  float here = bright(texelFetch(source, at, 0).rgb);
  float y = 0.0, ys = 0.0, cs = 0.0;
  vec2 chroma = vec2(0.0);
  for (int j = -2; j <= 2; j++) {
    for (int i = -2; i <= 2; i++) {
      vec3 c = texelFetch(source, clamp(at + ivec2(i, j), ivec2(0), last), 0).rgb;
      float b = bright(c), apart = b - here;
      float near = exp(-float(i * i + j * j) * 0.22);
      float wy = near * exp(-apart * apart * 5000.0), wc = near * exp(-apart * apart * 900.0);
      y += wy * b;
      ys += wy;
      chroma += wc * (c.rb - b);
      cs += wc;
    }
  }
  y /= ys;
  vec2 rb = chroma / cs + y;
  colour = vec4(rb.x, (y - 0.299 * rb.x - 0.114 * rb.y) / 0.587, rb.y, 1.0);
}`;

const BICUBIC = `#version 300 es
precision highp float;
uniform sampler2D source;
uniform vec2 size;
in vec2 uv;
out vec4 colour;

vec4 weights(float f) {
  float a = f * f, b = a * f;
  return 0.5 * vec4(-b + 2.0 * a - f, 3.0 * b - 5.0 * a + 2.0, -3.0 * b + 4.0 * a + f, b - a);
}

void main() {
  vec2 at = uv * size - 0.5;
  ivec2 base = ivec2(floor(at));
  vec2 f = at - floor(at);
  vec4 wx = weights(f.x), wy = weights(f.y);
  ivec2 last = ivec2(size) - 1;
  vec3 sum = vec3(0.0), low = vec3(1.0), high = vec3(0.0);
  for (int j = 0; j < 4; j++) {
    for (int i = 0; i < 4; i++) {
      vec3 c = texelFetch(source, clamp(base + ivec2(i - 1, j - 1), ivec2(0), last), 0).rgb;
      sum += c * wx[i] * wy[j];
      if (i > 0 && i < 3 && j > 0 && j < 3) { low = min(low, c); high = max(high, c); }
    }
  }
  colour = vec4(clamp(sum, low, high), 1.0);
}`;

const WARP = `#version 300 es
precision highp float;
uniform sampler2D source;
uniform vec2 step;      // sampling distance, as a fraction of the picture
uniform float strength; // warp distance, in steps
in vec2 uv;
out vec4 colour;

vec3 look(float x, float y) { return texture(source, uv + vec2(x, y) * step).rgb; }
float apart(vec3 a, vec3 b, vec3 c, vec3 d) { return sqrt(dot(a - b, a - b) + dot(c - d, c - d)); }

void main() {
  vec3 here = look(0.0, 0.0);
  vec3 east = look(2.0, 0.0), west = look(-2.0, 0.0), north = look(0.0, 2.0), south = look(0.0, -2.0);
  vec3 ne = look(1.0, 1.0), nw = look(-1.0, 1.0), se = look(1.0, -1.0), sw = look(-1.0, -1.0);
  float ge = apart(east, here, ne, se), gw = apart(here, west, nw, sw);
  float gn = apart(north, here, ne, nw), gs = apart(here, south, se, sw);
  vec2 rise = vec2(ge - gw, gn - gs);
  float mean = 0.25 * (ge + gw + gn + gs);
  vec2 shift = -strength * rise / (mean + 0.03);
  float far = length(shift);
  if (far > 1.6) shift *= 1.6 / far;
  vec3 c = texture(source, uv + shift * step).rgb;
  float noise = fract(52.9829189 * fract(dot(gl_FragCoord.xy, vec2(0.06711056, 0.00583715))));
  colour = vec4(c + (noise - 0.5) / 255.0, 1.0);
}`;

export class Upscaler {
  /** Null if WebGL 2 is missing or runs in software, which is slower than a plain video. */
  static create(canvas, { force = false } = {}) {
    const gl = canvas.getContext("webgl2", {
      alpha: false,
      antialias: false,
      depth: false,
      powerPreference: "low-power",
      failIfMajorPerformanceCaveat: !force,
    });
    if (!gl || (!force && inSoftware(gl))) return null;
    try {
      return new Upscaler(canvas, gl);
    } catch (error) {
      console.warn("psistream: falling back to the plain video:", error.message);
      return null;
    }
  }

  constructor(canvas, gl) {
    this.canvas = canvas;
    this.gl = gl;
    this.shrink = program(gl, SHRINK, ["source", "side"]);
    this.clean = program(gl, CLEAN, ["source"]);
    this.bicubic = program(gl, BICUBIC, ["source", "size"]);
    this.warp = program(gl, WARP, ["source", "step", "strength"]);
    this.picture = texture(gl);
    this.small = new Target(gl);
    this.cleaned = new Target(gl);
    this.large = new Target(gl);
    gl.bindVertexArray(gl.createVertexArray());
    gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, true);
  }

  /** Free the context: browsers keep only a few and drop the oldest. */
  close() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  get lost() {
    return this.gl.isContextLost();
  }

  /**
   * Draw the video's current frame at the canvas's size in device pixels. `native` is the width that the model
   * drew, which is less than the video's width if the server enlarged it for the codec.
   */
  draw(video, native = video.videoWidth) {
    const { gl, canvas } = this;
    let [w, h] = [video.videoWidth, video.videoHeight];
    if (!w || !h || this.lost) return;
    const [wide, tall] = this.#fit();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, video);

    const side = w / native;
    if (side > 1 && Number.isInteger(side) && h % side === 0) {
      [w, h] = [native, h / side];
      this.#pass(this.shrink, this.small.sized(w, h).frame, w, h, (to) => gl.uniform1i(to.side, side));
      gl.bindTexture(gl.TEXTURE_2D, this.small.texture);
    }
    this.#pass(this.clean, this.cleaned.sized(w, h).frame, w, h);
    gl.bindTexture(gl.TEXTURE_2D, this.cleaned.texture);
    this.#pass(this.bicubic, this.large.sized(wide, tall).frame, wide, tall, (to) => gl.uniform2f(to.size, w, h));
    gl.bindTexture(gl.TEXTURE_2D, this.large.texture);
    this.#pass(this.warp, null, wide, tall, (to) => {
      gl.uniform2f(to.step, 0.5 / native, (0.5 * w) / (h * native));
      gl.uniform1f(to.strength, STRENGTH);
    });
  }

  #pass(shader, frame, width, height, uniforms) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.viewport(0, 0, width, height);
    gl.useProgram(shader.id);
    uniforms?.(shader);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  #fit() {
    const { canvas } = this;
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    return [width, height];
  }
}

/** A texture to draw into, resized on demand. */
class Target {
  constructor(gl) {
    this.gl = gl;
    this.texture = texture(gl);
    this.frame = gl.createFramebuffer();
  }

  /** Keeps the current texture binding. */
  sized(width, height) {
    const { gl } = this;
    if (this.width === width && this.height === height) return this;
    const source = gl.getParameter(gl.TEXTURE_BINDING_2D);
    Object.assign(this, { width, height });
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.texture, 0);
    gl.bindTexture(gl.TEXTURE_2D, source);
    return this;
  }
}

/** Browsers don't always report software rendering as a "major performance caveat"; the renderer's name does. */
function inSoftware(gl) {
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
}

function program(gl, fragment, uniforms) {
  const id = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, CORNERS], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(id, shader);
  }
  gl.linkProgram(id);
  if (!gl.getProgramParameter(id, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(id) || "shaders do not link");
  return Object.fromEntries([["id", id], ...uniforms.map((name) => [name, gl.getUniformLocation(id, name)])]);
}

function texture(gl) {
  const id = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, id);
  for (const [name, value] of [
    [gl.TEXTURE_MIN_FILTER, gl.LINEAR],
    [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
    [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
    [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
  ]) {
    gl.texParameteri(gl.TEXTURE_2D, name, value);
  }
  return id;
}
