"""A client generated from `proto/` sends events, asks, and reads refusals, over a socket."""

import csv
import gzip
import os
import time
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("RUNNEL_DATA", ROOT.parent / "shared" / "data"))
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MINUTE = 60_000
STEPS = ("view", "cart", "buy")


def event(stubs, visitor, name, minute, **rest):
    return stubs.event.Event(
        event_id=f"{visitor}-{name}-{minute}", visitor_id=visitor, name=name, time_ms=START + minute * MINUTE, **rest
    )


def journeys(stubs):
    """Three visitors: one buys, one stops at the cart, one only looks."""
    names = {"ann": STEPS, "bob": STEPS[:2], "cy": STEPS[:1]}
    return [event(stubs, visitor, name, at) for visitor, path in names.items() for at, name in enumerate(path)]


def definition(stubs, steps=STEPS, window_ms=24 * 60 * MINUTE):
    matches = [stubs.query.EventMatch(event=name) for name in steps]
    return stubs.funnel.FunnelDefinition(
        steps=[stubs.funnel.Step(any_of=[match]) for match in matches], window_ms=window_ms
    )


def ask(runnel, stubs, tenant, steps=STEPS):
    request = stubs.funnel.QueryFunnelRequest(inline=definition(stubs, steps))
    return runnel.funnel.QueryFunnel(request, metadata=runnel.keys[tenant]["read"], timeout=30)


