"""What the README of a folder for sherpa-onnx says after the model card: the exact calls."""

from __future__ import annotations

from asrkd.acoustic import AcousticModel
from asrkd.decoding.decode import MAX_ACTIVE

_ONLINE = """
```sh
sherpa-onnx --zipformer2-ctc-model=model.onnx --tokens=tokens.txt {graph_option}audio.wav
```

```python
import sherpa_onnx, soundfile

{python}
samples, rate = soundfile.read("audio.wav", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
stream.accept_waveform(rate, [0.0] * int({tail:.2f} * rate))  # digital silence: the utterance has ended
stream.input_finished()
while recognizer.is_ready(stream):
    recognizer.decode_stream(stream)
print({result})
```

```c
SherpaOnnxOnlineRecognizerConfig config = {{0}};
config.model_config.zipformer2_ctc.model = "model.onnx";
config.model_config.tokens = "tokens.txt";
config.feat_config.sample_rate = {rate};
config.feat_config.feature_dim = {mels};
config.decoding_method = "greedy_search";
{c_graph}const SherpaOnnxOnlineRecognizer *recognizer = SherpaOnnxCreateOnlineRecognizer(&config);
```
"""
_C_GRAPH = f"""config.ctc_fst_decoder_config.graph = "HLG.fst";
config.ctc_fst_decoder_config.max_active = {MAX_ACTIVE};
"""
_RECOGNIZER = 'recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(tokens="tokens.txt", model="model.onnx", sample_rate={rate}, feature_dim={mels}{graph})'
_OFFLINE = """
Whole files, without streaming:

```python
recognizer = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(model="offline.onnx", tokens="tokens.txt", sample_rate={rate}, feature_dim={mels}{graph})
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
recognizer.decode_stream(stream)
print(stream.result.text)
```
"""


def sherpa_calls(model: AcousticModel, *, window: int, shift: int, graph: bool, offline: bool) -> str:
    """Markdown.

    Args:
        window, shift: log-mel frames of a window, and from one to the next.
        graph: whether HLG.fst is there.
        offline: whether offline.onnx is there.
    """
    law = model.front_end.frame_law(model.subsampling_factor)
    rate = model.front_end.sampling_rate
    mel_ms = 1000 * law.shift / rate
    frame = law.shift * law.stride / rate
    names = {"rate": rate, "mels": model.front_end.feature_dim // law.stack}
    words = (
        'The text of a result is its tokens; its words are numbers in `words.txt`: `json.loads(recognizer.get_result_as_json_string(stream))["words"]`.\n'
        if graph
        else ""
    )
    silence = window * mel_ms / 1000 + 0.1
    text = f"""## In sherpa-onnx

Written by `asrkd export sherpa` from `{model.spec}`. {len(model.inventory)} classes, topology `{model.inventory.topology_name}`, a frame every {1000 * frame:g} ms.
A window of {window * mel_ms:g} ms is read every {shift * mel_ms:g} ms; what it has more is what the model looks ahead. The graphs take sherpa-onnx's
default features ({names["mels"]} mel bins at {rate} Hz); everything else is inside. `model.int8.onnx` takes the place of `model.onnx` anywhere.

**At the end of an utterance** feed at least {silence:.2f} s of digital silence (samples of 0), then call `input_finished`. sherpa-onnx reads whole windows and tells a
model nothing of the end, so the graph takes digital silence up to a window's end for it: the last frames are those of `asrkd decode`, and nothing comes behind them.
More silence changes nothing. At an endpoint in the middle of a recording feed nothing: the stream runs on.
{words}"""
    search = f', ctc_graph="HLG.fst", ctc_max_active={MAX_ACTIVE}' if graph else ""
    text += _ONLINE.format(
        graph_option=f"--ctc-graph=HLG.fst --ctc-max-active={MAX_ACTIVE} " if graph else "",
        python=_RECOGNIZER.format(graph=search, **names),
        result="recognizer.get_result_as_json_string(stream)" if graph else "recognizer.get_result(stream)",
        c_graph=_C_GRAPH if graph else "",
        tail=silence,
        **names,
    )
    if offline:
        text += _OFFLINE.format(graph=search, **names)
    return text
