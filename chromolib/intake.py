"""All pictures of a folder or archive: decoded on all cores, those that cannot be read told together, copies found."""

import sys
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from chromolib import archives, duplicates, images
from chromolib.errors import StudyError, refuse_all

QUIET = 5  # seconds after which reading shows its progress
_AHEAD = 64  # images read before they are decoded, for all cores together


def each(path, members, take, task):
    """Decode images and hand each, (h, w) uint8, to `take(member, image)`, in any order and from any thread.

    path: a folder or archive; members: a collection of names in it; task: what the progress is
    called. Returns words (list) on what was done to stored pictures, and the groups of members
    (list of lists) that are equal pixel by pixel. Raises StudyError for images that cannot be read
    (all are counted, the first five listed) and as `archives.members`.
    """
    wanted = archives.members(path, members.__contains__)
    bar = tqdm(wanted, task, len(members), unit=" images", delay=QUIET, mininterval=QUIET, file=sys.stdout)

    def read(name, data):
        try:
            image, words = images.read_with_remarks(data, name)
        except StudyError as error:
            return name, str(error), (), b""
        take(name, image)
        return name, "", words, duplicates.digest(image)

    names, faults, words, digests = zip(*_on_all_cores(read, bar), strict=True)
    faults = [fault for fault in faults if fault]
    if len(faults) == 1:
        raise StudyError(f"{path}/{faults[0]}")
    refuse_all(path, faults, len(names), "images.")
    counts = Counter(remark for remarks in words for remark in remarks)
    copies = [[names[index] for index in group] for group in duplicates.groups(digests)]
    return [f"images {remark}: {n:,}" for remark, n in counts.items()], copies


def _on_all_cores(function, items):
    """[function(*item) for item in items] by threads, which serve since Pillow decodes and resizes outside the GIL.

    Few items are taken ahead, so that few are in memory; of several errors the first in order is
    raised.
    """
    results, waiting = [], deque()
    with ThreadPoolExecutor() as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, *item))
                if len(waiting) > _AHEAD:
                    results.append(waiting[0].result())
                    waiting.popleft()
        finally:  # even where `items` failed: what was taken before comes first
            results += [future.result() for future in waiting]
    return results
