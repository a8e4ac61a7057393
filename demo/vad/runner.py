"""Detect speech with Silero VAD, compare the result with the expected segments, and report health every 30 seconds."""

import json
import os
import time
import wave
from pathlib import Path

import numpy as np
import onnxruntime

RATE = 16_000  # samples per second
WINDOW, CONTEXT = 512, 64  # samples in one call of the model, and preceding samples that it also gets
THRESHOLD, SHORTEST_PAUSE_SECONDS, TOLERANCE_SECONDS = 0.5, 0.3, 0.15
CHECK_INTERVAL_SECONDS = 30


def read_windows(path: str) -> np.ndarray:
    """Return the audio file as rows of samples between -1 and 1: one row for each window, with its context."""
    with wave.open(path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    count = len(samples) // WINDOW
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    return np.stack([padded[i * WINDOW : i * WINDOW + WINDOW + CONTEXT] for i in range(count)])


def find_speech(model: onnxruntime.InferenceSession, windows: np.ndarray) -> tuple[list[list[float]], float]:
    """Return the segments with speech as [begin, end] in seconds, and the mean time per window in milliseconds."""
    state, rate, segments = np.zeros((2, 1, 128), np.float32), np.array(RATE, np.int64), []
    began = time.perf_counter()
    for number, window in enumerate(windows):
        probability, state = model.run(None, {"input": window[None, :], "state": state, "sr": rate})
        start, end = number * WINDOW / RATE, (number + 1) * WINDOW / RATE
        if probability[0, 0] < THRESHOLD:
            continue
        if segments and start - segments[-1][1] < SHORTEST_PAUSE_SECONDS:
            segments[-1][1] = round(end, 2)
        else:
            segments.append([round(start, 2), round(end, 2)])
    return segments, (time.perf_counter() - began) * 1000 / len(windows)


def check_health(model: onnxruntime.InferenceSession) -> dict:
    """Return the health file's content: healthy if the segments match the expected ones."""
    segments, latency = find_speech(model, read_windows("speech.wav"))
    expected = json.loads(Path("expected.json").read_text())
    is_healthy = np.shape(segments) == np.shape(expected) and np.allclose(segments, expected, atol=TOLERANCE_SECONDS)
    message = f"{len(segments)} of {len(expected)} speech segments found, {latency:.2f} ms per window"
    verdict = {"segments": segments, "expected": expected, "latency_ms": round(latency, 2)}
    return {"healthy": bool(is_healthy), "message": message, "verdict": verdict}


def main() -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession("silero_vad.onnx", options, providers=["CPUExecutionProvider"])
    health_file = Path(os.environ["KERNEX_STATE_DIR"]) / "health.json"
    while True:
        new_file = health_file.with_suffix(".new")
        new_file.write_text(json.dumps(check_health(model)))
        new_file.replace(health_file)  # so that the agent never reads an incomplete file
        time.sleep(CHECK_INTERVAL_SECONDS)


if __name__ == "__main__":
    main()
