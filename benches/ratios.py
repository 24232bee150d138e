"""From measured points to ratios: rates at a recall, compared repeat by repeat."""

import numpy as np

# The recalls that rates are compared at.
RECALLS = (0.95, 0.98)


def rising(points):
    """The points whose recall is above that of all before them, from fast to exact."""
    kept = []
    for point in points:
        if not kept or point["recall"] > kept[-1]["recall"]:
            kept.append(point)
    return kept


def at_recall(points, wanted, repeat):
    """Queries a second at a recall in one repeat: log(rate) interpolated between the settings around it. Where the
    fastest setting finds more than was asked for, its rate, which is too low. None where no setting finds as much."""
    points = rising(points)
    if wanted > points[-1]["recall"]:
        return None
    rates = np.log([point["rates"][repeat] for point in points])
    return float(np.exp(np.interp(wanted, [point["recall"] for point in points], rates)))


def too_good(points, wanted):
    """Whether even the fastest setting finds more than was asked for."""
    return points[0]["recall"] > wanted


def around(points, *recalls):
    """The points that `at_recall` needs for these recalls, and what lies between."""
    points = rising(points)
    last = len(points) - 1
    above = [next((number for number, point in enumerate(points) if point["recall"] >= wanted), last)
             for wanted in recalls]
    return points[max(0, min(above) - 1) : max(above) + 1]


def nearest(points, wanted):
    return min(points, key=lambda point: abs(point["recall"] - wanted))


def pinned(points):
    """The points that were measured with client and server on one processor, with those rates."""
    return [{**point, "rates": point["pinned"]} for point in points if "pinned" in point]


def compared(ours, theirs, wanted):
    """Our rate over theirs at a recall, one ratio a repeat, and a sign: what is too low on one side makes the ratio
    a bound. None where one of them does not reach the recall."""
    ratios = []
    for repeat in range(len(ours[0]["rates"])):
        mine, other = at_recall(ours, wanted, repeat), at_recall(theirs, wanted, repeat)
        if mine is None or other is None:
            return None
        ratios.append(mine / other)
    sign = {(False, False): "", (True, False): "≥ ", (False, True): "≤ ", (True, True): "≈ "}
    return ratios, sign[too_good(ours, wanted), too_good(theirs, wanted)]


def paired(ours, theirs):
    """Ratios of values measured one after the other; None stands for one that was not measured."""
    return [mine / other for mine, other in zip(ours, theirs) if mine is not None and other is not None]
