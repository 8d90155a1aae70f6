"""tensorboard_says.py FOLDER - what TensorBoard's own reader finds in a run folder, as test/tool_events.c prints it."""
import sys
from tensorboard.backend.event_processing import event_accumulator

run = event_accumulator.EventAccumulator(sys.argv[1], size_guidance=dict.fromkeys(
    (event_accumulator.SCALARS, event_accumulator.TENSORS), 0))
run.Reload()
for tag in run.Tags()["scalars"]:
    for e in run.Scalars(tag):
        print(e.step, tag, "%.9g" % e.value)
for tag in run.Tags()["tensors"]:
    if run.SummaryMetadata(tag).plugin_data.plugin_name != "text":
        continue
    for e in run.Tensors(tag):
        print(e.step, tag, e.tensor_proto.string_val[0].decode().replace("\n", "\\n"))
