#!/usr/bin/env python3
"""Draws report.html and report.png from the report.json that compare_precisions wrote.

usage: report.py FOLDER        (the folder that holds report.json)
"""

import base64
import html
import io
import json
import math
import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"fp32": "#222222", "fp16": "#0072b2", "bf16": "#009e73", "fp16-no-scaling": "#d55e00",
           "fp16-no-master": "#cc79a7"}
# Runs that end alike lie on top of each other: dashes let the ones beneath show.
DASHES = {"fp16": (0, (6, 2)), "bf16": (0, (2, 2)), "fp16-no-scaling": (0, (4, 1, 1, 1)), "fp16-no-master": (0, (1, 1))}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; } .small { color: #666; font-size: 85%; }
"""


def smooth(values, width=9):
    """Mean of a window around each step, so that curves that are close can be told apart."""
    numbers = [math.nan if value is None else value for value in values]
    half = width // 2
    return [sum(window) / len(window) for i in range(len(numbers))
            for window in [numbers[max(0, i - half):i + half + 1]]]


def line_style(run):
    return {"color": COLOURS.get(run["name"]), "linestyle": DASHES.get(run["name"], "solid"), "label": run["title"]}


def draw_loss(axes, runs):
    for run in runs:
        curve = smooth(run["loss"])
        axes.plot(range(1, len(curve) + 1), curve, linewidth=1.4, **line_style(run))
    axes.set(title="Training loss", xlabel="step", ylabel="nats per byte (mean of 9 steps)")
    axes.legend(fontsize="small")


def draw_scale(axes, runs):
    scaled = [run for run in runs if run["scaling"] != "off"]
    for run in scaled:
        axes.step(range(1, len(run["scale"]) + 1), run["scale"], where="mid", **line_style(run))
    axes.set(title="Loss scale", xlabel="step", ylabel="scale")
    if scaled:
        axes.set_yscale("log", base=2)
        axes.legend(fontsize="small")


def draw_histogram(axes, runs):
    for run in runs:
        gradients = run["gradients"]
        seen = gradients["seen"] - gradients["zero"]
        if not seen:
            continue
        exponents = [gradients["lowest_exponent"] + i for i in range(len(gradients["histogram"]))]
        axes.step(exponents, [100 * count / gradients["seen"] for count in gradients["histogram"]], where="mid",
                  **line_style(run))
    axes.axvspan(-48, -24, color="#d55e00", alpha=0.12, linewidth=0)
    axes.text(-47.5, axes.get_ylim()[1] * 0.97, "below every FP16 number", va="top", fontsize="small")
    axes.axvspan(-24, -14, color="#e69f00", alpha=0.12, linewidth=0)
    axes.text(-23.5, axes.get_ylim()[1] * 0.90, "subnormal", va="top", fontsize="small")
    axes.set(title="Weight gradients before scaling", xlabel="binary exponent", ylabel="% of all elements", xlim=(-48, 6))
    axes.legend(fontsize="small")


def embedded(figure):
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def picture(draw, runs):
    figure, axes = plt.subplots(figsize=(9, 4.5))
    draw(axes, runs)
    text = embedded(figure)
    plt.close(figure)
    return text


def number(value, form):
    return "-" if value is None else format(value, form)


def table(runs):
    heads = ["run", "validation loss", "ms per step", "activations", "all memory", "skipped", "gradients below 2⁻²⁴",
             "updates lost"]
    rows = []
    for run in runs:
        size = run["bytes"]
        rows.append([run["title"], number(run["val_loss"], ".4f"), number(run["ms_per_step"], ".1f"),
                     f"{size['activations'] / 1e6:.2f} MB", f"{size['total'] / 1e6:.2f} MB", str(run["skipped"]),
                     number(run["underflow_share"], ".1%"), number(run["lost_update_share"], ".1%")])
    lines = ["<tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in heads) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def setting(values):
    text = " ".join(f"{key}={value}" for key, value in values.items())
    return f'<p class="small">{html.escape(text)}</p>'


def page(report):
    text = report["text"]
    parts = ["<!DOCTYPE html>", '<html lang="en"><meta charset="utf-8"><title>libmpt: precisions compared</title>',
             f"<style>{STYLE}</style>", "<h1>One network, trained in several precisions</h1>",
             (f"<p>A byte-level GPT on {html.escape(text['name'])} ({text['bytes'] / 1e6:.1f} MB, the last tenth held out for "
              "validation). All runs have the same seed, data order and settings.</p>")]
    if report["runs"]:
        parts += [table(report["runs"]), setting(report["setting"])]
        parts += [picture(draw, report["runs"]) for draw in (draw_loss, draw_scale, draw_histogram)]
        parts.append("<p>Without loss scaling, gradients too small for FP16 are zeros when they are counted: FP32's share "
                     "tells how many there are.</p>")
    if report["ablations"]:
        parts.append("<h2>What each part of the method is for</h2>")
    for ablation in report["ablations"]:
        parts += [f"<h3>{html.escape(ablation['title'].capitalize())}</h3>", table(ablation["runs"]),
                  setting(ablation["setting"])]
        parts += [picture(draw, ablation["runs"]) for draw in (draw_loss, draw_histogram)]
    if "sample" in report:
        parts += ["<h2>What the network writes</h2>", f"<pre>{html.escape(report['sample']['text'])}</pre>",
                  f'<p class="small">Run: {html.escape(report["sample"]["run"])}</p>']
    machine, versions = report["machine"], report["versions"]
    parts.append(f'<p class="small">{html.escape(machine["processor"])}, {machine["threads"]} threads, '
                 f'device {html.escape(machine["device"])}, '
                 f'{html.escape(machine["system"])} {html.escape(machine["release"])}; libmpt '
                 f'{html.escape(versions["mpt"])}: {html.escape(versions["build"])}</p></html>')
    return "\n".join(parts) + "\n"


def overview(report):
    """The picture: curves, scale and histogram of the first table, then the loss curves of the second."""
    ablations = report["ablations"]
    panels = [(draw, report["runs"], None) for draw in (draw_loss, draw_scale, draw_histogram)] if report["runs"] else []
    panels += [(draw_loss, ablation["runs"], ablation["title"].split(":")[-1].strip().capitalize())
               for ablation in ablations]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(6.5 * columns, 4.3 * rows), squeeze=False, layout="constrained")
    cells = list(grid.flat)
    for axes, (draw, runs, title) in zip(cells, panels):
        draw(axes, runs)
        if title:
            axes.set_title(title)
    for axes in cells[len(panels):]:
        axes.remove()
    return figure


def write(path, data):
    """Writes beside and renames, so that no file is left half-written."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 1
    folder = Path(sys.argv[1])
    try:
        report = json.loads((folder / "report.json").read_text())
        data = io.BytesIO()
        overview(report).savefig(data, format="png", dpi=90)
        write(folder / "report.png", data.getvalue())
        write(folder / "report.html", page(report).encode())
    except OSError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    except (KeyError, TypeError, ValueError) as error:
        print(f"report.py: {folder / 'report.json'} is no report of compare_precisions: {error!r}", file=sys.stderr)
        return 1
    print(f"Pictures: {folder / 'report.html'} and {folder / 'report.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
