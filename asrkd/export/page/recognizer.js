// A streaming student: samples in, greedy text out. `facts` is student.json.
import * as ort from "./ort.wasm.min.mjs";

export async function load() {
  const [facts, binary, graph] = await Promise.all([
    fetched("student.json").then((response) => response.json()),
    fetched("ort-wasm-simd-threaded.wasm.gz").then(unzipped),
    fetched("student.onnx").then((response) => response.arrayBuffer()),
  ]);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.wasmPaths = { mjs: new URL("ort-wasm-simd-threaded.mjs", import.meta.url).href };
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  return new Recognizer(session, facts);
}

async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}

// A server may have unzipped it already, so its first bytes decide.
async function unzipped(response) {
  const bytes = await response.arrayBuffer();
  const [first, second] = new Uint8Array(bytes, 0, 2);
  if (first !== 0x1f || second !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// Samples with mirrored ones before and behind them, as the front end that the student was trained with (Kaldi's ExtractWindow).
export function mirrored(samples, before, behind) {
  const period = 2 * samples.length;
  const result = new Float32Array(before + samples.length + behind);
  for (let n = 0; n < result.length; n++) {
    const place = (((n - before) % period) + period) % period;
    result[n] = samples[place < samples.length ? place : period - 1 - place];
  }
  return result;
}

function joined(first, second) {
  const both = new Float32Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

export class Recognizer {
  constructor(session, facts) {
    this.session = session;
    this.facts = facts;
    this.restart();
  }

  restart() {
    this.waiting = new Float32Array(0); // samples that are not read yet
    this.begun = false;
    this.numSamples = 0; // so far, of the signal itself
    this.numRows = 0; // frames read, with those behind the end
    this.classes = []; // of the running utterance, a frame each
    this.lines = []; // texts of the utterances that have ended
    this.state = {};
  }

  get seconds() {
    return this.numSamples / this.facts.sampling_rate;
  }

  // Read further samples. Returns the text of the running utterance.
  async accept(samples) {
    this.numSamples += samples.length;
    this.waiting = joined(this.waiting, samples);
    if (!this._begin()) return "";
    const step = this.facts.samples_per_step;
    while (this.waiting.length >= step) {
      const part = this.waiting.slice(0, step);
      this.last = joined(this.last, part).slice(-2 * this.facts.window);
      this.waiting = this.waiting.slice(step);
      await this._read(part, Infinity);
    }
    return this.text;
  }

  // The end of the signal: the last frames. Returns all lines, joined.
  async finish() {
    const { window, shift, begin, stack, samples_per_step: step, output_delay: delay } = this.facts;
    const needed = this.facts.needed || window;
    const windows = this.numSamples < needed ? 0 : 1 + Math.floor((this.numSamples - needed) / shift);
    const frames = windows < stack ? 0 : 1 + Math.floor((windows - stack) / stack);
    if (frames) {
      const behind = begin + (windows - 1) * shift + window - this.numSamples;
      if (!this.begun) {
        this.waiting = mirrored(this.waiting, -begin, Math.max(behind, 0));
        this.begun = true;
        this._overlap();
      } else if (behind > 0) {
        const tail = joined(this.last, this.waiting);
        this.waiting = joined(this.waiting, mirrored(tail, 0, behind).slice(tail.length));
      }
      while (this.numRows < frames + delay) {
        const part = joined(this.waiting.slice(0, step), new Float32Array(Math.max(0, step - this.waiting.length)));
        this.waiting = this.waiting.slice(step);
        await this._read(part, frames);
      }
    }
    this._end();
    return this.lines.join("\n");
  }

  // The signal's beginning, mirrored where windows reach over it. Returns whether there is enough of it.
  _begin() {
    if (this.begun) return true;
    const { begin, window, shift } = this.facts;
    if (this.waiting.length < Math.max(-begin, window - shift)) return false;
    this.waiting = mirrored(this.waiting, -begin, 0);
    this.begun = true;
    this._overlap();
    return true;
  }

  // The state of the start: zeros, but for the samples that the second window shares with the first.
  _overlap() {
    const { state, window, shift } = this.facts;
    for (const { name, shape, type } of state) {
      const size = shape.reduce((product, length) => product * length, 1);
      this.state[name] = new ort.Tensor(type, type === "int64" ? new BigInt64Array(size) : new Float32Array(size), [1, ...shape]);
    }
    const size = window - shift;
    const overlap = joined(this.waiting.slice(0, size), new Float32Array(Math.max(0, size - this.waiting.length)));
    this.state[state[0].name] = new ort.Tensor("float32", overlap, [1, size]);
    this.last = this.waiting.slice(0, size);
    this.waiting = this.waiting.slice(size);
  }

  async _read(samples, frames) {
    const { samples_per_step, frame_shift, output_delay: delay, num_classes, blank_penalty } = this.facts;
    const rows = samples_per_step / frame_shift;
    const real = Float32Array.from({ length: rows }, (_, n) => (this.numRows + n < frames ? 1 : 0));
    const found = await this.session.run({
      samples: new ort.Tensor("float32", samples, [1, samples.length]),
      real: new ort.Tensor("float32", real, [1, rows]),
      ...this.state,
    });
    for (const { name } of this.facts.state) this.state[name] = found[`next_${name}`];
    const logits = found.logits.data;
    for (let row = 0; row < rows; row++, this.numRows++) {
      if (this.numRows < delay || this.numRows >= frames + delay) continue;
      let best = 0;
      let most = -Infinity;
      for (let unit = 0; unit < num_classes; unit++) {
        const score = logits[row * num_classes + unit] - (unit ? 0 : blank_penalty);
        if (score > most) [best, most] = [unit, score];
      }
      this.classes.push(best);
      this._endpoint();
    }
  }

  // An utterance ends behind a silence, or when it is very long.
  _endpoint() {
    const { frame_shift, sampling_rate, end_silence, longest } = this.facts;
    const seconds = frame_shift / sampling_rate;
    let silent = 0;
    while (silent < this.classes.length && !this.classes[this.classes.length - 1 - silent]) silent++;
    const spoken = silent < this.classes.length;
    if ((spoken && silent * seconds >= end_silence) || this.classes.length * seconds >= longest) this._end();
    else if (!spoken) this.classes = this.classes.slice(-1);
  }

  _end() {
    const { text } = this;
    if (text) this.lines.push(text);
    this.classes = [];
  }

  // CTC: collapse repeats, drop blanks.
  get text() {
    const units = this.classes.filter((unit, n) => unit && unit !== this.classes[n - 1]);
    const { pieces, separator } = this.facts;
    return units.map((unit) => pieces[unit]).join(separator).split(/[ ]+/u).filter(Boolean).join(" ");
  }
}
