// Audio of the microphone, in chunks of 80 ms.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.chunk = new Float32Array(Math.round(sampleRate * 0.08));
    this.filled = 0;
  }

  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    for (let read = 0; read < samples.length; ) {
      const count = Math.min(samples.length - read, this.chunk.length - this.filled);
      this.chunk.set(samples.subarray(read, read + count), this.filled);
      this.filled += count;
      read += count;
      if (this.filled === this.chunk.length) {
        this.port.postMessage(this.chunk.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
