"""Runtimes that read ONNX files. Each function takes a file and an image batch, and returns what computes the logits of batches
of that size and the version; it raises ImportError where the runtime is not installed, and others where it refuses the file."""


def onnxruntime(path, images, level="ORT_ENABLE_ALL"):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    # Without it, products of bytes saturate on x86-64 CPUs that lack VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["output"], {"image": x})[0], ort.__version__


def onnxruntime_plain(path, images):
    return onnxruntime(path, images, "ORT_DISABLE_ALL")


def openvino(path, images):
    import openvino as ov

    # Floats are bfloat16 otherwise, on CPUs that have them.
    network = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: network(x)[0], ov.__version__.split("-")[0]


def opencv(path, images):
    import cv2

    # Of a file that it refuses it tells much.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    network = cv2.dnn.readNetFromONNX(str(path))

    def run(x):
        network.setInput(x)
        return network.forward().copy()

    return run, cv2.__version__


def tract(path, images):
    import tract

    network = tract.onnx().load(path)
    network.set_input_fact(0, ",".join([*map(str, images.shape), "f32"]))
    network = network.into_model().into_runnable()
    return lambda x: network.run([x])[0].to_numpy(), tract.version()


# A name, how it is run, and whether it has four-bit weights.
RUNTIMES = [
    ("onnxruntime, plain graph", onnxruntime_plain, True),
    ("onnxruntime", onnxruntime, True),
    ("OpenVINO", openvino, True),
    ("OpenCV", opencv, False),
    ("tract", tract, False),
]
