"""`Config`: everything that a run depends on beside the code. The same one gives the same run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final, Literal, TypeAlias

Profile: TypeAlias = Literal["light", "normal", "heavy"]
Family: TypeAlias = Literal["ot", "lww", "mixed", "collections", "replay"]

#: What a seed may draw; documents of other families are there only where they are asked for.
_DRAWN_FAMILIES: Final[tuple[Family, ...]] = ("ot", "lww", "mixed")

#: Classes of what befalls a run, each on or off for it: faults, and users who do more than edit.
FAULTS: Final = (
    "cut",
    "half_open",
    "refuse",
    "slow_reader",
    "latency",
    "client_crash",
    "server_crash",
    "deploy",
    "crash_points",
    "disk_error",
    "disk_slow",
    "clock",
    "servers",
    "rights",
    "sign_in",
    "hostile",
    "presence",
    "undo",
    "power_loss",
    "bad_row",
    "absence",
    "busy",
    "coarse_clock",
    "freeze",
    "refusing",
    "small_limits",
    "revoke",
    "shared_file",
    "rebirth",
    "set_back",
    "bad_client_row",
    "close_edits",
    "wide",
)
#: How often a class is on, where that is not one half.
_CHANCES: Final = {
    "servers": 0.3, "hostile": 0.1, "power_loss": 0.15, "bad_row": 0.3, "absence": 0.3,
    "coarse_clock": 0.3, "freeze": 0.3, "refusing": 0.3, "small_limits": 0.2, "revoke": 0.3,
    "shared_file": 0.2, "rebirth": 0.4, "set_back": 0.15, "bad_client_row": 0.2, "wide": 0.3,
}  # fmt: skip
#: The classes that documents of other families than OT and LWW know; the others are off for them.
FITTING: Final = frozenset(
    {"cut", "half_open", "refuse", "slow_reader", "latency", "client_crash", "server_crash"}
    | {"deploy", "crash_points", "disk_error", "disk_slow", "clock", "rights", "sign_in"}
    | {"busy", "coarse_clock", "freeze", "revoke"}
)
#: The classes that a seed may have; the others are on only where they are asked for.
DRAWN: Final = tuple(fault for fault in FAULTS if _CHANCES.get(fault, 0.5))
#: Classes that came later are drawn from sources of their own: the older ones stay as they were.
_LATER: Final = FAULTS[FAULTS.index("servers") :]

#: Per profile: clients, actions, and how many timed faults of a class there are per 100 actions.
_SIZES: Final[dict[Profile, tuple[tuple[int, int], tuple[int, int], float]]] = {
    "light": ((2, 3), (60, 120), 2.0),
    "normal": ((2, 5), (100, 300), 3.0),
    "heavy": ((3, 8), (300, 1200), 5.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run. `without_actions` and `without_faults` leave single events of the script out."""

    seed: int
    profile: Profile = "light"
    family: Family | None = None  # as given to `draw`
    clients: int = 2
    ot_docs: int = 1
    lww_docs: int = 0
    family_docs: int = 0  # documents of a family beside OT and LWW
    mortal_docs: int = 0  # documents that are deleted now and then
    branching: bool = False
    actions: int = 60
    faults: frozenset[str] = frozenset()
    fault_rate: float = 2.0
    without_actions: frozenset[int] = frozenset()
    without_faults: frozenset[int] = frozenset()

    @property
    def server_names(self) -> list[str]:
        """Every server; all have one disk."""
        count = self.stream("servers").randint(2, 3) if "servers" in self.faults else 1
        return ["server", *(f"server-{number}" for number in range(2, count + 1))]

    @property
    def doc_ids(self) -> list[str]:
        """Every document: those that may be deleted, then those of another family, last."""
        return [*self.core_ids, *self.family_ids]

    @property
    def core_ids(self) -> list[str]:
        """Every OT and LWW document, those that may be deleted last."""
        return [*self.lasting_ids, *self.mortal_ids]

    @property
    def family_ids(self) -> list[str]:
        """The documents of a family beside OT and LWW."""
        return [f"{self.family}/{number}" for number in range(self.family_docs)]

    @property
    def lasting_ids(self) -> list[str]:
        """The documents that are never deleted."""
        ot = [f"ot-{number}" for number in range(self.ot_docs)]
        lww = [f"lww/{number}" for number in range(self.lww_docs)]
        return [*ot, *lww, *(["branched"] if self.branching else [])]

    @property
    def mortal_ids(self) -> list[str]:
        """The documents that are deleted now and then."""
        kinds = [kind for kind, count in (("", self.ot_docs), ("lww/", self.lww_docs)) if count]
        return [
            f"{kinds[number % len(kinds)]}mortal-{number}" for number in range(self.mortal_docs)
        ]

    @property
    def disks(self) -> list[int]:
        """Per client, the one whose disk it uses: its own but where several share a file."""
        owners = list(range(self.clients))
        if "shared_file" in self.faults and self.clients > 1:
            owners[-1] = self.stream("shared").randrange(self.clients - 1)
        return owners

    @property
    def absence_days(self) -> float:
        """For how long nobody does anything, half way through the run."""
        return self.stream("absence").uniform(0.5, 40) if "absence" in self.faults else 0.0

    def stream(self, name: str) -> Random:
        """The random numbers of one part of the run."""
        return Random(f"{self.seed}:{name}")  # a simulation, not a secret

    def without(self, fault: str) -> Config:
        """The same run without a class of faults."""
        return replace(self, faults=self.faults - {fault})

    @property
    def command(self) -> str:
        """The command that runs it again."""
        parts = [f"python -m patches.testing.sim --seed {self.seed} --profile {self.profile}"]
        if self.family is not None:
            parts.append(f"--family {self.family}")
        if self.faults != draw(self.seed, self.profile, self.family).faults:
            parts.append(f"--faults {','.join(sorted(self.faults))}")
        if self.without_actions:
            parts.append(f"--without-actions {ranges(self.without_actions)}")
        if self.without_faults:
            parts.append(f"--without-faults {ranges(self.without_faults)}")
        return " ".join(parts)

    def __str__(self) -> str:
        docs = f"{self.ot_docs} OT, {self.lww_docs} LWW, {self.mortal_docs} mortal"
        if self.family_docs:
            docs += f", {self.family_docs} {self.family}"
        left_out = len(self.without_actions) + len(self.without_faults)
        return (
            f"seed {self.seed} ({self.profile}): {self.clients} clients, documents: {docs}"
            f"{', branching' if self.branching else ''}, {self.actions} actions"
            f"{f', {left_out} events left out' if left_out else ''}, faults: "
            f"{', '.join(fault for fault in FAULTS if fault in self.faults) or 'none'}"
        )


