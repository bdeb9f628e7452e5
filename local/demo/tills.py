"""Plays the tills: customers spend points when they really redeemed coupons, through the HTTP API, and some change their mind."""

import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import requests
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_fixed,
)

from local.demo.journey import Coupon
from local.demo.shop import customer_of

POINTS = 1000
_WAIT = 20


class Tills:
    """Eight tills at work at the same time, closed by the end of a `with` block whatever they are doing.

    `outcomes` counts answers: completed, rejected by reason, still waiting.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and this machine
        self._session.headers["x-functions-key"] = key
        self._clerks = ThreadPoolExecutor(8, thread_name_prefix="till")
        self._at_work: list[Future[None]] = []
        self._closed = threading.Event()
        self.outcomes: Counter[str] = Counter()

    def __enter__(self) -> "Tills":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._clerks.shutdown(wait=False, cancel_futures=True)

    def redeem(self, coupon: Coupon) -> None:
        """Ask for points in the background."""
        self._at_work.append(self._clerks.submit(self._redeem, coupon))

    def finish(self) -> None:
        """Wait for every till; raises what a till could not handle."""
        self._clerks.shutdown()
        for till in self._at_work:
            till.result()

    def _redeem(self, coupon: Coupon) -> None:
        body = {
            "customer": str(customer_of(coupon.household)),
            "points": POINTS,
            "description": f"Coupon {coupon.upc}",
            "channel": "till",
        }
        answer = self._post("redemptions", f"coupon-{coupon.number}-{coupon.upc}", body)
        if answer.status_code == 201 and coupon.number % 5 == 0:
            code = answer.json()["code"]
            answer = self._post(
                f"redemptions/{code}/void", f"void-{coupon.number}-{coupon.upc}", {"reason": "Changed mind"}
            )
            self.outcomes["voided" if answer.status_code == 201 else f"void {answer.status_code}"] += 1
            return
        outcome = {201: "completed", 202: "still waiting"}.get(answer.status_code)
        self.outcomes[outcome or answer.json().get("code", str(answer.status_code))] += 1

    def _post(self, path: str, key: str, body: dict[str, object]) -> requests.Response:
        """A till repeats a request that got no answer, with the same key: it cannot pay twice."""
        headers = {"Idempotency-Key": key, "Prefer": f"wait={_WAIT}"}
        url = f"{self._url}/api/{path}"
        for attempt in Retrying(
            retry=retry_if_exception_type(requests.RequestException),
            wait=wait_fixed(1),
            sleep=sleep_using_event(self._closed),
            stop=stop_after_delay(120) | stop_when_event_set(self._closed),
            reraise=True,
        ):
            with attempt:
                answer = self._session.post(url, json=body, headers=headers, timeout=_WAIT + 30)
                if answer.status_code in (500, 502, 503, 504):
                    raise requests.HTTPError(f"{answer.status_code} {answer.reason}", response=answer)
                return answer
        raise AssertionError("the loop returns or raises")
