"""From an engine's last words to the likely cause and the remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAIL_LINES = 15
# A traceback of the engine's core and one of its API server.
_NEAR_LINES = 150


@dataclass(frozen=True, slots=True)
class Cause:
    """What probably happened, and what to do."""

    what: str
    remedy: str


# Said in passing by engines that start well, too: it counts near the end only.
_MISSING = Cause("a file of the model is missing", "quantize again")
# In order: the first pattern that is found decides.
_CAUSES = (
    (r"No space left on device", Cause("no space left on the disk", "free some space")),
    (r"address already in use|Address already in use", Cause("the port was taken", "use serving.port: 0")),
    (
        r"CUDA out of memory|OutOfMemoryError|Cannot allocate memory|std::bad_alloc|MemoryError",
        Cause("out of memory", "lower serving.kv_cache_gib or gpu_memory_utilization, or quantize further"),
    ),
    (
        r"Free memory on device .* is less than desired",
        Cause("something else holds GPU memory", "`tokenhour serving scan` shows what; or lower gpu_memory_utilization"),
    ),
    (
        r"No available memory for the cache blocks|larger than the available KV cache memory|KV cache is needed",
        Cause(
            "not enough KV-cache memory",
            "raise serving.kv_cache_gib (GPU: gpu_memory_utilization or gpu_kv_cache_gib) or lower serving.max_model_len",
        ),
    ),
    (
        r"Unknown quantization method|does not support weight_bits|quantization method .* is not supported|find a kernel",
        Cause("this engine cannot run the quantization", "choose another scheme; `tokenhour quantize schemes` lists them"),
    ),
    (
        r"unrecognized arguments|error: argument",
        Cause("an argument that this engine does not know", "correct serving.engine_args"),
    ),
    (
        r"is gated|GatedRepoError|401 Client Error|RepositoryNotFoundError",
        Cause("the model is gated or does not exist", "accept its terms and set HF_TOKEN, or check the name"),
    ),
    (r"No such file or directory|does not appear to have a file named|Can't load", _MISSING),
    (r"SafetensorError|Error while deserializing", Cause("the weights are damaged", "quantize again")),
)
_KILLED = Cause("it was killed, most often because memory ran out", "lower serving.kv_cache_gib or use a larger machine")
_UNKNOWN = Cause("the cause is not one that is known", "read the end of its log")


def cause_of(log: str, exit_code: int | None) -> Cause:
    """Return the likely cause, the nearest to the log's end: a warning early in a start is no cause.

    An exit by SIGKILL without a word is most often the kernel's out-of-memory killer.
    """
    lines = log.splitlines()
    for count in (_TAIL_LINES, _NEAR_LINES):
        if found := _first("\n".join(lines[-count:])):
            return found
    if exit_code in {-9, 137}:
        return _KILLED
    return _first(log, but=_MISSING) or _UNKNOWN


def _first(words: str, but: Cause | None = None) -> Cause | None:
    return next((cause for pattern, cause in _CAUSES if cause is not but and re.search(pattern, words)), None)


def tail(log: str) -> str:
    """Return the last lines that say something, without the engine's colour codes."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    return "\n".join([line for line in plain.splitlines() if line.strip()][-_TAIL_LINES:])


def quantization_of(log: str) -> str | None:
    """Return the quantization method that the engine's log says it uses; None for unquantized weights."""
    found = re.search(r"quantization=([\w.-]+)", log)
    return None if found is None or found[1] == "None" else found[1]