def draw(seed: int, profile: Profile = "light", family: Family | None = None) -> Config:
    """The configuration of a seed: each class of faults is on with a chance of one half."""
    random = Random(f"{seed}:config")  # a simulation, not a secret
    (fewest, most), (least, longest), rate = _SIZES[profile]
    drawn = random.choice(_DRAWN_FAMILIES)
    if family is not None and family not in _DRAWN_FAMILIES:
        return _of_another_family(seed, profile, family)
    kind = family or drawn
    return Config(
        seed=seed,
        profile=profile,
        family=family,
        clients=random.randint(fewest, most),
        ot_docs=0 if kind == "lww" else random.randint(1, 2),
        lww_docs=0 if kind == "ot" else random.randint(1, 2),
        mortal_docs=random.choice((0, 0, 1, 2)),
        branching=kind != "lww" and random.random() < 0.3,
        actions=random.randint(least, longest),
        faults=frozenset(fault for fault in FAULTS if _is_on(fault, seed, random)),
        fault_rate=rate,
    )


def _of_another_family(seed: int, profile: Profile, family: Family) -> Config:
    random = Random(f"{seed}:config:{family}")  # a simulation, not a secret
    (fewest, most), (least, longest), rate = _SIZES[profile]
    return Config(
        seed=seed,
        profile=profile,
        family=family,
        clients=random.randint(fewest, most),
        ot_docs=random.choice((0, 0, 1)),  # beside them, on the same connections
        family_docs=random.randint(1, 2),
        actions=random.randint(least, longest),
        faults=frozenset(
            fault for fault in FAULTS if fault in FITTING and _is_on(fault, seed, random)
        ),
        fault_rate=rate,
    )


def _is_on(fault: str, seed: int, random: Random) -> bool:
    if fault in _LATER:
        random = Random(f"{seed}:config:{fault}")  # a simulation, not a secret
    return random.random() < _CHANCES.get(fault, 0.5)


def numbers(text: str) -> frozenset[int]:
    """Numbers as they are written on a command line: `3-9,12`."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def ranges(found: frozenset[int]) -> str:
    """The inverse of `numbers`."""
    parts: list[list[int]] = []
    for number in sorted(found):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
