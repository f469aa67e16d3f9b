"""`convexlib fit DATA.csv --target COLUMN`: from a table to a certified network.

Columns are put in standard units, and so is a numerical target, since weight decay asks for one
scale; the scales are kept with the network, so that `predict` takes the table as it was. The
certificate is about the standardised data, on which the network was trained.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from convexlib.certify.outlook import Outlook, outlook
from convexlib.checks import check_beta, check_positive_int, check_seconds
from convexlib.cli.console import DONE, check_writable, say, write
from convexlib.cli.predict import Scales, saved
from convexlib.cli.tables import add_table_options, column_names, load_table
from convexlib.errors import InputError, unwarned
from convexlib.estimators import ConvexReLUClassifier, ConvexReLURegressor
from convexlib.plots import use_style
from convexlib.runtime import waiting

_GRID = np.geomspace(0.5, 0.001, 7)  # parts of beta_max that cross-validation tries


def define(parser: argparse.ArgumentParser) -> None:
    """Give the command its arguments."""
    parser.description = str(__doc__).split("\n\n", 1)[1]
    parser.add_argument("data", metavar="DATA.csv", type=Path)
    parser.add_argument("--target", default="last", metavar="NAME", help="default: the last column")
    add_table_options(parser)
    parser.add_argument(
        "--classify", action="store_true", help="the target's column holds the names of classes"
    )
    parser.add_argument(
        "--beta", type=float, help="regularisation, without 1/n; by default it is cross-validated"
    )
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation (default: 5)")
    columns = parser.add_mutually_exclusive_group()
    names: dict[str, Any] = {"type": column_names, "metavar": "NAME,NAME"}
    columns.add_argument(
        "--features",
        help="columns to use (default: all others); a name with a comma is in double quotes",
        **names,
    )
    columns.add_argument(
        "--drop", default=[], help="columns to leave unread, as '' the one without a name", **names
    )
    parser.add_argument(
        "--max-seconds", type=float, help="for the last fit; by default budgets in steps"
    )
    parser.add_argument(
        "--out", type=Path, metavar="STEM", help="of the files written (default: DATA)"
    )
    parser.set_defaults(run=run_fit)


def run_fit(chosen: argparse.Namespace) -> int:
    """Read, choose beta, train, certify, and write a model and a report."""
    stem = _stem(chosen)
    files = {kind: stem.with_name(stem.name + ending) for kind, ending in _ENDINGS.items()}
    for path in files.values():
        check_writable(path, chosen.data)
    folds = check_positive_int(chosen.folds, "--folds", minimum=2)
    beta = None if chosen.beta is None else check_beta(chosen.beta)
    if chosen.max_seconds is not None:
        check_seconds(chosen.max_seconds)
    table = load_table(
        chosen.data, chosen.target, header=not chosen.no_header, delimiter=chosen.delimiter,
        decimal=chosen.decimal, features=chosen.features, drop=chosen.drop, labels=chosen.classify,
    )  # fmt: skip
    if len(table.targets) > 1:
        raise InputError(f"--target names {len(table.targets)} columns; expected one for fit.")
    scales = Scales.of(table, chosen.classify)
    X = scales.standard(table.X)
    y = table.y if chosen.classify else scales.targets(table.y)
    classes = f" of {len(scales.classes)} classes" if scales.classes is not None else ""
    say("data", f"{len(X)} rows, {X.shape[1]} features, target {scales.target}{classes}")
    if scales.constant:
        say("constant", f"{', '.join(scales.constant)}: of no use")
    tried: list[tuple[float, float]] = []
    if beta is None:
        tried = _cross_validated(X, y, chosen.classify, folds)
        beta = max(tried, key=lambda pair: pair[1])[0]
    expected = _outlook(X, y, beta, chosen.classify)
    for line in str(expected).splitlines()[1:]:
        say("", line)
    say("fitting", "the network and its certificate")
    model = _estimator(chosen.classify, beta, max_seconds=chosen.max_seconds)
    with unwarned(), waiting("fit"):  # the gap is printed below
        model.fit(X, y)
    lines = _lines(model, X, y, beta, tried)
    for name, text in lines:
        say(name, text)
    content = saved(model.network_.state_dict(), replace(scales, beta=beta))
    picture = _picture(model, X, y, scales)
    outputs = len(model.certificate_) if isinstance(model.certificate_, list) else 1
    report = _report(chosen.data, expected, lines, tried, picture, outputs)
    write(files["model"], content)  # when nothing is left that can fail
    write(files["report"], report.encode())
    for kind, path in files.items():
        say(kind, str(path))
    return DONE


_ENDINGS = {"model": ".model.pt", "report": ".report.html"}


def _stem(chosen: argparse.Namespace) -> Path:
    """What the names of the files begin with."""
    named: Path = chosen.data if chosen.out is None else chosen.out
    if named.name in ("", ".."):
        word = "DATA.csv" if chosen.out is None else "--out"
        raise InputError(
            f"{word} is {str(named)!r}, a folder; expected a name from which those of the model "
            "and the report can be made, such as results/cars."
        )
    return named.with_suffix("") if chosen.out is None else named


def _estimator(classify: bool, beta: float, **options: Any) -> Any:
    kind = ConvexReLUClassifier if classify else ConvexReLURegressor
    return kind(beta=beta, random_state=0, **options)


def _outlook(X: NDArray[np.float64], y: Any, beta: float, classify: bool) -> Outlook:
    """What to expect; of several classes the one that needs the largest beta counts."""
    data = np.column_stack([X, np.ones(len(X))])
    if not classify:
        return outlook(data, y, beta)
    classes = np.unique(y)
    columns = classes[1:] if len(classes) == 2 else classes
    labels = np.where(np.asarray(y)[:, None] == columns, 1.0, -1.0)
    return outlook(data, labels, beta, loss="logistic")


def _cross_validated(
    X: NDArray[np.float64], y: Any, classify: bool, folds: int
) -> list[tuple[float, float]]:
    """Pairs of beta and its mean score on held-out folds, with a line for each on the terminal."""
    if classify and min(np.unique(y, return_counts=True)[1]) < folds:
        raise InputError(
            f"a class has fewer rows than there are folds ({folds}); expected at least as many. "
            "Use fewer --folds, or name a --beta."
        )
    if len(X) < 2 * folds:
        raise InputError(f"{len(X)} rows are too few for {folds} folds; name a --beta.")
    kind = StratifiedKFold if classify else KFold
    splits = list(kind(folds, shuffle=True, random_state=0).split(X, y))
    top = _outlook(X, y, 1.0, classify).beta_max
    pairs = []
    for beta in (top * _GRID).tolist():
        scores = []
        for train, test in splits:
            # beta belongs to all rows: a part of them has its part of it.
            part = beta * len(train) / len(X)
            model = _estimator(classify, part, max_nodes=0, tol=1e-3)
            with unwarned():
                scores.append(model.fit(X[train], y[train]).score(X[test], y[test]))
        pairs.append((beta, float(np.mean(scores))))
        say("tried", f"beta {beta:.3g}: {_name(classify)} {pairs[-1][1]:.3f} on {folds} folds")
    return pairs


def _name(classify: bool) -> str:
    return "accuracy" if classify else "R2"


def _kind(outputs: int) -> str:
    """The networks for which the bound holds: with several outputs not all that there are."""
    alone = " in which each neuron feeds one class" if outputs > 1 else ""
    return f"networks of any width{alone}"


def _lines(
    model: Any, X: NDArray[np.float64], y: Any, beta: float, tried: list[tuple[float, float]]
) -> list[tuple[str, str]]:
    """What is printed of a fit, and written into its report."""
    certificates = model.certificate_
    parts = certificates if isinstance(certificates, list) else [certificates]
    rigorous = all(part.rigorous for part in parts)
    classify = isinstance(model, ConvexReLUClassifier)
    lines = [
        ("beta", f"{beta:.6g}{', the best of those tried' if tried else ''}"),
        ("network", f"{X.shape[1]} -> {model.n_neurons_} -> {len(parts)}, ReLU, in standard units"),
        ("objective", f"{sum(part.primal for part in parts):.6g}"),
        ("lower bound", f"{sum(part.dual for part in parts):.6g}, for {_kind(len(parts))}"),
        ("gap", f"{model.gap_:.2e}, {'rigorous' if rigorous else 'not proven'}"),
        (_name(classify), f"{model.score(X, y):.4f} on the rows that it was trained on"),
    ]
    if tried:
        best = max(score for _, score in tried)
        lines.append(("", f"{best:.3f} on held-out folds (the best of {len(tried)}: optimistic)"))
    return lines


def _picture(model: Any, X: NDArray[np.float64], y: Any, scales: Scales) -> bytes:
    """One feature: the function over its samples; else targets against outputs, as PNG."""
    with mpl.rc_context(), warnings.catch_warnings():
        # Of letters that the font lacks, and of names too long for it: the picture is one still.
        warnings.simplefilter("ignore")
        use_style()
        mpl.rcParams["text.parse_math"] = False  # a name with a dollar is no formula
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        if X.shape[1] == 1 and scales.classes is None:
            line = np.linspace(X.min(), X.max(), 500)
            raw = scales.means[0] + scales.sizes[0] * X[:, 0]
            axes.plot(raw, scales.level + scales.height * y, ".", ms=4, alpha=0.5, ls="none")
            values = scales.level + scales.height * model.predict(line[:, None])
            axes.plot(scales.means[0] + scales.sizes[0] * line, values, lw=2)
            axes.set(xlabel=scales.features[0], ylabel=scales.target)
        elif scales.classes is None:
            values = scales.level + scales.height * model.predict(X)
            given = scales.level + scales.height * y
            axes.plot(values, given, ".", ms=4, alpha=0.5, ls="none")
            axes.axline((float(given.mean()), float(given.mean())), slope=1.0, lw=1)
            axes.set(xlabel="output of the network", ylabel=scales.target)
        else:
            found = model.predict(X)
            table = np.array([[np.sum((y == a) & (found == b)) for b in scales.classes]
                              for a in scales.classes])  # fmt: skip
            axes.imshow(table, cmap="Blues")
            for (row, column), count in np.ndenumerate(table):
                colour = "white" if 2 * count > table.max() else "black"  # on dark, on light blue
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
            places = range(len(scales.classes))
            axes.set_xticks(places, scales.classes, rotation=45, ha="right")
            axes.set_yticks(places, scales.classes)
            axes.set(xlabel="predicted", ylabel=scales.target)
            axes.grid(visible=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()


def _report(
    data: Path,
    expected: Outlook,
    lines: list[tuple[str, str]],
    tried: list[tuple[float, float]],
    picture: bytes,
    outputs: int,
) -> str:
    """One page of HTML that needs nothing else."""
    shared = " One whose neurons are shared by classes can be below it." if outputs > 1 else ""
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
        for name, text in lines
    )
    betas = "".join(f"<tr><td>{beta:.4g}</td><td>{score:.4f}</td></tr>" for beta, score in tried)
    searched = (
        f"<h2>Held-out scores</h2><table><tr><th>beta</th><th>score</th></tr>{betas}</table>"
        if tried
        else ""
    )
    encoded = base64.b64encode(picture).decode()
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(data.name)}: convexlib fit</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{text-align:left;padding:.2rem 1rem .2rem 0}}
img{{max-width:100%}}</style></head><body>
<h1>{html.escape(data.name)}</h1>
<p>A two-layer ReLU network, trained by convex optimisation. The lower bound holds for all such
{_kind(outputs)}, on these data in standard units: the gap is how far this one can be
from the best of them.{shared} It says nothing about predictions on other rows.</p>
<table>{rows}</table>
<h2>Before the fit</h2><p>{html.escape(str(expected)).replace(chr(10), "<br>")}</p>{searched}
<h2>Picture</h2><img alt="Outputs of the network and targets" src="data:image/png;base64,{encoded}">
</body></html>
"""
