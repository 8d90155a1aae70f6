#!/bin/bash
# answers-turn-into-timestamps.sh - datasets: where all answers of a JSON lines file are dates, they become other text or numbers.
#
# One would guess: a value between quotation marks is a string.  load_dataset("json") gives the text of the file, to_json writes it back.
# What happens: a column whose strings are all ISO dates or times becomes timestamp[s].  A row then holds a datetime, a template renders
# 2024-05-01 as 2024-05-01 00:00:00, a time with an offset is moved to UTC and loses the offset, and to_json writes milliseconds since
# 1970.  Asked for strings (features=), it reads timestamps first and turns these into strings: 2024-05-01 00:00:00 again.  The same
# happens to a file of dates behind a file of other strings.  With one string of another kind among the dates all stay as they are; where
# it comes many megabytes later, loading fails.
# Version: datasets 5.2.0, pyarrow 26.0.1.
# Why it matters: "When was ...?" and "Extract the date" are usual tasks, and a split by task makes files of nothing but dates.  Prepared
# this way, the answers that a model is trained on, or compared with, are not those of the file, and as strings they look quite right.
# Only pyarrow's page on reading JSON mentions the conversion.  Read the lines with Python's json and pass them to Dataset.from_list.
# Source: datasets/packaged_modules/json/json.py, which leaves the types to pyarrow.json.read_json; datasets issue 2799.
# Seen (answers in the file; type, first answer in a template, and all as to_json writes them):
#   datasets 5.2.0 pyarrow 26.0.1
#   2024-05-01                 timestamp[s]  When? 2024-05-01 00:00:00  [1714521600000, 946598400000]
#   2024-05-01T10:00:00+02:00  timestamp[s]  When? 2024-05-01 08:00:00  [1714550400000, 946602000000]
#   2024-05-01, features=      string        When? 2024-05-01 00:00:00  ['2024-05-01 00:00:00', '1999-12-31 00:00:00']
#   2024-05-01, a file behind  string        When? in May               ['in May', '2024-05-01 00:00:00']
#   2024-05-01 and in May      string        When? 2024-05-01           ['2024-05-01', 'in May']
#   2024-05-01, from_list      string        When? 2024-05-01           ['2024-05-01', '1999-12-31']
packages="datasets==5.2.0 pyarrow==26.0.1"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 PYTHONWARNINGS=ignore "$env/bin/python" - <<'PYTHON'
import json
import os
import sys
import tempfile
import datasets
import pyarrow
from datasets import Dataset, Features, Value, load_dataset

datasets.disable_progress_bars()
print("datasets", datasets.__version__, "pyarrow", pyarrow.__version__)


def there_and_back(what, *files, load=None, **options):
    """the type of the answers, the first of them in a template, and all as to_json writes them"""
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, f"{i}.jsonl") for i in range(len(files))]
        for name, answers in zip(names, files):
            with open(name, "w") as f:
                f.writelines(json.dumps({"prompt": "When?", "completion": answer}) + "\n" for answer in answers)
        if load:
            data = load(names[0])
        else:
            data = load_dataset("json", data_files=names, split="train", cache_dir=folder, **options)
        rendered = "{prompt} {completion}".format(**data[0])
        data.to_json(os.path.join(folder, "out.jsonl"))
        written = [row["completion"] for row in rows(os.path.join(folder, "out.jsonl"))]
        kind = data.features["completion"].dtype
    print(f"{what:25}  {kind:13} {rendered:26} {written}")
    return kind, rendered, written


def rows(name):
    with open(name) as f:
        return list(map(json.loads, f))


dates = ["2024-05-01", "1999-12-31"]
strings = Features({"prompt": Value("string"), "completion": Value("string")})
seen = [there_and_back(dates[0], dates),
        there_and_back("2024-05-01T10:00:00+02:00", ["2024-05-01T10:00:00+02:00", "1999-12-31T01:00:00Z"]),
        there_and_back("2024-05-01, features=", dates, features=strings),
        there_and_back("2024-05-01, a file behind", ["in May"], dates[:1]),
        there_and_back("2024-05-01 and in May", ["2024-05-01", "in May"]),
        there_and_back("2024-05-01, from_list", dates, load=lambda name: Dataset.from_list(rows(name)))]
sys.exit(seen != [("timestamp[s]", "When? 2024-05-01 00:00:00", [1714521600000, 946598400000]),
                  ("timestamp[s]", "When? 2024-05-01 08:00:00", [1714550400000, 946602000000]),
                  ("string", "When? 2024-05-01 00:00:00", ["2024-05-01 00:00:00", "1999-12-31 00:00:00"]),
                  ("string", "When? in May", ["in May", "2024-05-01 00:00:00"]),
                  ("string", "When? 2024-05-01", ["2024-05-01", "in May"]),
                  ("string", "When? 2024-05-01", dates)])
PYTHON
