//! Every method with every kind of wrong key, and with another tenant's things: all of it is denied. The methods are those of the contract, so that a new one
//! fails here until somebody says what is foreign to it.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions};
use runnel_client::proto::admin::v1::{CreateKeyRequest, KeyKind, RevokeKeyRequest};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use runnel_harness::Deployment;

use crate::places::everywhere;

/// What a stranger is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// This, and nothing else.
    Refused(Code),
    /// An answer about the stranger's own things only.
    Own,
}

/// Something that only the other tenant knows: it may occur in no answer to a stranger.
const CANARY: &str = "canary-7f3a";

/// A method of a service, a request of a stranger who knows the names of another tenant's things, and what becomes of it. `{key}` is that tenant's key.
const PROBES: &[(&str, &str, Told)] = &[
    (
        "IngestService/Append",
        r#"{"requestId":"r1","events":[{"visitorId":"v1","name":"a","eventId":"e1","timeMs":"1700000000000"}]}"#,
        Told::Own,
    ),
    ("IngestService/AppendStream", r#"{"open":{"streamId":"s1"}}"#, Told::Own),
    ("IngestService/GetIngestReport", r#"{"requestId":"r1-only-theirs"}"#, Told::Refused(Code::NotFound)),
    ("IngestService/GetIngestReport", r"{}", Told::Own),
    (
        "IdentityService/Identify",
        r#"{"identifications":[{"anonymousId":"v1","knownId":"v2","timeMs":"1700000000000"}]}"#,
        Told::Own,
    ),
    ("IdentityService/Merge", r#"{"fromId":"v2","intoId":"v3"}"#, Told::Own),
    ("IdentityService/GetIdentity", r#"{"id":"v1"}"#, Told::Own),
    ("SubjectService/GetErasure", r#"{"erasure":"1"}"#, Told::Refused(Code::NotFound)),
    ("SubjectService/ExportSubject", r#"{"visitorId":"v1"}"#, Told::Own),
    ("CatalogService/ListEventNames", r"{}", Told::Own),
    ("CatalogService/ListProperties", r#"{"eventName":"a"}"#, Told::Own),
    (
        "CatalogService/DefineConversion",
        r#"{"conversion":{"name":"c1","role":"ROLE_MICRO","part":"PART_STEP","family":"FAMILY_INTERACTION","stage":"STAGE_INTEREST","rule":{"event":{"anyOf":[{"event":"a"}]}}},"expectedVersion":"1"}"#,
        Told::Refused(Code::Aborted),
    ),
    ("CatalogService/GetConversion", r#"{"name":"c1"}"#, Told::Refused(Code::NotFound)),
    ("CatalogService/ListConversions", r"{}", Told::Own),
    ("CatalogService/DeleteConversion", r#"{"name":"c1"}"#, Told::Refused(Code::NotFound)),
    (
        "CatalogService/PreviewConversion",
        r#"{"conversion":{"name":"c1","role":"ROLE_MICRO","part":"PART_STEP","family":"FAMILY_INTERACTION","stage":"STAGE_INTEREST","rule":{"event":{"anyOf":[{"event":"a"}]}}},"examples":100}"#,
        Told::Own,
    ),
    ("CatalogService/GetCatalog", r"{}", Told::Own),
    (
        "CatalogService/ApplyCatalog",
        r#"{"document":{"conversions":[]},"prune":true,"expectedVersion":"2"}"#,
        Told::Refused(Code::Aborted),
    ),
    ("CatalogService/FitTemplate", r#"{"template":"shop"}"#, Told::Own),
    (
        "CatalogService/PutDailyCounts",
        r#"{"counts":[{"date":"2026-03-01","what":"OFF_SITE_AD_CLICK","count":"7"}]}"#,
        Told::Own,
    ),
    ("CatalogService/ListDailyCounts", r"{}", Told::Own),
    ("InsightService/QueryConversions", r"{}", Told::Own),
    ("InsightService/QueryConversions", r#"{"conversions":["c1"]}"#, Told::Refused(Code::FailedPrecondition)),
    ("InsightService/QuerySessions", r#"{"split":{"column":{"property":"p"}}}"#, Told::Own),
    ("InsightService/QueryPages", r"{}", Told::Own),
    ("InsightService/QueryTrend", r#"{"of":[{"event":"a"}],"split":{"column":{"property":"p"}}}"#, Told::Own),
    ("InsightService/QueryTrend", r#"{"of":[{"conversion":"c1"}]}"#, Told::Refused(Code::FailedPrecondition)),
    ("InsightService/QueryRetention", r"{}", Told::Own),
    ("InsightService/QueryFrequency", r#"{"of":{"event":"a"}}"#, Told::Own),
    ("InsightService/QueryMicroToMacro", r#"{"macro":"c1"}"#, Told::Refused(Code::FailedPrecondition)),
    ("InsightService/ListRestatements", r"{}", Told::Own),
    (
        "FunnelService/DefineFunnel",
        r#"{"name":"f1","expectedVersion":"1","definition":{"steps":[{"anyOf":[{"event":"a"}]},{"anyOf":[{"event":"b"}]}]}}"#,
        Told::Refused(Code::Aborted),
    ),
    ("FunnelService/GetFunnel", r#"{"name":"f1"}"#, Told::Refused(Code::NotFound)),
    ("FunnelService/ListFunnels", r"{}", Told::Own),
    ("FunnelService/DeleteFunnel", r#"{"name":"f1"}"#, Told::Refused(Code::NotFound)),
    ("FunnelService/QueryFunnel", r#"{"name":"f1"}"#, Told::Refused(Code::NotFound)),
    (
        "FunnelService/QueryFunnel",
        r#"{"inline":{"steps":[{"anyOf":[{"event":"a"}]},{"anyOf":[{"event":"b"}]}]},"breakDown":{"column":{"property":"p"}}}"#,
        Told::Own,
    ),
    ("FunnelService/ExplainVisitor", r#"{"name":"f1","visitorId":"v1"}"#, Told::Refused(Code::NotFound)),
    (
        "FunnelService/ExplainVisitor",
        r#"{"inline":{"steps":[{"anyOf":[{"event":"a"}]},{"anyOf":[{"event":"b"}]}]},"visitorId":"v1-only-theirs"}"#,
        Told::Refused(Code::NotFound),
    ),
    ("FunnelService/Verify", r#"{"query":{"name":"f1"}}"#, Told::Refused(Code::NotFound)),
    (
        "SegmentationService/DefineSegment",
        r#"{"name":"s1","expectedVersion":"1","definition":{"condition":{"happened":{"anyOf":[{"event":{"event":"a"}}]}}}}"#,
        Told::Refused(Code::Aborted),
    ),
    ("SegmentationService/GetSegment", r#"{"name":"s1"}"#, Told::Refused(Code::NotFound)),
    ("SegmentationService/DeleteSegment", r#"{"name":"s1"}"#, Told::Refused(Code::NotFound)),
    ("SegmentationService/CountSegment", r#"{"segment":{"name":"s1"}}"#, Told::Refused(Code::NotFound)),
    (
        "SegmentationService/CountSegment",
        r#"{"segment":{"inline":{"condition":{"segment":"s1"}}}}"#,
        Told::Refused(Code::FailedPrecondition),
    ),
    (
        "SegmentationService/PreviewSegment",
        r#"{"segment":{"inline":{"condition":{"happened":{"anyOf":[{"event":{"event":"a"}}]}}}},"examples":100}"#,
        Told::Own,
    ),
    (
        "SegmentationService/PreviewSegment",
        r#"{"segment":{"inline":{"condition":{"happened":{"anyOf":[{"event":{"event":"a"}}]}}}},"compareWith":["s1"]}"#,
        Told::Refused(Code::NotFound),
    ),
    ("SegmentationService/ListMembers", r#"{"segment":{"name":"s1"}}"#, Told::Refused(Code::NotFound)),
    (
        "SegmentationService/ListMembers",
        r#"{"segment":{"inline":{"condition":{"not":{"happened":{"anyOf":[{"event":{"event":"b"}}]}}}}}}"#,
        Told::Own,
    ),
    ("SegmentationService/StreamMembers", r#"{"segment":{"name":"s1"}}"#, Told::Refused(Code::NotFound)),
    (
        "SegmentationService/StreamMembers",
        r#"{"segment":{"inline":{"condition":{"not":{"happened":{"anyOf":[{"event":{"event":"b"}}]}}}}}}"#,
        Told::Own,
    ),
    (
        "SegmentationService/WasMember",
        r#"{"segment":{"inline":{"condition":{"happened":{"anyOf":[{"event":{"event":"a"}}]}}}},"visitorId":"v1"}"#,
        Told::Own,
    ),
    ("SegmentationService/GetVisitor", r#"{"visitorId":"v1"}"#, Told::Own),
    (
        "SegmentationService/GetVisitor",
        r#"{"visitorId":"v1","segments":["s1"]}"#,
        Told::Refused(Code::NotFound),
    ),
    (
        "SegmentationService/GetVisitor",
        r#"{"visitorId":"v1","funnels":["f1"]}"#,
        Told::Refused(Code::NotFound),
    ),
    ("SegmentationService/ListTimeline", r#"{"visitorId":"v1"}"#, Told::Own),
    (
        "EffectService/Append",
        r#"{"batch":{"requestId":"r2","events":[{"visitorId":"v1","name":"a","eventId":"e2","timeMs":"1700000000000"}]}}"#,
        Told::Own,
    ),
    (
        "EffectService/Append",
        r#"{"batch":{"requestId":"r3","events":[{"visitorId":"v1","name":"a","eventId":"e3","timeMs":"1700000000000"}]},"segments":["s1"]}"#,
        Told::Refused(Code::NotFound),
    ),
    (
        "EffectService/Append",
        r#"{"batch":{"requestId":"r4","events":[{"visitorId":"v1","name":"a","eventId":"e4","timeMs":"1700000000000"}]},"funnels":["f1"]}"#,
        Told::Refused(Code::NotFound),
    ),
    ("SegmentationService/ListSegments", r"{}", Told::Own),
    ("SegmentationService/WatchSegment", r#"{"segment":{"name":"s1"}}"#, Told::Refused(Code::NotFound)),
    (
        "SegmentationService/WatchSegment",
        r#"{"segment":{"inline":{"condition":{"happened":{"anyOf":[{"event":{"event":"a"}}]}}}},"members":true}"#,
        Told::Own,
    ),
    ("SegmentationService/WatchFunnel", r#"{"funnel":{"name":"f1"}}"#, Told::Refused(Code::NotFound)),
    (
        "SegmentationService/WatchFunnel",
        r#"{"funnel":{"inline":{"steps":[{"anyOf":[{"event":"a"}]},{"anyOf":[{"event":"b"}]}]}},"units":true}"#,
        Told::Own,
    ),
    ("SegmentationService/CountOpenSessions", r"{}", Told::Own),
    ("AudienceService/ExportAudience", r#"{"segment":{"name":"s1"}}"#, Told::Refused(Code::NotFound)),
    (
        "AudienceService/ExportAudience",
        r#"{"segment":{"inline":{"condition":{"happened":{"anyOf":[{"event":{"event":"a"}}]}}}},"identifiers":{"emailProperties":["p"]}}"#,
        Told::Own,
    ),
    (
        "AudienceService/ExportConversions",
        r#"{"conversions":["c1"]}"#,
        Told::Refused(Code::FailedPrecondition),
    ),
    ("AudienceService/ExportConversions", r"{}", Told::Own),
    ("ListService/PutMembers", r#"{"list":"l2","visitorIds":["v1"]}"#, Told::Own),
    (
        "ListService/RemoveMembers",
        r#"{"list":"l1","visitorIds":["v1-only-theirs"]}"#,
        Told::Refused(Code::NotFound),
    ),
    ("ListService/DeleteList", r#"{"list":"l1"}"#, Told::Refused(Code::NotFound)),
    ("ListService/ListLists", r"{}", Told::Own),
    ("ListService/ListListMembers", r#"{"list":"l1"}"#, Told::Refused(Code::NotFound)),
    ("ListService/ListListMembers", r#"{"list":"l2"}"#, Told::Own),
    (
        "SegmentationService/CountSegment",
        r#"{"segment":{"inline":{"condition":{"list":"l1"}}}}"#,
        Told::Refused(Code::FailedPrecondition),
    ),
    ("AdminService/CreateTenant", r#"{"name":"taken-over"}"#, Told::Refused(Code::PermissionDenied)),
    ("AdminService/ListTenants", r"{}", Told::Refused(Code::PermissionDenied)),
    (
        "AdminService/CreateKey",
        r#"{"tenant":"theirs","kind":"KEY_KIND_READ"}"#,
        Told::Refused(Code::NotFound),
    ),
    ("AdminService/ListKeys", r#"{"tenant":"theirs"}"#, Told::Refused(Code::NotFound)),
    ("AdminService/ListKeys", r"{}", Told::Own),
    ("AdminService/RevokeKey", r#"{"tenant":"theirs","id":"{key}"}"#, Told::Refused(Code::NotFound)),
    ("AdminService/RevokeKey", r#"{"id":"{key}"}"#, Told::Refused(Code::NotFound)),
    ("AdminService/SetRetention", r#"{"tenant":"theirs","days":30}"#, Told::Refused(Code::NotFound)),
    ("AdminService/SetRetention", r#"{"days":3650}"#, Told::Own),
    ("AdminService/GetRetention", r#"{"tenant":"theirs"}"#, Told::Refused(Code::NotFound)),
    ("AdminService/GetRetention", r"{}", Told::Own),
    ("SubjectService/Erase", r#"{"visitorId":"v1"}"#, Told::Own),
];

/// Messages as bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// One message to a method, whatever kind of method it is, with these values of `authorization`. The first answer as JSON.
async fn call(
    channel: &Channel,
    method: &MethodDescriptor,
    request: &str,
    keys: &[&str],
) -> Result<String, Status> {
    call_reading(channel, method, request, keys, &[]).await
}

/// As [`call`], with these values of `read-authorization` as well.
async fn call_reading(
    channel: &Channel,
    method: &MethodDescriptor,
    request: &str,
    keys: &[&str],
    readers: &[&str],
) -> Result<String, Status> {
    let mut json = serde_json::Deserializer::from_str(request);
    let message =
        DynamicMessage::deserialize_with_options(method.input(), &mut json, &DeserializeOptions::new())
            .unwrap();
    let mut call = Request::new(tokio_stream::once(Bytes::from(message.encode_to_vec())));
    for (name, keys) in [("authorization", keys), ("read-authorization", readers)] {
        for key in keys {
            call.metadata_mut().append(name, format!("Bearer {key}").parse().unwrap());
        }
    }
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let answers = client.streaming(call, path.parse().unwrap(), Raw).await?;
    let first = answers.into_inner().message().await?.unwrap_or_default();
    let answer = DynamicMessage::decode(method.output(), first).unwrap();
    let mut text = Vec::new();
    let mut json = serde_json::Serializer::new(&mut text);
    answer.serialize_with_options(&mut json, &SerializeOptions::new()).unwrap();
    Ok(String::from_utf8(text).unwrap())
}

/// The kind of key that a method needs.
fn needs(path: &str) -> KeyKind {
    match path.split_once('/').unwrap() {
        ("IngestService" | "EffectService", _) | ("IdentityService", "Identify") => KeyKind::Write,
        ("SubjectService", _) => KeyKind::Erase,
        ("AdminService", _) | ("IdentityService", "Merge") => KeyKind::Admin,
        _ => KeyKind::Read,
    }
}

/// Whether a method needs a key to read beside it.
fn reads(path: &str) -> bool {
    path.starts_with("EffectService/")
}

const KINDS: [KeyKind; 4] = [KeyKind::Write, KeyKind::Read, KeyKind::Admin, KeyKind::Erase];

/// The methods of the contract.
fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(runnel_contracts::DESCRIPTORS).unwrap();
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// Its service and name.
fn path(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().name(), method.name())
}

/// Calls every method as a tenant, about a visitor of its own. What refusals said.
pub(crate) async fn every_method_about(server: &Deployment, tenant: &str, visitor: &str) -> Vec<String> {
    let channel = Channel::from_shared(server.endpoint.clone()).unwrap().connect().await.unwrap();
    let mut keys = Vec::new();
    for kind in KINDS {
        keys.push(server.key(tenant, kind).await.unwrap());
    }
    let methods = methods();
    let mut said = Vec::new();
    // The last but for the erasure: the visitor is an anonymous id of another one by then.
    let merge = ("IdentityService/Merge", r#"{"fromId":"v1","intoId":"v4"}"#, Told::Own);
    let (erase, others): (Vec<_>, Vec<_>) =
        PROBES.iter().copied().partition(|(path, ..)| *path == "SubjectService/Erase");
    for (wanted, request, _) in others.into_iter().chain([merge]).chain(erase) {
        let method = methods.iter().find(|method| path(method) == wanted).unwrap();
        let request = request.replace("v1-only-theirs", visitor).replace(r#""v1""#, &format!("{visitor:?}"));
        let key = &keys[KINDS.iter().position(|kind| *kind == needs(wanted)).unwrap()];
        if let Err(status) = call_reading(&channel, method, &request, &[key], &[&keys[1]]).await {
            said.push(format!("{wanted}: {status:?}"));
        }
    }
    said
}

everywhere!(every_wrong_call_is_denied);

async fn every_wrong_call_is_denied(server: Deployment) {
    let channel = Channel::from_shared(server.endpoint.clone()).unwrap().connect().await.unwrap();
    let methods = methods();
    let classified: BTreeSet<&str> = PROBES.iter().map(|(path, ..)| *path).collect();
    for method in &methods {
        assert!(classified.contains(path(method).as_str()), "{}: what is foreign to it?", path(method));
    }
    let method = |wanted: &str| methods.iter().find(|method| path(method) == wanted).unwrap();

    // The other tenant has everything that a stranger might ask for, and every name and value of it holds the canary.
    let (write, read) = server.tenant("theirs").await.unwrap();
    let events = format!(
        r#"{{"requestId":"r1-only-theirs","events":[{{"visitorId":"v1-only-theirs","name":"a","timeMs":"1700000000000","eventId":"{CANARY}",
        "properties":{{"p":{{"stringValue":"{CANARY}"}}}}}},{{"visitorId":"v1","name":"{CANARY}","timeMs":"1700000000001","eventId":"e1"}}]}}"#
    );
    call(&channel, method("IngestService/Append"), &events, &[&write]).await.unwrap();
    let identification = format!(
        r#"{{"identifications":[{{"anonymousId":"v1","knownId":"{CANARY}","timeMs":"1700000000000"}}]}}"#
    );
    call(&channel, method("IdentityService/Identify"), &identification, &[&write]).await.unwrap();
    let definition = format!(
        r#"{{"name":"f1","definition":{{"steps":[{{"anyOf":[{{"event":"a"}}]}},{{"anyOf":[{{"event":"{CANARY}"}}]}}]}}}}"#
    );
    call(&channel, method("FunnelService/DefineFunnel"), &definition, &[&read]).await.unwrap();
    let conversion = format!(
        r#"{{"conversion":{{"name":"c1","description":"{CANARY}","role":"ROLE_MACRO","rule":{{"event":{{"anyOf":[{{"event":"a"}}]}}}}}}}}"#
    );
    call(&channel, method("CatalogService/DefineConversion"), &conversion, &[&read]).await.unwrap();
    let segment = format!(
        r#"{{"name":"s1","definition":{{"description":"{CANARY}","condition":{{"happened":{{"anyOf":[{{"event":{{"event":"a"}}}}]}}}}}}}}"#
    );
    call(&channel, method("SegmentationService/DefineSegment"), &segment, &[&read]).await.unwrap();
    for list in ["l1", "l2"] {
        let put = format!(r#"{{"list":"{list}","visitorIds":["v1-only-theirs","{CANARY}"]}}"#);
        call(&channel, method("ListService/PutMembers"), &put, &[&read]).await.unwrap();
    }
    for (path, request) in [
        ("CatalogService/GetCatalog", "{}"),
        ("InsightService/QueryConversions", "{}"),
        ("InsightService/QuerySessions", r#"{"split":{"column":{"property":"p"}}}"#),
        ("CatalogService/ListEventNames", "{}"),
        ("CatalogService/ListProperties", r#"{"eventName":"a"}"#),
        ("FunnelService/GetFunnel", r#"{"name":"f1"}"#),
        ("IdentityService/GetIdentity", r#"{"id":"v1"}"#),
        ("SegmentationService/GetSegment", r#"{"name":"s1"}"#),
        ("ListService/ListListMembers", r#"{"list":"l2"}"#),
        (
            "SegmentationService/ListMembers",
            r#"{"segment":{"inline":{"condition":{"happened":{"anyOf":[{"event":{"event":"a"}},{"event":{"event":"canary-7f3a"}}]}}}}}"#,
        ),
    ] {
        let answer = call(&channel, method(path), request, &[&read]).await.unwrap();
        assert!(answer.contains(CANARY), "{path}: {answer}");
    }
    let operator = server.operator().await.unwrap();
    let key = async |tenant: &str, kind: KeyKind, expires_ms: Option<i64>| {
        let request = CreateKeyRequest {
            tenant: tenant.into(),
            kind: kind as i32,
            label: if tenant == "theirs" { CANARY.into() } else { String::new() },
            expires_ms,
        };
        let made = operator.admin().create_key(request).await.unwrap().into_inner();
        (made.secret, made.key.unwrap().id)
    };
    let (_, their_key) = key("theirs", KeyKind::Read, None).await;

    server.tenant("stranger").await.unwrap();
    let in_a_second = runnel_chassis::Clock::default().now_ms() + 1_000;
    let (mut good, mut expired, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
    for kind in KINDS {
        good.push(key("stranger", kind, None).await.0);
        expired.push(key("stranger", kind, Some(in_a_second)).await.0);
        let (secret, id) = key("stranger", kind, None).await;
        operator.admin().revoke_key(RevokeKeyRequest { tenant: "stranger".into(), id }).await.unwrap();
        revoked.push(secret);
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;

    let (mut denied, mut own) = (0, 0);
    for (path, request, told) in PROBES {
        let (method, request) = (method(path), request.replace("{key}", &their_key));
        let right = KINDS.iter().position(|kind| *kind == needs(path)).unwrap();
        let mut wrong: Vec<(&str, Vec<&str>, Code)> = vec![
            ("no key", vec![], Code::Unauthenticated),
            ("garbage", vec!["garbage"], Code::Unauthenticated),
            (
                "a forged key",
                vec!["rk_read_0123456789ab_0123456789abcdef0123456789abcdef01234567abcdef"],
                Code::Unauthenticated,
            ),
            ("an expired key", vec![&expired[right]], Code::Unauthenticated),
            ("a revoked key", vec![&revoked[right]], Code::Unauthenticated),
            ("two keys", vec![&good[right], &good[right]], Code::Unauthenticated),
        ];
        for (at, key) in good.iter().enumerate().filter(|(at, _)| *at != right) {
            wrong.push((KINDS[at].as_str_name(), vec![key], Code::PermissionDenied));
        }
        // What a method does not need is not looked at.
        let reader = vec![good[1].as_str()];
        let mut wrong: Vec<(&str, Vec<&str>, Vec<&str>, Code)> =
            wrong.into_iter().map(|(what, keys, code)| (what, keys, reader.clone(), code)).collect();
        if reads(path) {
            let [writer, reader, admin, _] = &good[..] else { panic!("a key of each kind") };
            let bad_readers = [
                ("no key to read", vec![], Code::Unauthenticated),
                ("garbage to read", vec!["garbage"], Code::Unauthenticated),
                ("an expired key to read", vec![&*expired[1]], Code::Unauthenticated),
                ("a revoked key to read", vec![&*revoked[1]], Code::Unauthenticated),
                ("two keys to read", vec![&**reader, reader], Code::Unauthenticated),
                ("another tenant's key to read", vec![&*read], Code::Unauthenticated),
                ("a key to write to read", vec![&**writer], Code::PermissionDenied),
                ("an admin key to read", vec![&**admin], Code::PermissionDenied),
            ];
            for (what, readers, code) in bad_readers {
                wrong.push((what, vec![&good[right]], readers, code));
            }
        }
        for (what, keys, readers, code) in wrong {
            let status = call_reading(&channel, method, &request, &keys, &readers).await.expect_err(what);
            assert_eq!(status.code(), code, "{path} with {what}: {status:?}");
            assert!(!format!("{status:?}").contains(CANARY), "{path} with {what}");
            denied += 1;
        }
        match (call_reading(&channel, method, &request, &[&good[right]], &reader).await, told) {
            (Ok(answer), Told::Own) => {
                assert!(!answer.contains(CANARY) && !answer.contains("only-theirs"), "{path}: {answer}");
                own += 1;
            }
            (Err(status), Told::Refused(code)) => {
                assert_eq!(status.code(), *code, "{path}: {status:?}");
                assert!(!format!("{status:?}").contains(CANARY), "{path}: {status:?}");
                denied += 1;
            }
            (answer, told) => panic!("{path} of a stranger is to be {told:?}, and was {answer:?}"),
        }
    }
    // The other tenant's things are as they were.
    let kept = call(&channel, method("FunnelService/GetFunnel"), r#"{"name":"f1"}"#, &[&read]).await.unwrap();
    assert!(kept.contains(CANARY), "{kept}");
    let kept = call(&channel, method("CatalogService/GetCatalog"), "{}", &[&read]).await.unwrap();
    assert!(kept.contains("c1") && kept.contains("f1"), "{kept}");
    for list in ["l1", "l2"] {
        let kept = format!(r#"{{"list":"{list}"}}"#);
        let kept = call(&channel, method("ListService/ListListMembers"), &kept, &[&read]).await.unwrap();
        assert!(kept.contains(CANARY) && !kept.contains(r#""v1""#), "{kept}");
    }
    eprintln!(
        "{} methods, {denied} calls denied, {own} answered about the caller's own things",
        methods.len()
    );
}
