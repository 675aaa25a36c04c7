"""Figures of labels, tags and numbers by scikit-learn, seqeval and scipy, under the names `fathom score` gives them; random rows for them."""
import warnings

import numpy as np
import scipy.stats
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as entity_scores
from sklearn import metrics

warnings.filterwarnings("ignore")
PARTS = ("precision", "recall", "f1")


def averages(score):
    return {f"{avg}_{part}": float(v) for avg in ("macro", "weighted", "micro") for part, v in zip(PARTS, score(avg))}


def accuracy(said, truth):
    return {"accuracy": metrics.accuracy_score(truth, said), "matthews": metrics.matthews_corrcoef(truth, said), "kappa": metrics.cohen_kappa_score(truth, said),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, said),
            **averages(lambda avg: metrics.precision_recall_fscore_support(truth, said, average=avg, zero_division=0)[:3])}


def entity(said, truth):
    a, b = [s.split() for s in truth], [s.split() for s in said]
    want = averages(lambda avg: entity_scores(a, b, average=avg, zero_division=0)[:3])
    want["entity"] = want["micro_f1"]
    return want


def multilabel(said, truth):
    rows = [[set(t.strip() for t in s.split(",") if t.strip()) for s in side] for side in (said, truth)]
    names = sorted(set().union(*rows[0], *rows[1]))
    x, y = (np.array([[n in r for n in names] for r in side], int) for side in rows)
    want = averages(lambda avg: metrics.precision_recall_fscore_support(y, x, average=avg, zero_division=0)[:3])
    want.update(multilabel=want["micro_f1"], samples_f1=float(metrics.f1_score(y, x, average="samples", zero_division=0)),
                subset_accuracy=float(metrics.accuracy_score(y, x)), hamming_loss=float(metrics.hamming_loss(y, x)))
    return want


def regression(said, truth):
    x, y = np.array([float(s) for s in said]), np.array([float(s) for s in truth])
    want = {"mse": metrics.mean_squared_error(y, x), "mae": metrics.mean_absolute_error(y, x), "median_absolute_error": metrics.median_absolute_error(y, x),
            "max_error": metrics.max_error(y, x), "r2": metrics.r2_score(y, x), "explained_variance": metrics.explained_variance_score(y, x),
            "pearson": scipy.stats.pearsonr(x, y)[0], "spearman": scipy.stats.spearmanr(x, y)[0]}
    want["regression"] = want["rmse"] = want["mse"] ** 0.5
    return {k: float(v) for k, v in want.items()}


def random_tags(rng, n):
    tags = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-PER", "I-A-B", "E-PER"]
    truth = [[rng.choice(tags) for _ in range(rng.randint(1, 12))] for _ in range(n)]
    said = [[t if rng.random() < 0.8 else rng.choice(tags) for t in row] for row in truth]
    return [" ".join(r) for r in said], [" ".join(r) for r in truth]


def random_label_lists(rng, n):
    names = ["a", "b", "c", "long label", "猫"]
    truth = [[t for t in names if rng.random() < 0.4] for _ in range(n)]
    said = [[t for t in names if (t in row) != (rng.random() < 0.2)] for row in truth]
    return [", ".join(r) for r in said], [",".join(r) for r in truth]


def random_numbers(rng, n):
    truth = [round(rng.gauss(3, 5), rng.randint(0, 3)) for _ in range(n)]
    return [repr(round(t + rng.gauss(0, 1), 1)) for t in truth], [repr(t) for t in truth]
