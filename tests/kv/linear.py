"""Is a history of one key linearizable? A search in the manner of Wing and Gong, with the memory of Lowe.

An operation is (begin, end, kind, argument, result). `end` None: its outcome is unknown (the server was killed): it may
have happened at any time after `begin`, or never. Values are written once each, so a value names its write.

    get              result: value or None
    version          result: number or None
    set    value     result: True                      no condition
    nx     value     result: True, False (condition failed)
    xx     value     the same
    ifeq   (value, number)   the same; number 0: only when there is none
    del              result: True, False (no such key)

The state is (value, its version if anybody saw it, the highest version seen): a version belongs to one value and rises.
"""

ANY = object()


def apply(state, kind, argument, result):
    """The state afterwards, or None: with this state before, the result cannot be."""
    value, version, highest = state
    if kind == "get":
        return state if result is ANY or result == value else None
    if kind == "version":
        if result is ANY:
            return state
        if (result is None) != (value is None):
            return None
        if result is None or result == version:
            return state
        return (value, result, result) if version is None and result > highest else None
    if kind == "del":
        done = value is not None
        if result is not ANY and result != done:
            return None
        return (None, None, highest)
    if kind == "ifeq":
        written, number = argument
        if number == 0:
            holds = {value is None}
        elif value is None:
            holds = {False}
        elif version is None:  # nobody saw it: it may be this number, if that is above all that were seen
            holds = {False, True} if number > highest else {False}
        else:
            holds = {version == number}
        if result is ANY:
            result = True in holds
        if result not in holds:
            return None
        return (written, None, max(highest, number)) if result else state
    holds = {"set": True, "nx": value is None, "xx": value is not None}[kind]
    if result is ANY:
        result = holds
    if result != holds:
        return None
    return (argument, None, highest) if holds else state


def linearizable(history, start=(None, None, 0)):
    """The search keeps what is done as: everything before `base`, and bits behind it; operations of unknown outcome apart."""
    ops = sorted((op for op in history if op[1] is not None), key=lambda op: op[0])
    unknown = [op for op in history if op[1] is None]
    seen = set()
    stack = [(0, 0, 0, start)]
    while stack:
        step = stack.pop()
        base, bits, used, state = step
        while bits & 1:
            base, bits = base + 1, bits >> 1
        if base == len(ops):
            return True
        if (base, bits, used, state) in seen:
            continue
        seen.add((base, bits, used, state))
        after = []
        # nothing may go first that began after another, not yet done, had ended
        limit = float("inf")
        for i in range(base, len(ops)):
            begin, end, kind, argument, result = ops[i]
            if begin > limit:
                break
            if bits >> (i - base) & 1:
                continue
            limit = min(limit, end)
            new = apply(state, kind, argument, result)
            if new is not None:
                after.append((begin, end, (base, bits | 1 << (i - base), used, new)))
        for i, (begin, _, kind, argument, _) in enumerate(unknown):
            if begin <= limit and not used >> i & 1:
                new = apply(state, kind, argument, ANY)
                if new is not None and new != state:
                    after.append((begin, float("inf"), (base, bits, used | 1 << i, new)))
        # what ended first is tried first: mostly that was the order
        after = sorted((a for a in after if a[0] <= limit), key=lambda a: a[1], reverse=True)
        stack += [new for _, _, new in after]
    return False