def refused(call, code):
    """Makes a call that must be refused, and gives its google.rpc details by type."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code, caught.value
    status = rpc_status.from_call(caught.value)
    assert status is not None, "a refusal carries google.rpc.Status"
    details = {}
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
        for packed in status.details:
            if packed.Is(kind.DESCRIPTOR):
                packed.Unpack(details.setdefault(kind.__name__, kind()))
    info = details["ErrorInfo"]
    assert info.domain == "runnel"
    assert info.reason and info.reason == info.reason.upper()
    return details


def test_a_batch_is_stored_and_its_bad_event_refused(runnel, stubs):
    batch = journeys(stubs)
    batch.insert(2, stubs.event.Event(event_id="nobody", name="view", time_ms=START))
    batch.append(event(stubs, "cy", "view", 0))
    request = stubs.ingest.AppendRequest(request_id="first", events=batch)
    answer = runnel.ingest.Append(request, metadata=runnel.keys["shop"]["write"], timeout=30)
    assert (answer.accepted, answer.rejected, answer.duplicate, answer.conflict) == (6, 1, 1, 0)
    assert answer.sequence > 0 and not answer.repeated
    verdicts = {verdict.index: verdict for verdict in answer.verdicts}
    assert set(verdicts) == {2, 7}
    assert verdicts[2].verdict == stubs.ingest.VERDICT_REJECTED
    assert verdicts[2].reason == "FIELD_MISSING" and "visitor_id" in verdicts[2].field and verdicts[2].message
    assert verdicts[7].verdict == stubs.ingest.VERDICT_DUPLICATE

    again = runnel.ingest.Append(request, metadata=runnel.keys["shop"]["write"], timeout=30)
    assert again.repeated
    assert (again.accepted, again.rejected, again.sequence) == (6, 1, answer.sequence)

    other = stubs.ingest.AppendRequest(request_id="first", events=batch[:1])
    details = refused(
        lambda: runnel.ingest.Append(other, metadata=runnel.keys["shop"]["write"], timeout=30),
        grpc.StatusCode.ALREADY_EXISTS,
    )
    assert details["ErrorInfo"].reason == "REQUEST_REUSED"

    # The same events under another request id are found as duplicates when they are read: counts stay.
    resent = stubs.ingest.AppendRequest(request_id="second", events=journeys(stubs))
    runnel.ingest.Append(resent, metadata=runnel.keys["shop"]["write"], timeout=30)
    found = ask(runnel, stubs, "shop")
    assert [step.reached for step in found.steps] == [3, 2, 1]
    totals = found.totals
    assert (totals.entered, totals.converted) == (3, 1)
    assert totals.converted + totals.dropped + totals.excluded + totals.open == totals.entered
    assert totals.rate.low <= totals.rate.point <= totals.rate.high
    assert found.provenance.revision.sequence >= answer.sequence

    report = runnel.ingest.GetIngestReport(
        stubs.ingest.GetIngestReportRequest(), metadata=runnel.keys["shop"]["write"], timeout=30
    )
    assert (report.counted, report.quarantined) == (6, 0)
    assert report.accepted == report.counted + report.duplicate + report.conflict


def test_a_dry_run_stores_nothing(runnel, stubs):
    request = stubs.ingest.AppendRequest(events=journeys(stubs), validate_only=True)
    answer = runnel.ingest.Append(request, metadata=runnel.keys["other"]["write"], timeout=30)
    assert (answer.accepted + answer.rejected, answer.sequence) in {(6, 0), (0, 0)}
    assert [step.reached for step in ask(runnel, stubs, "other").steps] == [0, 0, 0]


def test_a_stream_is_acknowledged_by_sequence(runnel, stubs):
    ingest = stubs.ingest
    message, batch = ingest.AppendStreamRequest, ingest.AppendStreamRequest.Batch
    events = journeys(stubs)

    def requests():
        yield message(open=message.Open(stream_id="python"))
        yield message(batch=batch(sequence=1, events=events[:4]))
        yield message(batch=batch(sequence=2, events=[]))
        yield message(batch=batch(sequence=3, events=events[4:]))

    replies = list(runnel.ingest.AppendStream(requests(), metadata=runnel.keys["streamed"]["write"], timeout=30))
    assert replies[0].WhichOneof("message") == "opened" and replies[0].opened.credits > 0
    acks = {reply.ack.sequence: reply.ack for reply in replies if reply.WhichOneof("message") == "ack"}
    faults = {reply.fault.sequence: reply.fault for reply in replies if reply.WhichOneof("message") == "fault"}
    assert (set(acks), set(faults)) == ({1, 3}, {2})
    assert faults[2].reason == "BATCH_EMPTY" and faults[2].message
    assert (acks[1].outcome.accepted, acks[3].outcome.accepted) == (4, 2)

    # A client that comes back sends what it is not sure of again.
    def resumed():
        yield message(open=message.Open(stream_id="python"))
        yield message(batch=batch(sequence=1, events=events[:4]))

    again = [
        reply.ack
        for reply in runnel.ingest.AppendStream(resumed(), metadata=runnel.keys["streamed"]["write"], timeout=30)
        if reply.WhichOneof("message") == "ack"
    ]
    assert [(ack.sequence, ack.outcome.repeated, ack.outcome.sequence) for ack in again] == [
        (1, True, acks[1].outcome.sequence)
    ]
    assert [step.reached for step in ask(runnel, stubs, "streamed").steps] == [3, 2, 1]


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        (None, grpc.StatusCode.UNAUTHENTICATED, "KEY_MISSING"),
        ("rk_read_nobody_nothing", grpc.StatusCode.UNAUTHENTICATED, "KEY_INVALID"),
        ("write", grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"),
    ],
)
def test_a_question_needs_a_read_key(runnel, stubs, kind, code, reason):
    keys = runnel.keys["shop"]
    metadata = keys.get(kind) or ((("authorization", f"Bearer {kind}"),) if kind else ())
    request = stubs.funnel.QueryFunnelRequest(inline=definition(stubs))
    details = refused(lambda: runnel.funnel.QueryFunnel(request, metadata=metadata, timeout=30), code)
    assert details["ErrorInfo"].reason == reason


def test_sending_needs_a_write_key(runnel, stubs):
    request = stubs.ingest.AppendRequest(events=journeys(stubs))
    details = refused(
        lambda: runnel.ingest.Append(request, metadata=runnel.keys["shop"]["read"], timeout=30),
        grpc.StatusCode.PERMISSION_DENIED,
    )
    assert details["ErrorInfo"].reason == "SCOPE_MISSING"


def test_a_key_flipped_in_its_last_letter_is_refused(runnel, stubs):
    ((name, value),) = runnel.keys["shop"]["read"]
    changed = value[:-1] + ("a" if value[-1] != "a" else "b")
    request = stubs.funnel.QueryFunnelRequest(inline=definition(stubs))
    refused(
        lambda: runnel.funnel.QueryFunnel(request, metadata=((name, changed),), timeout=30),
        grpc.StatusCode.UNAUTHENTICATED,
    )


def test_limits_are_named(runnel, stubs):
    too_long = stubs.funnel.QueryFunnelRequest(inline=definition(stubs, steps=["view"] * 33))
    negative = stubs.funnel.QueryFunnelRequest(inline=definition(stubs, window_ms=-1))
    for request, value in ((too_long, "33"), (negative, "-1")):
        details = refused(
            lambda request=request: runnel.funnel.QueryFunnel(
                request, metadata=runnel.keys["shop"]["read"], timeout=30
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
        )
        violations = details["BadRequest"].field_violations
        assert any(value in violation.description for violation in violations), violations
    crowd = stubs.ingest.AppendRequest(events=[event(stubs, "v", "view", 0)] * 10_001)
    details = refused(
        lambda: runnel.ingest.Append(crowd, metadata=runnel.keys["shop"]["write"], timeout=30),
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    assert details["ErrorInfo"].reason == "BATCH_TOO_LONG"


def test_a_saved_funnel_belongs_to_one_tenant(runnel, stubs):
    mine, theirs = runnel.keys["shop"]["read"], runnel.keys["other"]["read"]
    define = stubs.funnel.DefineFunnelRequest(name="checkout", definition=definition(stubs))
    saved = runnel.funnel.DefineFunnel(define, metadata=mine, timeout=30).funnel
    assert (saved.name, saved.version) == ("checkout", 1)
    query = stubs.funnel.QueryFunnelRequest(name="checkout")
    assert runnel.funnel.QueryFunnel(query, metadata=mine, timeout=30).provenance.definition_version == 1
    refused(lambda: runnel.funnel.QueryFunnel(query, metadata=theirs, timeout=30), grpc.StatusCode.NOT_FOUND)


def test_conversions_are_declared_and_counted(runnel, stubs):
    key = runnel.keys["counted"]
    append = stubs.ingest.AppendRequest(events=journeys(stubs))
    runnel.ingest.Append(append, metadata=key["write"], timeout=30)
    at = lambda name: stubs.catalog.Rule(  # noqa: E731
        event=stubs.catalog.EventRule(any_of=[stubs.query.EventMatch(event=name)])
    )
    goal = stubs.catalog.Conversion(name="order", role=stubs.catalog.ROLE_MACRO, rule=at("buy"))
    step = stubs.catalog.Conversion(
        name="basket",
        role=stubs.catalog.ROLE_MICRO,
        part=stubs.catalog.PART_STEP,
        family=stubs.catalog.FAMILY_INTERACTION,
        stage=stubs.catalog.STAGE_WILLINGNESS,
        rule=at("cart"),
    )
    document = stubs.catalog.CatalogDocument(conversions=[step, goal])
    apply = stubs.catalog.ApplyCatalogRequest(document=document)
    applied = runnel.catalog.ApplyCatalog(apply, metadata=key["read"], timeout=30)
    assert [change.action for change in applied.changes] == [stubs.catalog.CATALOG_ACTION_ADDED] * 2
    query = stubs.insight.QueryConversionsRequest()
    table = runnel.insight.QueryConversions(query, metadata=key["read"], timeout=30)
    counts = [(one.conversion.name, one.events, one.visitors, one.sessions) for one in table.conversions]
    assert counts == [("order", 1, 1, 1), ("basket", 2, 2, 2)]
    before = stubs.insight.QueryMicroToMacroRequest(macro="order")
    answer = runnel.insight.QueryMicroToMacro(before, metadata=key["read"], timeout=30)
    assert [(one.visitors, one.reached) for one in answer.micros] == [(2, 1)]
    step.ClearField("stage")
    define = stubs.catalog.DefineConversionRequest(conversion=step)
    call = lambda: runnel.catalog.DefineConversion(define, metadata=key["read"], timeout=30)  # noqa: E731
    details = refused(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert details["BadRequest"].field_violations[0].field == "conversion.stage"


def test_a_batch_tells_in_its_own_reply_what_it_changed(runnel, stubs):
    key = runnel.keys["told"]
    define = stubs.funnel.DefineFunnelRequest(name="checkout", definition=definition(stubs))
    runnel.funnel.DefineFunnel(define, metadata=key["read"], timeout=30)
    [(_, secret)] = key["read"]
    both = (*key["write"], ("read-authorization", secret))

    def append(name, minute, metadata=both):
        batch = stubs.ingest.AppendRequest(events=[event(stubs, "ann", name, minute)])
        request = stubs.effect.AppendRequest(batch=batch, funnels=["checkout"])
        return runnel.effect.Append(request, metadata=metadata, timeout=30)

    append("view", 0)
    told = append("cart", 1)
    assert (told.outcome.accepted, told.untold) == (1, "")
    [effect] = told.effects
    [way] = effect.funnels
    steps = [[unit.step for unit in units] for units in (way.before, way.now)]
    assert (effect.visitor_id, way.name, steps) == ("ann", "checkout", [[1], [2]])
    details = refused(lambda: append("buy", 2, key["write"]), grpc.StatusCode.UNAUTHENTICATED)
    assert details["ErrorInfo"].reason == "KEY_MISSING"


def test_a_person_is_exported_and_erased(runnel, stubs):
    key = runnel.keys["erased"]
    events = journeys(stubs)
    runnel.ingest.Append(stubs.ingest.AppendRequest(events=events), metadata=key["write"], timeout=30)
    known = stubs.identity.Identification(anonymous_id="ann", known_id="customer-1", time_ms=START)
    identify = stubs.identity.IdentifyRequest(identifications=[known])
    runnel.identity.Identify(identify, metadata=key["write"], timeout=30)

    export = stubs.subject.ExportSubjectRequest(visitor_id="ann")
    parts = list(runnel.subject.ExportSubject(export, metadata=key["erase"], timeout=30))
    assert sorted(one.id for part in parts for one in part.identity.ids) == ["ann", "customer-1"]
    assert [one.name for part in parts for one in part.events] == list(STEPS)

    erase = stubs.subject.EraseRequest(visitor_id="customer-1")
    refused(lambda: runnel.subject.Erase(erase, metadata=key["admin"], timeout=30), grpc.StatusCode.PERMISSION_DENIED)
    erased = runnel.subject.Erase(erase, metadata=key["erase"], timeout=30)
    assert erased.ids == 2
    # At once in every answer; the bytes follow.
    assert [step.reached for step in ask(runnel, stubs, "erased").steps] == [2, 1, 0]
    get = stubs.subject.GetErasureRequest(erasure=erased.erasure)
    until = time.monotonic() + 30
    state = runnel.subject.GetErasure(get, metadata=key["erase"], timeout=30)
    while state.state != stubs.subject.ERASURE_STATE_DONE:
        assert time.monotonic() < until, state
        time.sleep(0.05)
        state = runnel.subject.GetErasure(get, metadata=key["erase"], timeout=30)
    assert state.events == len(STEPS)
    again = runnel.ingest.Append(stubs.ingest.AppendRequest(events=events), metadata=key["write"], timeout=30)
    assert {verdict.reason for verdict in again.verdicts} == {"SUBJECT_ERASED"} and again.rejected == len(STEPS)


def test_events_are_kept_for_as_long_as_a_tenant_says(runnel, stubs):
    key = runnel.keys["erased"]
    few = stubs.admin.SetRetentionRequest(days=34)
    refused(lambda: runnel.admin.SetRetention(few, metadata=key["admin"], timeout=30), grpc.StatusCode.INVALID_ARGUMENT)
    runnel.admin.SetRetention(stubs.admin.SetRetentionRequest(days=90), metadata=key["admin"], timeout=30)
    get, until = stubs.admin.GetRetentionRequest(), time.monotonic() + 30
    while True:
        kept = runnel.admin.GetRetention(get, metadata=key["admin"], timeout=30).retention
        if kept.HasField("kept_from_ms") and not kept.deleting:
            break
        assert time.monotonic() < until, kept
        time.sleep(0.05)
    assert (kept.days, kept.refused_before_ms) == (90, kept.kept_from_ms)
    late = stubs.ingest.AppendRequest(events=[event(stubs, "dan", "view", 0)])
    outcome = runnel.ingest.Append(late, metadata=key["write"], timeout=30)
    assert (outcome.rejected, outcome.verdicts[0].verdict) == (1, stubs.ingest.VERDICT_LATE)
    # What is gone is not answered as if it had never been.
    query = stubs.insight.QuerySessionsRequest(range=stubs.query.TimeRange(from_ms=START))
    call = lambda: runnel.insight.QuerySessions(query, metadata=key["read"], timeout=30)  # noqa: E731
    details = refused(call, grpc.StatusCode.FAILED_PRECONDITION)
    assert details["ErrorInfo"].reason == "NOT_AVAILABLE_AFTER_RETENTION"


def test_daily_counts_stand_before_the_first_step(runnel, stubs):
    key = runnel.keys["counted"]
    append = stubs.ingest.AppendRequest(events=journeys(stubs))
    runnel.ingest.Append(append, metadata=key["write"], timeout=30)
    cost = stubs.event.Money(micros=30_000_000, currency="EUR")
    clicks = stubs.catalog.DailyCount(date="2026-01-01", what=stubs.event.OFF_SITE_AD_CLICK, count=40, cost=cost)
    put = stubs.catalog.PutDailyCountsRequest(counts=[clicks])
    assert runnel.catalog.PutDailyCounts(put, metadata=key["read"], timeout=30).changed_days == 1
    funnel = definition(stubs)
    funnel.counted.add(what=stubs.event.OFF_SITE_AD_CLICK)
    request = stubs.funnel.QueryFunnelRequest(inline=funnel)
    answer = runnel.funnel.QueryFunnel(request, metadata=key["read"], timeout=30)
    assert [(one.label, one.count) for one in answer.counted] == [("ad_click", 40)]
    assert answer.steps[0].of_counted == 3 / 40
    assert [one.micros for one in answer.steps[2].cost_each] == [30_000_000]


def test_health_is_told_and_reflection_is_not(runnel):
    # Both services are of the standard, so that a call by path with the bytes of an empty message will do.
    health = runnel.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health(b"", timeout=10) == b"\x08\x01", "SERVING"
    reflection = runnel.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(reflection(iter([b""]), timeout=10))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_gmerch_over_the_wire(runnel, stubs):
    file = DATA / "gmerch-ga360" / "events.csv.gz"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    metadata = runnel.keys["gmerch"]["write"]
    own = {"event_id", "visitor_id", "occurred_at", "name"}
    batch, accepted = [], 0

    def flush():
        request = stubs.ingest.AppendRequest(events=batch)
        answer = runnel.ingest.Append(request, metadata=metadata, timeout=60)
        assert answer.rejected == 0, answer.verdicts[:3]
        batch.clear()
        return answer.accepted

    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            instant = datetime.fromisoformat(row["occurred_at"].replace("Z", "+00:00"))
            properties = {
                key: stubs.event.Value(string_value=value) for key, value in row.items() if value and key not in own
            }
            batch.append(
                stubs.event.Event(
                    event_id=row["event_id"],
                    visitor_id=row["visitor_id"],
                    time_ms=round(instant.timestamp() * 1_000),
                    name=row["name"],
                    properties=properties,
                )
            )
            if len(batch) == 1_000:
                accepted += flush()
    accepted += flush()
    assert accepted == 13_233
    steps = ("view_item", "add_to_cart", "begin_checkout", "purchase")
    found = ask(runnel, stubs, "gmerch", steps)
    assert [step.reached for step in found.steps] == [394, 133, 67, 30]
    assert found.totals.converted == 30

    names, token = {}, ""
    while True:
        page = runnel.catalog.ListEventNames(
            stubs.catalog.ListEventNamesRequest(page_size=7, page_token=token),
            metadata=runnel.keys["gmerch"]["read"],
            timeout=30,
        )
        assert len(page.event_names) <= 7
        names.update((found.name, (found.events, found.visitors)) for found in page.event_names)
        token = page.next_page_token
        if not token:
            break
    assert sum(events for events, _ in names.values()) == 13_233
    assert names["purchase"] == (45, 42)


def test_a_server_ends_when_asked(tmp_path):
    import server

    server.create_key(tmp_path, "shop", "read")
    running = server.Server(tmp_path)
    assert running.stop() == 0
