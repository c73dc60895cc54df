"""The run folder: every record that the stages of a run write to the store."""

from __future__ import annotations

from cluster.store.runs import PUBLICATION, RECEIPT, RunFolder
from cluster.store.storage import Store
from training.curation.certificate import LeakCertificate
from training.evaluation.results import After, Before, EvaluationResult
from training.planning.prediction import Prediction
from training.run.publication import Publication
from training.run.receipt import Receipt
from training.run.results import CuratedRun, Sampled, TrainingResult, TrialRecord
from training.tokens.arrow import RunTokens


class TrainingFolder(RunFolder):
    """The folder of a run that trains, measures or samples answers. Its rows: `training.data.rows`."""

    def __init__(self, store: Store, run_id: str) -> None:
        super().__init__(store, run_id)
        self.prediction = self.record("plan.json", Prediction)
        self.data = self.record("data/summary.json", CuratedRun)
        self.tokens = self.record("tokens/facts.json", RunTokens)
        self.leaks = self.record("data/leaks.json", LeakCertificate)
        self.before = self.record("evaluation/before.json", Before)
        self.training = self.record("training.json", TrainingResult)
        self.after = self.record("evaluation/after.json", After)
        self.result = self.record("evaluation/result.json", EvaluationResult)
        self.publication = self.record(PUBLICATION, Publication)
        self.receipt = self.record(RECEIPT, Receipt)
        self.samples = self.record("samples.json", Sampled)
        self.trial = self.record("trial.json", TrialRecord)
        """Only in the trials of a search."""

    @property
    def bad_rows_path(self) -> str:
        return self.path("data/bad_rows.jsonl")

    @property
    def dropped_path(self) -> str:
        """Rows that curation left out, each with the reason."""
        return self.path("data/dropped.jsonl")

    @property
    def checkpoints_path(self) -> str:
        return self.path("checkpoints")

    @property
    def report_path(self) -> str:
        return self.path("report.html")

    def data_folder(self) -> TrainingFolder:
        """The run that has the rows: a trial's search, else this one."""
        trial = self.trial.read_if_there()
        return TrainingFolder(self.store, trial.search) if trial else self
