"""Median and quartiles of paired ratios from the JSON lines of train_pairs.sh."""
import json
import statistics
import sys

ours, theirs = {}, {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    if r["program"] == "fathom":
        ours.setdefault(r["pair"], {})[r["name"].split(".")[-1]] = r
    else:
        theirs[r["pair"]] = r
pairs = sorted(set(ours) & set(theirs))


def show(name, values):
    q = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    print(f"{name:28s} {q[0]:9.3f} {statistics.median(values):9.3f} {q[2]:9.3f}   (lower quartile, median, upper quartile of {len(values)})")


show("speed ratio", [ours[p]["tokens_per_s"]["value"] / theirs[p]["tokens_per_s"] for p in pairs])
show("fathom tokens/s", [ours[p]["tokens_per_s"]["value"] for p in pairs])
show("fathom MFU", [ours[p]["tokens_per_s"]["ratio"] for p in pairs])
show("peer tokens/s", [theirs[p]["tokens_per_s"] for p in pairs])
show("peer MFU (own ceiling)", [theirs[p]["mfu"] for p in pairs])
extra = [(ours[p]["extra_bytes"]["value"] * 1e6) / (theirs[p]["peak_rss_bytes"] - theirs[p]["state_bytes"]) for p in pairs if "extra_bytes" in ours[p]]
if extra:
    show("memory above state, ratio", extra)
