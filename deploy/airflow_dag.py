"""Airflow: the last night every day, then drift; retraining every week. Paths come from the workers' environment."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

RUN = 'nightcat run --input "$NIGHTCAT_INBOX" --output "$NIGHTCAT_CATALOG" --quiet'
DRIFT = 'nightcat drift "$NIGHTCAT_CATALOG" --quiet'
RETRAIN = (
    'nightcat retrain --catalog "$NIGHTCAT_CATALOG" --labels "$NIGHTCAT_LABELS" --min-labels 100 --max-age 90 --quiet'
)
START = datetime(2026, 1, 1)
DEFAULTS = {"retries": 2, "retry_delay": timedelta(minutes=10)}

with DAG(
    "nightcat_nightly", start_date=START, schedule="0 10 * * *", catchup=False, max_active_runs=1, default_args=DEFAULTS
) as nightly:
    BashOperator(task_id="run", bash_command=RUN) >> BashOperator(task_id="drift", bash_command=DRIFT)

with DAG(
    "nightcat_weekly",
    start_date=START,
    schedule="0 13 * * 0",
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS | {"retries": 0},
) as weekly:
    BashOperator(task_id="retrain", bash_command=RETRAIN)
