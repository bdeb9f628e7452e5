"""Timers. Each run does what is due and nothing else; running twice does no harm."""

import logging

import azure.functions as func

from connector.app import app

schedules = func.Blueprint()
_log = logging.getLogger("loyalty.schedules")


@schedules.function_name("SendNotices")
@schedules.timer_trigger(arg_name="timer", schedule="15 * * * * *")
def send_notices(timer: func.TimerRequest) -> None:
    _log.info("%s notices sent", app().chores.send_notices(app().notices))


@schedules.function_name("PickUpWaiting")
@schedules.timer_trigger(arg_name="timer", schedule="45 */5 * * * *")
def pick_up_waiting(timer: func.TimerRequest) -> None:
    _log.info("%s waiting rows picked up", app().chores.pick_up_waiting())


@schedules.function_name("StartReviews")
@schedules.timer_trigger(arg_name="timer", schedule="0 30 1 * * *")
def start_reviews(timer: func.TimerRequest) -> None:
    _log.info("%s reviews started", app().chores.start_reviews())
