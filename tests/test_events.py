import logging
import threading

from dspex.events import EventBus, StudyAwaited, StudyFinished, StudyStarted

ONE, TWO = StudyStarted("a", 3), StudyFinished("a", "done")


def test_every_subscriber_gets_every_event_in_order():
    """Subscribers are called in the order they came, with each event in the order it was published."""
    bus, seen = EventBus(), []
    bus.subscribe(lambda event: seen.append(("first", event)))
    bus.subscribe(lambda event: seen.append(("second", event)))
    bus.publish(ONE)
    bus.publish(TWO)
    assert seen == [("first", ONE), ("second", ONE), ("first", TWO), ("second", TWO)]


def test_unsubscribed_hears_no_more():
    """The function that `subscribe` returns stops that subscriber only, and may be called twice."""
    bus, one, two = EventBus(), [], []
    stop = bus.subscribe(one.append)
    bus.subscribe(two.append)
    bus.publish(ONE)
    stop()
    stop()
    bus.publish(TWO)
    assert (one, two) == ([ONE], [ONE, TWO])


def test_subscribing_twice_is_two_subscriptions():
    """Ending one of two subscriptions of the same function leaves the other."""
    bus, seen = EventBus(), []

    def subscriber(event):
        seen.append(event)

    stop = bus.subscribe(subscriber)
    bus.subscribe(subscriber)
    stop()
    bus.publish(ONE)
    assert seen == [ONE]


def test_raising_subscriber_stops_nobody(caplog):
    """A subscriber that raises is logged, with its traceback, and the next one still hears."""
    bus, seen = EventBus(), []

    def broken(event):
        raise RuntimeError("no")

    bus.subscribe(broken)
    bus.subscribe(seen.append)
    with caplog.at_level(logging.ERROR, logger="dspex.events"):
        bus.publish(ONE)
    assert seen == [ONE]
    assert [(record.getMessage(), record.exc_info is not None) for record in caplog.records] == [
        ("a subscriber to dspex events failed on StudyStarted", True)
    ]


def test_events_arrive_on_the_publishers_thread():
    """Nothing is handed over to another thread."""
    bus, threads = EventBus(), []
    bus.subscribe(lambda event: threads.append(threading.current_thread()))
    bus.publish(StudyAwaited("a"))
    assert threads == [threading.current_thread()]


def test_subscribing_while_publishing_is_safe():
    """A subscriber may subscribe another, which hears from the next event on."""
    bus, seen = EventBus(), []

    def first(event):
        if event is ONE:
            bus.subscribe(seen.append)

    bus.subscribe(first)
    bus.publish(ONE)
    bus.publish(TWO)
    assert seen == [TWO]


def test_no_event_is_lost_between_threads():
    """Each of several publishing threads finds its own events in order at every subscriber."""
    bus, seen = EventBus(), []
    bus.subscribe(seen.append)

    def publish(name):
        for number in range(500):
            bus.publish(StudyStarted(name, number))

    threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2000
    for name in "abcd":
        assert [event.planned_trials for event in seen if event.study == name] == list(range(500))
