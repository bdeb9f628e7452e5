"""Topics: copies for the subscriptions whose rules take a message."""

from datetime import timedelta
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage

from local.servicebus import config, sql_filter
from local.servicebus.broker import Broker
from local.servicebus.model.message import Draft, Outcome
from local.servicebus.model.settings import QueueSettings, SubscriptionSettings, TopicSettings
from tests.servicebus.broker import client, together
from tests.servicebus.model import START, Note, Reader, World, draft, text, token

SUBSCRIPTIONS: list[dict[str, Any]] = [
    {"Name": "all"},
    {
        "Name": "eu",
        "Rules": [
            {
                "Name": "region",
                "Properties": {
                    "FilterType": "Correlation",
                    "CorrelationFilter": {"Subject": "sale", "Properties": {"region": "eu"}},
                },
            }
        ],
    },
    {
        "Name": "large",
        "Rules": [
            {
                "Name": "amount",
                "Properties": {
                    "FilterType": "Sql",
                    "SqlFilter": {"SqlExpression": "amount >= 100 AND sys.Label LIKE 's%'"},
                },
            }
        ],
    },
]


def parse(subscriptions: list[dict[str, Any]]) -> config.NamespaceConfig:
    topics = [{"Name": "t", "Properties": {}, "Subscriptions": subscriptions}]
    return config.parse({"UserConfig": {"Namespaces": [{"Name": "n", "Topics": topics}]}})


def test_the_sdk_gets_from_each_subscription_what_its_rules_take() -> None:
    with Broker(parse(SUBSCRIPTIONS)) as broker, client(broker) as sdk:
        with sdk.get_topic_sender("t") as sender:
            for body, amount, region in (("a", 50, "eu"), ("b", 100, "us"), ("c", 500, "eu")):
                properties = {"amount": amount, "region": region}
                sender.send_messages(ServiceBusMessage(body, subject="sale", application_properties=properties))
            sender.send_messages(ServiceBusMessage("d"))

        def check(name: str, expected: str) -> None:
            with sdk.get_subscription_receiver("t", name) as receiver:
                got = receiver.receive_messages(9, max_wait_time=5)
                assert "".join(str(message) for message in got) == expected
                for message in got:
                    receiver.complete_message(message)

        together(lambda: check("all", "abcd"), lambda: check("eu", "ac"), lambda: check("large", "bc"))


def test_copies_live_their_own_lives() -> None:
    short = SubscriptionSettings(QueueSettings(max_delivery_count=1))
    world = World(topics={"t": TopicSettings(subscriptions={"a": short, "b": SubscriptionSettings()})})
    topic = world.namespace.entity("t")
    topic.send([draft("later", scheduled_for=START + timedelta(seconds=5)), draft("now", ttl=timedelta(seconds=9))])
    a, b = world.queue("t/subscriptions/a"), world.queue("t/Subscriptions/b")
    a.settle(token(Reader().ask(a, 1).got[0]), Outcome.ABANDON)
    assert [text(m) for m in world.queue("t/subscriptions/a/$deadletterqueue").peek(1, 9)] == ["now"]
    assert [text(m) for m in b.peek(1, 9)] == ["now"]
    world.pass_time(seconds=5)
    assert [text(m) for m in b.peek(1, 9)] == ["now", "later"]
    world.pass_time(seconds=5)
    assert [text(m) for m in b.peek(1, 9)] == ["later"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("amount = 5", True),
        ("amount <> 5 OR region = 'eu'", True),
        ("amount + 1 > 5.5 AND amount % 2 = 1", True),
        ("-amount < -4", True),
        ("2 * (amount + 1) = 12", True),
        ("amount = '5'", False),
        ("amount / 0 = 1", False),
        ("missing = 1", False),
        ("NOT missing = 1", False),  # unknown stays unknown
        ("missing IS NULL", True),
        ("amount IS NOT NULL", True),
        ("EXISTS(user.amount) AND NOT EXISTS(missing)", True),
        ("region IN ('us', 'eu')", True),
        ("region NOT IN ('us', 'asia')", True),
        ("region LIKE '_u'", True),
        ("region NOT LIKE 'e%'", False),
        ("[odd name] = 'it''s'", True),
        ("\"odd name\" LIKE 'it!%s' ESCAPE '!'", False),
        ("flag", True),
        ("NOT flag = TRUE", False),
        ("sys.MessageId = 'm1' AND sys.label IS NULL", True),
        ("1 = 1", True),
    ],
)
def test_sql_filters(expression: str, expected: bool) -> None:
    application = {"amount": 5, "region": "eu", "odd name": "it's", "flag": True}
    note = Note("x", application, {"message-id": "m1"})
    rules = [{"Name": "r", "Properties": {"FilterType": "Sql", "SqlFilter": {"SqlExpression": expression}}}]
    subscription = parse([{"Name": "s", "Rules": rules}]).topics["t"].subscriptions["s"]
    assert subscription.rules["r"](Draft(note)) is expected


@pytest.mark.parametrize(
    "expression", ["", "a =", "= 1", "(a = 1", "a = 1)", "a LIKE 5", "a NOT 5", "a ~ 1", "'open", "a IS 5"]
)
def test_what_is_not_a_filter_is_refused(expression: str) -> None:
    with pytest.raises(sql_filter.FilterSyntaxError):
        sql_filter.compile_filter(expression)


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"FilterType": "Sql", "SqlFilter": {"SqlExpression": "a ="}}, "ends too early"),
        ({"FilterType": "Sql"}, "SqlExpression"),
        ({"FilterType": "Sql", "SqlFilter": {"SqlExpression": "1=1"}, "Action": {}}, "Action"),
        ({"FilterType": "Correlation", "CorrelationFilter": {}}, "at least one"),
        ({"FilterType": "Correlation", "CorrelationFilter": {"Colour": "x"}}, "Colour"),
        ({"FilterType": "Magic"}, "Magic"),
    ],
)
def test_a_wrong_rule_is_named(rule: dict[str, Any], named: str) -> None:
    with pytest.raises(config.ConfigError, match=named):
        parse([{"Name": "s", "Rules": [{"Name": "r", "Properties": rule}]}])
