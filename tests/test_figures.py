"""What figures compute before they draw."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from chromolib import CLASSES, datasets, figures, images, synthetic

LABELS = np.array([*np.repeat(np.arange(22), 2), 22, 23])


def test_overlay_mixes_colours_and_grey():
    images = np.array([[[100, 100]]], np.uint8)
    maps = np.array([[[0.0, 1.0]]], np.float32)
    # Inferno runs from (0, 0, 0.01) to (0.99, 1, 0.64).
    expected = [[[50, 50, 52], [176, 177, 132]]]
    np.testing.assert_allclose(figures.overlay(images, maps)[0], expected, atol=1)
    assert figures.overlay(images, maps).dtype == np.uint8
    rising = figures.overlay(np.zeros((1, 256), np.uint8), np.linspace(0, 1, 256)[None]) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(rising) > -1).all() and rising[0, -1] > 100  # lighter all the way, whoever sees it


def test_a_chromosome_gets_its_own_size_back():
    """Drawn chromosomes, squared to 64 pixels and laid out again, are as large as they were drawn."""
    data = datasets.load("synthetic_q", size=64)
    native = {file: images.foreground(picture).sum() for picture, _, _, file in synthetic.karyotypes("Q")}
    for place in range(0, 46, 5):
        picture = figures._cut(data.pictures[place], False, data.sizes[place, 0])
        assert images.foreground(picture).sum() == pytest.approx(native[data.files[place]], rel=0.1)


def test_a_karyogram_shows_every_picture_once_below_its_class():
    """One grey level a picture: all are found again in the rows of their classes, the marked one in a frame."""
    levels = np.arange(47) * 3 + 100
    pictures = [np.full((30 - label, 8), level, np.uint8) for label, level in zip([*LABELS, 24], levels, strict=True)]
    figure = figures.laid_out(pictures, [*LABELS, -1], np.arange(47) == 2, "cell $x_{$")
    figure.canvas.draw()  # what looks like a formula is none
    rows = [set(np.unique(axis.images[0].get_array())) & set(levels) for axis in figure.axes]
    wanted = [range(5), range(5, 12), range(12, 18), [18, 19, 20, 21, 22, 23]]
    expected = [set(levels[:46][np.isin(LABELS, list(part))]) for part in wanted]
    expected[-1].add(levels[46])
    assert rows == expected
    names = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert names[0] == ["1", "2", "3", "4", "5"] and names[-1] == ["19", "20", "21", "22", "X", "Y", "?"]
    assert [len(axis.patches) for axis in figure.axes] == [1, 0, 0, 0]


@pytest.mark.parametrize("labels", [LABELS[:45], np.array([4, 6])])
def test_classes_that_a_set_lacks_have_no_sample(labels):
    """A set of women has no Y."""
    pictures = np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    figure = figures.samples_per_class(SimpleNamespace(labels=labels, images=pictures))
    names = [text.get_text() for axis in figure.axes for text in axis.texts]
    shown = [column for axis in figure.axes for column in np.split(axis.images[0].get_array(), len(axis.texts), axis=1)]
    assert names == [CLASSES[label] for label in np.unique(labels)]
    assert [set(labels[np.unique(column)]) for column in shown] == [{label} for label in np.unique(labels)]


def test_variations_stand_at_their_numbers_and_what_was_not_run_is_left_out():
    ways = {"as it is": (np.nan, 2.0, -5.0), "canvas": (np.nan,) * 3, "crop": (19.0, 3.0, np.nan)}
    rows = [dict(zip(("change", "gain", "instead"), values, strict=True)) for values in ways.values()]
    table = pd.DataFrame(rows).assign(variation=list(ways), task="q_band", state=["run", "not run", "run"])
    for column, start in (("change", "change_"), ("gain", ""), ("instead", "instead_")):
        table[f"{start}low"], table[f"{start}high"] = table[column] - 1, table[column] + 1
    table["seeds"], table["instead_seeds"] = [2, np.nan, 2], [1, np.nan, np.nan]
    (axis,) = figures.varied(table, ["q_band"]).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "as it is\n(seeds: 2, 1)",
        "crop\n(seeds: 2)",
    ]
    marks = [part.lines[0] for part in axis.containers]
    assert [list(mark.get_xdata()) for mark in marks] == [[19.0], [2.0, 3.0], [-5.0]]
    assert [list(mark.get_ydata().round()) for mark in marks] == [[1], [0, 1], [0]]
    figure = figures.varied(table.assign(gain=np.nan, instead=np.nan), ["q_band"])  # no approach stopped anywhere
    assert [words.get_text() for words in figure.legends[0].get_texts()] == ["this way to show them"]


def test_comparisons_of_one_seed_have_open_marks_and_each_network_its_own():
    table = pd.DataFrame({"what": ["a", "b", "a"], "architecture": ["m", "m", "n"], "task": "q_band"})
    table["about"] = ["the approaches", "these networks", "these networks"]
    table["pooled_gain"] = [1.0, 2.0, 3.0]
    table["pooled_low"], table["pooled_high"] = table["pooled_gain"] - 1, table["pooled_gain"] + 1
    figure = figures.second_step(table, ["q_band"])
    marks = {part.get_label(): part.lines[0] for part in figure.axes[0].containers}
    assert {label: list(mark.get_xdata()) for label, mark in marks.items()} == {
        "m, the approaches": [1.0],
        "m, these networks": [2.0],
        "n, these networks": [3.0],
    }
    assert [mark.get_markerfacecolor() == "white" for mark in marks.values()] == [False, True, True]
    assert len({mark.get_color() for mark in marks.values()}) == 2


def test_risk_has_the_colours_of_the_approaches_and_a_line_style_for_each_way():
    table = pd.DataFrame({"coverage": [0.5, 1.0], "risk": [0.0, 0.5]})
    curves = {(approach, way): table for approach in ("two_step", "imagenet") for way in ("network", "and size")}
    figure = figures.risk({"images": curves, "cells": curves}, "q_band", "net")
    for axis, name in zip(figure.axes, ("images", "cells"), strict=True):
        assert axis.get_title(loc="left") == f"{name}: Q-band, net"
        looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axis.lines}
        assert looks == {
            f"{approach}, {way}": (figures.APPROACH_COLOURS[approach], style)
            for approach in ("two_step", "imagenet")
            for way, style in (("network", "-"), ("and size", "--"))
        }
