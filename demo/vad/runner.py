"""Finds speech with Silero VAD, compares with what a person marked, says so, and keeps looking."""

import json
import os
import time
import wave
from pathlib import Path

import numpy as np
import onnxruntime

RATE, WINDOW, CONTEXT = 16_000, 512, 64  # samples a second, a window, and before it
THRESHOLD, SHORTEST_PAUSE_SECONDS, TOLERANCE_SECONDS = 0.5, 0.3, 0.15
AGAIN_SECONDS = 30


def windows(path: str) -> np.ndarray:
    with wave.open(path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    count = len(samples) // WINDOW
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    return np.stack([padded[i * WINDOW : i * WINDOW + WINDOW + CONTEXT] for i in range(count)])


def segments(model: onnxruntime.InferenceSession, audio: np.ndarray) -> tuple[list[list[float]], float]:
    """Spans of speech in seconds, and the mean time of one inference in milliseconds."""
    state, rate, found, began = np.zeros((2, 1, 128), np.float32), np.array(RATE, np.int64), [], time.perf_counter()
    for number, window in enumerate(audio):
        probability, state = model.run(None, {"input": window[None, :], "state": state, "sr": rate})
        start, end = number * WINDOW / RATE, (number + 1) * WINDOW / RATE
        if probability[0, 0] < THRESHOLD:
            continue
        if found and start - found[-1][1] < SHORTEST_PAUSE_SECONDS:
            found[-1][1] = round(end, 2)
        else:
            found.append([round(start, 2), round(end, 2)])
    return found, (time.perf_counter() - began) * 1000 / len(audio)


def judge(model: onnxruntime.InferenceSession) -> dict:
    found, latency = segments(model, windows("speech.wav"))
    expected = json.loads(Path("expected.json").read_text())
    healthy = np.shape(found) == np.shape(expected) and np.allclose(found, expected, atol=TOLERANCE_SECONDS)
    verdict = {"segments": found, "expected": expected, "latency_ms": round(latency, 2)}
    message = f"{len(found)} of {len(expected)} segments of speech found, {latency:.2f} ms a window"
    return {"healthy": bool(healthy), "message": message, "verdict": verdict}


def main() -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession("silero_vad.onnx", options, providers=["CPUExecutionProvider"])
    health = Path(os.environ["KERNEX_STATE_DIR"]) / "health.json"
    while True:
        told = health.with_suffix(".new")
        told.write_text(json.dumps(judge(model)))
        told.replace(health)
        time.sleep(AGAIN_SECONDS)


if __name__ == "__main__":
    main()
