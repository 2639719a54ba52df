// The page: a microphone or a file, the text, the level, the lag.
import { load } from "./recognizer.js";

const part = (name) => document.getElementById(name);
let recognizer;
let stop = null; // ends the microphone
let working = Promise.resolve(); // chunks are read one after the other

function say(message, wrong = false) {
  part("status").textContent = message;
  part("status").classList.toggle("error", wrong);
}

function show(now = "") {
  part("text").textContent = recognizer.lines.map((line) => `${line}\n`).join("");
  const span = document.createElement("span");
  span.className = "now";
  span.textContent = now;
  part("text").append(span);
}

function level(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(samples.length, 1);
  part("level").value = Math.max(-60, 10 * Math.log10(power + 1e-10));
}

function speed(computing) {
  return `${recognizer.seconds.toFixed(1)} s of audio, ${(recognizer.seconds / Math.max(computing / 1000, 1e-6)).toFixed(0)} times real time`;
}

async function fromMicrophone() {
  const rate = recognizer.facts.sampling_rate;
  if (!navigator.mediaDevices) throw new Error("browsers give the microphone to pages of https:// and localhost alone; a file works here, too");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext({ sampleRate: rate });
  await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  context.createMediaStreamSource(stream).connect(recorder);
  recognizer.restart();
  show();
  let computing = 0;
  recorder.port.onmessage = ({ data }) => {
    const arrived = performance.now();
    level(data);
    working = working
      .then(async () => {
        const began = performance.now();
        const now = await recognizer.accept(data);
        computing += performance.now() - began;
        show(now);
        say(`${speed(computing)}, lag ${(performance.now() - arrived).toFixed(0)} ms`);
      })
      .catch((error) => say(error.message, true));
  };
  part("microphone").textContent = "Stop";
  stop = async () => {
    stop = null;
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
    recorder.port.onmessage = null; // a late chunk would be read behind the end
    await working;
    await recognizer.finish();
    show();
    level([]);
    say(`done: ${speed(computing)}`);
    part("microphone").textContent = "Start microphone";
  };
}

async function fromFile(file) {
  if (stop) await stop();
  const rate = recognizer.facts.sampling_rate;
  say(`reading ${file.name}`);
  // Decoded and resampled by the browser; the mean of all channels.
  const audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, n) => (samples[n] += sample / audio.numberOfChannels));
  }
  recognizer.restart();
  let computing = 0;
  for (let begin = 0; begin < samples.length; begin += rate) {
    const began = performance.now();
    const now = await recognizer.accept(samples.slice(begin, begin + rate));
    computing += performance.now() - began;
    show(now);
    say(speed(computing));
    await new Promise((resolve) => setTimeout(resolve)); // let the page be drawn
  }
  const began = performance.now();
  await recognizer.finish();
  computing += performance.now() - began;
  show();
  say(`done: ${speed(computing)}`);
}

const told = (work) => work.catch((error) => say(error.message || String(error), true));
const opened = (file) => file && told((working = working.then(() => fromFile(file))));

part("microphone").onclick = () => told(stop ? stop() : fromMicrophone());
part("file").onchange = ({ target }) => opened(target.files[0]);
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
};
document.ondragleave = () => document.body.classList.remove("dropping");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  opened(event.dataTransfer.files[0]);
};

told(
  load().then((loaded) => {
    recognizer = loaded;
    part("about").textContent = `${loaded.facts.name}. Everything runs in this browser: no audio leaves it.`;
    part("microphone").disabled = false;
    say("ready");
  }),
);
