#!/bin/bash
# safetensors-numpy-transposed.sh - safetensors.numpy saves a transposed array with its numbers in the wrong places.
#
# One would guess: save_file({"w": w.T}) stores w.T, as numpy.save does, or refuses it, as safetensors.torch does with a tensor that
# is not contiguous ("You are trying to save a non contiguous tensor").
# What happens: the shape of w.T is written over the memory of w.  The file is valid, nothing warns, and w.T reads back as other
# numbers; so does every array that is not in C order (a Fortran array, a slice with a step).  Up to 0.7.0 the values were right.
# Version: safetensors 0.8.0, numpy 2.4.6.
# Why it matters: a converter transposes weights all day (GPT-2 stores them input by output, Llama output by input).  A square
# matrix even keeps its shape, so the mistake shows only as a model that talks nonsense.  Write np.ascontiguousarray(w.T).
# Source: safetensors issue 825.
# Seen:
#   safetensors 0.8.0
#   saved  [[0. 3.] [1. 4.] [2. 5.]]  read  [[0. 1.] [2. 3.] [4. 5.]]   transposed
#   saved  [[0. 2.] [3. 5.]]  read  [[0. 1.] [2. 3.]]   every second column
#   saved  [[0. 3.] [1. 4.] [2. 5.]]  read  [[0. 3.] [1. 4.] [2. 5.]]   transposed, ascontiguousarray
packages="safetensors==0.8.0 numpy==2.4.6"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
"$env/bin/python" - <<'PYTHON'
import sys
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

print("safetensors", safetensors.__version__)
w = np.arange(6, dtype=np.float32).reshape(2, 3)
cases = {"transposed": w.T, "every second column": w[:, ::2], "transposed, ascontiguousarray": np.ascontiguousarray(w.T)}
same = []
for name, array in cases.items():
    save_file({"w": array}, "w.safetensors")
    back = load_file("w.safetensors")["w"]
    same.append(np.array_equal(array, back))
    flat = [str(a).replace("\n", "") for a in (array, back)]
    print("saved ", flat[0], " read ", flat[1], " ", name)
sys.exit(same != [False, False, True])
PYTHON
