"""From an engine's last words to the likely cause and the remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Cause:
    """What probably happened, and what to do."""

    what: str
    remedy: str


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
        Cause("not enough KV-cache memory", "raise serving.kv_cache_gib or lower serving.max_model_len"),
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
    (
        r"No such file or directory|does not appear to have a file named|Can't load",
        Cause("a file of the model is missing", "quantize again"),
    ),
    (r"SafetensorError|Error while deserializing", Cause("the weights are damaged", "quantize again")),
)
_KILLED = Cause("it was killed, most often because memory ran out", "lower serving.kv_cache_gib or use a larger machine")
_UNKNOWN = Cause("the cause is not one that is known", "read the end of its log")


def cause_of(log: str, exit_code: int | None) -> Cause:
    """Return the likely cause; an exit by SIGKILL without a word is most often the kernel's out-of-memory killer."""
    for pattern, cause in _CAUSES:
        if re.search(pattern, log):
            return cause
    return _KILLED if exit_code in {-9, 137} else _UNKNOWN


def tail(log: str) -> str:
    """Return the last lines that say something, without the engine's colour codes."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    return "\n".join([line for line in plain.splitlines() if line.strip()][-_TAIL_LINES:])


def quantization_of(log: str) -> str | None:
    """Return the quantization method that the engine's log says it uses; None for unquantized weights."""
    found = re.search(r"quantization=([\w.-]+)", log)
    return None if found is None or found[1] == "None" else found[1]
