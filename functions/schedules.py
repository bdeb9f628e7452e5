"""Timers. Each run does what is due and nothing else; running twice does no harm."""

import json
import logging
import time
from collections.abc import Callable

import azure.functions as func

from connector.app import app

schedules = func.Blueprint()
_log = logging.getLogger("loyalty.schedules")

# host.json ends a run after ten minutes; what takes longer goes on at its next time.
_LONGEST = 480.0


def _after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


@schedules.function_name("SendNotices")
@schedules.timer_trigger(arg_name="timer", schedule="15 * * * * *")
def send_notices(timer: func.TimerRequest) -> None:
    _log.info("%s notices sent", app().chores.send_notices(app().notices, enough=_after(_LONGEST)))


@schedules.function_name("PickUpWaiting")
@schedules.timer_trigger(arg_name="timer", schedule="45 */5 * * * *")
def pick_up_waiting(timer: func.TimerRequest) -> None:
    _log.info("%s waiting rows picked up", app().chores.pick_up_waiting())
    if published := app().publisher.look():
        _log.info("version %s of the programme begins on %s", published.version, published.begins)


# Half an hour after the sweep's first look: an invoice it finds may earn points whose last day is over. Each makes one run a day,
# so that the later hours only make up for one in which Dataverse did not answer.
@schedules.function_name("StartReviews")
@schedules.timer_trigger(arg_name="timer", schedule="0 30 1-5 * * *")
def start_reviews(timer: func.TimerRequest) -> None:
    mass = app().mass
    try:
        _log.info("run %s reviews who is due", mass.start_nightly())
    finally:
        _log.info("run %s counts what is outstanding", mass.start_count())


@schedules.function_name("RunMassJobs")
@schedules.timer_trigger(arg_name="timer", schedule="25 * * * * *")
def run_mass_jobs(timer: func.TimerRequest) -> None:
    for found in app().mass.work_all(stop=_after(_LONGEST)):
        _log.info("run %s is %s: %s", found.run_id, found.status.name.lower(), found.totals)


@schedules.function_name("SweepChanges")
@schedules.timer_trigger(arg_name="timer", schedule="0 */15 1-5 * * *")
def sweep_changes(timer: func.TimerRequest) -> None:
    _log.info("%s", app().sweep.run(enough=_after(_LONGEST)))


@schedules.function_name("ResubmitDeadLetters")
@schedules.timer_trigger(arg_name="timer", schedule="30 */10 * * * *")
def resubmit_dead_letters(timer: func.TimerRequest) -> None:
    _log.info("%s", app().dead_letters.resubmit())


@schedules.function_name("Measure")
@schedules.timer_trigger(arg_name="timer", schedule="5 */5 * * * *")
def measure(timer: func.TimerRequest) -> None:
    figures = list(app().watch.measure().flat())
    app().telemetry.gauges(figures)
    _log.info("figures %s", json.dumps([[name, value, *attributes.values()] for name, value, attributes in figures]))
