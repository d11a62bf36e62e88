"""Soak test: kill -9 at random moments, run again, compare with the run nobody killed.

    python -m tests.soak.kills --kills 10

For each command: one run to the end is the truth. Then trials: start, kill at a random moment (and with even odds
kill the continuation too), look at what is there, run again to the end, look again. A *loss* is a result that differs
from the truth, a broken or half-written one that passes for whole, or a run that can't be continued.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from tests.hub.loopback_hub import OWNER, LoopbackHub
from tests.soak.scenarios import EXPORT, SCENARIOS, Result, Scenario, Workshop
from tests.soak.warm import Outcome, in_child, run_command, warm_up
from tests.storage.faults import BUCKET, endpoint, s3_server

CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "ecg_jepa" / "tiny_state_dict.safetensors"


@dataclass
class Account:
    """What happened to one command."""

    name: str
    seconds: float = 0.0
    runs: int = 0
    kills: int = 0
    whole_when_killed: int = 0
    losses: list[str] = field(default_factory=list)

    def row(self) -> str:
        return (
            f"{self.name:10s} {self.runs:5d} runs {self.kills:5d} kills "
            f"{self.whole_when_killed:4d} killed with the result there already {len(self.losses):4d} losses   "
            f"({self.seconds:.1f} s uninterrupted)"
        )


def make_workshop(folder: Path, checkpoint: Path) -> Workshop:
    """Dataset, model and official checkpoint, by the commands themselves."""
    shop = Workshop(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for arguments in (
        ["data", "build", "synthetic", "--output", shop.dataset, "-o", "records=160"],
        [
            *("pretrain", "--model", "cg-dmer", "--size", "micro", "--dataset", shop.dataset, "--use-cpu"),
            *("--output", shop.model, "--max-steps", 2, "--per-device-train-batch-size", 8),
        ],
    ):
        outcome = run_command(arguments, folder / "workshop.log")
        assert outcome.code == 0, outcome.output
    for path in shop.model.glob("checkpoint-*"):
        shutil.rmtree(path)
    shutil.copy(checkpoint, shop.checkpoint)
    return shop


class Soak:
    """Trials of one command.

    Args:
        scenario: The command.
        shop: What it works on.
        folder: For the trials.
        seed: Of the moments of death.
    """

    def __init__(self, scenario: Scenario, shop: Workshop, folder: Path, seed: int = 0) -> None:
        self.scenario = scenario
        self.shop = shop
        self.folder = folder
        self.random = random.Random(f"{scenario.name}{seed}")
        self.account = Account(scenario.name)
        self.trials = 0

    def run(self, kills: int) -> Account:
        """Trials until ``kills`` processes have been killed."""
        truth = self._truth()
        while self.account.kills < kills:
            trial = self._new_trial()
            for attempt in range(self.random.choice((1, 2))):
                outcome = self._start(trial, attempt, self.random.uniform(0, 1.05) * self.account.seconds)
                if outcome.code is not None:
                    break
                self.account.kills += 1
                self._inspect(trial, truth, f"after kill {outcome.seconds:.3f} s into start {attempt + 1}")
            outcome = self._start(trial, 1)
            done = self.scenario.finished_already
            if outcome.code != 0 and not (outcome.code == 2 and done and done in outcome.last_line):
                self._lose(trial, f"can't be continued: {outcome.last_line}")
            elif self._inspect(trial, truth, "when continued to the end") is None:
                self._lose(trial, "no result after a run to the end")
            shutil.rmtree(trial, ignore_errors=True)
        return self.account

    def _truth(self) -> Result:
        trial = self._new_trial()
        outcome = self._start(trial, 0)
        assert outcome.code == 0, outcome.output
        self.account.seconds = outcome.seconds
        truth = self._look(trial)
        assert truth, f"{self.scenario.name}: an uninterrupted run leaves no result"
        return truth

    def _new_trial(self) -> Path:
        self.trials += 1
        trial = self.folder / str(self.trials)
        trial.mkdir(parents=True)
        return trial

    def _start(self, trial: Path, attempt: int, kill_after: float | None = None) -> Outcome:
        arguments = self.scenario.arguments(self.shop, trial)
        if attempt:
            arguments = [*arguments, *self.scenario.more_to_resume]
        self.account.runs += 1
        return run_command(arguments, trial / "log", kill_after=kill_after, setup=self.scenario.setup)

    def _look(self, trial: Path) -> Result:
        return in_child(lambda: self.scenario.result(trial), trial / "look")

    def _inspect(self, trial: Path, truth: Result, when: str) -> Result:
        """Whatever passes for a result must be the true one."""
        try:
            found = self._look(trial)
        except RuntimeError as error:
            self._lose(trial, f"{when}: {error}")
            return None
        if found is None:
            return None
        assert truth is not None
        wrong = [name for name, value in found.items() if truth.get(name) != value]
        if wrong:
            self._lose(trial, f"{when}: {', '.join(wrong)} differ")
        elif when.startswith("after kill"):
            self.account.whole_when_killed += 1
        return found

    def _lose(self, trial: Path, reason: str) -> None:
        self.account.losses.append(reason)
        print(f"LOSS {self.scenario.name}, trial {trial.name}: {reason}", file=sys.stderr)
        kept = self.folder / f"loss-{len(self.account.losses)}-{trial.name}"
        shutil.copytree(trial, kept, dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=sorted(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--folder", type=Path, help="kept afterwards; a temporary one if not given")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    with LoopbackHub() as hub:
        # Read when the client library is imported, which is what warming up does.
        environment = hub.environment(folder / "home", token=OWNER)
        os.environ.clear()  # also of what a test run has set, such as offline mode
        os.environ.update(environment)
        warm_up()
        with s3_server() as port, endpoint(port):
            # Not by fsspec, whose threads would not be there in the children.
            urlopen(Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")).close()
            losses = soak(folder, options)
    if options.folder is None and not losses:
        shutil.rmtree(folder)
    sys.exit(1 if losses else 0)


def soak(folder: Path, options: argparse.Namespace) -> int:
    """Kill every command asked for; returns the losses."""
    shop = make_workshop(folder / "workshop", options.checkpoint)
    if any(SCENARIOS[name].in_store for name in options.only):
        outcome = run_command(
            ["data", "export", shop.dataset, "--output", EXPORT, "--rows-per-file", 20], folder / "log"
        )
        assert outcome.code == 0, outcome.output
    accounts = []
    for name in options.only:
        accounts.append(Soak(SCENARIOS[name], shop, folder / name, options.seed).run(options.kills))
        print(accounts[-1].row(), flush=True)
    losses = sum(len(account.losses) for account in accounts)
    total = {
        "runs": sum(account.runs for account in accounts),
        "kills": sum(account.kills for account in accounts),
        "losses": losses,
    }
    print(json.dumps(total))
    return losses


if __name__ == "__main__":
    main()
