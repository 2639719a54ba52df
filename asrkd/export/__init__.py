"""Students for other runtimes: ONNX graphs, and folders that sherpa-onnx runs."""
