#!/bin/sh
# Outside witnesses: every test_*.py and tokenizer_diff.py here, against the libraries other people use.
#   tests/interop/run.sh FATHOM        (the program in its build folder)
# A virtual environment is made in tests/interop/venv at the first run. INTEROP_PYTHON=/path/to/python uses an
# interpreter that has the packages instead; the versions found are part of the output either way.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] && [ -x "$1" ] || { echo "usage: run.sh BUILD/fathom" >&2; exit 2; }
fathom=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
build=$(dirname "$fathom")
packages="tokenizers==0.23.3 transformers==5.23.0 torch==2.15.0 safetensors==0.8.0 tensorboard==2.21.0 numpy==2.4.6 sacrebleu==2.6.0 rouge-score==0.1.2 scikit-learn==1.9.1 seqeval==1.2.2 kenlm==0.3.0 imbalanced-learn==0.14.2 peft==0.21.2 pyarrow==26.0.1 datatrove==0.10.1 spacy==3.8.18 regex xxhash==3.8.2 orjson"
python=${INTEROP_PYTHON:-}
if [ -z "$python" ]; then
    venv=$here/venv
    python=$venv/bin/python
    if [ ! -f "$venv/.complete" ] || [ "$(cat "$venv/.complete")" != "$packages" ]; then
        python3 -m venv "$venv" || { echo "interop: python3 with venv is needed (Debian: apt-get install python3-venv)" >&2; exit 1; }
        # shellcheck disable=SC2086
        "$python" -m pip install --quiet --disable-pip-version-check $packages || {
            echo "interop: the packages could not be installed; INTEROP_PYTHON=/path/to/python uses what is there" >&2
            exit 1
        }
        echo "$packages" > "$venv/.complete"
    fi
fi
"$python" - <<'P'
import importlib.metadata as m, platform
print("python", platform.python_version())
for p in ("tokenizers", "transformers", "torch", "safetensors", "tensorboard", "numpy", "sacrebleu", "rouge-score", "scikit-learn", "peft", "pyarrow", "datatrove", "spacy"):
    try:
        print(p, m.version(p))
    except m.PackageNotFoundError:
        print(p, "missing")
P
cmake --build "$build" --target fm_write_model fathom > /dev/null
export FATHOM="$fathom" FATHOM_BUILD="$build"
passed=0
failed=0
skipped=0
one() { # name command...
    name=$1
    shift
    echo "== $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        echo "FAILED: $name"
        failed=$((failed + 1))
    fi
}
for t in "$here"/test_*.py; do
    case $(basename "$t") in
    test_model.py) one test_model.py "$python" "$t" "$build/tests/fm_write_model" ;;
    *) one "$(basename "$t")" "$python" "$t" "$fathom" ;;
    esac
done
# llama.cpp is built from source (ten minutes), so only where it is there already.
if "$python" -c "import llama_cpp, gguf" 2> /dev/null; then
    one gguf_llama.py "$python" "$here/gguf_llama.py" "$fathom"
else
    echo "== gguf_llama.py: llama-cpp-python or gguf is missing, skipped"
    skipped=$((skipped + 1))
fi
if "$python" -c "import lm_eval" 2> /dev/null; then
    cmake --build "$build" --target eval_test_evaluate > /dev/null
    one lm_eval_diff.py "$python" "$here/lm_eval_diff.py" "$fathom"
else
    echo "== lm_eval_diff.py: lm_eval is missing, skipped"
    skipped=$((skipped + 1))
fi
if "$python" -c "import sentencepiece" 2> /dev/null; then
    one tokenizer_parts.py "$python" "$here/tokenizer_parts.py" --lib "$build/libfathom.so" --rounds 2000
else
    echo "== tokenizer_parts.py: sentencepiece is missing, skipped"
    skipped=$((skipped + 1))
fi
one tokenizer_diff.py "$python" "$here/tokenizer_diff.py" --lib "$build/libfathom.so"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
