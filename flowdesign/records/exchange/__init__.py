"""Records, votes and ratings as files that other programs read: JSONL, CSV and Parquet, and back.

    README.md                       the dataset card
    records/train.jsonl             records by split, so that nobody trains on the test set unawares
    records/validation.jsonl
    records/test.jsonl
    votes.jsonl  ratings.jsonl      if there are any; `left`, `right`, `record` are ids of records
    images/<sha256>.png             beside JSONL and CSV; Parquet holds the images itself

The same in a folder or in a zip file. Nothing is lost on the way out and back, except what was
deleted or undone; ids are given anew.
"""

from flowdesign.records.exchange.exporting import Exported, export
from flowdesign.records.exchange.formats import FORMATS
from flowdesign.records.exchange.importing import Imported, import_records

__all__ = ["FORMATS", "Exported", "Imported", "export", "import_records"]
